// tests/cli.verify.test.cpp -- mxfp4 verify: nothing to say of what quantize writes, and each finding provoked once.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <functional>
#include <string>
#include <vector>

#include "cli.verify.support.hpp"
#include "mxfp4/format/recipe_id.hpp"

namespace {

using namespace mxfp4::test;
using Catch::Matchers::ContainsSubstring;

struct row {
  expectation expected;
  std::function<void(const std::string& dir)> spoil;
  strings options = {};   // of verify
  strings quantize = {};  // of quantize
};

void run_rows(const std::vector<row>& rows) {
  for (const row& r : rows) {
    const scratch_folder folder;
    const std::string dir = model::get().copy(folder, r.quantize);
    r.spoil(dir);
    expect(dir, r.options, r.expected);
  }
}

std::function<void(const std::string&)> with_config(std::function<void(ordered_json&)> change) {
  return [change = std::move(change)](const std::string& dir) { edit_json(dir + "/config.json", change); };
}

}  // namespace

TEST_CASE("verify: nothing to say of what quantize writes", "[cli][verify]") {
  const scratch_folder folder;
  const verdict v = verify(model::get().copy(folder), {"--against", model::get().source(), "--tensor-parallel", "4"});
  CHECK(v.code == 0);
  CHECK(v.report["findings"].empty());
  CHECK(v.report["tensors"] == 35);
  CHECK(v.report["mxfp4"] == 12);
  CHECK(v.report["blocks"] == 12 * 128 * 256 / 32);
  CHECK(v.report["compared"] == 35);
  CHECK(v.report["recipe"] == "compressed_tensors");
  const scratch_folder kept;
  const verdict fp8 = verify(model::get().copy(kept, {"--others", "fp8"}), {"--against", model::get().source()});
  CHECK(fp8.report["findings"].empty());
  CHECK(fp8.report["fp8"] == 8);
  CHECK(run({MXFP4_PROGRAM, "verify", kept / "m"}).out ==
        (kept / "m") + ": 35 tensors, 12 MXFP4 with 12288 blocks, 8 FP8, " +
            std::to_string(fp8.report["hashes"].get<int>()) + " hashes: 0 errors, 0 warnings\n");
}

TEST_CASE("verify: what other writers leave out, or write otherwise, and readers take", "[cli][verify]") {
  const scratch_folder folder;
  const std::string dir = model::get().copy(folder);
  edit_json(dir + "/config.json", [](ordered_json& c) {
    group(c)["format"] = nullptr;
    group(c).erase("input_activations");
    c["transformers_version"] = "5.24.0";
  });
  const strings options = {"--accept", "config.json", "--against", model::get().source()};
  const verdict v = verify(dir, options);
  CHECK(v.code == 0);
  for (const ordered_json& finding : v.report["findings"]) CHECK(finding["level"] == "warning");
  CHECK(v.report.dump().find("'transformers_version' is \\\"5.24.0\\\", the source has") != std::string::npos);
}

TEST_CASE("verify: the content of every recipe is an encoder's", "[cli][verify]") {
  for (int i = 0; i < mxfp4::recipe_count; ++i) {
    const std::string recipe = mxfp4::recipe_name(static_cast<mxfp4::recipe_id>(i));
    CAPTURE(recipe);
    const scratch_folder folder;
    const verdict v = verify(model::get().copy(folder, {"--recipe", recipe}), {"--against", model::get().source()});
    CHECK(v.report["recipe"] == recipe);  // by the report
    CHECK(v.report["findings"] == ordered_json::array());
  }
}

TEST_CASE("verify: files", "[cli][verify]") {
  const std::string norm = "model.norm.weight";
  run_rows({
      {{"error", "files", ".mxfp4", "is not finished"}, [](auto& d) { fs::create_directory(d + "/.mxfp4"); }},
      {{"warning", "files", "a.safetensors.tmp-1-0", "was left by a run"},
       [](auto& d) { write_text(d + "/a.safetensors.tmp-1-0", "x"); }},
      {{"warning", "files", "stray.safetensors", "is not in the index"},
       [](auto& d) { write_text(d + "/stray.safetensors", "x"); }},
      {{"warning", "files", norm, "is in model-00000-of-00004.safetensors too"},
       [&](auto& d) {
         const std::string at = shard_of(d, norm);
         add(d, "model.embed_tokens.weight", "twice", dtype::bf16, {256});
         edit_json(d + "/" + index_name, [&](ordered_json& index) {
           index["weight_map"].erase("twice");
           index["metadata"]["total_size"] = index["metadata"]["total_size"].template get<std::int64_t>() - 512;
         });
         std::string bytes = read_text(d + "/model-00000-of-00004.safetensors");
         std::string header = bytes.substr(8, bytes.find("}}") + 2 - 8);
         header.replace(header.find("\"twice\""), 7, "\"" + norm + "\"");
         std::uint64_t length = 0;
         for (unsigned i = 8; i-- > 0;) length = length << 8 | static_cast<unsigned char>(bytes[i]);
         write_text(d + "/model-00000-of-00004.safetensors", safetensors_text(header, bytes.substr(8 + length)));
       }},
      {{"error", "files", index_name, "total_size is 1, expected 1527824"},
       [](auto& d) { edit_json(d + "/" + index_name, [](ordered_json& j) { j["metadata"]["total_size"] = 1; }); }},
      {{"error", "files", index_name, "total_size is null, expected 1527824"},
       [](auto& d) { edit_json(d + "/" + index_name, [](ordered_json& j) { j["metadata"].erase("total_size"); }); }},
      {{"warning", "files", "model-00003", "has no \"format\""},
       [&](auto& d) {
         edit_shard(
             d, norm, [](tensors&) {}, true);
       }},
      {{"error", "files", "config.json", "is not there"}, [](auto& d) { fs::remove(d + "/config.json"); }},
      {{"error", "files", "", "config.json: is not JSON", false}, [](auto& d) { write_text(d + "/config.json", "{"); }},
      {{"error", "files", "", "mxfp4_report.json: is not JSON"},
       [](auto& d) { write_text(d + "/mxfp4_report.json", "{"); }},
  });
}

TEST_CASE("verify: pairs", "[cli][verify]") {
  const std::string packed = expert + "w1.weight_packed", scale = expert + "w1.weight_scale";
  run_rows({
      {{"error", "pairs", packed, "is I8, expected U8 codes", false},
       [&](auto& d) { edit_tensor(d, packed, [](tensor& t) { t.info.type = dtype::i8; }); }},
      {{"error", "pairs", packed, "is 1-D, expected a matrix", false},
       [&](auto& d) { edit_tensor(d, packed, [](tensor& t) { t.info.shape = {128 * 128}; }); }},
      {{"error", "pairs", packed, "has 8 columns, expected a multiple of 16", false},
       [&](auto& d) { edit_tensor(d, packed, [](tensor& t) {
                        t.info.shape = {128 * 16, 8};
                      }); }},
      {{"error", "pairs", packed, "there is no '" + scale + "'", false}, [&](auto& d) { drop(d, scale); }},
      {{"error", "pairs", packed, "is U8 [8, 128], expected U8 [128, 8]", false},
       [&](auto& d) { edit_tensor(d, scale, [](tensor& t) {
                        t.info.shape = {8, 128};
                      }); }},
      {{"error", "pairs", scale, "holds scales of a weight that is not there", false},
       [&](auto& d) { drop(d, packed); }},
      {{"error", "pairs", expert + "w1.weight", "is there beside its packed weights", false},
       [&](auto& d) {
         add(d, packed, expert + "w1.weight", dtype::bf16, {128, 256});
       }},
      {{"error", "pairs", expert + "w1.weight_scale_inv", "block scales of the source that nothing uses", false},
       [&](auto& d) {
         add(d, packed, expert + "w1.weight_scale_inv", dtype::f32, {1, 2});
       }},
      {{"error", "pairs", "q_proj.weight_scale_inv", "expected a name that ends in _scale"},
       [](auto& d) {
         const std::string q = "model.layers.0.self_attn.q_proj.weight_scale";
         rename_tensor(d, q, q + "_inv");
       },
       {},
       {"--others", "fp8"}},
      {{"error", "pairs", "q_proj.weight", "F8_E4M3 without 'model.layers.0.self_attn.q_proj.weight_scale_inv'", false},
       [](auto& d) { drop(d, "model.layers.0.self_attn.q_proj.weight_scale"); },
       {},
       {"--others", "fp8"}},
  });
  expect(model::get().source(), {}, {"warning", "pairs", "source", "holds no MXFP4 tensor", false});
}

TEST_CASE("verify: model", "[cli][verify]") {
  const std::string norm = "model.norm.weight", gate = "model.layers.0.block_sparse_moe.gate.weight";
  run_rows({
      {{"error", "model", norm, "is missing"}, [&](auto& d) { drop(d, norm); }},
      {{"error", "model", "'model.extra'", "is not a tensor of this model"},
       [&](auto& d) { add(d, norm, "model.extra", dtype::bf16, {1}); }},
      {{"error", "model", norm, "is BF16 [2, 128], expected BF16 [256]", false},
       [&](auto& d) { edit_tensor(d, norm, [](tensor& t) {
                        t.info.shape = {2, 128};
                      }); }},
      {{"error", "model", gate, "is F16 [2, 512], expected F32 [2, 256]"},
       [&](auto& d) {
         edit_tensor(d, gate, [](tensor& t) {
           t.info.type = dtype::f16;
           t.info.shape = {2, 512};
         });
       }},
      {{"error", "model", "w2.weight", "is MXFP4 [256, 128], expected MXFP4, F8_E4M3 or BF16 [256, 160]", false},
       with_config([](ordered_json& c) { c["intermediate_size"] = 160; })},
      {{"error", "model", "model.layers.2.input_layernorm.weight", "is missing", false},
       with_config([](ordered_json& c) { c["num_hidden_layers"] = 3; })},
      {{"error", "model", "config.json", "head_dim is 0"}, with_config([](ordered_json& c) { c["head_dim"] = 0; })},
  });
}

TEST_CASE("verify: config", "[cli][verify]") {
  const auto quantization = [](auto change) {
    return with_config([change](ordered_json& c) { change(c["quantization_config"]); });
  };
  const auto weights = [](const char* key, const ordered_json& value) {
    return with_config([key, value](ordered_json& c) { group(c)["weights"][key] = value; });
  };
  run_rows({
      {{"error", "config", "config.json", "quantization_config is null"},
       with_config([](ordered_json& c) { c.erase("quantization_config"); })},
      {{"error", "config", "w1.weight", "quantization_config says FP8 without expert_dtype", false},
       quantization([](ordered_json& q) { q["quant_method"] = "fp8"; })},
      {{"error", "config", "config.json", "quantization_status is \"frozen\", expected \"compressed\""},
       quantization([](ordered_json& q) { q["quantization_status"] = "frozen"; })},
      {{"error", "config", "config.json", "quantization_config.format is \"mixed-precision\""},
       quantization([](ordered_json& q) { q["format"] = "mixed-precision"; })},
      {{"error", "config", "config.json", "group_0.format is \"pack-quantized\""},
       with_config([](ordered_json& c) { group(c)["format"] = "pack-quantized"; })},
      {{"error", "config", "config.json", "num_bits is 2, expected 4"}, weights("num_bits", 2)},
      {{"error", "config", "config.json", "weights.type is \"int\""}, weights("type", "int")},
      {{"error", "config", "config.json", "group_size is 16, expected 32"}, weights("group_size", 16)},
      {{"error", "config", "config.json", "strategy is \"channel\""}, weights("strategy", "channel")},
      {{"error", "config", "config.json", "symmetric is false"}, weights("symmetric", false)},
      {{"error", "config", "config.json", "dynamic is true"}, weights("dynamic", true)},
      {{"error", "config", "config.json", "scale_dtype is null"}, weights("scale_dtype", nullptr)},
      {{"warning", "config", "config.json", "input_activations is neither null nor dynamic"},
       with_config([](ordered_json& c) { group(c)["input_activations"] = group(c)["weights"]; })},
      {{"error", "config", "config.json", "block_structure is [64,128]"},
       with_config([](ordered_json& c) {
         group(c, "group_1")["weights"]["block_structure"] = {64, 128};
       }),
       {},
       {"--others", "fp8"}},
      {{"error", "config", "config.json", "config_groups is {}"},
       quantization([](ordered_json& q) { q["config_groups"] = ordered_json::object(); })},
      {{"error", "config", "config.json", "expected a regular expression"},
       quantization([](ordered_json& q) { q["ignore"].push_back("re:("); })},
      // What the names do to the modules, under the file's names and vLLM's.
      {{"error", "config", "'lm_head'", "is MXFP4 by targets and ignore, but stored not quantised"},
       with_config([](ordered_json& c) {
         group(c)["targets"] = {"Linear"};
         ordered_json& ignore = c["quantization_config"]["ignore"];
         ignore.erase(std::find(ignore.begin(), ignore.end(), "lm_head"));
       })},
      {{"error", "config", "'model.layers.0.mlp.experts.0.gate_proj'", "is not quantised by targets", false},
       with_config([](ordered_json& c) {
         group(c)["targets"] = {"re:.*w1$", "re:.*w2$", "re:.*w3$"};
       })},
      {{"error", "config", "mlp.experts.0.gate_proj'", "is not quantised by targets and ignore, but stored MXFP4"},
       quantization([](ordered_json& q) { q["ignore"].push_back("re:.*\\.gate"); })},
      {{"error", "config", "mlp.experts.0.up_proj'", "is not quantised", false},
       quantization([](ordered_json& q) { q["ignore"].push_back("re:.*mlp.*"); })},
      {{"error", "config", "'model.layers.0.self_attn.qkv_proj'", "is not quantised by targets and ignore, but stored"},
       with_config([](ordered_json& c) { group(c, "group_1")["targets"] = {"re:.*\\.[qkvo]_proj$"}; }),
       {},
       {"--others", "fp8"}},
      // What vLLM makes one of.
      {{"error", "config", "block_sparse_moe.experts'", "holds experts stored differently"},
       [](auto&) {},
       {},
       {"--exclude", "layers\\.0.*experts\\.1\\.", "--force"}},
      {{"error", "config", "self_attn.qkv_proj'", "is made of matrices stored differently"},
       [](auto&) {},
       {},
       {"--include", "experts.*weight$|q_proj", "--force"}},
      {{"error", "config", "block_sparse_moe.gate'", "is a router and stored MXFP4", false},
       [](auto&) {},
       {},
       {"--include", "experts.*weight$|gate", "--force"}},
      {{"error", "config", "'model.embed_tokens'", "is an embedding and stored MXFP4", false},
       [](auto&) {},
       {},
       {"--include", "experts.*weight$|embed", "--force"}},
      {{"error", "config", "'lm_head.weight'", "it is the embedding too by tie_word_embeddings of config.json"},
       with_config([](ordered_json& c) { c["tie_word_embeddings"] = true; }),
       {},
       {"--include", "experts.*weight$|lm_head"}},
      {{"error", "config", "'lm_head.weight'", "it is the embedding too by tie_word_embeddings of config.json"},
       with_config([](ordered_json& c) { c["text_config"]["tie_word_embeddings"] = true; }),
       {},
       {"--include", "experts.*weight$|lm_head"}},
  });
}

TEST_CASE("verify: what parts of config.json and files beside it say of the quantization", "[cli][verify]") {
  const auto nested = [](auto change) {
    return with_config([change](ordered_json& c) {
      c["text_config"]["quantization_config"] = c["quantization_config"];
      change(c["text_config"]["quantization_config"]);
    });
  };
  const auto beside = [](const char* name, const char* text) {
    return [name, text](const std::string& dir) { write_text(dir + "/" + name, text); };
  };
  const char* const part = "text_config.quantization_config is not true of this checkpoint";
  run_rows({
      {{"error", "config", "config.json", part}, nested([](ordered_json& q) {
         q = {{"quant_method", "fp8"}};
       })},
      {{"error", "config", "config.json", "that of the top: quant_method is {}"},
       nested([](ordered_json& q) { q = ordered_json::object(); })},
      {{"error", "config", "config.json", "is not quantised by targets and ignore, but stored MXFP4"},
       nested([](ordered_json& q) { q["config_groups"]["group_0"]["targets"] = {"re:nothing$"}; })},
      {{"error", "config", "config.json", "a.b.quantization_config is not true of this checkpoint"},
       with_config([](ordered_json& c) { c["a"]["b"]["quantization_config"]["quant_method"] = "gptq"; })},
      {{"error", "config", "hf_quant_config.json", "quant_algo is 'FP8', and the weights are MXFP4: remove it"},
       beside("hf_quant_config.json", R"({"quantization": {"quant_algo": "FP8"}})")},
      {{"error", "config", "hf_quant_config.json", "quant_algo is not there"}, beside("hf_quant_config.json", "{}")},
      {{"error", "config", "hf_quant_config.json", "is not true of this checkpoint"},
       beside("hf_quant_config.json", "{\"quantization\"")},
      {{"error", "config", "quantize_config.json", "it is of another quantization than config.json"},
       beside("quantize_config.json", R"({"bits": 4, "group_size": 128})")},
      {{"error", "config", "quant_config.json", "quant_method is 'awq', and config.json has 'compressed-tensors'"},
       beside("quant_config.json", R"({"quant_method": "awq"})")},
  });
  // True ones.
  for (const auto& change : std::vector<std::function<void(const std::string&)>>{
           nested([](ordered_json&) {}), nested([](ordered_json& q) { q["version"] = "0.17.0"; }),
           nested([](ordered_json& q) { q = nullptr; }),
           beside("hf_quant_config.json", R"({"quantization": {"quant_algo": "W4A8_MXFP4_FP8"}})"),
           beside("hf_quant_config.json", R"({"quantization": {"quant_algo": "MIXED_PRECISION"}})"),
           beside("quantization_config.json", R"({"quant_method": "compressed-tensors"})")}) {
    const scratch_folder folder;
    const std::string dir = model::get().copy(folder);
    change(dir);
    const verdict v = verify(dir, {});
    INFO(v.report.dump(1));
    const ordered_json& all = v.report["findings"];
    CHECK(std::none_of(all.begin(), all.end(), [](const ordered_json& f) { return f["check"] == "config"; }));
  }
}

TEST_CASE("verify: what a loader builds without a tensor of that name", "[cli][verify]") {
  const auto all_linear = [](ordered_json& c) {
    group(c)["targets"] = {"Linear"};
    c["architectures"] = {"MiniMaxM2ForCausalLM"};
  };
  const auto drop_entry = [](ordered_json& c, const char* entry) {
    std::erase_if(c["quantization_config"]["ignore"].get_ref<ordered_json::array_t&>(),
                  [entry](const ordered_json& e) { return e == entry; });
  };
  run_rows({
      {{"error", "config", "'lm_head'", "is quantised by targets and ignore, but no tensor has its name", false},
       [&](const std::string& dir) {
         drop(dir, "lm_head.weight");
         with_config([&](ordered_json& c) {
           all_linear(c);
           drop_entry(c, "lm_head");
         })(dir);
       }},
      {{"error", "config", "'x.mlp.router'", R"(expected 're:.*\.mlp\.router$' in ignore)", false},
       with_config([&](ordered_json& c) {
         all_linear(c);
         c["model_type"] = "phimoe";
       })},
  });
}

TEST_CASE("verify: stacks of experts that readers start at random", "[cli][verify]") {
  const scratch_folder folder;
  const std::string from = model::get().copy(folder), stacked = folder / "stacked";
  REQUIRE(run({MXFP4_PROGRAM, "convert", "--to", "stacked", from, stacked}).code == 0);
  const verdict v = verify(stacked, {});
  const ordered_json& all = v.report["findings"];
  CHECK(std::count_if(all.begin(), all.end(), [](const ordered_json& finding) {
          return finding["level"] == "warning" &&
                 finding["what"].get<std::string>().starts_with(
                     "is a stack of experts, which transformers 5.24 and vLLM 0.33 read one by one");
        }) == 2);  // gate_up_proj and down_proj, each with the count of its layers
}

TEST_CASE("verify: stacks whose blocks lie along the outputs", "[cli][verify]") {
  const scratch_folder folder;
  const std::string stacked = folder / "stacked";
  const std::string stack = "model.layers.1.block_sparse_moe.experts.gate_up_proj";
  REQUIRE(run({MXFP4_PROGRAM, "convert", model::get().copy(folder), stacked, "--to", "stacked"}).code == 0);
  REQUIRE(run({MXFP4_PROGRAM, "index", stacked}).code == 0);
  // [experts, 256, 256 / 2] becomes [experts, 512, 128 / 2]: the pair does not fit any more.
  edit_tensor(stacked, stack + "_packed", [](tensor& t) { t.info.shape = {t.info.shape[0], 512, 64}; });
  edit_tensor(stacked, stack + "_scale", [](tensor& t) { t.info.shape = {t.info.shape[0], 512, 4}; });
  expect(stacked, {}, {"error", "config", stack, "are not gate, up and down matrices of one size", false});
  // What cutting along the outputs would have made of [experts, in, out].
  const std::string down = "model.layers.1.block_sparse_moe.experts.down_proj";
  edit_tensor(stacked, stack + "_packed", [](tensor& t) { t.info.shape = {t.info.shape[0], 256, 128}; });
  edit_tensor(stacked, stack + "_scale", [](tensor& t) { t.info.shape = {t.info.shape[0], 256, 8}; });
  edit_tensor(stacked, down + "_packed", [](tensor& t) { t.info.shape = {t.info.shape[0], 128, 128}; });
  edit_tensor(stacked, down + "_scale", [](tensor& t) { t.info.shape = {t.info.shape[0], 128, 8}; });
  expect(stacked, {},
         {"error", "config", down, "with its blocks along the outputs, expected [experts, out, in]", false});
}

TEST_CASE("verify: declared activations are right", "[cli][verify]") {
  for (const char* activations : {"none", "fp8", "mxfp4"}) {
    CAPTURE(activations);
    const scratch_folder folder;
    const std::string dir = model::get().copy(folder, {"--activations", activations});
    CHECK(verify(dir, {}).report["findings"].empty());
  }
}

TEST_CASE("verify: tensor parallel", "[cli][verify]") {
  const scratch_folder folder;
  const std::string dir = model::get().copy(folder);
  CHECK(verify(dir, {"--tensor-parallel", "2"}).report["findings"].empty());
  expect(
      dir, {"--tensor-parallel", "8"},
      {"error", "parallel", "w2.weight", "128 columns over 8 devices are 16 each, expected a multiple of 32", false});
  expect(dir, {"--tensor-parallel", "3"},
         {"error", "parallel", "w1.weight", "128 rows over 3 devices do not divide", false});
  expect(dir, {"--tensor-parallel", "8"},
         {"error", "parallel", "config.json", "num_attention_heads 4 over 8 devices do not divide", false});
  const scratch_folder kept;
  expect(model::get().copy(kept, {"--others", "fp8"}), {"--tensor-parallel", "4"},
         {"error", "parallel", "o_proj.weight", "256 columns over 4 devices are 64 each, expected a multiple of 128",
          false});
}

TEST_CASE("verify: content", "[cli][verify]") {
  const std::string packed = expert + "w1.weight_packed", scale = expert + "w1.weight_scale";
  const auto without_report = [](const std::string& d) { fs::remove(d + "/mxfp4_report.json"); };
  const auto shifted = [&](const std::string& d) {
    edit_bytes(d, scale, [](std::string& bytes) {
      for (char& b : bytes) b = static_cast<char>(b - 2);
    });
  };
  const auto report = [](auto change) {
    return [change](const std::string& d) { edit_json(d + "/mxfp4_report.json", change); };
  };
  const strings against = {"--against", model::get().source()};
  run_rows({
      {{"error", "content", expert + "w1", "scale byte 255 (NaN) in 1 of 1024 blocks, first in row 2, block 3"},
       [&](auto& d) {
         without_report(d);
         edit_bytes(d, scale, [](std::string& bytes) { bytes[2 * 8 + 3] = '\xFF'; });
       }},
      // The classic: an exponent of 2 that is subtracted twice. With the codes it shows ...
      {{"error", "content", expert + "w1", "99 % of the weights are +-6 scales"},
       [&](auto& d) {
         without_report(d);
         edit_bytes(d, packed, [](std::string& bytes) { std::fill(bytes.begin() + 16 * 8, bytes.end(), '\xF7'); });
       }},
      {{"error", "content", expert + "w1", "in 100 % of the blocks no weight is above 1 scale"},
       [&](auto& d) {
         without_report(d);
         edit_bytes(d, packed, [](std::string& bytes) { std::fill(bytes.begin(), bytes.end(), '\x21'); });
       }},
      // ... in the scales alone it takes the report, or the source.
      {{"error", "content", expert + "w1", "has other scales than mxfp4_report.json says"}, shifted},
      {{"error", "content", expert + "w1", "0.25", true},
       [&](auto& d) {
         edit_json(d + "/mxfp4_report.json", [&](ordered_json& j) {
           for (ordered_json& t : j["quantized"])
             if (t["name"] == expert + "w1.weight")
               t["squared_weights"] = 16 * t["squared_weights"].template get<double>();
         });
       }},
      {{"error", "source", expert + "w1", "all scales are shifted, the weights 2^-2 times too large"},
       [&](auto& d) {
         without_report(d);
         shifted(d);
       },
       against},
      {{"error", "content", expert + "w1", "is not in mxfp4_report.json"}, report([](ordered_json& j) {
         ordered_json& list = j["quantized"];
         for (std::size_t i = 0; i < list.size(); ++i)
           if (list[i]["name"] == expert + "w1.weight") list.erase(i);
       })},
      {{"error", "content", "mxfp4_report.json", "cannot be used"},
       report([](ordered_json& j) { j.erase("quantized"); })},
  });
  const scratch_folder folder;  // without either, nobody can tell
  const std::string dir = model::get().copy(folder);
  without_report(dir);
  shifted(dir);
  CHECK(verify(dir).report["findings"].empty());
}

TEST_CASE("verify: against the source", "[cli][verify]") {
  const strings against = {"--against", model::get().source()};
  const auto flip = [](const std::string& name, std::size_t at) {
    return [name, at](const std::string& d) {
      edit_bytes(d, name, [at](std::string& bytes) { bytes[at] = static_cast<char>(bytes[at] ^ 1); });
    };
  };
  run_rows({
      {{"error", "source", "model.norm.weight", "1 of 512 bytes differ from the source, the first at 7"},
       flip("model.norm.weight", 7),
       against},
      {{"error", "source", "o_proj.weight",
        "1 bytes differ from bf16(weight * block scale), the first in row 200, column 3"},
       flip("model.layers.1.self_attn.o_proj.weight", 2 * (200 * 256 + 3)),
       against},
      {{"error", "source", expert + "w2.weight",
        "1 code and 0 scale bytes differ from the source by compressed_tensors, "
        "first in row 130, block 1"},
       flip(expert + "w2.weight_packed", 130 * 64 + 17),
       against},
      {{"error", "source", expert + "w2.weight", "scale bytes differ from the source by ocp", false},
       [](auto&) {},
       {"--against", model::get().source(), "--recipe", "ocp"}},
      {{"error", "source", "q_proj.weight", "1 of 65536 bytes differ from the source, the first at 5"},
       [&](auto& d) { flip("model.layers.0.self_attn.q_proj.weight", 5)(d); },
       against,
       {"--others", "fp8"}},
      {{"error", "source", "model.norm.weight", "is in the source and not here", false},
       [](auto& d) { drop(d, "model.norm.weight"); },
       against},
      {{"error", "source", "'model.extra'", "is here and not in the source", false},
       [](auto& d) { add(d, "model.norm.weight", "model.extra", dtype::bf16, {1}); },
       against},
      {{"error", "source", "model.norm.weight", "is F32 [128], the source has BF16 [256]", false},
       [](auto& d) {
         edit_tensor(d, "model.norm.weight", [](tensor& t) {
           t.info.type = dtype::f32;
           t.info.shape = {128};
         });
       },
       against},
      {{"error", "source", "config.json", "'rope_theta' is 1, the source has 5000000"},
       with_config([](ordered_json& c) { c["rope_theta"] = 1; }),
       against},
      {{"error", "source", "config.json", "'rope_theta' is not there, the source has 5000000"},
       with_config([](ordered_json& c) { c.erase("rope_theta"); }),
       against},
      {{"warning", "source", "docs/deploy.md", "was not carried over"},
       [](auto& d) { fs::remove(d + "/docs/deploy.md"); },
       against},
      {{"error", "source", "mxfp4_report.json", "settings.recipe is \"best\", expected a recipe's name"},
       [](auto& d) { edit_json(d + "/mxfp4_report.json", [](ordered_json& j) { j["settings"]["recipe"] = "best"; }); },
       against},
  });
}

TEST_CASE("verify: findings that are alike are one line", "[cli][verify]") {
  const scratch_folder folder;
  const std::string dir = model::get().copy(folder);
  const outcome o = run({MXFP4_PROGRAM, "verify", dir, "--tensor-parallel", "8"});
  CHECK(o.code == 1);
  CHECK_THAT(o.out,
             ContainsSubstring("error: parallel: 'model.layers.0.block_sparse_moe.experts.0.w2.weight': 128 columns "
                               "over 8 devices are 16 each, expected a multiple of 32 (and 3 more like it)\n"));
  CHECK_THAT(o.err, ContainsSubstring("m: 2 errors, expected none"));
}

TEST_CASE("verify: what is no checkpoint", "[cli][verify][bad_input]") {
  const scratch_folder folder;
  for (const strings& line : {strings{folder / "none"}, strings{folder / ""},
                              strings{model::get().copy(folder), "--against", folder / "none"}}) {
    strings all = {MXFP4_PROGRAM, "verify"};
    all.insert(all.end(), line.begin(), line.end());
    CAPTURE(all);
    const outcome o = run(all);
    CHECK(o.code == 1);
    CHECK(o.out == "");
    CHECK(o.err.starts_with("mxfp4: "));
  }
  CHECK(run({MXFP4_PROGRAM, "verify"}).code == 2);
  CHECK(run({MXFP4_PROGRAM, "verify", "x", "--tensor-parallel", "0"}).code == 2);
  CHECK(run({MXFP4_PROGRAM, "verify", "x", "--recipe", "best"}).code == 2);
}
