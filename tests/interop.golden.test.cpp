// tests/interop.golden.test.cpp -- what the ecosystem's own libraries made of the same weights and of our files.
// SPDX-License-Identifier: Apache-2.0
//
// Made by interop/check_torch.py; vectors/interop/README.md has the versions.
#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "convert.support.hpp"
#include "io/hash.hpp"
#include "mxfp4/checkpoint/convert.hpp"
#include "mxfp4/reference/quantize.hpp"
#include "support/vectors.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;
using namespace mxfp4::checkpoint;
using namespace mxfp4::io;

const std::string vectors = MXFP4_TEST_VECTORS "/interop/";

template <class T>
void check_type(const tensor_map& weights, const tensor_map& theirs, const std::string& name) {
  CAPTURE(name);
  const stored_tensor& stored = weights.at(name + ".weight");
  const std::int64_t rows = stored.shape.at(0), cols = stored.shape.at(1);
  const std::vector<T> w = values_of<T>(stored.data);
  std::vector<std::uint8_t> codes(w.size() / 2), scales(w.size() / 32);
  const auto view = make_view(std::span(codes), std::span(scales), rows, cols);
  REQUIRE(reference::quantize<recipe::compressed_tensors>(*make_dense_view(std::span(w), rows, cols), *view).ok());
  CHECK(bytes_of(codes) == theirs.at(name + ".weight_packed").data);
  CHECK(bytes_of(scales) == theirs.at(name + ".weight_scale").data);
  std::vector<bf16> back(w.size());
  REQUIRE(reference::dequantize(*view, *make_dense_view(std::span(back), rows, cols)).ok());
  REQUIRE(theirs.at(name + ".weight").type == dtype::bf16);
  CHECK(bytes_of(back) == theirs.at(name + ".weight").data);
}

/// As check_torch.py computes it.
std::string digest(const tensor_map& tensors) {
  std::string text;
  for (const auto& [name, t] : tensors) text += name + t.data;
  return hash_text(fnv1a(text));
}

}  // namespace

TEST_CASE("interop: compressed-tensors' bytes of these weights, and its BF16 of those bytes", "[interop]") {
  const tensor_map weights = read_checkpoint(vectors + "weights.safetensors");
  const tensor_map theirs = read_checkpoint(vectors + "compressed_tensors.safetensors");
  REQUIRE(weights.size() == 3);
  check_type<float>(weights, theirs, "f32");
  check_type<bf16>(weights, theirs, "bf16");
  check_type<f16>(weights, theirs, "f16");
}

TEST_CASE("interop: the checkpoint that compressed-tensors and transformers have checked", "[interop]") {
  const scratch_folder folder;
  const auto done = [](std::vector<std::string> command) {
    const outcome o = run(std::move(command));
    INFO(o.err);
    REQUIRE(o.code == 0);
  };
  done({MXFP4_GENERATE, "--checkpoint", folder / "source"});
  done({MXFP4_PROGRAM, "quantize", folder / "source", folder / "mxfp4"});
  done({MXFP4_PROGRAM, "dequantize", folder / "mxfp4", folder / "bf16"});
  const nlohmann::json recorded = nlohmann::json::parse(read_text(vectors + "checkpoint.json"));
  CHECK(digest(read_checkpoint(folder / "mxfp4")) == recorded.at("mxfp4"));
  CHECK(digest(read_checkpoint(folder / "bf16")) == recorded.at("bf16"));
  const nlohmann::json config = nlohmann::json::parse(read_text(folder / "mxfp4/config.json"));
  CHECK(config.at("quantization_config") == recorded.at("quantization_config"));
}

TEST_CASE("interop: a file by gguf's own writer, and the numbers of its own reader", "[interop]") {
  const scratch_folder folder;
  convert_options options;
  const convert_report report = convert_checkpoint(vectors + "gguf.gguf", folder / "out.safetensors", options).value();
  CHECK(report.matrices == 3);
  const tensor_map out = read_checkpoint(folder / "out.safetensors"),
                   theirs = read_checkpoint(vectors + "gguf.safetensors");
  const std::string name = "blk.0.ffn_gate_exps.weight";
  REQUIRE(out.at(name + "_packed").shape == std::vector<std::int64_t>{3, 16, 48});
  const std::string &codes = out.at(name + "_packed").data, &scales = out.at(name + "_scale").data;
  const std::vector<float> numbers = values_of<float>(theirs.at(name).data);
  std::vector<float> ours(numbers.size());
  const auto bytes = [](const std::string& s) {
    return std::span(reinterpret_cast<const std::uint8_t*>(s.data()), s.size());
  };
  REQUIRE(
      reference::dequantize(*make_view(bytes(codes), bytes(scales), 48, 96), *make_dense_view(std::span(ours), 48, 96))
          .ok());
  CHECK(ours == numbers);  // as numbers: ggml has no -0
  CHECK(out.at("norm.weight").data == theirs.at("norm.weight").data);
}
