// tests/convert_checkpoint.memory.test.cpp -- convert and dequantize in a quarter of a tensor's memory.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint.support.hpp"

namespace {

using namespace mxfp4::test;
using namespace mxfp4::io;
namespace fs = std::filesystem;

constexpr std::uint64_t limit = std::uint64_t{32} << 20;

void succeeds(std::vector<std::string> rest) {
  const outcome o = mxfp4_run(std::move(rest), {.data_bytes = limit});
  INFO(o.err);
  CHECK(o.code == 0);
}

}  // namespace

TEST_CASE("convert: a length in a GGUF file is not believed before it is compared", "[convert][memory]") {
  require_own_memory();
  const scratch_folder folder;
  const std::string half_a_gigabyte = {0, 0, 0, 0x20, 0, 0, 0, 0};
  const std::string one = {1, 0, 0, 0, 0, 0, 0, 0}, none(8, '\0');
  write_text(folder / "x.gguf",
             "GGUF" + std::string{3, 0, 0, 0} + none + one + half_a_gigabyte + std::string(100, 'k'));
  const outcome o = mxfp4_run({"convert", "--to", "stacked", folder / "x.gguf", folder / "out"}, {.data_bytes = limit});
  CHECK(o.code == 1);
  CHECK_THAT(o.err, Catch::Matchers::ContainsSubstring("ends in a key: 536870912 bytes"));
}

TEST_CASE("convert: memory does not grow with the tensors", "[convert][memory]") {
  require_own_memory();
  const scratch_folder folder;
  // One layer as gpt-oss has it: a tensor of four times the limit, and one that is copied.
  const std::string p = "model.layers.0.mlp.experts.";
  write_sparse(folder / "in.safetensors", {{p + "gate_up_proj_blocks", dtype::u8, {2, 32768, 128, 16}},
                                           {p + "gate_up_proj_scales", dtype::u8, {2, 32768, 128}},
                                           {p + "down_proj_blocks", dtype::u8, {2, 64, 32, 16}},
                                           {p + "down_proj_scales", dtype::u8, {2, 64, 32}},
                                           {"embed_tokens.weight", dtype::bf16, {20480, 1024}}});
  REQUIRE(tensor_bytes(dtype::u8, {2, 32768, 128, 16}).value() >= 4 * limit);
  succeeds({"convert", "--to", "stacked", folder / "in.safetensors", folder / "stacked"});
  succeeds({"convert", "--to", "gguf", folder / "in.safetensors", folder / "x.gguf"});
  fs::remove(folder / "in.safetensors");
  succeeds({"convert", "--to", "gpt-oss", folder / "x.gguf", folder / "back.safetensors"});
  fs::remove(folder / "x.gguf");
  fs::remove(folder / "back.safetensors");
  succeeds({"dequantize", folder / "stacked", folder / "bf16"});

  // Rows of four times the limit, of which gate's and up's take turns.
  fs::remove_all(folder / "stacked");
  write_sparse(folder / "long.safetensors", {{p + "gate_up_proj_blocks", dtype::u8, {1, 2, 1 << 23, 16}},
                                             {p + "gate_up_proj_scales", dtype::u8, {1, 2, 1 << 23}},
                                             {p + "down_proj_blocks", dtype::u8, {1, 64, 1, 16}},
                                             {p + "down_proj_scales", dtype::u8, {1, 64, 1}}});
  succeeds({"convert", "--to", "compressed-tensors", folder / "long.safetensors", folder / "apart"});
  succeeds({"convert", "--to", "gpt-oss", folder / "apart", folder / "turns.safetensors"});
  succeeds({"convert", "--to", "gguf", folder / "turns.safetensors", folder / "long.gguf"});
}
