// tests/convert_checkpoint.property.test.cpp -- forms of a checkpoint: where each byte goes, and that all come back.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "checkpoint/reader_json.hpp"
#include "convert.support.hpp"
#include "mxfp4/checkpoint/convert.hpp"
#include "mxfp4/checkpoint/dequantize.hpp"
#include "mxfp4/io/gguf_file.hpp"
#include "support/oracle.hpp"

namespace {

using namespace mxfp4::test;
using namespace mxfp4::checkpoint;
using namespace mxfp4::io;
using nlohmann::json;

constexpr std::int64_t hidden = 96, inner = 64, experts = 3;  // cols of w1 and w3, and of w2
const std::string moe = "model.layers.1.block_sparse_moe.";

const json config = {
    {"model_type", "minimax_m2"},
    {"hidden_size", hidden},
    {"quantization_config", {{"quant_method", "compressed-tensors"}, {"format", "mxfp4-pack-quantized"}}}};

/// As `quantize` leaves MiniMax-M2: a pair per expert, names w1, w2, w3; two layers, the second with its neighbours.
tensor_map minimax() {
  tensor_map t;
  std::uint64_t seed = 1;
  for (const int layer : {0, 1})
    for (int e = 0; e < experts; ++e) {
      const std::string p = "model.layers." + std::to_string(layer) + ".block_sparse_moe.experts." + std::to_string(e);
      add_pair(t, p + ".w1.weight", {inner, hidden}, seed += 10);
      add_pair(t, p + ".w3.weight", {inner, hidden}, seed += 10);
      add_pair(t, p + ".w2.weight", {hidden, inner}, seed += 10);
    }
  t[moe + "gate.weight"] = random_tensor(dtype::f32, {experts, hidden}, 1001);
  t[moe + "e_score_correction_bias"] = random_tensor(dtype::f32, {experts}, 1002);
  t["model.layers.1.self_attn.q_proj.weight"] = random_tensor(dtype::bf16, {64, hidden}, 1003);
  t["model.embed_tokens.weight"] = random_tensor(dtype::bf16, {50, hidden}, 1004);
  t["model.norm.weight"] = random_tensor(dtype::f16, {hidden}, 1005);
  t["scalar"] = random_tensor(dtype::i64, {}, 1006);
  t["empty"] = random_tensor(dtype::f64, {0, 4}, 1007);
  return t;
}

/// As gpt-oss is published: stacked experts with biases.
tensor_map gpt_oss() {
  tensor_map t;
  const std::string p = "model.layers.0.mlp.experts.";
  t[p + "gate_up_proj_blocks"] = random_tensor(dtype::u8, {experts, 2 * inner, hidden / 32, 16}, 1);
  t[p + "gate_up_proj_scales"] = random_tensor(dtype::u8, {experts, 2 * inner, hidden / 32}, 2);
  t[p + "gate_up_proj_bias"] = random_tensor(dtype::bf16, {experts, 2 * inner}, 3);
  t[p + "down_proj_blocks"] = random_tensor(dtype::u8, {experts, hidden, inner / 32, 16}, 4);
  t[p + "down_proj_scales"] = random_tensor(dtype::u8, {experts, hidden, inner / 32}, 5);
  t[p + "down_proj_bias"] = random_tensor(dtype::bf16, {experts, hidden}, 6);
  t["model.layers.0.mlp.router.weight"] = random_tensor(dtype::bf16, {experts, hidden}, 7);
  t["model.layers.0.mlp.router.bias"] = random_tensor(dtype::bf16, {experts}, 8);
  t["model.layers.0.self_attn.sinks"] = random_tensor(dtype::bf16, {8}, 9);
  return t;
}

convert_report convert_to(checkpoint_form to, const std::string& in, const std::string& out,
                          std::uint64_t max_shard_bytes = default_max_shard_bytes) {
  convert_options options;
  options.to = to;
  options.max_shard_bytes = max_shard_bytes;
  return convert_checkpoint(in, out, options).value();
}

}  // namespace

TEST_CASE("convert: from every form to every form, and back to the same bytes", "[convert]") {
  const scratch_folder folder;
  const tensor_map source = minimax();
  write_checkpoint(folder / "source", source, config);
  using enum checkpoint_form;
  for (const checkpoint_form first : {compressed_tensors, stacked, gpt_oss, gguf}) {
    const std::string name = checkpoint_form_names[static_cast<std::size_t>(first)];
    const std::string one = folder / (name + (first == gguf ? ".gguf" : ""));
    const convert_report report = convert_to(first, folder / "source", one, 20'000);
    CHECK(report.matrices == 2 * 3 * experts);
    CHECK(report.experts == 2 * experts);
    CHECK(report.layers == 2);
    CHECK(report.copied == 7);
    CHECK(report.config);
    for (const checkpoint_form second : {compressed_tensors, stacked, gpt_oss, gguf}) {
      CAPTURE(name, checkpoint_form_names[static_cast<std::size_t>(second)]);
      const std::string to = name + "-" + checkpoint_form_names[static_cast<std::size_t>(second)];
      const std::string two = folder / (to + (second == gguf ? ".gguf" : ""));
      convert_to(second, one, two);
      convert_to(compressed_tensors, two, folder / (to + "-back"));
      CHECK(differences(read_checkpoint(folder / (to + "-back")), source).empty());
    }
  }
}

TEST_CASE("convert: rows longer than what is held in memory at a time", "[convert]") {
  const scratch_folder folder;
  constexpr std::int64_t blocks = 2 * copy_slab_bytes / 32 + 3;  // two weights in a byte, so this is a slab and more
  const std::string p = "model.layers.0.mlp.experts.";
  tensor_map source;
  source[p + "gate_up_proj_blocks"] = random_tensor(dtype::u8, {1, 4, blocks, 16}, 1);
  source[p + "gate_up_proj_scales"] = random_tensor(dtype::u8, {1, 4, blocks}, 2);
  source[p + "down_proj_blocks"] = random_tensor(dtype::u8, {1, 2, 2, 16}, 3);
  source[p + "down_proj_scales"] = random_tensor(dtype::u8, {1, 2, 2}, 4);
  write_checkpoint(folder / "source", source, {{"model_type", "gpt_oss"}});
  using enum checkpoint_form;
  convert_to(compressed_tensors, folder / "source", folder / "pairs");
  const tensor_map pairs = read_checkpoint(folder / "pairs");
  const auto rows = [&](const char* name, std::size_t first, std::size_t row_bytes) {
    const std::string& data = source.at(p + name).data;
    return data.substr(first * row_bytes, row_bytes) + data.substr((first + 2) * row_bytes, row_bytes);
  };
  for (const auto& [first, name] : {std::pair{std::size_t{0}, "gate_proj"}, std::pair{std::size_t{1}, "up_proj"}}) {
    CAPTURE(name);
    CHECK((pairs.at(p + "0." + name + ".weight_packed").data == rows("gate_up_proj_blocks", first, 16 * blocks)));
    CHECK((pairs.at(p + "0." + name + ".weight_scale").data == rows("gate_up_proj_scales", first, blocks)));
  }
  convert_to(gguf, folder / "pairs", folder / "x.gguf");
  convert_to(gpt_oss, folder / "x.gguf", folder / "back");
  CHECK(differences(read_checkpoint(folder / "back"), source).empty());
}

TEST_CASE("convert: gpt-oss with biases, there and back", "[convert]") {
  const scratch_folder folder;
  const tensor_map source = gpt_oss();
  write_checkpoint(folder / "source", source, {{"model_type", "gpt_oss"}});
  using enum checkpoint_form;
  convert_to(compressed_tensors, folder / "source", folder / "pairs");
  const tensor_map pairs = read_checkpoint(folder / "pairs");
  const std::string p = "model.layers.0.mlp.experts.";
  CHECK(pairs.size() == std::size_t{experts} * 9 + 3);
  CHECK(pairs.at(p + "2.up_proj.weight_packed").shape == std::vector<std::int64_t>{inner, hidden / 2});
  for (std::int64_t r = 0; r < inner; ++r)  // expert 2: gate is row 2 r, up is row 2 r + 1
    for (std::int64_t b = 0; b < 2; ++b) {
      const stored_tensor& fused = source.at(p + "gate_up_proj_bias");
      CHECK(byte_at(pairs.at(p + "2.gate_proj.bias"), 2 * r + b) == byte_at(fused, 2 * (2 * 2 * inner + 2 * r) + b));
      CHECK(byte_at(pairs.at(p + "2.up_proj.bias"), 2 * r + b) == byte_at(fused, 2 * (2 * 2 * inner + 2 * r + 1) + b));
    }
  CHECK(pairs.at(p + "1.down_proj.bias").data == source.at(p + "down_proj_bias").data.substr(2 * hidden, 2 * hidden));

  const checkpoint_form second = GENERATE(compressed_tensors, stacked, gpt_oss, gguf);
  const std::string middle = folder / (second == gguf ? "m.gguf" : "m");
  convert_to(second, folder / "pairs", middle);
  convert_to(gpt_oss, middle, folder / "back");
  CHECK(differences(read_checkpoint(folder / "back"), source).empty());
  CHECK(json::parse(read_text(folder / "back/config.json"))["quantization_config"] ==
        json{{"quant_method", "mxfp4"}, {"modules_to_not_convert", {"model.layers.*.mlp.router"}}});
}

TEST_CASE("convert: matrices of more than one slab", "[convert]") {
  const scratch_folder folder;
  constexpr std::int64_t rows = 140'000;  // of 32 code bytes: 4.5 MB, and 9 MB where gate and up take turns
  tensor_map source;
  const std::string p = "m.mlp.experts.";
  source[p + "gate_up_proj_blocks"] = random_tensor(dtype::u8, {1, 2 * rows, 2, 16}, 1);
  source[p + "gate_up_proj_scales"] = random_tensor(dtype::u8, {1, 2 * rows, 2}, 2);
  source[p + "down_proj_blocks"] = random_tensor(dtype::u8, {1, 4, 1, 16}, 3);
  source[p + "down_proj_scales"] = random_tensor(dtype::u8, {1, 4, 1}, 4);
  source["embedding"] = random_tensor(dtype::f32, {1'100'000}, 5);
  write_checkpoint(folder / "source", source, nullptr);
  using enum checkpoint_form;
  convert_to(stacked, folder / "source", folder / "stacked");
  convert_to(gguf, folder / "stacked", folder / "x.gguf");
  convert_to(compressed_tensors, folder / "x.gguf", folder / "pairs");
  convert_to(gpt_oss, folder / "pairs", folder / "back");
  CHECK(differences(read_checkpoint(folder / "back"), source).empty());
  const tensor_map pairs = read_checkpoint(folder / "pairs");
  const std::string& codes = source.at(p + "gate_up_proj_blocks").data;
  const std::string& up = pairs.at(p + "0.up_proj.weight_packed").data;
  for (const std::size_t r : {std::size_t{0}, std::size_t{131'071}, std::size_t{131'072}, std::size_t{139'999}})
    CHECK(up.substr(r * 32, 32) == codes.substr((2 * r + 1) * 32, 32));
}

TEST_CASE("convert: where each byte of gpt-oss comes from", "[convert]") {
  const scratch_folder folder;
  const tensor_map source = minimax();
  write_checkpoint(folder / "source", source, config);
  convert_to(checkpoint_form::gpt_oss, folder / "source", folder / "out");
  const tensor_map out = read_checkpoint(folder / "out");
  const auto& blocks = out.at(moe + "experts.gate_up_proj_blocks");
  const auto& scales = out.at(moe + "experts.gate_up_proj_scales");
  REQUIRE(blocks.shape == std::vector<std::int64_t>{experts, 2 * inner, hidden / 32, 16});
  REQUIRE(scales.shape == std::vector<std::int64_t>{experts, 2 * inner, hidden / 32});
  CHECK(out.at(moe + "experts.down_proj_blocks").shape == std::vector<std::int64_t>{experts, hidden, inner / 32, 16});
  std::int64_t wrong = 0;
  for (std::int64_t e = 0; e < experts; ++e)
    for (std::int64_t r = 0; r < 2 * inner; ++r)
      for (std::int64_t b = 0; b < hidden / 32; ++b) {
        const std::string name = moe + "experts." + std::to_string(e) + (r % 2 == 0 ? ".w1" : ".w3") + ".weight";
        const std::int64_t at = r / 2 * (hidden / 32) + b, to = (e * 2 * inner + r) * (hidden / 32) + b;
        wrong += byte_at(scales, to) != byte_at(source.at(name + "_scale"), at);
        for (std::int64_t j = 0; j < 16; ++j)
          wrong += byte_at(blocks, to * 16 + j) != byte_at(source.at(name + "_packed"), at * 16 + j);
      }
  CHECK(wrong == 0);
  const json written = json::parse(read_text(folder / "out/config.json"));
  CHECK(written["hidden_size"] == hidden);
  CHECK(written["quantization_config"] ==
        json{{"quant_method", "mxfp4"},
             {"modules_to_not_convert",
              {"model.embed_tokens", "model.layers.*.block_sparse_moe.gate", "model.layers.*.self_attn.q_proj"}}});
}

TEST_CASE("convert: where each byte of the stacked form comes from", "[convert]") {
  const scratch_folder folder;
  const tensor_map source = minimax();
  write_checkpoint(folder / "source", source, config);
  convert_to(checkpoint_form::stacked, folder / "source", folder / "out");
  const tensor_map out = read_checkpoint(folder / "out");
  CHECK(out.size() == 2 * 4 + 7);
  std::string fused, down;
  for (int e = 0; e < experts; ++e) {
    const std::string p = moe + "experts." + std::to_string(e);
    fused += source.at(p + ".w1.weight_packed").data + source.at(p + ".w3.weight_packed").data;
    down += source.at(p + ".w2.weight_scale").data;
  }
  CHECK(out.at(moe + "experts.gate_up_proj_packed") ==
        stored_tensor{dtype::u8, {experts, 2 * inner, hidden / 2}, fused});
  CHECK(out.at(moe + "experts.down_proj_scale") == stored_tensor{dtype::u8, {experts, hidden, inner / 32}, down});
  CHECK(read_text(folder / "out/config.json") == read_text(folder / "source/config.json"));
}

TEST_CASE("convert: where each nibble of GGUF comes from", "[convert]") {
  const scratch_folder folder;
  const tensor_map source = minimax();
  write_checkpoint(folder / "source", source, config);
  convert_to(checkpoint_form::gguf, folder / "source", folder / "out.gguf");
  const gguf_reader out = gguf_reader::open(folder / "out.gguf").value();
  CHECK(out.header().tensors.size() == 2 * 3 + 7);
  CHECK(*out.header().find_string("general.architecture") == "minimax_m2");
  CHECK(*out.header().find_string("mxfp4.config_json") == read_text(folder / "source/config.json"));
  const gguf_tensor* w = out.find(moe + "experts.w2.weight");
  REQUIRE(w != nullptr);
  REQUIRE(w->type == ggml_type::mxfp4);
  REQUIRE(w->shape == std::vector<std::int64_t>{experts, hidden, inner});
  std::vector<std::uint8_t> bytes(w->bytes);
  out.read(*w, 0, std::as_writable_bytes(std::span(bytes))).value();
  std::int64_t wrong = 0;
  for (std::int64_t e = 0; e < experts; ++e)
    for (std::int64_t r = 0; r < hidden; ++r)
      for (std::int64_t c = 0; c < inner; ++c) {
        const std::string name = moe + "experts." + std::to_string(e) + ".w2.weight";
        const std::uint8_t pair = byte_at(source.at(name + "_packed"), (r * inner + c) / 2);
        const std::uint8_t* block = bytes.data() + ((e * hidden + r) * inner + c) / 32 * 17;
        const int i = static_cast<int>(c % 32), code = c % 2 == 0 ? pair & 15 : pair >> 4;
        wrong += block[0] != byte_at(source.at(name + "_scale"), (r * inner + c) / 32);
        wrong += (i < 16 ? block[1 + i] & 15 : block[1 + i - 16] >> 4) != code;
      }
  CHECK(wrong == 0);
  const gguf_tensor* norm = out.find("model.norm.weight");
  REQUIRE(norm != nullptr);
  CHECK(norm->type == ggml_type::f16);
}

TEST_CASE("convert: to FP8 and the numbers stay", "[convert]") {
  const scratch_folder folder;
  tensor_map source = minimax();
  for (auto& [name, t] : source)
    if (name.ends_with("_scale")) t.data = random_bytes(t.data.size(), name.size(), 110, 124);
  add_pair(source, "model.layers.1.mlp.up_proj.weight", {130, 160}, 99);  // two by two blocks, three of them not full
  stored_tensor& scales = source.at("model.layers.1.mlp.up_proj.weight_scale");
  scales.data = random_bytes(scales.data.size(), 5, 100, 114);
  write_checkpoint(folder / "source", source, config);
  const convert_report report = convert_to(checkpoint_form::block_fp8, folder / "source", folder / "out");
  CHECK(report.matrices == 2 * 3 * experts + 1);
  const tensor_map out = read_checkpoint(folder / "out");
  std::int64_t wrong = 0, weights = 0;
  for (const auto& [name, t] : out) {
    if (t.type != dtype::f8_e4m3) continue;
    const std::int64_t rows = t.shape[0], cols = t.shape[1], tiles = (cols + 127) / 128;
    const stored_tensor& inv = out.at(name + "_scale_inv");
    REQUIRE(inv.type == dtype::f32);
    REQUIRE(inv.shape == std::vector<std::int64_t>{(rows + 127) / 128, tiles});
    const std::vector<float> block_scales = values_of<float>(inv.data);
    for (std::int64_t i = 0; i < rows * cols; ++i) {
      const int pair = byte_at(source.at(name + "_packed"), i / 2), code = i % 2 == 0 ? pair & 15 : pair >> 4;
      const int scale = byte_at(source.at(name + "_scale"), i / 32);
      const double expected = weight(static_cast<unsigned>(code), scale);
      const float s = block_scales[static_cast<std::size_t>(i / cols / 128 * tiles + i % cols / 128)];
      const double found = e4m3_number(static_cast<unsigned>(byte_at(t, i))) * s;
      wrong += found != expected || std::signbit(found) != std::signbit(expected);
      ++weights;
    }
  }
  CHECK(wrong == 0);
  CHECK(weights == 2 * 3 * experts * inner * hidden + 130 * 160);
  CHECK(out.at(moe + "gate.weight") == source.at(moe + "gate.weight"));
  const json q = json::parse(read_text(folder / "out/config.json"))["quantization_config"];
  CHECK(q["quant_method"] == "fp8");
  CHECK(q["weight_block_size"] == json{128, 128});
  CHECK(q["modules_to_not_convert"] == json{"model.embed_tokens", moe + "gate", "model.layers.1.self_attn.q_proj"});
}

TEST_CASE("convert: shards, index and what comes along", "[convert]") {
  const scratch_folder folder;
  write_checkpoint(folder / "source", minimax(), config);
  const convert_report report =
      convert_to(checkpoint_form::compressed_tensors, folder / "source", folder / "out", 20'000);
  CHECK(report.after.shards > 3);
  const checkpoint_reader out = checkpoint_reader::open(folder / "out").value();
  CHECK(out.shards().size() == report.after.shards);
  CHECK(out.shards().front() ==
        "model-00001-of-" +
            ("0000" + std::to_string(report.after.shards)).substr(std::to_string(report.after.shards).size() - 1) +
            ".safetensors");
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < out.shards().size(); ++i) {
    CHECK(out.shard(i).header().extra == metadata{{"format", "pt"}});
    CHECK(out.shard(i).header().tensors.back().end <= 20'000);
    bytes += out.shard(i).header().tensors.back().end;
  }
  CHECK(read_index_metadata(out)["total_size"] == bytes);
  CHECK(out.other_files() ==
        std::vector<std::string>{"config.json", "extra/notes.txt", "mxfp4_files.json", "tokenizer.json"});
  CHECK(read_text(folder / "out/extra/notes.txt") == "kept");

  const convert_report one = convert_to(checkpoint_form::stacked, folder / "source", folder / "one.safetensors");
  CHECK(one.after.shards == 1);
  CHECK_FALSE(one.config);
  convert_to(checkpoint_form::compressed_tensors, folder / "one.safetensors", folder / "two");
  CHECK(differences(read_checkpoint(folder / "two"), minimax()).empty());
  CHECK_FALSE(std::filesystem::exists(folder / "two/config.json"));
  CHECK_FALSE(std::filesystem::exists(folder / "two/model.safetensors.index.json"));
}

TEST_CASE("convert: zero blocks that gguf writes with scale byte 255 become clean, and are counted", "[convert]") {
  // Three rows of a block: zeros of both signs under 255, a number under 255, zeros under 7.
  const scratch_folder folder;
  std::string blocks(3 * 17, '\0');
  blocks[0] = blocks[17] = '\xFF';
  blocks[5] = '\x80';
  blocks[17 + 9] = '\x01';
  blocks[34] = '\x07';
  gguf_header header;
  header.pairs = {{"general.architecture", gguf_type::string, "toy"}};
  header.tensors = {{"a.weight", ggml_type::mxfp4, {3, 32}, 0, 0}};
  gguf_writer out = gguf_writer::create(folder / "x.gguf", header).value();
  out.append("a.weight", std::as_bytes(std::span(blocks))).value();
  out.commit().value();
  convert_options options;
  const convert_report report = convert_checkpoint(folder / "x.gguf", folder / "x.safetensors", options).value();
  CHECK(report.cleaned == 1);
  const tensor_map t = read_checkpoint(folder / "x.safetensors");
  CHECK(t.at("a.weight_scale").data == std::string("\x00\xFF\x07", 3));
  CHECK(t.at("a.weight_packed").data.substr(0, 16) == std::string(16, '\0'));
  CHECK(t.at("a.weight_packed").data.substr(16, 16) != std::string(16, '\0'));
}

TEST_CASE("convert: a part of a split GGUF is not the whole", "[convert][bad_input]") {
  const scratch_folder folder;
  gguf_header header;
  header.pairs = {{"general.architecture", gguf_type::string, "toy"},
                  {"split.count", gguf_type::u32, std::uint64_t{3}}};
  header.tensors = {{"a.weight", ggml_type::mxfp4, {1, 32}, 0, 0}};
  gguf_writer out = gguf_writer::create(folder / "x-00001-of-00003.gguf", header).value();
  const std::string block(17, '\0');
  out.append("a.weight", std::as_bytes(std::span(block))).value();
  out.commit().value();
  const auto result = convert_checkpoint(folder / "x-00001-of-00003.gguf", folder / "out", {});
  REQUIRE_FALSE(result);
  CHECK(std::string(result.error().what()).find("x-00002-of-00003.gguf") != std::string::npos);
  CHECK(folder.names() == std::vector<std::string>{"x-00001-of-00003.gguf"});
}

TEST_CASE("convert and dequantize: Q8_0 beside MXFP4, in the parts of a split GGUF", "[convert]") {
  const scratch_folder folder;
  const auto write = [&](const std::string& name, std::uint64_t part, std::vector<gguf_tensor> tensors,
                         const std::vector<std::string>& data) {
    gguf_header header;
    header.pairs = {{"split.count", gguf_type::u32, std::uint64_t{2}}, {"split.no", gguf_type::u32, part}};
    header.tensors = std::move(tensors);
    gguf_writer out = gguf_writer::create(folder / name, header).value();
    for (std::size_t i = 0; i < data.size(); ++i)
      out.append(header.tensors[i].name, std::as_bytes(std::span(data[i]))).value();
    out.commit().value();
  };
  // 0.5 * -128, 0.5 * 127, 0.5 * 3; then 2^-24, the least F16, times 1; d = 1.0009765625 times 127 is rounded.
  std::string q8(3 * 34, '\0');
  q8.replace(0, 5, std::string("\x00\x38\x80\x7F\x03", 5));
  q8.replace(34, 3, std::string("\x01\x00\x01", 3));
  q8.replace(68, 3, std::string("\x01\x3C\x7F", 3));
  write("x-00001-of-00002.gguf", 0, {{"a.weight", ggml_type::mxfp4, {1, 32}, 0, 0}},
        {std::string("\x7F", 1) + std::string(16, '\x21')});
  write("x-00002-of-00002.gguf", 1, {{"b.weight", ggml_type::q8_0, {1, 96}, 0, 0}, {"n", ggml_type::f32, {1}, 0, 0}},
        {q8, std::string("\0\0\x80\x3F", 4)});
  for (const char* part : {"x-00001-of-00002.gguf", "x-00002-of-00002.gguf"}) {
    const dequantize_directory_report report = dequantize_directory(folder / part, folder / "out", {}).value();
    CHECK(report.dequantized == 1);
    CHECK(report.integer == 1);
    CHECK(report.copied == 1);
    const tensor_map out = read_checkpoint(folder / "out");
    const stored_tensor& b = out.at("b.weight");
    CHECK(b.type == dtype::bf16);
    CHECK(b.data.substr(0, 6) == std::string("\x80\xC2\x7E\x42\xC0\x3F", 6));            // -64, 63.5, 1.5
    CHECK(b.data.substr(64, 2) == std::string("\x80\x33", 2));                           // 2^-24
    CHECK(b.data.substr(128, 2) == std::string("\xFE\x42", 2));                          // 127.124 -> 127
    CHECK(out.at("a.weight").data.substr(0, 4) == std::string("\x00\x3F\x00\x3F", 4));   // code 1: 0.5
    CHECK(out.at("a.weight").data.substr(32, 4) == std::string("\x80\x3F\x80\x3F", 4));  // code 2: 1
    std::filesystem::remove_all(folder / "out");
  }
  CHECK(convert_checkpoint(folder / "x-00001-of-00002.gguf", folder / "out", {}).value().widened == 1);
  std::filesystem::remove(folder / "x-00002-of-00002.gguf");
  const auto lost = dequantize_directory(folder / "x-00001-of-00002.gguf", folder / "lost", {});
  REQUIRE_FALSE(lost);
  CHECK(std::string(lost.error().what()).find("x-00002-of-00002.gguf") != std::string::npos);
  std::filesystem::rename(folder / "x-00001-of-00002.gguf", folder / "y.gguf");
  const auto renamed = dequantize_directory(folder / "y.gguf", folder / "lost", {});
  REQUIRE_FALSE(renamed);
  CHECK(std::string(renamed.error().what()).find("is one of 2 parts of a model") != std::string::npos);
}

TEST_CASE("convert: llama.cpp's names, settings and tokenizer, and back", "[convert]") {
  struct row {
    const char *model_type, *architecture, *block, *gate, *up, *down;
  };
  const row rows[] = {{"qwen3_moe", "qwen3moe", "mlp", "gate_proj", "up_proj", "down_proj"},
                      {"minimax_m2", "minimax-m2", "block_sparse_moe", "w1", "w3", "w2"}};
  for (const row& r : rows) {
    CAPTURE(r.model_type);
    const scratch_folder folder;
    const std::string layer = "model.layers.0.", block = layer + r.block;
    tensor_map source;
    for (const char* e : {"0", "1"})
      for (const char* part : {r.gate, r.up, r.down})
        add_pair(source, block + ".experts." + e + "." + part + ".weight", {64, 64}, 3);
    source[block + ".experts.0." + r.gate + ".weight_scale"].data[5] = '\xFF';
    source[block + ".gate.weight"] = random_tensor(dtype::bf16, {2, 64}, 4);
    source[layer + "input_layernorm.weight"] = {dtype::bf16, {2}, std::string("\x80\x3F\x40\xC0", 4)};  // 1, -3
    source[layer + "self_attn.q_proj.weight"] = random_tensor(dtype::bf16, {64, 64}, 5);
    source["lm_head.weight"] = random_tensor(dtype::bf16, {4, 64}, 6);
    json config = {{"model_type", r.model_type},
                   {"hidden_size", 64},
                   {"intermediate_size", 64},
                   {"moe_intermediate_size", 64},
                   {"num_hidden_layers", 1},
                   {"num_attention_heads", 2},
                   {"num_key_value_heads", 1},
                   {"rms_norm_eps", 1e-6},
                   {"rope_theta", 5e6},
                   {"max_position_embeddings", 99},
                   {"num_local_experts", 2},
                   {"num_experts_per_tok", 1},
                   {"vocab_size", 4},
                   {"norm_topk_prob", true},
                   {"eos_token_id", {2, 3}},
                   {"rotary_dim", 16},
                   {"scoring_func", "sigmoid"}};
    write_checkpoint(folder / "in", source, config);
    write_text(folder / "in/tokenizer.json",
               R"({"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]},)"
               R"("pre_tokenizer":{"type":"ByteLevel"},"added_tokens":[{"id":2,"content":"<e>","special":true}]})");
    const auto converted = convert_checkpoint(folder / "in", folder / "x.gguf", {.to = checkpoint_form::llama_cpp});
    INFO((converted ? "" : converted.error().what()));
    REQUIRE(converted);
    CHECK(converted->warnings.empty());
    // No program reads these of such a model.
    for (const checkpoint_form to : {checkpoint_form::gpt_oss, checkpoint_form::stacked})
      CHECK(convert_checkpoint(folder / "in", folder / checkpoint_form_names[static_cast<int>(to)], {.to = to})
                .value()
                .warnings.size() == 1);
    CHECK(convert_checkpoint(folder / "in", folder / "pairs", {}).value().warnings.empty());
    const gguf_reader in = gguf_reader::open(folder / "x.gguf").value();
    std::vector<std::string> names;
    for (const gguf_tensor& t : in.header().tensors)
      names.push_back(t.name + " " + ggml_type_name(t.type) + " " + shape_text(t.shape));
    std::sort(names.begin(), names.end());
    CHECK(names == std::vector<std::string>{
                       "blk.0.attn_norm.weight F32 [2]", "blk.0.attn_q.weight BF16 [64, 64]",
                       "blk.0.ffn_down_exps.weight MXFP4 [2, 64, 64]", "blk.0.ffn_gate_exps.weight MXFP4 [2, 64, 64]",
                       "blk.0.ffn_gate_inp.weight F32 [2, 64]", "blk.0.ffn_up_exps.weight MXFP4 [2, 64, 64]",
                       "output.weight BF16 [4, 64]"});
    CHECK(*in.header().find_string("general.architecture") == r.architecture);
    const std::string a = std::string(r.architecture) + ".";
    const auto number = [&](const std::string& key) {
      const gguf_pair* p = in.header().find(key);
      REQUIRE(p != nullptr);
      return p->type == gguf_type::f32 ? std::get<double>(p->value)
                                       : static_cast<double>(std::get<std::uint64_t>(p->value));
    };
    CHECK(number(a + "context_length") == 99);
    CHECK(number(a + "rope.freq_base") == 5e6);
    CHECK(number(a + "rope.dimension_count") == 16);
    CHECK(number(a + "attention.key_length") == 32);
    CHECK(number(a + "expert_count") == 2);
    CHECK(number("tokenizer.ggml.eos_token_id") == 2);
    CHECK(std::get<gguf_array>(in.header().find("tokenizer.ggml.tokens")->value) == gguf_array{gguf_type::string, 4});
    CHECK(std::get<gguf_array>(in.header().find("tokenizer.ggml.token_type")->value) == gguf_array{gguf_type::i32, 4});
    CHECK((in.header().find(a + "expert_gating_func") != nullptr) == (std::string(r.model_type) == "minimax_m2"));
    CHECK(run({MXFP4_PROGRAM, "inspect", folder / "x.gguf"}).code == 0);
    const outcome verified = run({MXFP4_PROGRAM, "verify", folder / "x.gguf"});
    CHECK(verified.out.find("with scale byte 255, which is NaN") != std::string::npos);

    REQUIRE(convert_checkpoint(folder / "x.gguf", folder / "back", {}));
    tensor_map back = read_checkpoint(folder / "back");
    CHECK(back.at(layer + "input_layernorm.weight").data == std::string("\0\0\x80\x3F\0\0\x40\xC0", 8));
    std::vector<std::string> widened = {block + ".gate.weight", layer + "input_layernorm.weight"};
    std::sort(widened.begin(), widened.end());
    CHECK(differences(source, back) == widened);

    for (const auto& [key, value, message] :
         {std::tuple{"rope_scaling", json{{"type", "yarn"}}, "is of type 'yarn'"},
          std::tuple{"hidden_act", json("gelu"), "'hidden_act' is \"gelu\""},
          std::tuple{"model_type", json("mixtral"), "whose names in llama.cpp are not known"},
          std::tuple{"num_hidden_layers", json("x"), "'num_hidden_layers' is \"x\""},
          std::tuple{"vocab_size", json(2), "token 'ab' has the id 2, expected one below vocab_size"}}) {
      json other = config;
      other[key] = value;
      write_text(folder / "in/config.json", other.dump());
      const auto refused = convert_checkpoint(folder / "in", folder / "y.gguf", {.to = checkpoint_form::llama_cpp});
      REQUIRE_FALSE(refused);
      CAPTURE(refused.error().what());
      CHECK(std::string(refused.error().what()).find(message) != std::string::npos);
    }
    CHECK_FALSE(std::filesystem::exists(folder / "y.gguf"));
  }
}
