// tests/dequantize_checkpoint.property.test.cpp -- a checkpoint to BF16, and quantised again.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "convert.support.hpp"
#include "mxfp4/checkpoint/convert.hpp"
#include "mxfp4/checkpoint/dequantize.hpp"
#include "mxfp4/reference/quantize.hpp"
#include "support/oracle.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;
using namespace mxfp4::checkpoint;
using namespace mxfp4::io;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;

/// The upper half of the float that a weight is; NaN under byte 255.
std::uint16_t bf16_bits(int code, int scale) {
  if (scale == 255) return 0x7FC0;
  const auto value = static_cast<float>(weight(static_cast<unsigned>(code), scale));
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<std::uint16_t>(bits >> 16);
}

std::uint16_t u16_at(const stored_tensor& t, std::int64_t i) {
  return static_cast<std::uint16_t>(byte_at(t, 2 * i) | byte_at(t, 2 * i + 1) << 8);
}

/// Weights of every kind: large, small, tiny of either sign, zeros of either sign.
std::vector<bf16> some_weights(std::size_t n, std::uint64_t seed) {
  splitmix random(seed);
  std::vector<bf16> w(n);
  for (bf16& x : w) {
    const int kind = random.in(0, 9);
    const float value = random.with_exponent(120, 124);
    x = encode_bf16(kind == 0 ? 0.0f : kind == 1 ? -0.0f : kind < 5 ? value * 0x1p-9f : value);
  }
  return w;
}

template <class Recipe>
void quantize_into(tensor_map& t, const std::string& name, std::int64_t rows, std::int64_t cols,
                   const std::vector<bf16>& w) {
  std::vector<std::uint8_t> codes(w.size() / 2), scales(w.size() / 32);
  REQUIRE(reference::quantize<Recipe>(*make_dense_view(std::span(w), rows, cols),
                                      *make_view(std::span(codes), std::span(scales), rows, cols))
              .ok());
  t[name + "_packed"] = {dtype::u8, {rows, cols / 2}, bytes_of(codes)};
  t[name + "_scale"] = {dtype::u8, {rows, cols / 32}, bytes_of(scales)};
}

/// Two matrices by Recipe, through BF16 and the program's quantize with `again`.
template <class Recipe>
std::pair<tensor_map, tensor_map> there_and_back(const char* again) {
  const scratch_folder folder;
  tensor_map source;
  quantize_into<Recipe>(source, "a.weight", 96, 160, some_weights(96 * 160, 1));
  quantize_into<Recipe>(source, "b.weight", 40, 64, some_weights(40 * 64, 2));
  source["norm.bias"] = random_tensor(dtype::bf16, {64}, 3);
  write_checkpoint(folder / "in", source, json{{"a", 1}});
  const outcome to = run({MXFP4_PROGRAM, "dequantize", folder / "in", folder / "bf16"});
  INFO(to.err);
  REQUIRE(to.code == 0);
  const outcome back = run({MXFP4_PROGRAM, "quantize", folder / "bf16/model.safetensors", folder / "out.safetensors",
                            "--recipe", again, "--include", "weight$"});
  INFO(back.err);
  REQUIRE(back.code == 0);
  return {source, read_checkpoint(folder / "out.safetensors")};
}

}  // namespace

TEST_CASE("dequantize: every code under every scale byte", "[convert]") {
  const scratch_folder folder;
  tensor_map source;
  stored_tensor& codes = source["all.weight_packed"] = {dtype::u8, {256, 16}, std::string(256 * 16, '\0')};
  stored_tensor& scales = source["all.weight_scale"] = {dtype::u8, {256, 1}, std::string(256, '\0')};
  for (std::size_t i = 0; i < codes.data.size(); ++i) codes.data[i] = static_cast<char>(i % 16 * 0x11);
  for (std::size_t i = 0; i < 256; ++i) scales.data[i] = static_cast<char>(i);
  add_pair(source, "model.experts.gate_up_proj", {3, 10, 96}, 7);
  add_pair(source, "long.weight", {33000, 64}, 8);  // in two slabs
  source["norm"] = random_tensor(dtype::f32, {5}, 9);
  write_checkpoint(folder / "in", source,
                   {{"dtype", "float8"}, {"quantization_config", {{"quant_method", "compressed-tensors"}}}, {"z", 1}});
  const dequantize_directory_report report = dequantize_directory(folder / "in", folder / "out", {}).value();
  CHECK(report.dequantized == 3);
  CHECK(report.copied == 1);
  const tensor_map out = read_checkpoint(folder / "out");
  CHECK(out.size() == 4);
  CHECK(out.at("norm") == source.at("norm"));
  REQUIRE(out.at("all.weight").shape == std::vector<std::int64_t>{256, 32});
  REQUIRE(out.at("model.experts.gate_up_proj").shape == std::vector<std::int64_t>{3, 10, 96});
  std::int64_t wrong = 0, nan_blocks = 0;
  for (const std::string name : {"all.weight", "model.experts.gate_up_proj", "long.weight"}) {
    const stored_tensor& t = out.at(name);
    REQUIRE(t.type == dtype::bf16);
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(elements(t.shape)); ++i) {
      const int pair = byte_at(source.at(name + "_packed"), i / 2), scale = byte_at(source.at(name + "_scale"), i / 32);
      wrong += u16_at(t, i) != bf16_bits(i % 2 == 0 ? pair & 15 : pair >> 4, scale);
      nan_blocks += i % 32 == 0 && scale == 255;
    }
  }
  CHECK(wrong == 0);
  CHECK(report.nan_blocks == nan_blocks);
  CHECK(read_text(folder / "out/config.json") == "{\n  \"dtype\": \"bfloat16\",\n  \"z\": 1\n}\n");
  CHECK(checkpoint_reader::open(folder / "out").value().other_files() ==
        std::vector<std::string>{"config.json", "extra/notes.txt", "mxfp4_files.json", "tokenizer.json"});
}

TEST_CASE("dequantize: FP8 beside MXFP4, its scales under either name and in another shard", "[convert]") {
  const scratch_folder folder;
  constexpr std::int64_t rows = 14'100, cols = 150, tiles = 2;  // in two slabs, and blocks that are not full
  tensor_map source;
  add_pair(source, "a.weight", {4, 32}, 1);
  splitmix random(4);
  std::vector<float> scales((rows + 127) / 128 * tiles);
  for (float& s : scales) s = random.with_exponent(100, 130);
  for (const char* suffix : {"_scale_inv", "_scale"}) {
    const std::string name = std::string("fp8") + suffix + ".weight";
    source[name] = random_tensor(dtype::f8_e4m3, {rows, cols}, 2);
    for (char& c : source[name].data) c = static_cast<char>(c & 0xBF);  // no NaN
    source[name + suffix] = {dtype::f32, {(rows + 127) / 128, tiles}, bytes_of(scales)};
  }
  write_checkpoint(folder / "in", source, {{"torch_dtype", "float8"}});
  const dequantize_directory_report report = dequantize_directory(folder / "in", folder / "out", {}).value();
  CHECK(report.widened == 2);
  CHECK(report.copied == 0);
  const tensor_map out = read_checkpoint(folder / "out");
  REQUIRE(out.size() == 3);
  for (const char* suffix : {"_scale_inv", "_scale"}) {
    const std::string name = std::string("fp8") + suffix + ".weight";
    REQUIRE(out.at(name).type == dtype::bf16);
    std::int64_t wrong = 0;
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < cols; ++c) {
        const double value = e4m3_number(static_cast<unsigned>(byte_at(source.at(name), r * cols + c)));
        const float product = static_cast<float>(value) * scales[static_cast<std::size_t>(r / 128 * tiles + c / 128)];
        std::uint32_t bits = 0;
        std::memcpy(&bits, &product, sizeof bits);
        bits += 0x7FFFu + (bits >> 16 & 1u);  // to the nearest, ties to even
        wrong += u16_at(out.at(name), r * cols + c) != bits >> 16;
      }
    CHECK(wrong == 0);
  }
  CHECK(read_text(folder / "out/config.json") == "{\n  \"torch_dtype\": \"bfloat16\"\n}\n");
}

TEST_CASE("dequantize: torchao_even gives the packed bytes back", "[convert]") {
  const auto [source, back] = there_and_back<recipe::torchao_even>("torchao_even");
  CHECK(differences(source, back).empty());
}

TEST_CASE("dequantize: compressed_tensors turns code 8 into 0 and nothing else", "[convert]") {
  const auto [source, back] = there_and_back<recipe::compressed_tensors>("compressed_tensors");
  REQUIRE(source.size() == back.size());
  std::int64_t eights = 0, changed = 0, other = 0;
  for (const auto& [name, t] : source) {
    if (!name.ends_with("_packed")) {
      CHECK(back.at(name) == t);
      continue;
    }
    for (std::int64_t i = 0; i < 2 * static_cast<std::int64_t>(t.data.size()); ++i) {
      const int shift = i % 2 == 0 ? 0 : 4;
      const int before = byte_at(t, i / 2) >> shift & 15, after = byte_at(back.at(name), i / 2) >> shift & 15;
      eights += before == 8;
      changed += before == 8 && after == 0;
      other += before != 8 && before != after;
    }
  }
  CHECK(other == 0);
  CHECK(eights > 1000);
  CHECK(changed == eights);
}

TEST_CASE("cli: dequantize and convert a directory", "[convert][cli]") {
  const scratch_folder folder;
  tensor_map source;
  for (const char* part : {"w1", "w2", "w3"})
    add_pair(source, std::string("m.experts.0.") + part + ".weight", {32, 32}, 3);
  write_checkpoint(folder / "in", source, json::object());
  const auto mxfp4 = [](std::vector<std::string> rest) {
    rest.insert(rest.begin(), MXFP4_PROGRAM);
    return run(rest);
  };
  const outcome bf16 = mxfp4({"dequantize", folder / "in", folder / "bf16", "--json"});
  REQUIRE(bf16.code == 0);
  const json report = json::parse(bf16.out);
  CHECK(report["dequantized"] == 3);
  CHECK(report["shards"] == 1);
  CHECK(report["file_bytes_after"] == std::filesystem::file_size(folder / "bf16/model.safetensors"));
  const outcome again = mxfp4({"dequantize", folder / "in", folder / "bf16"});
  CHECK(again.code == 1);
  CHECK_THAT(again.err, ContainsSubstring("exists and is not an empty directory"));
  CHECK(mxfp4({"dequantize", folder / "in", folder / "f32", "--to", "f32"}).code == 2);

  const outcome gguf = mxfp4({"convert", "--to", "gguf", folder / "in", folder / "x.gguf"});
  CHECK(gguf.code == 0);
  CHECK_THAT(gguf.out, ContainsSubstring("3 MXFP4 matrices (1 expert in 1 layer) to gguf, 0 other tensors copied\n"));
  const outcome back = mxfp4({"convert", folder / "x.gguf", folder / "back", "--to", "compressed-tensors", "--json"});
  REQUIRE(back.code == 0);
  const json converted = json::parse(back.out);
  CHECK(converted["matrices"] == 3);
  CHECK(converted["to"] == "compressed-tensors");
  CHECK(differences(read_checkpoint(folder / "back"), source).empty());
  CHECK(mxfp4({"convert", folder / "in", folder / "y"}).code == 2);
  CHECK(mxfp4({"convert", folder / "in", folder / "y", "--to", "nvfp4"}).code == 2);
  CHECK(mxfp4({"convert", folder / "in", folder / "y", "--to", "gguf", "--max-shard-size", "many"}).code == 2);
  CHECK(folder.names() == std::vector<std::string>{"back", "bf16", "in", "x.gguf"});
}

TEST_CASE("dequantize: what another program has quantised is refused by name, and nothing is written", "[convert]") {
  struct row {
    const char* name;  // of the codes
    dtype type;
    const char* beside;
    dtype beside_type;
    const char* format;
  };
  const row rows[] = {
      {"a.weight_packed", dtype::i32, "a.weight_scale", dtype::bf16, "integers of compressed-tensors (pack-quantized)"},
      {"a.qweight", dtype::i32, "a.qzeros", dtype::i32, "GPTQ or AWQ"},
      {"a.weight", dtype::u8, "a.weight.absmax", dtype::f32, "bitsandbytes"},
      {"a.weight", dtype::i8, "a.SCB", dtype::f32, "bitsandbytes' LLM.int8()"},
      {"a.weight", dtype::u8, "a.weight_scale", dtype::u8, "MXFP4 of Quark or ModelOpt"},
      {"a.weight", dtype::i8, "a.scale", dtype::f8_e8m0, "MXFP4 of DeepSeek-V4"},
      {"a.weight", dtype::i8, "a.weight_scale", dtype::bf16, "INT8 of compressed-tensors"},
      {"a.weight", dtype::u32, "a.scales", dtype::bf16, "MLX"},
      {"a.weight", dtype::f4, "a.scales", dtype::bf16, "F4, four bits in a type of safetensors"},
  };
  for (const auto& [name, type, beside, beside_type, format] : rows) {
    CAPTURE(name, format);
    const scratch_folder folder;
    tensor_map source;
    source[name] = random_tensor(type, {4, 32}, 1);
    source[beside] = random_tensor(beside_type, {4, 3}, 2);  // of MXFP4 it would be [4, 2]
    source["norm.weight"] = random_tensor(dtype::bf16, {4}, 3);
    add_pair(source, "b.weight", {4, 32}, 4);  // MXFP4 beside it makes it no better
    write_checkpoint(folder / "in", source, {{"quantization_config", {{"quant_method", "other"}, {"format", "x"}}}});
    const auto result = dequantize_directory(folder / "in", folder / "out", {});
    REQUIRE_FALSE(result);
    CHECK_THAT(result.error().what(), ContainsSubstring(std::string("is ") + format) &&
                                          ContainsSubstring("config.json calls it other, x") &&
                                          ContainsSubstring("dequantise it with the program that wrote it"));
    CHECK(folder.names() == std::vector<std::string>{"in"});
  }
}

TEST_CASE("quantize, plan: of codes the way to weights is named that there is", "[convert]") {
  struct row {
    const char* name;  // of the codes
    dtype type;
    std::vector<const char*> beside;
    const char* format;
    const char* way;
  };
  const char* const by_us = "mxfp4 dequantize makes BF16 of it, which can be quantised";
  const char* const form = ", mxfp4 convert another form of MXFP4";
  const char* const by_them = "dequantise it with the program that wrote it, and quantise the result";
  const row rows[] = {
      {"a.weight_packed", dtype::i32, {"a.weight_scale"}, "integers of compressed-tensors (pack-quantized)", by_us},
      {"a.weight_packed",
       dtype::i32,
       {"a.weight_scale", "a.weight_zero_point"},
       "integers of compressed-tensors (pack-quantized) with zero points or activation order",
       by_them},
      {"a.weight", dtype::i8, {"a.weight_scale"}, "INT8 of compressed-tensors (int-quantized)", by_us},
      {"a.weight",
       dtype::i8,
       {"a.weight_scale", "a.weight_zero_point"},
       "INT8 of compressed-tensors (int-quantized) with zero points or activation order",
       by_them},
      {"a.weight", dtype::u8, {"a.weight_scale", "a.weight_scale_2"}, "NVFP4 of ModelOpt", by_us},
      {"a.weight", dtype::u8, {"a.weight_scale"}, "MXFP4 of Quark or ModelOpt", form},
      {"a.weight", dtype::i8, {"a.scale"}, "MXFP4 of DeepSeek-V4", form},
      {"a.weight", dtype::f4, {"a.scales"}, "F4, four bits in a type of safetensors", by_them},
      {"a.weight", dtype::f8_e5m2, {}, "FP8 without block scales", by_them},
      {"a.qweight", dtype::i32, {"a.qzeros"}, "GPTQ or AWQ", by_them},
      {"a.weight", dtype::u32, {"a.scales"}, "MLX", by_them},
      {"a.W_q", dtype::u8, {"a.zero"}, "U8 [4, 32], codes of a format that is not known", by_them},
  };
  for (const auto& [name, type, beside, format, way] : rows) {
    CAPTURE(name, format);
    const scratch_folder folder;
    tensor_map source;
    source[name] = random_tensor(type, {4, 32}, 1);
    for (const char* other : beside) source[other] = random_tensor(dtype::bf16, {4, 1}, 2);
    source["b.experts.0.w1.weight"] = random_tensor(dtype::bf16, {4, 32}, 3);
    write_checkpoint(folder / "in", source, {{"quantization_config", {{"quant_method", "other"}}}});
    const std::string codes = std::string(format) + "; config.json calls it other";
    const outcome quantized = run({MXFP4_PROGRAM, "quantize", folder / "in", folder / "out"});
    CHECK(quantized.code == 1);
    CHECK_THAT(quantized.err,
               ContainsSubstring("is quantised already: " + codes + ", expected") && ContainsSubstring(way));
    const outcome planned = run({MXFP4_PROGRAM, "plan", folder / "in"});
    CHECK(planned.code == 0);
    CHECK_THAT(planned.out, ContainsSubstring("warning: quantised already: '" + std::string(name) + "' is " + codes) &&
                                ContainsSubstring(way));
    CHECK(folder.names() == std::vector<std::string>{"in"});
  }

  // What is refused goes before what is not, wherever it stands.
  for (const std::string refused : {"a", "z"}) {
    const std::string read = refused == "a" ? "z" : "a";
    const scratch_folder folder;
    write_checkpoint(folder / "in",
                     {{read + ".weight", random_tensor(dtype::i8, {4, 32}, 1)},
                      {read + ".weight_scale", random_tensor(dtype::bf16, {4, 1}, 2)},
                      {refused + ".weight", random_tensor(dtype::u8, {4, 32}, 3)},
                      {refused + ".weight.absmax", random_tensor(dtype::f32, {4}, 4)}},
                     json::object());
    CHECK_THAT(run({MXFP4_PROGRAM, "quantize", folder / "in", folder / "out"}).err,
               ContainsSubstring("'" + refused + ".weight'") && ContainsSubstring(by_them));
  }
}

TEST_CASE("quantize, plan: a quantization that is told of and not there is told of", "[convert]") {
  struct row {
    json config;
    const char* file;  // beside it
    const char* told;  // nullptr: nothing
  };
  const json odd = {{"quant_method", "odd"}};
  const row rows[] = {
      {{{"quantization_config", odd}}, "notes.json", "config.json (odd) tells of"},
      {{{"quantization_config", json::object()}}, "notes.json", "config.json tells of"},
      {{{"text_config", {{"quantization_config", odd}}}}, "notes.json", "config.json: text_config (odd) tells of"},
      {{{"a", 1}}, "hf_quant_config.json", "hf_quant_config.json tells of"},
      {{{"quantization_config", odd}}, "quant_config.json", "config.json (odd), quant_config.json tells of"},
      {{{"quantization_config", nullptr}}, "notes.json", nullptr},
      {{{"a", 1}}, "mxfp4_report.json", nullptr},
  };
  for (const auto& [config, file, told] : rows)
    for (const bool with_fp8 : {false, true}) {
      CAPTURE(config.dump(), file, with_fp8);
      const scratch_folder folder;
      tensor_map source;
      source["b.experts.0.w1.weight"] = random_tensor(with_fp8 ? dtype::f8_e4m3 : dtype::bf16, {4, 32}, 3);
      for (char& c : source["b.experts.0.w1.weight"].data) c = static_cast<char>(c & 0x3F);
      if (with_fp8) source["b.experts.0.w1.weight_scale"] = {dtype::f32, {1}, bytes_of(std::vector<float>{1})};
      write_checkpoint(folder / "in", source, config);
      write_text(folder / "in" + "/" + file, "{}");
      const outcome quantized = run({MXFP4_PROGRAM, "quantize", folder / "in", folder / "out"});
      INFO(quantized.err);
      CHECK(quantized.code == 0);
      const std::string planned = run({MXFP4_PROGRAM, "plan", folder / "in"}).out;
      const bool is_told = told != nullptr && !with_fp8;
      const std::string text =
          (told == nullptr ? "" : std::string(told)) + " a quantization, and no tensor is quantised";
      CHECK((quantized.err.find(is_told ? text : "tells of") != std::string::npos) == is_told);
      CHECK((planned.find(is_told ? text : "tells of") != std::string::npos) == is_told);
      const json written = json::parse(read_text(folder / "out/config.json"));
      CHECK(written["quantization_config"]["quant_method"] == "compressed-tensors");
      CHECK_FALSE(written.value("text_config", json::object()).contains("quantization_config"));
    }
}

TEST_CASE("dequantize: a quantization_config that nothing here is true of is refused", "[convert]") {
  const scratch_folder folder;
  write_checkpoint(folder / "in", {{"a.weight", random_tensor(dtype::bf16, {4, 32}, 1)}},
                   {{"quantization_config", {{"quant_method", "fp8"}}}});
  const auto result = dequantize_directory(folder / "in", folder / "out", {});
  REQUIRE_FALSE(result);
  CHECK_THAT(result.error().what(), ContainsSubstring("holds no MXFP4 and no FP8 weights, but a quantization_config"));
}

TEST_CASE("dequantize, convert, verify: codes of no known format are refused beside MXFP4 and without it",
          "[convert]") {
  struct row {
    const char* name;
    dtype type;
    std::vector<std::int64_t> shape;
  };
  const row rows[] = {
      {"m.q_proj.weight", dtype::u8, {64, 32}},
      {"m.q_proj.weight", dtype::i8, {64, 64}},
      {"m.q_proj.weight", dtype::i32, {64, 8}},
      {"m.q_proj.W_q", dtype::u8, {64, 32}},
      {"m.q_proj.codes", dtype::i16, {64, 8}},
      {"m.q_proj.weight._data", dtype::i8, {64, 64}},
      {"m.experts.gate_up_proj", dtype::i8, {2, 64, 64}},
  };
  for (const row& r : rows) {
    CAPTURE(r.name, dtype_name(r.type));
    for (const bool beside : {false, true}) {
      CAPTURE(beside);
      const scratch_folder folder;
      tensor_map source;
      source[r.name] = random_tensor(r.type, r.shape, 1);
      source["m.q_proj.weird"] = random_tensor(dtype::bf16, {64, 1}, 2);
      for (const char* part : {"w1", "w2", "w3"})
        if (beside) add_pair(source, std::string("m.experts.0.") + part + ".weight", {32, 32}, 3);
      const json config =
          beside ? json{{"quantization_config", {{"quant_method", "compressed-tensors"}}}} : json{{"a", 1}};
      write_checkpoint(folder / "in", source, config);
      const auto result = dequantize_directory(folder / "in", folder / "out", {});
      REQUIRE_FALSE(result);
      const auto check_error = [&](const std::string& text) {
        CHECK_THAT(text, ContainsSubstring(folder / "in: tensor '" + r.name + "': is " + dtype_name(r.type) + " " +
                                           shape_text(r.shape) + ", codes of a format that is not known, expected"));
        CHECK_THAT(text, ContainsSubstring("dequantise it with the program that wrote it"));
      };
      check_error(result.error().what());
      for (const checkpoint_form to : {checkpoint_form::stacked, checkpoint_form::block_fp8}) {
        if (!beside) continue;
        const auto converted = convert_checkpoint(folder / "in", folder / "out", {.to = to});
        REQUIRE_FALSE(converted);
        check_error(converted.error().what());
      }
      CHECK(folder.names() == std::vector<std::string>{"in"});
      if (beside)
        CHECK_THAT(run({MXFP4_PROGRAM, "verify", folder / "in"}).out,
                   ContainsSubstring("'" + std::string(r.name) + "'") &&
                       ContainsSubstring("codes of a format that is not known"));
    }
  }
}

TEST_CASE("dequantize: integers that are no weights are copied", "[convert]") {
  const scratch_folder folder;
  tensor_map source;
  add_pair(source, "a.weight", {4, 32}, 4);
  source["embeddings.position_ids"] = random_tensor(dtype::i64, {1, 577}, 1);
  source["embeddings.token_type_ids"] = random_tensor(dtype::i64, {1, 577}, 2);
  source["attn.relative_position_index"] = random_tensor(dtype::i64, {49, 49}, 3);
  source["attn.mask"] = random_tensor(dtype::u8, {8, 8}, 4);
  source["gate.tid2eid"] = random_tensor(dtype::i32, {16, 6}, 5);
  source["gate_tid2eid.weight"] = random_tensor(dtype::i32, {16, 6}, 6);  // as llama.cpp calls it
  source["counts.weight"] = random_tensor(dtype::i64, {8}, 7);
  write_checkpoint(folder / "in", source, json::object());
  CHECK(dequantize_directory(folder / "in", folder / "out", {}).value().copied == 7);
}

TEST_CASE("dequantize: a nested quantization_config goes where nothing is true of it, with its codes it is refused",
          "[convert]") {
  for (const dtype type : {dtype::u8, dtype::i8, dtype::bf16}) {
    CAPTURE(dtype_name(type));
    const scratch_folder folder;
    write_checkpoint(
        folder / "in",
        {{"a.weight", random_tensor(type, {4, 32}, 1)}, {"a.weird", random_tensor(dtype::bf16, {4, 1}, 2)}},
        {{"text_config", {{"quantization_config", {{"quant_method", "odd"}}}}}});
    const auto result = dequantize_directory(folder / "in", folder / "out", {});
    if (type == dtype::bf16) {
      REQUIRE(result);
      CHECK(json::parse(read_text(folder / "out/config.json"))["text_config"] == json::object());
      REQUIRE(result->warnings.size() == 1);
      CHECK_THAT(
          result->warnings[0],
          ContainsSubstring("config.json: text_config (odd) tells of a quantization, and no tensor is quantised"));
      continue;
    }
    REQUIRE_FALSE(result);
    CHECK_THAT(result.error().what(), ContainsSubstring("codes of a format that is not known"));
    CHECK(folder.names() == std::vector<std::string>{"in"});
  }
}

TEST_CASE("dequantize: experts that nobody loads one by one in BF16 are told of", "[convert]") {
  for (const char* type : {"llama4_text", "gemma4_text", "qwen3_moe"}) {
    const scratch_folder folder;
    tensor_map source;
    add_pair(source, "a.experts.0.up_proj.weight", {4, 32}, 4);
    write_checkpoint(folder / "in", source, {{"model_type", type}});
    const auto report = dequantize_directory(folder / "in", folder / "out", {}).value();
    CHECK(report.warnings.size() == (std::string(type) == "qwen3_moe" ? 0 : 1));
  }
}

TEST_CASE("dequantize: what tells of the quantization does not travel", "[convert]") {
  const scratch_folder folder;
  tensor_map source;
  add_pair(source, "b.weight", {4, 32}, 4);
  write_checkpoint(folder / "in", source,
                   {{"text_config", {{"quantization_config", {{"quant_method", "fp8"}}}, {"n", 1}}},
                    {"quantization_config", {{"quant_method", "compressed-tensors"}}}});
  write_text(folder / "in/mxfp4_report.json", R"({"version": 1})");
  write_text(folder / "in/hf_quant_config.json", "{}");
  std::filesystem::create_directory(folder / "in/original");
  write_text(folder / "in/original/config.json", "{}");
  REQUIRE(dequantize_directory(folder / "in", folder / "out", {}));
  CHECK(checkpoint_reader::open(folder / "out").value().other_files() ==
        std::vector<std::string>{"config.json", "extra/notes.txt", "mxfp4_files.json", "tokenizer.json"});
  CHECK(nlohmann::json::parse(read_text(folder / "out/config.json")) ==
        nlohmann::json{{"text_config", {{"n", 1}}}, {"dtype", "bfloat16"}});
}

// ---- the forms of other programs ------------------------------------------------------------------------------------

namespace {

/// BF16 of a checkpoint's directory, by dequantize.
tensor_map dequantized(const scratch_folder& folder, const tensor_map& source, const json& config) {
  write_checkpoint(folder / "narrow", source, config);
  const auto result = dequantize_directory(folder / "narrow", folder / "wide", {});
  INFO((result ? "" : result.error().what()));
  REQUIRE(result);
  tensor_map out = read_checkpoint(folder / "wide");
  std::filesystem::remove_all(folder / "narrow");
  std::filesystem::remove_all(folder / "wide");
  return out;
}

/// "a.weight" under the names of another form; codes and scales are the same bytes.
tensor_map renamed_pair(const tensor_map& pair, dtype code_type, const std::string& scales, dtype scale_type) {
  tensor_map t;
  t["a.weight"] = pair.at("a.weight_packed");
  t["a.weight"].type = code_type;
  t[scales] = pair.at("a.weight_scale");
  t[scales].type = scale_type;
  return t;
}

stored_tensor floats(std::vector<std::int64_t> shape, const std::vector<float>& values) {
  return {dtype::f32, std::move(shape), bytes_of(values)};
}

}  // namespace

TEST_CASE("dequantize: what each program reads its own weights as", "[convert]") {
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(MXFP4_TEST_VECTORS "/narrow")) {
    if (entry.path().extension() != ".safetensors") continue;
    CAPTURE(entry.path().filename().string());
    ++files;
    const scratch_folder folder;
    tensor_map source = read_checkpoint(entry.path().string());
    const stored_tensor expected = source.at("expected");
    source.erase("expected");
    const tensor_map out = dequantized(folder, source, json::object());
    REQUIRE(out.size() == 1);
    CHECK(out.at("a.weight") == expected);
  }
  CHECK(files == 23);
}

TEST_CASE("dequantize: FP8 with a scale for everything, for a row, and for blocks of other sizes", "[convert]") {
  constexpr std::int64_t rows = 300, cols = 288;
  struct row {
    std::vector<std::int64_t> shape;  // of the scales
    std::int64_t down, across;        // weights under one
    const char* name;
    json block_size;
  };
  const row all[] = {{{}, rows, cols, "m.q_proj.weight_scale", nullptr},
                     {{1}, rows, cols, "m.q_proj.weight_scale", nullptr},
                     {{rows}, 1, cols, "m.q_proj.weight_scale", nullptr},
                     {{rows, 1}, 1, cols, "m.q_proj.weight_scale_inv", nullptr},
                     {{3, 3}, 128, 128, "m.q_proj.scale", nullptr},
                     {{5, 5}, 64, 64, "m.q_proj.weight_scale_inv", {64, 64}},
                     {{4, 6}, 96, 48, "m.q_proj.weight_scale_inv", {96, 48}},
                     {{2, 2}, 256, 256, "m.q_proj.weight_scale_inv", {256, 256}},
                     {{300, 3}, 1, 128, "m.q_proj.weight_scale_inv", {1, 128}}};
  for (const auto& [shape, down, across, name, block_size] : all) {
    CAPTURE(shape, name, block_size.dump());
    const scratch_folder folder;
    tensor_map source;
    source["m.q_proj.weight"] = random_tensor(dtype::f8_e4m3, {rows, cols}, 5);
    for (char& c : source["m.q_proj.weight"].data) c = static_cast<char>(c & 0xBF);  // no NaN
    splitmix random(6);
    std::vector<float> scales(elements(shape));
    for (float& s : scales) s = random.with_exponent(110, 130);
    source[name] = floats(shape, scales);
    source["m.q_proj.input_scale"] = floats({}, {1.0f});
    const json quantization = {{"quant_method", "fp8"}, {"weight_block_size", block_size}};
    const json config = {{"model_type", "llama"}, {"quantization_config", quantization}};
    const tensor_map out = dequantized(folder, source, config);
    REQUIRE(out.size() == 1);
    std::int64_t wrong = 0;
    const std::int64_t in_row = (cols + across - 1) / across;
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < cols; ++c) {
        const auto w =
            static_cast<float>(e4m3_number(static_cast<unsigned>(byte_at(source.at("m.q_proj.weight"), r * cols + c))));
        const float product = w * scales[static_cast<std::size_t>(r / down * in_row + c / across)];
        std::uint32_t bits = 0;
        std::memcpy(&bits, &product, sizeof bits);
        bits += 0x7FFFu + (bits >> 16 & 1u);  // to the nearest, ties to even
        wrong += u16_at(out.at("m.q_proj.weight"), r * cols + c) != bits >> 16;
      }
    CHECK(wrong == 0);

    // quantize makes of them what it makes of that BF16, and verify makes it again.
    write_checkpoint(folder / "fp8", source, config);
    write_checkpoint(folder / "bf16", out, {{"model_type", "llama"}});
    for (const char* which : {"fp8", "bf16"}) {
      const outcome q =
          run({MXFP4_PROGRAM, "quantize", folder / which, folder / (std::string(which) + ".q"), "--linears"});
      INFO(q.err);
      REQUIRE(q.code == 0);
    }
    CHECK(differences(read_checkpoint(folder / "fp8.q"), read_checkpoint(folder / "bf16.q")).empty());
    const outcome verified = run({MXFP4_PROGRAM, "verify", folder / "fp8.q", "--against", folder / "fp8"});
    CHECK(verified.out.find(" 0 errors") != std::string::npos);
    const outcome inspected = run({MXFP4_PROGRAM, "inspect", folder / "fp8", "m.q_proj.weight"});
    CHECK(inspected.code == 0);
  }
}

TEST_CASE("FP8 with scales for other blocks than config.json says", "[convert][bad_input]") {
  const scratch_folder folder;
  tensor_map source;
  source["m.q_proj.weight"] = random_tensor(dtype::f8_e4m3, {192, 192}, 5);
  source["m.q_proj.weight_scale_inv"] = floats({2, 2}, {1.0f, 1.0f, 1.0f, 1.0f});  // as for 128 x 128
  const json quantization = {{"quant_method", "fp8"}, {"weight_block_size", {64, 64}}};
  write_checkpoint(folder / "in", source, {{"model_type", "llama"}, {"quantization_config", quantization}});
  for (const char* const command : {"dequantize", "quantize"}) {
    std::vector<std::string> arguments = {MXFP4_PROGRAM, command, folder / "in", folder / "out"};
    if (command == std::string("quantize")) arguments.emplace_back("--linears");
    const outcome o = run(arguments);
    CAPTURE(command, o.out);
    CHECK(o.code == 1);
    CHECK_THAT(o.err, ContainsSubstring("are F32 [2, 2], not F32 [3, 3] for blocks of 64 x 64"));
  }
}

TEST_CASE("dequantize: every E8M0 byte over FP8", "[convert]") {
  const scratch_folder folder;
  tensor_map source;
  stored_tensor& w = source["a.weight"] = {dtype::f8_e4m3, {256, 32}, std::string(256 * 32, '\x38')};  // 1.0
  w.data[0] = '\x39';                                                                                  // 1.125
  stored_tensor& scales = source["a.scale"] = {dtype::f8_e8m0, {256, 1}, std::string(256, '\0')};
  for (std::size_t i = 0; i < 256; ++i) scales.data[i] = static_cast<char>(i);
  const tensor_map out = dequantized(folder, source, json::object());
  const stored_tensor& wide = out.at("a.weight");
  CHECK(u16_at(wide, 0) == 0x0048);                   // 1.125 * 2^-127, below the normal numbers
  CHECK(u16_at(wide, 1) == 0x0040);                   // 2^-127
  CHECK(u16_at(wide, 32) == 0x0080);                  // 2^-126
  CHECK(u16_at(wide, 254 * 32) == 0x7F00);            // 2^127
  CHECK((u16_at(wide, 255 * 32) & 0x7FFF) > 0x7F80);  // NaN
  std::int64_t wrong = 0;
  for (std::int64_t byte = 1; byte < 255; ++byte) wrong += u16_at(wide, byte * 32 + 5) != byte << 7;
  CHECK(wrong == 0);
}

TEST_CASE("dequantize and convert: MXFP4 of Quark, ModelOpt and DeepSeek-V4 is known by its names", "[convert]") {
  tensor_map pair;
  add_pair(pair, "a.weight", {40, 96}, 11);
  const scratch_folder folder;
  const tensor_map expected = dequantized(folder, pair, json::object());
  const tensor_map forms[] = {renamed_pair(pair, dtype::u8, "a.weight_scale", dtype::u8),
                              renamed_pair(pair, dtype::i8, "a.scale", dtype::f8_e8m0)};
  for (const tensor_map& form : forms) {
    CHECK(differences(dequantized(folder, form, {{"quantization_config", {{"quant_method", "x"}}}}), expected).empty());
    write_checkpoint(folder / "in", form, {{"quantization_config", {{"quant_method", "quark"}}}, {"n", 1}});
    REQUIRE(convert_checkpoint(folder / "in", folder / "out", {}));
    CHECK(differences(read_checkpoint(folder / "out"), pair).empty());
    const json config = json::parse(read_text(folder / "out/config.json"));
    CHECK(config["quantization_config"]["quant_method"] == "compressed-tensors");
    CHECK(config["n"] == 1);
    for (const char* name : {"in", "out"}) std::filesystem::remove_all(folder / name);

    // A file by itself has no config, and is not taken for weights.
    write_shard(folder / "one.safetensors", form);
    const outcome one = run({MXFP4_PROGRAM, "dequantize", folder / "one.safetensors", folder / "two.safetensors"});
    CHECK(one.code == 1);
    CHECK_THAT(one.err, ContainsSubstring("takes the directory of a checkpoint"));
  }
  const json int4 = {{"quant_method", "quark"}, {"global_quant_config", {{"weight", {{"dtype", "int4"}}}}}};
  write_checkpoint(folder / "in", forms[0], {{"quantization_config", int4}});
  const auto refused = dequantize_directory(folder / "in", folder / "out", {});
  REQUIRE_FALSE(refused);
  CHECK_THAT(refused.error().what(), ContainsSubstring("is of type 'int4' by Quark's config, expected 'fp4'"));
}

TEST_CASE("verify: the configs of other programs, true and not", "[convert]") {
  tensor_map pair;
  add_pair(pair, "a.weight", {40, 96}, 11);
  pair["a.weight_scale"].data.assign(120, 120);
  const tensor_map quark = renamed_pair(pair, dtype::u8, "a.weight_scale", dtype::u8),
                   deepseek = renamed_pair(pair, dtype::i8, "a.scale", dtype::f8_e8m0);
  tensor_map fp8;
  fp8["a.q_proj.weight"] = random_tensor(dtype::f8_e4m3, {40, 96}, 1);
  fp8["a.q_proj.weight_scale_inv"] = floats({1, 1}, {1.0f});
  fp8["lm_head.weight"] = random_tensor(dtype::bf16, {40, 96}, 2);
  const json weight = {{"dtype", "fp4"}, {"qscheme", "per_group"}, {"group_size", 32}, {"scale_format", "e8m0"}};
  json of_16 = weight;
  of_16["group_size"] = 16;
  const auto of_quark = [](const json& w, const json& exclude) {
    return json{{"quant_method", "quark"}, {"global_quant_config", {{"weight", w}}}, {"exclude", exclude}};
  };
  const auto of_fp8 = [](const json& block, const json& left) {
    return json{{"quant_method", "fp8"}, {"weight_block_size", block}, {"modules_to_not_convert", left}};
  };
  struct row {
    const tensor_map& tensors;
    json config;
    const char* error;  // empty: none
  };
  const row rows[] = {
      {quark, of_quark(weight, json::array()), ""},
      {quark, of_quark(of_16, json::array()), "weight.group_size is 16, expected 32"},
      {quark, of_quark(weight, {"a"}), "is MXFP4, and exclude says that it is not"},
      {pair, of_quark(weight, json::array()), "is MXFP4 under names that are not Quark's"},
      {quark, {{"quant_method", "modelopt"}, {"quant_algo", "MXFP4"}}, ""},
      {quark, {{"quant_method", "modelopt"}, {"quant_algo", "NVFP4"}}, "quant_algo is \"NVFP4\", expected \"MXFP4\""},
      {deepseek, {{"quant_method", "fp8"}, {"expert_dtype", "fp4"}}, ""},
      {deepseek, {{"quant_method", "fp8"}}, "says FP8 without expert_dtype"},
      {pair, {{"quant_method", "auto-round"}, {"bits", 4}, {"group_size", 32}, {"data_type", "mx_fp"}}, ""},
      {pair, {{"quant_method", "auto-round"}, {"bits", 4}, {"group_size", 32}, {"data_type", "int"}}, "data_type is"},
      {fp8, of_fp8({128, 128}, {"lm_head"}), ""},
      {fp8, of_fp8({128, 128}, {"lm"}), "modules_to_not_convert does not name it"},
      {fp8, of_fp8({128, 128}, {"lm_head", "q_proj"}), "modules_to_not_convert says that it is not"},
  };
  for (const auto& [tensors, config, error] : rows) {
    CAPTURE(config.dump());
    const scratch_folder folder;
    write_checkpoint(folder / "in", tensors, {{"quantization_config", config}});
    const outcome verified = run({MXFP4_PROGRAM, "verify", folder / "in"});
    INFO(verified.out);
    std::string errors;
    for (std::size_t at = 0; (at = verified.out.find("error: ", at)) != std::string::npos;) {
      const std::size_t end = verified.out.find('\n', at);
      const std::string line = verified.out.substr(at, end - at);
      if (line.find("total_size") == std::string::npos) errors += line + "\n";
      at = end;
    }
    if (std::string(error).empty()) CHECK(errors.empty());
    else CHECK_THAT(errors, ContainsSubstring(error));
  }
}

TEST_CASE("dequantize: stacks of gpt-oss become [experts, in, out]", "[convert]") {
  constexpr std::int64_t experts = 3, rows = 70, cols = 96;
  const scratch_folder folder;
  tensor_map pair, stack;
  add_pair(pair, "m.experts.gate_up_proj", {experts, rows, cols}, 12);
  stack["m.experts.gate_up_proj_blocks"] = pair.at("m.experts.gate_up_proj_packed");
  stack["m.experts.gate_up_proj_blocks"].shape = {experts, rows, cols / 32, 16};
  stack["m.experts.gate_up_proj_scales"] = pair.at("m.experts.gate_up_proj_scale");
  stack["m.experts.gate_up_proj_bias"] = random_tensor(dtype::bf16, {experts, rows}, 13);
  const tensor_map straight = dequantized(folder, pair, json::object());
  const tensor_map out = dequantized(folder, stack, {{"model_type", "gpt_oss"}});
  REQUIRE(out.size() == 2);
  CHECK(out.at("m.experts.gate_up_proj_bias") == stack.at("m.experts.gate_up_proj_bias"));
  const stored_tensor& turned = out.at("m.experts.gate_up_proj");
  REQUIRE(turned.shape == std::vector<std::int64_t>{experts, cols, rows});
  std::int64_t wrong = 0;
  for (std::int64_t e = 0; e < experts; ++e)
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < cols; ++c)
        wrong += u16_at(turned, (e * cols + c) * rows + r) !=
                 u16_at(straight.at("m.experts.gate_up_proj"), (e * rows + r) * cols + c);
  CHECK(wrong == 0);
}

TEST_CASE("dequantize: what INT4 has beside its codes and scales is not read, and refused", "[convert][bad_input]") {
  for (const char* beside : {"a.weight_zero_point", "a.weight_g_idx"}) {
    const scratch_folder folder;
    tensor_map source;
    source["a.weight_packed"] = random_tensor(dtype::i32, {4, 8}, 1);
    source["a.weight_scale"] = random_tensor(dtype::bf16, {4, 2}, 2);
    source["a.weight_shape"] = {dtype::i64, {2}, bytes_of(std::vector<std::int64_t>{4, 64})};
    CHECK(dequantized(folder, source, json::object()).size() == 1);
    source[beside] = random_tensor(dtype::i32, {4}, 3);
    write_checkpoint(folder / "in", source, json::object());
    const auto result = dequantize_directory(folder / "in", folder / "out", {});
    REQUIRE_FALSE(result);
    CHECK_THAT(result.error().what(), ContainsSubstring("is integers of compressed-tensors (pack-quantized) with zero "
                                                        "points or activation order"));
  }
}

TEST_CASE("dequantize: INT8 whose scales do not fit, or with zero points, is refused; of activations nothing is kept",
          "[convert][bad_input]") {
  const scratch_folder folder;
  tensor_map source;
  source["a.weight"] = random_tensor(dtype::i8, {4, 96}, 1);
  source["a.input_scale"] = random_tensor(dtype::f32, {1}, 3);
  source["a.input_zero_point"] = random_tensor(dtype::i8, {1}, 4);
  for (const std::vector<std::int64_t>& fits : {std::vector<std::int64_t>{}, {1}, {4, 1}, {4, 3}}) {
    source["a.weight_scale"] = random_tensor(dtype::bf16, fits, 2);
    CHECK(dequantized(folder, source, json::object()).size() == 1);
  }
  for (const std::vector<std::int64_t>& other : {std::vector<std::int64_t>{4}, {3, 1}, {4, 5}, {2, 2, 1}, {0}}) {
    CAPTURE(shape_text(other));
    const scratch_folder bad;
    source["a.weight_scale"] = random_tensor(dtype::bf16, other, 2);
    write_checkpoint(bad / "in", source, json::object());
    const auto result = dequantize_directory(bad / "in", bad / "out", {});
    REQUIRE_FALSE(result);
    CHECK_THAT(result.error().what(), ContainsSubstring("is INT8 of compressed-tensors (int-quantized)"));
  }
  source["a.weight_scale"] = random_tensor(dtype::bf16, {4, 1}, 2);
  source["a.weight_zero_point"] = random_tensor(dtype::i8, {4, 1}, 5);
  const scratch_folder bad;
  write_checkpoint(bad / "in", source, json::object());
  const auto result = dequantize_directory(bad / "in", bad / "out", {});
  REQUIRE_FALSE(result);
  CHECK_THAT(result.error().what(), ContainsSubstring("(int-quantized) with zero points or activation order"));
}
