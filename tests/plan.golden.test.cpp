// tests/plan.golden.test.cpp -- what becomes of each tensor, and the published model's numbers.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/config_check.hpp"
#include "checkpoint/family.hpp"
#include "checkpoint/minimax_m2.hpp"
#include "checkpoint/quantization_config.hpp"
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
  for (const char* part : {"gate_up_proj", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"})
    for (const char* end : {"", ".weight"}) {
      CAPTURE(part, end);
      CHECK(is_expert_weight("model.layers.0.mlp.experts." + std::string(part) + end, 3));
      CHECK_FALSE(is_expert_weight("model.layers.0.mlp.experts." + std::string(part) + end, 2));
      CHECK_FALSE(is_expert_weight("model.layers.0.mlp." + std::string(part) + end, 3));
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
      tensor("l.experts.gate_up_proj", dtype::f8_e4m3, {2, 256, 96}),
      tensor("l.experts.gate_up_proj_scale_inv", dtype::f32, {2, 2, 1}),
      tensor("l.experts.down_proj.weight", dtype::f32, {2, 96, 128}),
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
      {"l.experts.0.w1.weight_scale_inv", tensor_action::fp8_scales, "scales of 'l.experts.0.w1.weight'", ""},
      {"l.self_attn.q_proj.weight", tensor_action::widen_fp8, "not the weight of an expert",
       "l.self_attn.q_proj.weight BF16 [100, 300]"},
      {"l.experts.0.w1.weight", tensor_action::quantize, "",
       "l.experts.0.w1.weight_packed U8 [130, 48], l.experts.0.w1.weight_scale U8 [130, 3]"},
      {"l.experts.0.w2.weight", tensor_action::quantize, "",
       "l.experts.0.w2.weight_packed U8 [64, 80], l.experts.0.w2.weight_scale U8 [64, 5]"},
      {"l.experts.gate_up_proj", tensor_action::quantize, "",
       "l.experts.0.gate_proj.weight_packed U8 [128, 48], l.experts.0.gate_proj.weight_scale U8 [128, 3], "
       "l.experts.0.up_proj.weight_packed U8 [128, 48], l.experts.0.up_proj.weight_scale U8 [128, 3], "
       "l.experts.1.gate_proj.weight_packed U8 [128, 48], l.experts.1.gate_proj.weight_scale U8 [128, 3], "
       "l.experts.1.up_proj.weight_packed U8 [128, 48], l.experts.1.up_proj.weight_scale U8 [128, 3]"},
      {"l.experts.gate_up_proj_scale_inv", tensor_action::fp8_scales, "scales of 'l.experts.gate_up_proj'", ""},
      {"l.experts.down_proj.weight", tensor_action::quantize, "",
       "l.experts.0.down_proj.weight_packed U8 [96, 64], l.experts.0.down_proj.weight_scale U8 [96, 4], "
       "l.experts.1.down_proj.weight_packed U8 [96, 64], l.experts.1.down_proj.weight_scale U8 [96, 4]"},
      {"l.experts.1.w3.weight", tensor_action::quantize, "",
       "l.experts.1.w3.weight_packed U8 [32, 16], l.experts.1.w3.weight_scale U8 [32, 1]"},
      {"l.gate.weight", tensor_action::copy, "not the weight of an expert", "l.gate.weight F32 [4, 96]"},
      {"l.self_attn.q_proj.weight_scale_inv", tensor_action::fp8_scales, "scales of 'l.self_attn.q_proj.weight'", ""},
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
  CHECK(plan.experts == 2 + 2);  // experts 0 and 1, and the stack
  CHECK(plan.matrices == 3 + 4 + 2);
  CHECK(plan.weights == 130 * 96 + 64 * 160 + 2 * 256 * 96 + 2 * 96 * 128 + 32 * 32);
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
      {{fp8, tensor("q.weight_scale_inv", dtype::f32, {2, 1})},
       "scales 'q.weight_scale_inv' are F32 [2, 1], not F32 [1, 2]"},
      {{fp8, tensor("q.weight_scale_inv", dtype::u8, {1, 2})},
       "scales 'q.weight_scale_inv' are U8 [1, 2], not F32 [1, 2]"},
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

namespace {

/// "transposed", "as it is" or the reason why nothing tells, for the stack `name`.
std::string way_of(const std::vector<tensor_info>& stacks, const std::string& name, const plan_options& options) {
  const file_result<quantization_plan> plan = make_plan(stacks, options, "m");
  if (!plan) return plan.error().what();
  const std::optional<stack_layout>& stack = find(*plan, name).stack;
  if (!stack) return "no stack";
  return (stack->transposed ? "transposed " : "as it is ") + shape_text({stack->experts, stack->rows, stack->cols});
}

}  // namespace

TEST_CASE("plan: which way a stack of experts lies", "[plan][golden]") {
  const auto fused = [](shape dims) { return tensor("l.experts.gate_up_proj", dtype::bf16, std::move(dims)); };
  const auto down = [](shape dims) { return tensor("l.experts.down_proj", dtype::bf16, std::move(dims)); };
  const auto gate = [](shape dims) { return tensor("l.experts.gate_proj", dtype::bf16, std::move(dims)); };
  const auto bias = [](const char* name, shape dims) { return tensor(name, dtype::bf16, std::move(dims)); };
  const auto w = [](const std::string& part, shape dims) {
    return tensor("l.experts." + part, dtype::bf16, std::move(dims));
  };
  struct row {
    std::vector<tensor_info> stacks;
    const char* model_type;
    std::int64_t hidden_size;
    const char* expected;  // of the first
  };
  const char* const unknown = "neither the shapes of the stacks nor hidden_size nor the model_type tell";
  const row rows[] = {
      // Hidden size 96, 64 rows a matrix: the pair tells, even where both sizes are the same.
      {{fused({4, 128, 96}), down({4, 96, 64})}, "", 0, "as it is [4, 64, 96]"},
      {{fused({4, 96, 128}), down({4, 64, 96})}, "llama4_text", 0, "transposed [4, 64, 96]"},
      {{fused({4, 64, 128}), down({4, 64, 64})}, "qwen3_vl_moe_text", 0, "transposed [4, 64, 64]"},
      // The order of their rows only the family tells.
      {{fused({4, 96, 128}), down({4, 64, 96})},
       "",
       0,
       "without a model_type in config.json, and nothing tells whether"},
      {{down({4, 64, 96}), fused({4, 96, 128})}, "odd", 0, "of model_type 'odd', and nothing tells whether"},
      {{fused({4, 96, 128}), down({4, 64, 96})}, "qwen3_5_moe_text", 0, "take turns, as those of gpt_oss"},
      {{fused({4, 64, 128}), down({4, 64, 64})}, "mixtral", 0, "--force takes them for halves; else add the family"},
      {{fused({4, 128, 64}), down({4, 64, 64})}, "gpt_oss", 0, "as it is [4, 128, 64]"},
      {{fused({4, 2880, 5760}), down({4, 2880, 2880})}, "llama4_text", 0, "transposed [4, 2880, 2880]"},
      {{fused({4, 128, 96}), down({4, 64, 96})}, "", 0, "are not gate, up and down matrices of one size"},
      // A stack alone: the rows of its bias, the hidden size, the family.
      {{fused({4, 96, 128}), bias("l.experts.gate_up_proj_bias", {4, 128})}, "gpt_oss", 0, "transposed [4, 128, 96]"},
      {{gate({4, 64, 96})}, "", 96, "as it is [4, 64, 96]"},
      {{gate({4, 96, 64})}, "", 96, "transposed [4, 64, 96]"},
      {{down({4, 96, 64})}, "", 96, "as it is [4, 96, 64]"},
      {{down({4, 64, 96})}, "", 96, "transposed [4, 96, 64]"},
      {{down({4, 64, 64})}, "llama4_text", 64, "transposed [4, 64, 64]"},
      {{down({4, 64, 64})}, "gemma4_text", 64, "as it is [4, 64, 64]"},
      {{down({4, 64, 64})}, "", 64, unknown},
      {{gate({4, 64, 64}), down({4, 64, 64})}, "mixtral", 64, unknown},
      {{gate({4, 64, 96})}, "", 0, unknown},
      {{w("w1", {4, 64, 96})}, "", 96, "as it is [4, 64, 96]"},
      {{w("w3", {4, 96, 64})}, "", 96, "transposed [4, 64, 96]"},
      {{w("w2", {4, 96, 64})}, "", 96, "as it is [4, 96, 64]"},
      {{w("w2", {4, 64, 96})}, "", 96, "transposed [4, 96, 64]"},
      {{w("w1", {4, 64, 64}), w("w2", {4, 64, 64})}, "mixtral", 64, unknown},
      // What cannot be written apart.
      {{fused({4, 128, 96}), down({4, 96, 64}), bias("l.experts.down_proj_bias", {4, 96})},
       "",
       0,
       "it has biases, 'l.experts.down_proj_bias'"},
      {{tensor("l.experts.down_proj", dtype::f8_e4m3, {4, 64, 96})}, "", 96, "block scales would lie across"},
  };
  for (const auto& [stacks, model_type, hidden_size, expected] : rows) {
    CAPTURE(expected, model_type, stacks.front().name, shape_text(stacks.front().shape));
    plan_options options;
    options.model_type = model_type;
    options.hidden_size = hidden_size;
    CHECK_THAT(way_of(stacks, stacks.front().name, options), ContainsSubstring(expected));
  }
  plan_options forced;
  forced.any_matrix = true;
  CHECK(way_of({fused({4, 96, 128}), down({4, 64, 96})}, "l.experts.gate_up_proj", forced) == "transposed [4, 64, 96]");
}

TEST_CASE("plan: gpt_oss keeps its stacks, in its own form", "[plan][golden]") {
  const std::vector<tensor_info> tensors = {tensor("l.experts.gate_up_proj", dtype::bf16, {4, 96, 128}),
                                            tensor("l.experts.gate_up_proj_bias", dtype::bf16, {4, 128}),
                                            tensor("l.experts.down_proj", dtype::bf16, {4, 64, 96}),
                                            tensor("l.experts.down_proj_bias", dtype::bf16, {4, 96})};
  plan_options options;
  options.model_type = "gpt_oss";
  const quantization_plan plan = make_plan(tensors, options, "m").value();
  CHECK(text(plan.tensors[0].outputs) ==
        "l.experts.gate_up_proj_blocks U8 [4, 128, 3, 16], l.experts.gate_up_proj_scales U8 [4, 128, 3]");
  CHECK(text(plan.tensors[1].outputs) == "l.experts.gate_up_proj_bias BF16 [4, 128]");
  CHECK(text(plan.tensors[2].outputs) ==
        "l.experts.down_proj_blocks U8 [4, 96, 2, 16], l.experts.down_proj_scales U8 [4, 96, 2]");
  CHECK(plan.experts == 4);
  CHECK(plan.matrices == 8);
}

TEST_CASE("plan: every linear layer, and what is none", "[plan]") {
  const std::vector<tensor_info> tensors = {
      tensor("model.embed_tokens.weight", dtype::f16, {64, 32}),
      tensor("l.self_attn.q_proj.weight", dtype::f16, {32, 32}),
      tensor("l.self_attn.q_proj.bias", dtype::f16, {32}),
      tensor("l.mlp.up_proj.weight", dtype::f16, {64, 32}),
      tensor("l.mlp.odd_proj.weight", dtype::f16, {64, 48}),
      tensor("l.mlp.gate.weight", dtype::f16, {4, 32}),
      tensor("l.router.layer.weight", dtype::f16, {4, 32}),
      tensor("l.conv1d.weight", dtype::f16, {32, 1, 4}),
      tensor("l.experts.gate_up_proj_bias", dtype::f16, {4, 32}),
      tensor("l.norm.weight", dtype::f16, {32}),
      tensor("lm_head.weight", dtype::f16, {64, 32}),
  };
  plan_options options;
  options.linears = true;
  const quantization_plan plan = make_plan(tensors, options, "m").value();
  std::vector<std::string> quantized;
  for (const planned_tensor& p : plan.tensors)
    if (p.action == tensor_action::quantize) quantized.push_back(p.source.name);
  CHECK(quantized == std::vector<std::string>{"l.self_attn.q_proj.weight", "l.mlp.up_proj.weight"});
  CHECK(find(plan, "model.embed_tokens.weight").reason == "an embedding");
  CHECK(find(plan, "l.mlp.odd_proj.weight").reason == "48 columns, not a multiple of 32");
  CHECK(find(plan, "l.router.layer.weight").reason == "a router");
  CHECK(find(plan, "lm_head.weight").reason == "the output layer");
  REQUIRE(plan.warnings.size() == 1);
  CHECK_THAT(plan.warnings[0], ContainsSubstring("the model is F16") && ContainsSubstring("bfloat16"));

  // An include is taken at its word for lm_head, and refused for what no reader has quantised, but by force.
  options.linears = false;
  for (const char* name : {"embed_tokens", "mlp.gate.weight", "router", "gate_up_proj_bias"}) {
    CAPTURE(name);
    options.any_matrix = false;
    options.include = name;
    CHECK_THROWS_MATCHES(make_plan(tensors, options, "m").value(), file_error,
                         MessageMatches(ContainsSubstring(name) && ContainsSubstring("no reader takes as MXFP4") &&
                                        ContainsSubstring("--force")));
    options.any_matrix = true;
    CHECK(make_plan(tensors, options, "m").value().matrices == 1);
  }
  options.any_matrix = false;
  options.include = "lm_head|norm";
  CHECK(make_plan(tensors, options, "m").value().matrices == 1);
}

TEST_CASE("plan: an output layer that is the embedding is none", "[plan][bad_input]") {
  const std::vector<tensor_info> tensors = {tensor("model.embed_tokens.weight", dtype::bf16, {64, 32}),
                                            tensor("lm_head.weight", dtype::bf16, {64, 32}),
                                            tensor("l.q_proj.weight", dtype::bf16, {32, 32})};
  for (const char* config : {R"({"tie_word_embeddings": true})", R"({"text_config": {"tie_word_embeddings": true}})",
                             R"({"tie_word_embeddings": true, "text_config": {}})", R"({"tie_word_embeddings": false})",
                             R"({"tie_word_embeddings": null})", "{}"}) {
    CAPTURE(config);
    plan_options options;
    read_model(ordered_json::parse(config), options);
    const bool tied = std::string(config).find("true") != std::string::npos;
    CHECK(options.tied == tied);
    options.include = "lm_head|q_proj";
    if (tied)
      CHECK_THROWS_MATCHES(make_plan(tensors, options, "m").value(), file_error,
                           MessageMatches(ContainsSubstring("tensor 'lm_head.weight': is the embedding too by "
                                                            "tie_word_embeddings of config.json") &&
                                          ContainsSubstring("leave it out with --exclude, or insist with --force")));
    else CHECK(make_plan(tensors, options, "m").value().matrices == 2);
    options.any_matrix = true;
    CHECK(make_plan(tensors, options, "m").value().matrices == 2);
    options.any_matrix = false;
    options.exclude = "lm_head";
    CHECK(make_plan(tensors, options, "m").value().matrices == 1);
    options.include = options.exclude = std::nullopt;
    options.linears = true;
    CHECK(make_plan(tensors, options, "m").value().matrices == 1);
  }
}

TEST_CASE("plan: families that no reader takes are refused with the reason", "[plan][bad_input]") {
  const std::vector<tensor_info> tensors = {tensor("l.ffn.experts.mlp.w1", dtype::bf16, {256, 32}),
                                            tensor("l.q_proj.weight", dtype::bf16, {32, 32})};
  plan_options options;
  options.model_type = "dbrx";
  CHECK_THROWS_MATCHES(make_plan(tensors, options, "m").value(), file_error,
                       MessageMatches(ContainsSubstring("m: dbrx holds its experts as matrices") &&
                                      ContainsSubstring("--linears quantises its other layers")));
  options.linears = true;
  CHECK(make_plan(tensors, options, "m").value().matrices == 1);
  options.model_type = "openai-gpt";
  CHECK_THROWS_MATCHES(make_plan(tensors, options, "m").value(), file_error,
                       MessageMatches(ContainsSubstring("openai-gpt has Conv1D in the place of Linear")));
  options.linears = false;
  options.include = "q_proj";
  CHECK_THROWS_MATCHES(make_plan(tensors, options, "m").value(), file_error,
                       MessageMatches(ContainsSubstring("is of openai-gpt, which has Conv1D in the place of Linear")));
  options.any_matrix = true;
  CHECK(make_plan(tensors, options, "m").value().matrices == 1);
}

TEST_CASE("plan: a layer that lies [in, out]", "[plan][golden]") {
  const std::vector<tensor_info> tensors = {
      tensor("h.0.mlp.c_fc.weight", dtype::bf16, {32, 96}),    tensor("h.0.mlp.c_fc.bias", dtype::bf16, {96}),
      tensor("h.0.attn.c_proj.weight", dtype::bf16, {64, 64}), tensor("h.0.attn.c_proj.bias", dtype::bf16, {64}),
      tensor("h.0.mlp.c_proj.weight", dtype::bf16, {48, 32}),  tensor("score.weight", dtype::bf16, {2, 32})};
  plan_options options;
  options.linears = true;
  options.model_type = "gpt2";
  const quantization_plan plan = make_plan(tensors, options, "m").value();
  CHECK(text(find(plan, "h.0.mlp.c_fc.weight").outputs) ==
        "h.0.mlp.c_fc.weight_packed U8 [96, 16], h.0.mlp.c_fc.weight_scale U8 [96, 1]");
  CHECK(text(find(plan, "h.0.attn.c_proj.weight").outputs) ==
        "h.0.attn.c_proj.weight_packed U8 [64, 32], h.0.attn.c_proj.weight_scale U8 [64, 2]");
  CHECK(find(plan, "h.0.mlp.c_proj.weight").reason == "48 inputs, not a multiple of 32");
  CHECK(text(find(plan, "score.weight").outputs) == "score.weight_packed U8 [2, 16], score.weight_scale U8 [2, 1]");
  REQUIRE(plan.warnings.size() == 1);
  CHECK_THAT(plan.warnings[0], ContainsSubstring("Conv1D") && ContainsSubstring("vLLM 0.32 loads them"));

  // Its bias tells of a layer of no known family, and of one that was turned before.
  const std::vector<tensor_info> turned = {tensor("h.0.mlp.c_fc.weight", dtype::bf16, {96, 32}),
                                           tensor("h.0.mlp.c_fc.bias", dtype::bf16, {96})};
  CHECK_THROWS_MATCHES(make_plan(turned, options, "m").value(), file_error,
                       MessageMatches(ContainsSubstring("is [out, in] by its bias, expected [in, out]")));
  options.model_type = "gpt_bigcode";
  CHECK(make_plan(turned, options, "m").value().matrices == 1);
  CHECK_THROWS_MATCHES(make_plan(tensors, options, "m").value(), file_error,
                       MessageMatches(ContainsSubstring("'h.0.mlp.c_fc.weight'") &&
                                      ContainsSubstring("is [in, out] by its bias, expected [out, in]")));
  options.model_type = "gpt2";
  const std::vector<tensor_info> fp8 = {tensor("h.0.mlp.c_fc.weight", dtype::f8_e4m3, {128, 128}),
                                        tensor("h.0.mlp.c_fc.weight_scale", dtype::f32, {})};
  CHECK(find(make_plan(fp8, options, "m").value(), "h.0.mlp.c_fc.weight").reason ==
        "F8_E4M3 [in, out], whose block scales would lie across the blocks");
}

TEST_CASE("plan: GraniteMoe's stacks have names of their own", "[plan]") {
  const std::vector<tensor_info> tensors = {tensor("l.block_sparse_moe.input_linear.weight", dtype::bf16, {1, 64, 96}),
                                            tensor("l.block_sparse_moe.output_linear.weight", dtype::bf16, {1, 96, 32}),
                                            tensor("l.shared_mlp.input_linear.weight", dtype::bf16, {64, 96})};
  const quantization_plan plan = make_plan(tensors, {}, "m").value();
  CHECK(text(plan.tensors[0].outputs) ==
        "l.block_sparse_moe.experts.0.gate_proj.weight_packed U8 [32, 48], "
        "l.block_sparse_moe.experts.0.gate_proj.weight_scale U8 [32, 3], "
        "l.block_sparse_moe.experts.0.up_proj.weight_packed U8 [32, 48], "
        "l.block_sparse_moe.experts.0.up_proj.weight_scale U8 [32, 3]");
  CHECK(text(plan.tensors[1].outputs) ==
        "l.block_sparse_moe.experts.0.down_proj.weight_packed U8 [96, 16], "
        "l.block_sparse_moe.experts.0.down_proj.weight_scale U8 [96, 1]");
  CHECK(plan.tensors[2].action == tensor_action::copy);

  // What is left of them is ignored under the names that loaders ask for.
  plan_options some;
  some.exclude = "^k\\.";
  std::vector<tensor_info> more = tensors;
  for (const tensor_info& t : tensors) more.push_back(tensor("k" + t.name.substr(1), t.type, t.shape));
  const ordered_json config = make_quantization_config(make_plan(more, some, "m").value(), "granitemoe", "m");
  const module_resolver resolver(config, "m");
  CHECK(resolver.group_of("l.block_sparse_moe.experts.0.gate_proj") == "group_0");
  CHECK(resolver.group_of("k.block_sparse_moe.experts.0.gate_proj").empty());
  CHECK(resolver.group_of("k.block_sparse_moe.experts.0.down_proj").empty());
}

TEST_CASE("plan: stacks called w1, w2, w3, and those of no known name", "[plan][golden]") {
  std::vector<tensor_info> tensors = {tensor("l.0.mlp.experts.w1", dtype::bf16, {2, 64, 96}),
                                      tensor("l.0.mlp.experts.w3", dtype::bf16, {2, 64, 96}),
                                      tensor("l.0.mlp.experts.w2", dtype::bf16, {2, 96, 64})};
  plan_options options;
  options.hidden_size = 96;
  const quantization_plan plan = make_plan(tensors, options, "m").value();
  CHECK(plan.experts == 2);
  CHECK(plan.matrices == 6);
  CHECK(plan.warnings.empty());
  CHECK(text(plan.tensors[2].outputs) ==
        "l.0.mlp.experts.0.w2.weight_packed U8 [96, 32], l.0.mlp.experts.0.w2.weight_scale U8 [96, 2], "
        "l.0.mlp.experts.1.w2.weight_packed U8 [96, 32], l.0.mlp.experts.1.w2.weight_scale U8 [96, 2]");
  const module_resolver all(make_quantization_config(plan, "", "m"), "m");
  for (const char* module : {"l.0.mlp.experts.1.w1", "l.0.mlp.experts.0.gate_proj", "l.0.mlp.experts.0.down_proj"})
    CHECK(all.group_of(module) == "group_0");

  // A layer of them that is left, and stacks that only stand beside experts, are ignored.
  for (const char* part : {"w1", "w3", "w2"})
    tensors.push_back(tensor("l.1.mlp.experts." + std::string(part), dtype::bf16, {2, 96, 96}));
  tensors.push_back(tensor("l.2.mlp.experts.wi", dtype::bf16, {2, 64, 96}));
  tensors.push_back(tensor("l.2.mlp.experts.wo.weight", dtype::bf16, {2, 96, 64}));
  tensors.push_back(tensor("l.2.mlp.experts.wi_bias", dtype::bf16, {2, 64, 1}));
  options.exclude = "^l[.]1[.]";
  const quantization_plan some = make_plan(tensors, options, "m").value();
  REQUIRE(some.warnings.size() == 1);
  CHECK_THAT(some.warnings[0], ContainsSubstring("'l.2.mlp.experts.wi' [2, 64, 96] and 1 more are stacks beside "
                                                 "experts, of a name that is not known (gate_up_proj, "));
  const ordered_json config = make_quantization_config(some, "", "m");
  const module_resolver resolver(config, "m");
  CHECK(resolver.group_of("l.0.mlp.experts.0.w1") == "group_0");
  for (const char* module : {"l.1.mlp.experts.0.w1", "l.1.mlp.experts.0.gate_proj", "l.1.mlp.experts.0.down_proj"})
    CHECK(resolver.group_of(module).empty());
  for (const char* module : {"l.2.mlp.experts.0.wi", "l.2.mlp.experts.0.wo"}) CHECK(resolver.ignores(module));
  options.include = "^l[.]0[.]";
  CHECK(make_plan(tensors, options, "m").value().warnings.empty());
}

// ---- families -------------------------------------------------------------------------------------------------------

namespace {

/// "BF16 [2, 3]"
tensor_info described(const std::string& name, const std::string& text) {
  const std::size_t space = text.find(' ');
  dtype type = dtype::bf16;
  for (const dtype t : {dtype::f32, dtype::f16, dtype::i64})
    if (dtype_name(t) == text.substr(0, space)) type = t;
  return tensor(name, type, ordered_json::parse(text.substr(space + 1)).get<shape>());
}

}  // namespace

TEST_CASE("verify: what llm-compressor and AutoRound write in config.json", "[verify][golden]") {
  std::int64_t seen = 0, routers = 0;
  for (const auto& entry : std::filesystem::directory_iterator(MXFP4_TEST_VECTORS "/checkpoints_of_peers")) {
    ordered_json recorded = read_json<ordered_json>(entry.path().string());
    CAPTURE(entry.path().stem().string());
    ++seen;
    plan_options model;
    read_model(recorded["config"], model);
    std::vector<stored_module> modules;
    for (const auto& [name, text] : recorded["tensors"].items()) {
      const bool is_mxfp4 = name.ends_with("_packed");
      if (!is_mxfp4 && !name.ends_with(".weight")) continue;
      const tensor_info t = described(is_mxfp4 ? name.substr(0, name.size() - 7) : name, text);
      modules.push_back({module_of(t), is_mxfp4 ? storage::mxfp4 : storage::plain,
                         role_of(t, find_family(model.model_type)), false, false});
    }
    std::string found;
    const finding_function add = [&found](severity, const std::string& where, const std::string& what) {
      found += where + " " + what + "\n";
    };
    check_quantization_config(recorded["config"], modules, add);
    CHECK(found.empty());
    if (!recorded["config"]["quantization_config"].contains("extra_config")) continue;
    ++routers;
    recorded["config"]["quantization_config"].erase("extra_config");
    check_quantization_config(recorded["config"], modules, add);
    CHECK_THAT(found,
               ContainsSubstring("'model.layers.0.mlp.gate' is MXFP4 by block_name_to_quantize and extra_config, "
                                 "but stored not quantised"));
  }
  CHECK(seen == 6);
  CHECK(routers == 1);
}

TEST_CASE("plan: the families that transformers builds and loads", "[plan][golden]") {
  std::set<std::string> seen;
  for (const auto& entry : std::filesystem::directory_iterator(MXFP4_TEST_VECTORS "/families")) {
    const ordered_json fixture = read_json<ordered_json>(entry.path().string());
    CAPTURE(entry.path().stem().string());
    plan_options options;
    read_model(fixture["config"], options);
    const std::string type = options.model_type;
    seen.insert(type);
    options.linears = fixture["linears"];
    std::vector<tensor_info> tensors;
    for (const auto& [name, text] : fixture["tensors"].items()) tensors.push_back(described(name, text));
    const quantization_plan plan = make_plan(tensors, options, type).value();

    // What transformers has loaded, with every weight in its place.
    std::set<std::string> packed, expected;
    for (const planned_tensor& p : plan.tensors)
      for (const tensor_info& t : p.outputs)
        if (t.name.ends_with("_packed") || t.name.ends_with("_blocks")) packed.insert(t.name);
    for (const std::string name : fixture["quantized"]) expected.insert(name);
    CHECK(packed == expected);
    CHECK_FALSE(packed.empty());

    // No module of class Linear is taken for MXFP4 that is not, whatever transformers or vLLM calls it.
    const ordered_json config = make_config(fixture["config"], plan, type);
    std::int64_t wrong = 0;
    check_quantization_config(config, modules_of(plan, type),
                              [&](severity, const std::string& where, const std::string& what) {
                                ++wrong;
                                UNSCOPED_INFO(where + " " + what);
                              });
    CHECK(wrong == 0);
    if (config["quantization_config"]["quant_method"] != "compressed-tensors") continue;
    const module_resolver resolver(config["quantization_config"], type);
    for (const std::string module : fixture["modules"]) {
      CAPTURE(module);
      CHECK(resolver.group_of(module).empty() == !packed.contains(module + ".weight_packed"));
    }
  }
  CHECK(seen.size() == 30);
}
