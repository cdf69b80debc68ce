// tests/generate.checkpoint.test.cpp -- mxfp4_generate --checkpoint: a MiniMax-M2 in small, always the same.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "checkpoint/minimax_m2.hpp"
#include "checkpoint/reader_json.hpp"
#include "cli.support.hpp"
#include "mxfp4/checkpoint/reader.hpp"
#include "mxfp4/core/float_types.hpp"
#include "mxfp4/io/byte_order.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;
using namespace mxfp4::checkpoint;
using namespace mxfp4::io;
using Catch::Matchers::ContainsSubstring;
using strings = std::vector<std::string>;

outcome generate(strings rest) {
  rest.insert(rest.begin(), {MXFP4_GENERATE, "--checkpoint"});
  return run(rest);
}

template <class T>
std::vector<T> read(const checkpoint_reader& model, const std::string& name) {
  const checkpoint_tensor* t = model.find(name);
  REQUIRE(t != nullptr);
  std::vector<T> values(static_cast<std::size_t>(t->info->elements()));
  model.read(*t, 0, std::as_writable_bytes(std::span(values))).value();
  swap_if_big_endian(std::span(values));
  return values;
}

std::uint64_t hash_of(const std::string& path) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : read_text(path)) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return hash;
}

}  // namespace

TEST_CASE("generate: a checkpoint directory", "[generate]") {
  const scratch_folder folder;
  const std::string dir = folder / "m";
  REQUIRE(generate({dir}).code == 0);
  const checkpoint_reader model = checkpoint_reader::open(dir).value();
  CHECK(model.shards() == strings{"model-00000-of-00004.safetensors", "model-00001-of-00004.safetensors",
                                  "model-00003-of-00004.safetensors"});
  CHECK(model.ignored_files() == strings{"leftover.safetensors"});
  CHECK(model.other_files() == strings{"LICENSE", "README.md", "chat_template.jinja", "config.json", "docs/deploy.md",
                                       "generation_config.json", "tokenizer.json", "tokenizer_config.json"});
  CHECK(read_index_metadata(model)["total_size"] == model.tensor_bytes());

  // The names, types and shapes are those that the config promises.
  std::size_t count = 0;
  for (const tensor_info& t : minimax_m2_tensors(read_minimax_m2_shape(read_config(model), "c"))) {
    CAPTURE(t.name);
    ++count;
    const checkpoint_tensor* found = model.find(t.name);
    REQUIRE(found != nullptr);
    CHECK(found->info->type == t.type);
    CHECK(found->info->shape == t.shape);
  }
  CHECK(model.tensors().size() == count);

  // Each shard but the last ends between a weight and its block scales.
  std::size_t apart = 0;
  for (const checkpoint_tensor& t : model.tensors())
    if (t.info->type == dtype::f8_e4m3 && model.find(t.info->name + "_scale_inv")->shard != t.shard) ++apart;
  CHECK(apart == 2);
}

TEST_CASE("generate: weights of the size of a network's", "[generate]") {
  const scratch_folder folder;
  const std::string fp8 = folder / "fp8", bf16_dir = folder / "bf16";
  const strings odd = {"--hidden", "160", "--intermediate", "96", "--layers", "1"};  // parts of blocks
  strings line = {fp8};
  line.insert(line.end(), odd.begin(), odd.end());
  REQUIRE(generate(line).code == 0);
  line[0] = bf16_dir;
  line.insert(line.end(), {"--format", "bf16", "--shards", "1"});
  REQUIRE(generate(line).code == 0);
  const checkpoint_reader model = checkpoint_reader::open(fp8).value();
  const checkpoint_reader widened = checkpoint_reader::open(bf16_dir).value();
  CHECK(widened.shards() == strings{"model.safetensors"});

  const std::string name = "model.layers.0.block_sparse_moe.experts.1.w2.weight";  // 160 x 96
  const std::vector<std::uint8_t> codes = read<std::uint8_t>(model, name);
  const std::vector<float> scales = read<float>(model, name + "_scale_inv");
  const std::vector<bf16> wide = read<bf16>(widened, name);
  REQUIRE(codes.size() == 160 * 96);
  REQUIRE(scales.size() == 2);
  REQUIRE(wide.size() == codes.size());
  double squares = 0;
  int zeros = 0;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const float w = decode(static_cast<e4m3>(codes[i])) * scales[i / 96 / 128];
    squares += static_cast<double>(w) * static_cast<double>(w);
    zeros += (codes[i] & 0x7Fu) == 0 ? 1 : 0;
    if (encode_bf16(w) != wide[i]) FAIL("weight " << i << " differs between fp8 and bf16");
  }
  const double sigma = std::sqrt(squares / static_cast<double>(codes.size()));
  CHECK(sigma > 0.01);  // 0.02, give or take half
  CHECK(sigma < 0.03);
  CHECK(zeros < 100);
  CHECK(scales[0] != scales[1]);
  CHECK(read<std::uint8_t>(model, "model.layers.0.block_sparse_moe.experts.0.w2.weight") != codes);
}

TEST_CASE("generate: the same bytes on every machine, others for another seed", "[generate]") {
  const scratch_folder folder;
  const std::string one = folder / "1", two = folder / "2", other = folder / "3";
  REQUIRE(generate({one}).code == 0);
  REQUIRE(generate({two}).code == 0);
  REQUIRE(generate({other, "--seed", "2"}).code == 0);
  const std::string shard = "/model-00001-of-00004.safetensors";
  CHECK(read_text(one + shard) == read_text(two + shard));
  CHECK(read_text(one + shard) != read_text(other + shard));
  CHECK(hash_of(one + shard) == 0x3F3433D0CB01588Bu);
  CHECK(hash_of(one + "/model-00003-of-00004.safetensors") == 0x2B4D862E6DE6C3DBu);
}

TEST_CASE("generate: a checkpoint that cannot be is not begun", "[generate][bad_input]") {
  const scratch_folder folder;
  const std::string dir = folder / "m";
  const outcome many = generate({dir, "--shards", "100"});
  CHECK(many.code == 1);
  CHECK_THAT(many.err, ContainsSubstring("shards, expected 100: ask for fewer"));
  CHECK(folder.names().empty());
  write_text(folder / "file", "x");
  CHECK_THAT(generate({folder / "file"}).err, ContainsSubstring("file: "));
  CHECK_THAT(generate({folder / ""}).err, ContainsSubstring("is not an empty directory"));
  CHECK(generate({dir, "--hidden", "31"}).code == 2);
  CHECK(run({MXFP4_GENERATE, dir, "--layers", "2"}).code == 2);  // needs --checkpoint
  CHECK(folder.names() == strings{"file"});
}
