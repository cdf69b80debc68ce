// tests/convert_checkpoint.bad_input.test.cpp -- what convert and dequantize refuse, and that nothing is left then.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "convert.support.hpp"
#include "mxfp4/checkpoint/convert.hpp"
#include "mxfp4/checkpoint/dequantize.hpp"

namespace {

using namespace mxfp4::test;
using namespace mxfp4::checkpoint;
using namespace mxfp4::io;
using Catch::Matchers::ContainsSubstring;
using enum checkpoint_form;
namespace fs = std::filesystem;

const std::string prefix = "model.layers.0.mlp.experts";

tensor_map two_experts() {
  tensor_map t;
  for (int e = 0; e < 2; ++e)
    for (const char* part : {"gate_proj", "up_proj", "down_proj"})
      add_pair(t, prefix + "." + std::to_string(e) + "." + part + ".weight", {64, 64}, 1);
  return t;
}

/// What converting these tensors says; "converted" where it works. Nothing may be left behind.
std::string error_of(checkpoint_form to, const tensor_map& tensors, const nlohmann::json& config = nullptr) {
  const scratch_folder folder;
  write_checkpoint(folder / "in", tensors, config);
  convert_options options;
  options.to = to;
  try {
    (void)convert_checkpoint(folder / "in", folder / "out", options).value();
    CHECK(folder.names() == std::vector<std::string>{"in", "out"});
  } catch (const file_error& error) {
    CHECK(folder.names() == std::vector<std::string>{"in"});
    const std::string message = error.what();
    CHECK_THAT(message, ContainsSubstring(folder / ""));
    return message;
  }
  return "converted";
}

std::string error_of(checkpoint_form to, const std::function<void(tensor_map&)>& change) {
  tensor_map tensors = two_experts();
  change(tensors);
  return error_of(to, tensors);
}

std::string dequantize_error(const tensor_map& tensors, const nlohmann::json& config = nullptr) {
  const scratch_folder folder;
  write_checkpoint(folder / "in", tensors, config);
  try {
    (void)dequantize_directory(folder / "in", folder / "out", {}).value();
  } catch (const file_error& error) {
    CHECK(folder.names() == std::vector<std::string>{"in"});
    return error.what();
  }
  return "dequantised";
}

}  // namespace

TEST_CASE("convert: pairs that are none", "[convert][bad_input]") {
  REQUIRE(error_of(stacked, two_experts()) == "converted");
  const std::string name = prefix + ".1.up_proj.weight";
  CHECK_THAT(error_of(stacked, [&](tensor_map& t) { t.erase(name + "_scale"); }),
             ContainsSubstring("has no '" + name + "_scale' beside it, expected U8 [64, 2]"));
  CHECK_THAT(error_of(stacked, [&](tensor_map& t) { t[name + "_scale"].type = dtype::f8_e4m3; }),
             ContainsSubstring("its scales are F8_E4M3 [64, 2], expected U8 [64, 2]"));
  CHECK_THAT(error_of(stacked,
                      [&](tensor_map& t) {
                        t[name + "_scale"].shape = {32, 4};
                      }),
             ContainsSubstring("its scales are U8 [32, 4], expected U8 [64, 2]"));
  CHECK_THAT(error_of(stacked,
                      [&](tensor_map& t) {
                        t[name + "_packed"] = random_tensor(dtype::u8, {64, 24}, 1);
                      }),
             ContainsSubstring("has the shape [64, 24], expected [rows, columns / 2]"));
  CHECK_THAT(error_of(stacked,
                      [&](tensor_map& t) {
                        t[name] = random_tensor(dtype::bf16, {64, 64}, 1);
                      }),
             ContainsSubstring("there is '" + name + "' too"));
  CHECK_THAT(error_of(stacked,
                      [&](tensor_map& t) {
                        t["x_blocks"] = random_tensor(dtype::u8, {2, 64, 2, 8}, 1);
                      }),
             ContainsSubstring("[2, 64, 2, 8], expected [experts, rows, columns / 32, 16]"));
  CHECK_THAT(error_of(stacked, {{"norm", random_tensor(dtype::f32, {4}, 1)}}),
             ContainsSubstring("holds no MXFP4 weights"));
}

TEST_CASE("convert: experts that make no layer", "[convert][bad_input]") {
  const auto without = [](const std::string& name) {
    return [name](tensor_map& t) {
      t.erase(name + "_packed");
      t.erase(name + "_scale");
    };
  };
  const std::string one = prefix + ".1.up_proj.weight", zero = prefix + ".0.up_proj.weight";
  CHECK_THAT(error_of(gguf, without(zero)), ContainsSubstring("has no expert 0 for up_proj, expected all from 0 to 1"));
  CHECK_THAT(error_of(stacked, without(one)),
             ContainsSubstring("has 2 experts with gate_proj and 1 with up_proj, expected the same number"));
  CHECK_THAT(error_of(gpt_oss,
                      [&](tensor_map& t) {
                        add_pair(t, one, {32, 64}, 1);
                      }),
             ContainsSubstring("has matrices of [32, 64], expected [64, 64] as '" + zero + "'"));
  CHECK_THAT(
      error_of(gpt_oss, [&](tensor_map& t) { t[prefix + ".1.up_proj.bias"] = random_tensor(dtype::f32, {64}, 1); }),
      ContainsSubstring("differs from expert 0 in its bias"));
  CHECK_THAT(
      error_of(gpt_oss, [&](tensor_map& t) { t[prefix + ".1.up_proj.bias"] = random_tensor(dtype::f32, {63}, 1); }),
      ContainsSubstring("has the shape [63], expected [64]"));
  const auto all_up = [&](tensor_map& t) {
    without(zero)(t);
    without(one)(t);
  };
  CHECK_THAT(error_of(gpt_oss, all_up), ContainsSubstring("has not all of gate_proj, up_proj and down_proj"));
  CHECK(error_of(gguf, all_up) == "converted");
  CHECK_THAT(error_of(stacked,
                      [&](tensor_map& t) {
                        add_pair(t, zero, {32, 64}, 1);
                        add_pair(t, one, {32, 64}, 1);
                      }),
             ContainsSubstring("has gate_proj of [64, 64], up_proj of [32, 64], expected the same shape"));
  CHECK_THAT(
      error_of(stacked,
               [&](tensor_map& t) {
                 for (const int e : {0, 1})
                   t[prefix + "." + std::to_string(e) + ".up_proj.bias"] = random_tensor(dtype::f32, {64}, 1);
               }),
      ContainsSubstring("has gate_proj and up_proj that differ in their bias, expected both or neither, of one type"));
  CHECK_THAT(error_of(gguf,
                      [&](tensor_map& t) {
                        add_pair(t, prefix + ".up_proj", {2, 64, 64}, 1);
                      }),
             ContainsSubstring("expert 0 is there twice"));
  CHECK_THAT(error_of(gguf, {{prefix + ".up_proj_packed", {dtype::u8, {0, 64, 32}, ""}},
                             {prefix + ".up_proj_scale", {dtype::u8, {0, 64, 2}, ""}}}),
             ContainsSubstring("holds no experts"));
  tensor_map odd;
  add_pair(odd, prefix + ".gate_up_proj", {2, 65, 64}, 1);
  CHECK_THAT(error_of(gguf, odd), ContainsSubstring("has 65 rows, expected gate and up rows in pairs"));
}

TEST_CASE("convert: what a form has no place for", "[convert][bad_input]") {
  CHECK_THAT(error_of(gpt_oss,
                      [](tensor_map& t) {
                        add_pair(t, "lm_head.weight", {64, 64}, 1);
                      }),
             ContainsSubstring("'lm_head.weight': is MXFP4 and no expert's"));
  CHECK_THAT(error_of(block_fp8,
                      [](tensor_map& t) {
                        add_pair(t, "stack", {2, 64, 64}, 1);
                      }),
             ContainsSubstring("'stack': is [2, 64, 64], expected a matrix"));
  CHECK_THAT(error_of(gguf, [](tensor_map& t) { t["mask"] = random_tensor(dtype::boolean, {4}, 1); }),
             ContainsSubstring("'mask': is BOOL, which ggml has no type for"));
  CHECK_THAT(error_of(gguf, [](tensor_map& t) { t[std::string(64, 'n')] = random_tensor(dtype::f32, {4}, 1); }),
             ContainsSubstring("the name has 64 bytes, expected at most 63"));
  CHECK_THAT(error_of(gpt_oss, two_experts(), nlohmann::json::array()), ContainsSubstring("is not a JSON object"));
}

TEST_CASE("convert: a block that FP8 does not hold is named", "[convert][bad_input]") {
  tensor_map t = two_experts();
  for (auto& [name, tensor] : t)
    if (name.ends_with("_scale")) tensor.data.assign(tensor.data.size(), 120);
  REQUIRE(error_of(block_fp8, t) == "converted");
  const std::string name = "dense.weight";
  add_pair(t, name, {300, 288}, 1);
  t[name + "_scale"].data.assign(300 * 9, 120);
  t[name + "_packed"].data.assign(300 * 144, 0x11);
  REQUIRE(error_of(block_fp8, t) == "converted");
  t[name + "_scale"].data[280 * 9 + 5] = 100;  // row 280, columns 160..191
  CHECK_THAT(
      error_of(block_fp8, t),
      ContainsSubstring("'dense.weight': block [2, 1] of dense.weight holds weights from 2^-28 to 2^-8, a spread of "
                        "20, expected at most 17"));
  t[name + "_scale"].data[280 * 9 + 5] = '\xFF';
  CHECK_THAT(error_of(block_fp8, t), ContainsSubstring("block [2, 1] of dense.weight has a scale byte 255"));
}

TEST_CASE("convert: outputs that are there already", "[convert][bad_input]") {
  const scratch_folder folder;
  write_checkpoint(folder / "in", two_experts(), nullptr);
  const auto error = [&](const std::string& in, const std::string& out, checkpoint_form to = stacked) -> std::string {
    convert_options options;
    options.to = to;
    try {
      (void)convert_checkpoint(in, out, options).value();
    } catch (const file_error& e) {
      return e.what();
    }
    return "converted";
  };
  CHECK_THAT(error(folder / "in", folder / "in"), ContainsSubstring("/in: is the input"));
  write_text(folder / "file", "precious");
  CHECK_THAT(error(folder / "in", folder / "file"), ContainsSubstring("file: is there already"));
  CHECK(read_text(folder / "file") == "precious");
  CHECK_THAT(error(folder / "in", folder / "no/such/folder/out"), ContainsSubstring("cannot create the directory"));
  std::filesystem::create_directory(folder / "empty");
  CHECK(error(folder / "in", folder / "empty/") == "converted");
  CHECK(std::filesystem::exists(folder / "empty/model.safetensors"));
  CHECK(error(folder / "in", folder / "x.gguf", gguf) == "converted");
  CHECK_THAT(error(folder / "x.gguf", folder / "x.gguf", gguf), ContainsSubstring("name another output"));
  CHECK_THAT(error(folder / "absent", folder / "out"), ContainsSubstring("absent"));
  CHECK_THAT(error(folder / "absent.gguf", folder / "out"), ContainsSubstring("absent.gguf"));
  CHECK(folder.names() == std::vector<std::string>{"empty", "file", "in", "x.gguf"});
}

TEST_CASE("convert, dequantize: an output in the source's folder is refused, and nothing is touched",
          "[convert][bad_input]") {
  const scratch_folder folder;
  write_checkpoint(folder / "in", two_experts(), nullptr);
  const auto tree = [&folder] {
    std::map<std::string, std::string> all;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder / "in"))
      all[entry.path().string()] = entry.is_regular_file() ? read_text(entry.path().string()) : "";
    return all;
  };
  const auto before = tree();
  for (const char* const out : {"in/out", "in/out.gguf", "in/model.safetensors", "in/config.json", "in", "in/a/../b"}) {
    CAPTURE(out);
    convert_options options;
    options.to = std::string(out).ends_with(".gguf") ? gguf : stacked;
    CHECK_THROWS_WITH(convert_checkpoint(folder / "in", folder / out, options).value(), ContainsSubstring("the input"));
    CHECK_THROWS_WITH(dequantize_directory(folder / "in", folder / out, {}).value(), ContainsSubstring("the input"));
  }
  CHECK(tree() == before);
}

TEST_CASE("convert, dequantize: a source that changes meanwhile", "[convert][bad_input]") {
  const scratch_folder folder;
  write_checkpoint(folder / "in", two_experts(), nullptr);
  convert_options to_gguf;
  to_gguf.to = gguf;
  (void)convert_checkpoint(folder / "in", folder / "in.gguf", to_gguf).value();
  const std::string shard = folder / "in/model-00005-of-00007.safetensors";
  const auto touch = [](const std::string& file) {
    return [file](std::uint64_t, std::uint64_t) {
      fs::last_write_time(file, fs::last_write_time(file) + std::chrono::seconds(1));
    };
  };
  for (const char* out : {"out", "out.safetensors", "out.gguf"}) {
    CAPTURE(out);
    convert_options options;
    options.to = std::string(out) == "out.gguf" ? gguf : stacked;
    options.progress = touch(shard);
    CHECK_THROWS_AS(convert_checkpoint(folder / "in", folder / out, options).value(), file_error);
    options.progress = touch(folder / "in.gguf");
    CHECK_THROWS_AS(convert_checkpoint(folder / "in.gguf", folder / out, options).value(), file_error);
  }
  dequantize_options options;
  options.progress = touch(shard);
  CHECK_THROWS_AS(dequantize_directory(folder / "in", folder / "out", options).value(), file_error);
  CHECK(folder.names() == std::vector<std::string>{"in", "in.gguf"});
}

TEST_CASE("dequantize: what it refuses", "[convert][bad_input]") {
  tensor_map t = two_experts();
  REQUIRE(dequantize_error(t) == "dequantised");
  t["w"] = random_tensor(dtype::f8_e4m3, {130, 64}, 1);
  CHECK_THAT(dequantize_error(t), ContainsSubstring("'w': is F8_E4M3 without 'w_scale_inv' or 'w_scale'"));
  t["w_scale_inv"] = random_tensor(dtype::f32, {1, 1}, 1);
  CHECK_THAT(dequantize_error(t),
             ContainsSubstring("'w': is F8_E4M3 whose scales 'w_scale_inv' are F32 [1, 1], not F32 [2, 1]"));
  t["w_scale_inv"] = random_tensor(dtype::f32, {2, 1}, 1);
  CHECK(dequantize_error(t) == "dequantised");
  t["w"].shape = {130, 64, 1};
  CHECK_THAT(dequantize_error(t), ContainsSubstring("scales 'w_scale_inv' are F32 [2, 1], not F32 [130, 1, 1]"));
  t.erase("w");
  CHECK_THAT(dequantize_error(t, nlohmann::json::array()),
             ContainsSubstring("config.json: is array, expected an object"));
  tensor_map stack;
  stack[prefix + ".down_proj_blocks"] = random_tensor(dtype::u8, {2, 64, 2, 16}, 1);
  stack[prefix + ".down_proj_scales"] = random_tensor(dtype::u8, {2, 64, 2}, 1);
  CHECK(dequantize_error(stack) == "dequantised");
}
