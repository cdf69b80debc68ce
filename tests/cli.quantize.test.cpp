// tests/cli.quantize.test.cpp -- mxfp4 quantize, inspect and dequantize on whole files.
// SPDX-License-Identifier: Apache-2.0
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint.support.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"
#include "mxfp4/io/safetensors_writer.hpp"
#include "mxfp4/reference/quantize.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;
using namespace mxfp4::checkpoint;
using namespace mxfp4::io;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;
using strings = std::vector<std::string>;

std::string reason(const json& report, const std::string& name) {
  for (const json& c : report["copied"])
    if (c["name"] == name) return c["reason"];
  return "not copied";
}

}  // namespace

TEST_CASE("cli: quantize, every kind of tensor", "[cli]") {
  const scratch_folder folder;
  const std::vector<float> w = some_weights(48 * 96), v = some_weights(64 * 64, 7);
  const std::string in = write_shard(folder / "in",
                                     {
                                         {{"f32.weight", dtype::f32, {48, 96}}, bytes_of(w)},
                                         {{"bf16.weight", dtype::bf16, {64, 64}}, bytes_of(narrowed<bf16>(v))},
                                         {{"f16.weight", dtype::f16, {32, 128}}, bytes_of(narrowed<f16>(v))},
                                         {{"f64.weight", dtype::f64, {1, 32}}, std::string(256, '1')},
                                         {{"odd.weight", dtype::f32, {2, 48}}, std::string(384, '2')},
                                         {{"norm.weight", dtype::bf16, {32}}, std::string(64, '3')},
                                         {{"cube.weight", dtype::f32, {1, 1, 32}}, std::string(128, '4')},
                                         {{"empty.weight", dtype::f32, {0, 32}}, ""},
                                         {{"scalar.weight", dtype::f32, {}}, "5555"},
                                         {{"f32.bias", dtype::f32, {1, 32}}, std::string(128, '6')},
                                         {{"router.weight", dtype::f32, {1, 32}}, std::string(128, '7')},
                                         {{"fp8.weight", dtype::f8_e4m3, {1, 32}}, std::string(32, '8')},
                                         {{"codes.weight", dtype::u8, {2, 32}}, std::string(64, '9')},
                                     },
                                     metadata{{"format", "pt"}, {"k", "v"}});
  const json report = mxfp4_json({"quantize", in, folder / "out", "--exclude", "^router"});

  REQUIRE(report["quantized"].size() == 3);
  CHECK(report["recipe"] == "ocp");
  CHECK(report["total"]["weights"] == 48 * 96 + 2 * 64 * 64);
  CHECK(report["total"]["bits_per_weight"] == 4.25);
  CHECK(report["total"]["weight_bytes_before"] == 4 * 48 * 96 + 4 * 64 * 64);
  CHECK(report["total"]["weight_bytes_after"] == (48 * 96 + 2 * 64 * 64) / 32 * 17);
  CHECK(reason(report, "f64.weight") == "F64, not F32, F16, BF16 or F8_E4M3");
  CHECK(reason(report, "odd.weight") == "48 columns, not a multiple of 32");
  CHECK(reason(report, "norm.weight") == "1-D, not a matrix");
  CHECK(reason(report, "cube.weight") == "3-D, not a matrix");
  CHECK(reason(report, "empty.weight") == "empty");
  CHECK(reason(report, "scalar.weight") == "0-D, not a matrix");
  CHECK(reason(report, "f32.bias") == "name is not included");
  CHECK(reason(report, "router.weight") == "name is excluded");
  CHECK(reason(report, "fp8.weight") == "F8_E4M3 without 'fp8.weight_scale_inv' or 'fp8.weight_scale'");
  CHECK(reason(report, "codes.weight") == "U8, not F32, F16, BF16 or F8_E4M3");

  const safetensors_reader before = safetensors_reader::open(in).value();
  const safetensors_reader after = safetensors_reader::open(folder / "out").value();
  CHECK(report["total"]["file_bytes_after"] == after.file_bytes());
  CHECK(after.header().extra == before.header().extra);
  CHECK(after.header().tensors.size() == 10 + 2 * 3);
  for (const json& c : report["copied"]) {
    const std::string name = c["name"];
    CAPTURE(name);
    CHECK(tensor_data(after, name) == tensor_data(before, name));
    CHECK(after.find(name)->shape == before.find(name)->shape);
    CHECK(after.find(name)->type == before.find(name)->type);
  }
  const auto check = [&](const std::string& name, std::int64_t rows, std::int64_t cols,
                         const std::pair<std::string, std::string>& expected) {
    CAPTURE(name);
    CHECK(after.find(name) == nullptr);
    REQUIRE(after.find(name + "_packed") != nullptr);
    CHECK(after.find(name + "_packed")->shape == std::vector<std::int64_t>{rows, cols / 2});
    CHECK(after.find(name + "_scale")->shape == std::vector<std::int64_t>{rows, cols / 32});
    CHECK(tensor_data(after, name + "_packed") == expected.first);
    CHECK(tensor_data(after, name + "_scale") == expected.second);
  };
  check("f32.weight", 48, 96, by_library<recipe::ocp>(w, 48, 96));
  check("bf16.weight", 64, 64, by_library<recipe::ocp>(narrowed<bf16>(v), 64, 64));
  check("f16.weight", 32, 128, by_library<recipe::ocp>(narrowed<f16>(v), 32, 128));
  CHECK(folder.names() == strings{"in", "out"});
}

TEST_CASE("cli: quantize uses the recipe of the input's type", "[cli]") {
  const scratch_folder folder;
  std::vector<float> w = some_weights(32 * 32);
  for (float& x : w) x *= 0x1p-13f;  // where compressed-tensors in f16 underflows and in f32 does not
  const std::string in = write_shard(folder / "in", {{{"a.weight", dtype::f32, {32, 32}}, bytes_of(w)},
                                                     {{"b.weight", dtype::f16, {32, 32}}, bytes_of(narrowed<f16>(w))}});
  const json report = mxfp4_json({"quantize", in, folder / "out", "--recipe", "compressed_tensors"});
  const safetensors_reader after = safetensors_reader::open(folder / "out").value();
  const auto a = by_library<recipe::compressed_tensors>(w, 32, 32),
             b = by_library<recipe::compressed_tensors>(narrowed<f16>(w), 32, 32);
  CHECK(a.second != b.second);
  CHECK(tensor_data(after, "a.weight_scale") == a.second);
  CHECK(tensor_data(after, "b.weight_scale") == b.second);
  CHECK(report["quantized"][0]["lost"] == 0);  // F32 comes first in the file
  CHECK(report["quantized"][1]["lost"].get<int>() > 0);
}

TEST_CASE("cli: quantize, statistics of known weights", "[cli]") {
  // Row 0 under ocp: scale 1. Row 1: zeros. Row 2: amax 1.75 * 2^127, a NaN block under torchao_even.
  std::vector<float> w(3 * 32, 0.0f);
  w[0] = 7.5f;   // saturates, error 1.5
  w[1] = -6.5f;  // saturates, error 0.5
  w[2] = 6.0f;
  w[3] = 0.125f;  // zeroed
  w[4] = 2.5f;    // a tie, error 0.5
  w[64] = 0x1.Cp127f;
  w[65] = 0x1p127f;
  const scratch_folder folder;
  const std::string in = write_shard(folder / "in", {{{"weight", dtype::f32, {3, 32}}, bytes_of(w)}});
  const json even = mxfp4_json({"quantize", in, folder / "out", "--recipe", "torchao_even"})["quantized"][0];
  // amax 7.5 rounds up to 8 there: scale 2, so 7.5 -> 8, -6.5 -> -6, 2.5 -> 2, 0.125 -> 0
  CHECK(even["saturated"] == 0);
  CHECK(even["zeroed"] == 1);
  CHECK(even["lost"] == 2);
  CHECK(even["nan_blocks"] == 1);
  CHECK(even["max_error"] == 0x1.Cp127);
  const json ocp = mxfp4_json({"quantize", in, folder / "out", "--recipe", "ocp", "--overwrite"})["quantized"][0];
  CHECK(ocp["saturated"] == 3);  // and 1.75 * 2^127 = 7 * 2^125, of which 6 * 2^125 remain
  CHECK(ocp["zeroed"] == 1);
  CHECK(ocp["lost"] == 0);
  CHECK(ocp["nan_blocks"] == 0);
  CHECK(ocp["max_error"] == 0x1p125);
}

TEST_CASE("cli: quantize, relative error in closed form", "[cli]") {
  std::vector<float> w(32, 3.5f);  // scale 0.5, v = 7: becomes 3.0
  const scratch_folder folder;
  const std::string in = write_shard(folder / "in", {{{"weight", dtype::f32, {1, 32}}, bytes_of(w)}});
  const json total = mxfp4_json({"quantize", in, folder / "out"})["total"];
  CHECK(std::abs(total["relative_error"].get<double>() - 0.5 / 3.5) < 1e-15);
  CHECK(total["saturated"] == 32);
}

TEST_CASE("cli: quantize FP8 with block scales", "[cli]") {
  const std::int64_t rows = 200, cols = 416;  // 2 x 4 blocks, the last of each cut
  std::vector<e4m3> w;
  for (const float x : some_weights(static_cast<std::size_t>(rows * cols))) w.push_back(encode_e4m3(x * 800));
  const std::vector<float> scales = {0.01f, 0.02f, 0.5f, 3.0f, 0.07f, 1e-3f, 1e-30f, 0.3f};
  const scratch_folder folder;
  const std::vector<tensor> tensors = {{{"x.weight", dtype::f8_e4m3, {rows, cols}}, bytes_of(w)},
                                       {{"x.weight_scale_inv", dtype::f32, {2, 4}}, bytes_of(scales)},
                                       {{"y.weight_scale_inv", dtype::f32, {1, 32}}, std::string(128, 'y')}};
  const std::string in = write_shard(folder / "in", tensors);
  const json report = mxfp4_json({"quantize", in, folder / "out", "--recipe", "compressed_tensors"});
  CHECK(report["quantized"].size() == 1);
  CHECK(report["quantized"][0]["bytes"] == rows * cols + 32);
  const safetensors_reader after = safetensors_reader::open(folder / "out").value();
  CHECK(after.find("x.weight_scale_inv") == nullptr);
  CHECK(tensor_data(after, "y.weight_scale_inv") == std::string(128, 'y'));

  std::vector<std::uint8_t> codes(w.size() / 2), bytes(w.size() / 32);
  REQUIRE(
      reference::quantize_fp8<recipe::compressed_tensors>(*make_dense_view(std::span<const e4m3>(w), rows, cols),
                                                          *make_dense_view(std::span<const float>(scales), 2, 4),
                                                          *make_view(std::span(codes), std::span(bytes), rows, cols))
          .ok());
  CHECK(tensor_data(after, "x.weight_packed") == bytes_of(codes));
  CHECK(tensor_data(after, "x.weight_scale") == bytes_of(bytes));

  // Excluded, it keeps its block scales, which no --include takes for weights; and scales of the wrong shape are not
  // used.
  const json kept =
      mxfp4_json({"quantize", in, folder / "out", "--include", "weight", "--exclude", "^x.weight$|^y", "--overwrite"});
  CHECK(reason(kept, "x.weight_scale_inv") == "scales of 'x.weight'");
  CHECK(kept["quantized"].empty());
  std::vector<tensor> wrong = tensors;
  wrong[1].info.shape = {4, 2};
  const json refused = mxfp4_json({"quantize", write_shard(folder / "wrong", wrong), folder / "out", "--overwrite"});
  CHECK(
      reason(refused, "x.weight") ==
      "its scales 'x.weight_scale_inv' are F32 [4, 2], not F32 [2, 4] for blocks of 128 x 128, nor one for each row or "
      "for all");
}

TEST_CASE("cli: NaN and infinity are refused by name and place, or counted", "[cli]") {
  const scratch_folder folder;
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    std::vector<float> w = some_weights(40 * 64);
    w[64 * 37 + 11] = bad;
    const std::string in = write_shard(folder / "in", {{{"a.weight", dtype::f32, {40, 64}}, bytes_of(w)}});
    const outcome refused = mxfp4_run({"quantize", in, folder / "out"});
    CHECK(refused.code == 1);
    CHECK_THAT(refused.err, ContainsSubstring("in: tensor 'a.weight': weight [37, 11] is NaN or infinite") &&
                                ContainsSubstring("--nonfinite encode"));
    CHECK(folder.names() == strings{"in"});
    const json report = mxfp4_json({"quantize", in, folder / "out", "--nonfinite", "encode"});
    CHECK(report["total"]["nonfinite"] == 1);
    CHECK(report["total"]["lost"] == 31);
    CHECK(report["total"]["nan_blocks"] == 1);
    const json inspected = mxfp4_json({"inspect", folder / "out"});
    CHECK(inspected["tensors"][0]["nan_blocks"] == 1);
    const json back = mxfp4_json({"dequantize", folder / "out", folder / "back"});
    CHECK(back["dequantized"][0]["nan_blocks"] == 1);
    std::filesystem::remove(folder / "out");
    std::filesystem::remove(folder / "back");
  }
  // FP8: NaN among the codes, and a scale that is infinite.
  std::vector<e4m3> w(128 * 32, e4m3{0x38});
  w[32 * 5 + 1] = e4m3{0x7F};
  const std::string in =
      write_shard(folder / "in", {{{"a.weight", dtype::f8_e4m3, {128, 32}}, bytes_of(w)},
                                  {{"a.weight_scale_inv", dtype::f32, {1, 1}}, bytes_of(std::vector<float>{1.0f})}});
  CHECK_THAT(mxfp4_run({"quantize", in, folder / "out"}).err, ContainsSubstring("weight [5, 1] is NaN"));
  w[32 * 5 + 1] = e4m3{0x38};
  const std::string inf = write_shard(
      folder / "in", {{{"a.weight", dtype::f8_e4m3, {128, 32}}, bytes_of(w)},
                      {{"a.weight_scale_inv", dtype::f32, {1, 1}}, bytes_of(std::vector<float>{INFINITY})}});
  CHECK_THAT(mxfp4_run({"quantize", inf, folder / "out"}).err, ContainsSubstring("weight [0, 0] is NaN or infinite"));
}

TEST_CASE("cli: NaN far into a tensor of several slabs", "[cli]") {
  const scratch_folder folder;
  std::vector<float> w(2100 * 1024, 0.5f);
  w[2099 * 1024 + 1023] = NAN;
  const std::string in = write_shard(folder / "in", {{{"a.weight", dtype::f32, {2100, 1024}}, bytes_of(w)}});
  CHECK_THAT(mxfp4_run({"quantize", in, folder / "out"}).err, ContainsSubstring("weight [2099, 1023] is NaN"));
  CHECK(folder.names() == strings{"in"});
}

TEST_CASE("cli: names that are taken", "[cli]") {
  const scratch_folder folder;
  const std::string data = bytes_of(some_weights(32));
  for (const char* taken : {"a.weight_packed", "a.weight_scale"}) {
    const std::string in =
        write_shard(folder / "in", {{{"a.weight", dtype::f32, {1, 32}}, data}, {{taken, dtype::u8, {1}}, "x"}});
    const outcome o = mxfp4_run({"quantize", in, folder / "out"});
    CHECK(o.code == 1);
    CHECK_THAT(o.err, ContainsSubstring(std::string("tensor '") + taken + "': is there already"));
    CHECK(folder.names() == strings{"in"});
  }
  const std::string in = write_shard(folder / "in", {{{"a.weight", dtype::f32, {1, 32}}, data},
                                                     {{"a.weight_packed", dtype::u8, {1, 16}}, std::string(16, 'x')},
                                                     {{"a.weight_scale", dtype::u8, {1, 1}}, "x"}});
  const outcome o = mxfp4_run({"dequantize", in, folder / "out"});
  CHECK(o.code == 1);
  CHECK_THAT(o.err, ContainsSubstring("tensor 'a.weight': is there beside 'a.weight_packed'"));
  CHECK(folder.names() == strings{"in"});
}

TEST_CASE("cli: a name too long for a regular expression", "[cli]") {
  const scratch_folder folder;
  const std::string in = write_shard(
      folder / "in", {{{std::string(200000, 'x') + ".weight", dtype::f32, {1, 32}}, bytes_of(some_weights(32))}});
  const outcome o = mxfp4_run({"quantize", in, folder / "out"});
  CHECK(o.code == 1);
  CHECK_THAT(o.err, ContainsSubstring("the name has 200007 bytes, expected at most 4096"));
  CHECK(o.err.size() < 1000);
}

TEST_CASE("cli: a full disk leaves nothing new", "[cli]") {
  const scratch_folder folder;
  const std::string in =
      write_shard(folder / "in", {{{"a.weight", dtype::f32, {512, 128}}, bytes_of(some_weights(512 * 128))}});
  write_text(folder / "out", "old");
  const outcome o = mxfp4_run({"quantize", in, folder / "out", "--overwrite"}, {20000});
  CHECK(o.code == 1);
  CHECK_THAT(o.err, ContainsSubstring("out: cannot write") && ContainsSubstring("File too large"));
  CHECK(folder.names() == strings{"in", "out"});
  CHECK(read_text(folder / "out") == "old");
}

TEST_CASE("cli: a file system that fills up leaves what was there", "[cli]") {
  const scratch_folder folder;
  const std::string in =
      write_shard(folder / "in", {{{"a.weight", dtype::f32, {512, 512}}, bytes_of(some_weights(512 * 512))}});
  std::filesystem::create_directory(folder / "small");
  constexpr const char* script = R"(
    mount -t tmpfs -o size=64k none "$1" || exit 77
    printf old > "$1/out"
    "$3" quantize "$2" "$1/out" --overwrite
    code=$?
    ls -A "$1" && head -c 9 "$1/out"
    exit $code)";
  const outcome o =
      run({"/usr/bin/env", "unshare", "-m", "sh", "-c", script, "sh", folder / "small", in, MXFP4_PROGRAM});
  if (o.err.find("unshare") != std::string::npos || o.code == 77 || o.code == 127)
    SKIP("no file system of its own here: " << o.err);
  CHECK(o.code == 1);
  CHECK_THAT(o.err, ContainsSubstring("small/out: cannot write") && ContainsSubstring("No space left on device"));
  CHECK(o.out == "out\nold");
}

TEST_CASE("quantize_file: without include it takes the experts' weights", "[cli]") {
  const scratch_folder folder;
  const std::string expert = "layers.0.experts.3.w1.weight", w(32 * 64 * 2, '\x3C');
  const std::string in = write_shard(
      folder / "in", {{{expert, dtype::bf16, {32, 64}}, w}, {{"layers.0.q_proj.weight", dtype::bf16, {32, 64}}, w}});
  checkpoint::quantize_file_options options;
  const quantize_report experts = quantize_file(in, folder / "out", options).value();
  REQUIRE((experts.quantized.size() == 1 && experts.copied.size() == 1));
  CHECK(experts.quantized[0].source.name == expert);
  CHECK(experts.copied[0].reason == "not the weight of an expert");
  CHECK_FALSE(quantize_file(in, folder / "out", options));  // there is one already
  options.include = "q_proj";
  options.existing = existing_file::replace;
  const quantize_report other = quantize_file(in, folder / "out", options).value();
  REQUIRE((other.quantized.size() == 1 && other.copied.size() == 1));
  CHECK(other.copied[0].tensor.name == expert);
}

TEST_CASE("cli: dequantize copies what only looks like MXFP4", "[cli]") {
  const scratch_folder folder;
  const std::string in = write_shard(folder / "in", {
                                                        {{"a_packed", dtype::u8, {2, 16}}, std::string(32, '\x21')},
                                                        {{"a_scale", dtype::u8, {2, 1}}, std::string("\x7F\x80")},
                                                        {{"int4_packed", dtype::i32, {2, 16}}, std::string(128, 'i')},
                                                        {{"alone_packed", dtype::u8, {2, 16}}, std::string(32, 'l')},
                                                        {{"nv_packed", dtype::u8, {2, 16}}, std::string(32, 'n')},
                                                        {{"nv_scale", dtype::f8_e4m3, {2, 2}}, std::string(4, 'n')},
                                                        {{"short_packed", dtype::u8, {2, 8}}, std::string(16, 's')},
                                                        {{"flat_packed", dtype::u8, {16}}, std::string(16, 'f')},
                                                        {{"_packed", dtype::u8, {1, 16}}, std::string(16, 'e')},
                                                    });
  const json report = mxfp4_json({"dequantize", in, folder / "out", "--to", "f32"});
  REQUIRE(report["dequantized"].size() == 1);
  CHECK(report["dequantized"][0]["name"] == "a");
  CHECK(reason(report, "int4_packed") == "packed as I32, not U8");
  CHECK(reason(report, "alone_packed") == "packed, without 'alone_scale'");
  CHECK(reason(report, "nv_packed") == "packed, its scale is F8_E4M3 [2, 2], not U8 [2, 1]");
  CHECK(reason(report, "nv_scale") == "not MXFP4");
  CHECK(reason(report, "short_packed") == "packed, 8 columns, not a multiple of 16");
  CHECK(reason(report, "flat_packed") == "packed, 1-D, not a matrix");
  CHECK(reason(report, "_packed") == "not MXFP4");
  const safetensors_reader before = safetensors_reader::open(in).value();
  const safetensors_reader after = safetensors_reader::open(folder / "out").value();
  for (const json& c : report["copied"]) CHECK(tensor_data(after, c["name"]) == tensor_data(before, c["name"]));
  std::vector<float> expected;  // codes 1 and 2 under scale 1, then under scale 2
  for (const float scale : {1.0f, 2.0f})
    for (int i = 0; i < 16; ++i) expected.insert(expected.end(), {0.5f * scale, 1.0f * scale});
  CHECK(tensor_data(after, "a") == bytes_of(expected));
  CHECK(after.find("a")->shape == std::vector<std::int64_t>{2, 32});
}

TEST_CASE("cli: dequantize refuses a file whose codes it does not know, and copies nothing", "[cli][bad_input]") {
  struct row {
    std::vector<tensor> tensors;
    const char* message;
  };
  const auto codes = [](const char* name, dtype type, std::int64_t cols) {
    return tensor{{name, type, {4, cols}}, std::string(static_cast<std::size_t>(4 * cols * dtype_bits(type) / 8), 'x')};
  };
  const row rows[] = {
      {{codes("a.weight", dtype::u8, 16)}, "tensor 'a.weight': is U8 [4, 16], codes of a format that is not known"},
      {{codes("a.W_q", dtype::u8, 16)}, "codes of a format that is not known"},
      {{codes("a.weight", dtype::i8, 32), codes("a.weight_scale", dtype::bf16, 1)}, "INT8 of compressed-tensors"},
      {{codes("a_packed", dtype::i32, 4), codes("a_scale", dtype::bf16, 1), codes("a_shape", dtype::i64, 1)},
       "tensor 'a_packed': is integers of compressed-tensors (pack-quantized), expected"},
      {{codes("a_packed", dtype::u8, 16), codes("a_scale", dtype::f8_e4m3, 2), codes("a_global_scale", dtype::f32, 1)},
       "tensor 'a_packed': is NVFP4 of compressed-tensors, expected"},
      {{codes("a.qweight", dtype::i32, 4)}, "GPTQ or AWQ"},
  };
  for (const auto& [tensors, message] : rows) {
    CAPTURE(message);
    const scratch_folder folder;
    const std::string in = write_shard(folder / "in.safetensors", tensors);
    const outcome o = mxfp4_run({"dequantize", in, folder / "out.safetensors"});
    CHECK(o.code == 1);
    CHECK_THAT(o.err, ContainsSubstring(message));
    CHECK(folder.names() == std::vector<std::string>{"in.safetensors"});
  }
}

TEST_CASE("cli: inspect shows a pair as one tensor", "[cli]") {
  const scratch_folder folder;
  const std::string in = write_shard(folder / "in",
                                     {{{"a.weight_packed", dtype::u8, {2, 32}}, std::string(64, 'x')},
                                      {{"a.weight_scale", dtype::u8, {2, 2}}, std::string("\x78\xFF\x7A\x79")},
                                      {{"all_nan_packed", dtype::u8, {1, 16}}, std::string(16, 'x')},
                                      {{"all_nan_scale", dtype::u8, {1, 1}}, std::string("\xFF")},
                                      {{"bias", dtype::f32, {2}}, std::string(8, 'b')},
                                      {{"\x1b[31m", dtype::u8, {1}}, "b"}},
                                     metadata{{"format", "pt"}});
  const json report = mxfp4_json({"inspect", in});
  REQUIRE(report["tensors"].size() == 4);
  const json& a = report["tensors"][2];
  CHECK(
      a ==
      json::parse(
          R"({"name":"a.weight","dtype":"MXFP4","shape":[2,64],"bytes":68,"scale_min":120,"scale_max":122,"nan_blocks":1})"));
  CHECK(report["tensors"][3]["scale_min"] == nullptr);
  CHECK(
      report["kinds"] ==
      json::parse(R"({"MXFP4":{"tensors":2,"bytes":85},"F32":{"tensors":1,"bytes":8},"U8":{"tensors":1,"bytes":1}})"));
  CHECK(report["metadata"] == json::parse(R"({"format":"pt"})"));
  const std::string text = mxfp4_run({"inspect", in}).out;
  CHECK_THAT(text, ContainsSubstring("a.weight  MXFP4  [2, 64]     68     120..122           1\n"));
  CHECK_THAT(text, ContainsSubstring("\\x1b[31m") && !ContainsSubstring("\x1b"));
}

TEST_CASE("cli: quantising twice changes nothing", "[cli]") {
  const scratch_folder folder;
  const std::string in = write_shard(
      folder / "in", {{{"a.weight", dtype::bf16, {64, 96}}, bytes_of(narrowed<bf16>(some_weights(64 * 96)))},
                      {{"b.weight", dtype::f32, {64, 96}}, bytes_of(some_weights(64 * 96, 3))}});
  for (const char* to : {"bf16", "f32"}) {
    CAPTURE(to);
    REQUIRE(mxfp4_run({"quantize", in, folder / "once", "--overwrite"}).code == 0);
    REQUIRE(mxfp4_run({"dequantize", folder / "once", folder / "back", "--to", to, "--overwrite"}).code == 0);
    REQUIRE(mxfp4_run({"quantize", folder / "back", folder / "twice", "--overwrite"}).code == 0);
    CHECK(read_text(folder / "once") == read_text(folder / "twice"));
  }
}

TEST_CASE("cli.silero: a trained network, there and back", "[cli][silero]") {
  const std::string in = std::string(MXFP4_SHARED_DIR) + "/data/silero_vad/silero_vad_16k.safetensors";
  if (!std::filesystem::exists(in)) SKIP("needs " << in);
  const scratch_folder folder;
  const json report = mxfp4_json({"quantize", in, folder / "out"});
  REQUIRE(report["quantized"].size() == 2);
  REQUIRE(report["copied"].size() == 13);
  CHECK(report["total"]["weights"] == 2 * 512 * 128);
  CHECK(report["total"]["weight_bytes_after"] == 2 * 512 * 128 / 32 * 17);
  const double error = report["total"]["relative_error"];
  CHECK((error > 0.10 && error < 0.13));

  const safetensors_reader before = safetensors_reader::open(in).value();
  const safetensors_reader after = safetensors_reader::open(folder / "out").value();
  for (const json& c : report["copied"]) {
    const std::string name = c["name"];
    CAPTURE(name);
    CHECK(tensor_data(after, name) == tensor_data(before, name));
  }
  const json inspected = mxfp4_json({"inspect", folder / "out"});
  CHECK(inspected["kinds"]["MXFP4"]["tensors"] == 2);
  REQUIRE(mxfp4_json({"dequantize", folder / "out", folder / "back", "--to", "f32"})["dequantized"].size() == 2);
  const safetensors_reader back = safetensors_reader::open(folder / "back").value();
  for (const char* name : {"lstm_cell.weight_ih", "lstm_cell.weight_hh"}) {
    CAPTURE(name);
    const std::vector<float> w = values_of<float>(tensor_data(before, name));
    REQUIRE(w.size() == 512 * 128);
    const auto [codes, scales] = by_library<recipe::ocp>(w, 512, 128);
    CHECK(tensor_data(after, std::string(name) + "_packed") == codes);
    CHECK(tensor_data(after, std::string(name) + "_scale") == scales);
    std::vector<float> q(w.size());
    const auto bytes = [](const std::string& text) {
      return std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
    };
    REQUIRE(reference::dequantize(*make_view(bytes(codes), bytes(scales), 512, 128),
                                  *make_dense_view(std::span(q), 512, 128))
                .ok());
    CHECK(tensor_data(back, name) == bytes_of(q));
    CHECK(back.find(name)->shape == before.find(name)->shape);
  }
}
