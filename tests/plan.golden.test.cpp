// tests/plan.golden.test.cpp -- what becomes of each tensor, and the published model's numbers.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/minimax_m2.hpp"
#include "io/strict_json.hpp"
#include "mxfp4/checkpoint/plan.hpp"

namespace {

using namespace mxfp4::checkpoint;
using namespace mxfp4::io;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using nlohmann::ordered_json;
using shape = std::vector<std::int64_t>;

tensor_info tensor(const std::string& name, dtype type, shape dims) {
  const std::uint64_t bytes = tensor_bytes(type, dims).value();
  return {name, type, std::move(dims), 0, bytes};
}

ordered_json published_config() { return read_json<ordered_json>(MXFP4_TEST_VECTORS "/minimax_m2/config.json"); }

std::string text(const std::vector<tensor_info>& outputs) {
  std::string all;
  for (const tensor_info& t : outputs)
    all += (all.empty() ? "" : ", ") + t.name + " " + dtype_name(t.type) + " " + shape_text(t.shape);
  return all;
}

const planned_tensor& find(const quantization_plan& plan, const std::string& name) {
  for (const planned_tensor& p : plan.tensors)
    if (p.source.name == name) return p;
  throw std::runtime_error("the plan lacks " + name);
}

}  // namespace

TEST_CASE("plan: MiniMax-M2.7 by its config.json alone", "[plan][golden]") {
  const minimax_m2_shape model = read_minimax_m2_shape(published_config(), "config.json");
  const std::vector<tensor_info> tensors = minimax_m2_tensors(model);
  CHECK(tensors.size() == 96103);  // the headers of the published shards

  plan_options options;
  const quantization_plan plan = make_plan(tensors, options, "M2.7").value();
  CHECK(plan.experts == 15872);
  CHECK(plan.matrices == 47616);
  CHECK(plan.weights == 224'680'476'672);
  CHECK(plan.bytes_before == 230'121'630'720);
  CHECK(plan.bytes_after == 127'477'628'928);

  options.others = fp8_policy::keep;
  const quantization_plan kept = make_plan(tensors, options, "M2.7").value();
  CHECK(kept.matrices == 47616);
  CHECK(kept.bytes_before == 230'121'630'720);
  CHECK(kept.bytes_after == 124'747'803'648);
}

TEST_CASE("plan: the tensors of MiniMax-M2.7 are those of the published headers", "[plan][golden]") {
  std::map<std::string, std::string> found;
  for (const tensor_info& t : minimax_m2_tensors(read_minimax_m2_shape(published_config(), "config.json")))
    found[t.name] = std::string(dtype_name(t.type)) + " " + shape_text(t.shape);
  const std::map<std::string, std::string> expected = {
      {"model.embed_tokens.weight", "BF16 [200064, 3072]"},
      {"lm_head.weight", "BF16 [200064, 3072]"},
      {"model.norm.weight", "BF16 [3072]"},
      {"model.layers.0.input_layernorm.weight", "BF16 [3072]"},
      {"model.layers.61.post_attention_layernorm.weight", "BF16 [3072]"},
      {"model.layers.5.self_attn.q_proj.weight", "F8_E4M3 [6144, 3072]"},
      {"model.layers.5.self_attn.q_proj.weight_scale_inv", "F32 [48, 24]"},
      {"model.layers.5.self_attn.k_proj.weight", "F8_E4M3 [1024, 3072]"},
      {"model.layers.5.self_attn.k_proj.weight_scale_inv", "F32 [8, 24]"},
      {"model.layers.5.self_attn.v_proj.weight", "F8_E4M3 [1024, 3072]"},
      {"model.layers.5.self_attn.o_proj.weight", "F8_E4M3 [3072, 6144]"},
      {"model.layers.5.self_attn.o_proj.weight_scale_inv", "F32 [24, 48]"},
      {"model.layers.5.self_attn.q_norm.weight", "BF16 [6144]"},
      {"model.layers.5.self_attn.k_norm.weight", "BF16 [1024]"},
      {"model.layers.5.block_sparse_moe.gate.weight", "F32 [256, 3072]"},
      {"model.layers.5.block_sparse_moe.e_score_correction_bias", "F32 [256]"},
      {"model.layers.5.block_sparse_moe.experts.255.w1.weight", "F8_E4M3 [1536, 3072]"},
      {"model.layers.5.block_sparse_moe.experts.255.w1.weight_scale_inv", "F32 [12, 24]"},
      {"model.layers.5.block_sparse_moe.experts.255.w2.weight", "F8_E4M3 [3072, 1536]"},
      {"model.layers.5.block_sparse_moe.experts.255.w2.weight_scale_inv", "F32 [24, 12]"},
      {"model.layers.5.block_sparse_moe.experts.255.w3.weight", "F8_E4M3 [1536, 3072]"},
  };
  for (const auto& [name, what] : expected) {
    CAPTURE(name);
    CHECK(found[name] == what);
  }
  CHECK(found.size() == 96103);
}

TEST_CASE("plan: a BF16 model of that kind has no block scales", "[plan]") {
  ordered_json config = published_config();
  config.erase("quantization_config");
  config["num_hidden_layers"] = 1;
  config["num_local_experts"] = 2;
  const std::vector<tensor_info> tensors = minimax_m2_tensors(read_minimax_m2_shape(config, "config.json"));
  CHECK(tensors.size() == 3 + 10 + 2 * 3);
  for (const tensor_info& t : tensors) CHECK((t.type == dtype::bf16 || t.type == dtype::f32));
}

TEST_CASE("plan: a config.json that says too little or something else", "[plan][bad_input]") {
  struct row {
    const char* change;
    const char* message;
  };
  const row rows[] = {
      {R"([])", "is not a JSON object, expected a model's config.json"},
      {R"({"model_type": "llama"})", "model_type is \"llama\", expected \"minimax_m2\": of other models give"},
      {R"({"model_type": null})", "model_type is null, expected \"minimax_m2\""},
      {R"({"hidden_size": null})", "hidden_size is null, expected an integer from 1 to 2^30"},
      {R"({"hidden_size": "3072"})", "hidden_size is \"3072\", expected an integer"},
      {R"({"head_dim": 0})", "head_dim is 0, expected an integer from 1"},
      {R"({"head_dim": 1.5})", "head_dim is 1.5, expected an integer"},
      {R"({"vocab_size": 1073741825})", "vocab_size is 1073741825, expected an integer from 1 to 2^30"},
      {R"({"num_local_experts": 1000000})", "62 layers of 1000000 experts, expected less than 10 million tensors"},
      {R"({"num_hidden_layers": 1073741824, "num_local_experts": 1})", "expected less than 10 million tensors"},
      {R"({"quantization_config": {"quant_method": "gptq"}})", "quantization_config has quant_method \"gptq\""},
      {R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [1, 128]}})",
       "weight_block_size [1,128]"},
  };
  for (const auto& [change, message] : rows) {
    CAPTURE(change);
    ordered_json config = published_config();
    const ordered_json changes = ordered_json::parse(change);
    if (changes.is_object()) config.update(changes);
    else config = changes;
    CHECK_THROWS_MATCHES(read_minimax_m2_shape(config, "c.json"), file_error,
                         MessageMatches(ContainsSubstring("c.json: ") && ContainsSubstring(message)));
  }
  ordered_json config = published_config();
  config.erase("num_hidden_layers");
  CHECK_THROWS_MATCHES(read_minimax_m2_shape(config, "c.json"), file_error,
                       MessageMatches(ContainsSubstring("c.json: has no num_hidden_layers, expected a number")));
}

TEST_CASE("plan: what an expert's weight is called", "[plan]") {
  for (const char* part : {"w1", "w2", "w3", "gate_proj", "up_proj", "down_proj"}) {
    CAPTURE(part);
    CHECK(is_expert_weight("model.layers.0.mlp.experts.7." + std::string(part) + ".weight", 2));
    CHECK(is_expert_weight("experts.255." + std::string(part) + ".weight", 2));
    CHECK_FALSE(is_expert_weight("model.layers.0.mlp.shared_experts." + std::string(part) + ".weight", 2));
    CHECK_FALSE(is_expert_weight("model.layers.0.mlp.my_experts.7." + std::string(part) + ".weight", 2));
    CHECK_FALSE(is_expert_weight("model.layers.0.mlp.experts.x7." + std::string(part) + ".weight", 2));
    CHECK_FALSE(is_expert_weight("model.layers.0.mlp.experts.7." + std::string(part), 2));
    CHECK_FALSE(is_expert_weight("model.layers.0.mlp.experts.7." + std::string(part) + ".bias", 2));
    CHECK_FALSE(is_expert_weight("model.layers.0.mlp.experts.7." + std::string(part) + ".weight", 1));
    CHECK_FALSE(is_expert_weight("model.layers.0.mlp." + std::string(part) + ".weight", 2));
  }
  for (const char* part : {"gate_up_proj", "gate_proj", "up_proj", "down_proj"})
    for (const char* end : {"", ".weight"}) {
      CAPTURE(part, end);
      CHECK(is_expert_weight("model.layers.0.mlp.experts." + std::string(part) + end, 3));
      CHECK_FALSE(is_expert_weight("model.layers.0.mlp.experts." + std::string(part) + end, 2));
      CHECK_FALSE(is_expert_weight("model.layers.0.mlp.shared_experts." + std::string(part) + end, 3));
    }
  CHECK_FALSE(is_expert_weight("model.layers.0.mlp.experts.gate_up_proj_bias", 3));
  CHECK_FALSE(is_expert_weight("", 2));
  CHECK_FALSE(is_expert_weight(".weight", 2));
}

TEST_CASE("plan: every action, its reason and its outputs", "[plan][golden]") {
  // Block scales may come before their weights, and be far from them.
  const std::vector<tensor_info> tensors = {
      tensor("l.experts.0.w1.weight_scale_inv", dtype::f32, {2, 1}),
      tensor("l.self_attn.q_proj.weight", dtype::f8_e4m3, {100, 300}),
      tensor("l.experts.0.w1.weight", dtype::f8_e4m3, {130, 96}),
      tensor("l.experts.0.w2.weight", dtype::bf16, {64, 160}),
      tensor("l.experts.gate_up_proj", dtype::f8_e4m3, {4, 256, 128}),
      tensor("l.experts.gate_up_proj_scale_inv", dtype::f32, {4, 2, 1}),
      tensor("l.experts.down_proj.weight", dtype::f32, {4, 96, 64}),
      tensor("l.experts.1.w3.weight", dtype::f16, {32, 32}),
      tensor("l.gate.weight", dtype::f32, {4, 96}),
      tensor("l.self_attn.q_proj.weight_scale_inv", dtype::f32, {1, 3}),
      tensor("norm.weight", dtype::bf16, {96}),
  };
  struct row {
    const char* name;
    tensor_action action;
    const char* reason;
    const char* outputs;
  };
  const row rows[] = {
      {"l.experts.0.w1.weight_scale_inv", tensor_action::fp8_scales, "block scales of 'l.experts.0.w1.weight'", ""},
      {"l.self_attn.q_proj.weight", tensor_action::widen_fp8, "not the weight of an expert",
       "l.self_attn.q_proj.weight BF16 [100, 300]"},
      {"l.experts.0.w1.weight", tensor_action::quantize, "",
       "l.experts.0.w1.weight_packed U8 [130, 48], l.experts.0.w1.weight_scale U8 [130, 3]"},
      {"l.experts.0.w2.weight", tensor_action::quantize, "",
       "l.experts.0.w2.weight_packed U8 [64, 80], l.experts.0.w2.weight_scale U8 [64, 5]"},
      {"l.experts.gate_up_proj", tensor_action::quantize, "",
       "l.experts.gate_up_proj_packed U8 [4, 256, 64], l.experts.gate_up_proj_scale U8 [4, 256, 4]"},
      {"l.experts.gate_up_proj_scale_inv", tensor_action::fp8_scales, "block scales of 'l.experts.gate_up_proj'", ""},
      {"l.experts.down_proj.weight", tensor_action::quantize, "",
       "l.experts.down_proj.weight_packed U8 [4, 96, 32], l.experts.down_proj.weight_scale U8 [4, 96, 2]"},
      {"l.experts.1.w3.weight", tensor_action::quantize, "",
       "l.experts.1.w3.weight_packed U8 [32, 16], l.experts.1.w3.weight_scale U8 [32, 1]"},
      {"l.gate.weight", tensor_action::copy, "not the weight of an expert", "l.gate.weight F32 [4, 96]"},
      {"l.self_attn.q_proj.weight_scale_inv", tensor_action::fp8_scales, "block scales of 'l.self_attn.q_proj.weight'",
       ""},
      {"norm.weight", tensor_action::copy, "not the weight of an expert", "norm.weight BF16 [96]"},
  };
  plan_options options;
  const quantization_plan plan = make_plan(tensors, options, "m").value();
  REQUIRE(plan.tensors.size() == tensors.size());
  std::uint64_t before = 0;
  for (std::size_t i = 0; i < std::size(rows); ++i) {
    const planned_tensor& p = plan.tensors[i];
    CAPTURE(rows[i].name);
    CHECK(p.source.name == rows[i].name);
    CHECK(p.action == rows[i].action);
    CHECK(p.reason == rows[i].reason);
    CHECK(text(p.outputs) == rows[i].outputs);
    before += p.source.bytes();
  }
  CHECK(plan.tensors[1].scales == 9);
  CHECK(plan.tensors[2].scales == 0);
  CHECK(plan.tensors[4].scales == 5);
  CHECK(plan.tensors[3].scales == planned_tensor::no_scales);
  CHECK(plan.experts == 2 + 4);  // experts 0 and 1, and the stack
  CHECK(plan.matrices == 3 + 4 + 4);
  CHECK(plan.weights == 130 * 96 + 64 * 160 + 4 * 256 * 128 + 4 * 96 * 64 + 32 * 32);
  CHECK(plan.bytes_before == before);
  CHECK(plan.bytes_after == 2 * 100 * 300 + static_cast<std::uint64_t>(plan.weights) / 32 * 17 + 4 * 4 * 96 + 2 * 96);

  options.others = fp8_policy::keep;
  const quantization_plan kept = make_plan(tensors, options, "m").value();
  CHECK(kept.tensors[1].action == tensor_action::keep_fp8);
  CHECK(kept.tensors[1].scales == 9);
  CHECK(kept.tensors[9].action == tensor_action::fp8_scales);
  CHECK(text(kept.tensors[1].outputs) ==
        "l.self_attn.q_proj.weight F8_E4M3 [100, 300], l.self_attn.q_proj.weight_scale F32 [1, 3]");
  CHECK(plan.bytes_after - kept.bytes_after == 100 * 300 - 4 * 3);

  options.others = fp8_policy::copy;
  const quantization_plan copied = make_plan(tensors, options, "m").value();
  CHECK(copied.tensors[1].action == tensor_action::copy);
  CHECK(text(copied.tensors[9].outputs) == "l.self_attn.q_proj.weight_scale_inv F32 [1, 3]");
}

TEST_CASE("plan: include and exclude", "[plan]") {
  const std::vector<tensor_info> tensors = {
      tensor("a.experts.0.w1.weight", dtype::bf16, {32, 32}),
      tensor("a.experts.0.w2.weight", dtype::bf16, {32, 32}),
      tensor("b.weight", dtype::bf16, {32, 32}),
      tensor("conv.weight", dtype::bf16, {32, 3, 32}),
      tensor("odd.weight", dtype::bf16, {32, 48}),
      tensor("codes.weight", dtype::u8, {32, 32}),
      tensor("empty.weight", dtype::bf16, {0, 32}),
  };
  plan_options options;
  options.include = "weight$";
  options.exclude = "w2";
  const quantization_plan plan = make_plan(tensors, options, "m").value();
  CHECK(plan.matrices == 2);
  CHECK(plan.experts == 1);
  CHECK(find(plan, "a.experts.0.w2.weight").reason == "name is excluded");
  CHECK(find(plan, "conv.weight").reason == "3-D, not a matrix");
  CHECK(find(plan, "odd.weight").reason == "48 columns, not a multiple of 32");
  CHECK(find(plan, "codes.weight").reason == "U8, not F32, F16, BF16 or F8_E4M3");
  CHECK(find(plan, "empty.weight").reason == "empty");

  options.include = "^b";
  CHECK(find(make_plan(tensors, options, "m").value(), "a.experts.0.w1.weight").reason == "name is not included");
}

TEST_CASE("plan: what no reader could load is an error", "[plan][bad_input]") {
  struct row {
    std::vector<tensor_info> tensors;
    const char* message;
  };
  const tensor_info fp8 = tensor("q.weight", dtype::f8_e4m3, {128, 256});
  const row rows[] = {
      {{fp8}, "tensor 'q.weight': cannot be written for readers of compressed-tensors: F8_E4M3 without"},
      {{fp8, tensor("q.weight_scale_inv", dtype::f32, {2, 1})}, "its block scales are F32 [2, 1], not F32 [1, 2]"},
      {{fp8, tensor("q.weight_scale_inv", dtype::bf16, {1, 2})}, "its block scales are BF16 [1, 2], not F32 [1, 2]"},
      {{tensor("q.bias", dtype::f8_e4m3, {128})}, "tensor 'q.bias': is F8_E4M3 and 1-D, expected a matrix"},
      {{tensor("experts.0.w1.weight", dtype::bf16, {32, 48})},
       "tensor 'experts.0.w1.weight': is the weight of an expert and cannot be quantised: 48 columns"},
      {{tensor("experts.0.w1.weight", dtype::i8, {32, 64})}, "cannot be quantised: I8, not F32"},
      {{tensor("experts.0.w1.weight", dtype::f8_e4m3, {32, 64})}, "cannot be quantised: F8_E4M3 without"},
      {{tensor("experts.0.w1.weight", dtype::bf16, {32, 32}), tensor("experts.0.w1.weight_scale", dtype::u8, {1})},
       "tensor 'experts.0.w1.weight_scale': is there already, expected the name to be free for 'experts.0.w1.weight'"},
      {{tensor("experts.0.w1.weight_packed", dtype::u8, {1}), tensor("experts.0.w1.weight", dtype::bf16, {32, 32})},
       "tensor 'experts.0.w1.weight_packed': is there already"},
      {{fp8, fp8}, "tensor 'q.weight': is there twice, expected once"},
      {{tensor(std::string(5000, 'x'), dtype::bf16, {1})}, ""},
  };
  plan_options options;
  for (const auto& [tensors, message] : rows) {
    CAPTURE(message);
    if (*message == '\0') CHECK_NOTHROW(make_plan(tensors, options, "m").value());  // without a pattern, no limit
    else
      CHECK_THROWS_MATCHES(make_plan(tensors, options, "m").value(), file_error,
                           MessageMatches(ContainsSubstring("m: ") && ContainsSubstring(message)));
  }
  options.include = "(?=x)";
  CHECK_THROWS_MATCHES(make_plan({tensor("x", dtype::bf16, {1})}, options, "m").value(), file_error,
                       MessageMatches(ContainsSubstring("include '(?=x)' is not a regular expression of RE2") &&
                                      ContainsSubstring("expected one without look-around and references back")));
}
