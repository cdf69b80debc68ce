// src/checkpoint/family.cpp -- the table, and the rules that all families share.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/family.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>

#include "io/strict_json.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

using nlohmann::ordered_json;

constexpr const char* vllm_loads =
    "transformers 5.24 loads the experts of this family neither stacked nor one by one: it starts them at random; "
    "vLLM 0.32 loads them";
constexpr const char* two_dimensional_stacks =
    "holds its experts as matrices [experts * rows, columns], and no reader takes these as MXFP4: transformers 5.24 "
    "has no other form of them, the loaders of vLLM 0.32 and 0.33 know neither their codes nor their scales";
constexpr const char* conv1d =
    "has Conv1D in the place of Linear, which transformers 5.24 does not load as MXFP4, and vLLM 0.33 has no model of "
    "this family";
constexpr const char* conv1d_in_vllm =
    "transformers 5.24 has Conv1D in the place of Linear and starts these layers at random; vLLM 0.32 loads them";

/// Names and axes: transformers 5.24 models/<model_type>, as save_pretrained writes them. Alphabetical.
constexpr std::array families = {
    model_family{.model_type = "bert", .also_ignored = "cls.predictions.decoder re:(.*\\.)?pooler\\.dense$"},
    model_family{.model_type = "clvp_encoder", .no_linears = conv1d},
    model_family{.model_type = "dbrx", .router = "router", .no_experts = two_dimensional_stacks},
    model_family{.model_type = "decision_transformer", .no_linears = conv1d},
    model_family{.model_type = "deepseek_v3", .shared = "shared_experts"},
    model_family{.model_type = "deepseek_v4", .names = expert_names::w, .shared = "shared_experts"},
    model_family{.model_type = "ernie4_5_moe", .shared = "shared_experts"},
    model_family{.model_type = "gemma4_text", .axes = stack_axes::out_in, .router = "router", .warning = vllm_loads},
    model_family{.model_type = "glm4_moe", .shared = "shared_experts"},
    model_family{.model_type = "gpt2", .transposed = "c_attn c_fc c_proj q_attn", .warning = conv1d_in_vllm},
    model_family{.model_type = "gpt_oss", .axes = stack_axes::in_out, .form = expert_form::gpt_oss, .router = "router"},
    model_family{.model_type = "granitemoe", .axes = stack_axes::out_in, .router = "router", .warning = vllm_loads},
    model_family{.model_type = "granitemoehybrid",
                 .axes = stack_axes::out_in,
                 .router = "router",
                 .shared = "shared_mlp",
                 .warning = vllm_loads},
    model_family{.model_type = "granitemoeshared",
                 .axes = stack_axes::out_in,
                 .router = "router",
                 .shared = "shared_mlp",
                 .warning = vllm_loads},
    model_family{.model_type = "hunyuan_v1_moe", .router = "wg", .shared = "shared_mlp"},
    model_family{.model_type = "imagegpt", .no_linears = conv1d},
    model_family{.model_type = "jamba", .router = "router"},
    model_family{.model_type = "lfm2_moe", .names = expert_names::w},
    model_family{
        .model_type = "llama4_text", .axes = stack_axes::in_out, .router = "router", .shared = "shared_expert"},
    model_family{.model_type = "mimo_v2_flash"},
    model_family{.model_type = "minimax_m2", .names = expert_names::w},
    model_family{.model_type = "mixtral", .names = expert_names::w},
    model_family{.model_type = "nemotron_h", .shared = "shared_experts"},
    model_family{.model_type = "olmoe"},
    model_family{.model_type = "openai-gpt", .no_linears = conv1d},
    model_family{.model_type = "phimoe", .names = expert_names::w, .also_ignored = "re:.*\\.mlp\\.router$"},
    model_family{.model_type = "qwen2_moe", .shared = "shared_expert"},
    model_family{.model_type = "qwen3_5_moe_text", .axes = stack_axes::out_in, .shared = "shared_expert"},
    model_family{.model_type = "qwen3_moe"},
    model_family{.model_type = "qwen3_next", .shared = "shared_expert"},
    model_family{.model_type = "qwen3_vl_moe_text", .axes = stack_axes::in_out, .warning = vllm_loads},
};

constexpr model_family unknown_family = {};

/// [rows, columns] of the FP8 weights under one scale.
[[nodiscard]] std::optional<scale_grid> read_block_size(const ordered_json& quantization) {
  if (!quantization.is_object()) return std::nullopt;
  const auto found = quantization.find("weight_block_size");
  if (found == quantization.end() || !found->is_array() || found->size() != 2) return std::nullopt;
  const auto size = [&](std::size_t i) {
    const ordered_json& n = (*found)[i];
    return n.is_number_integer() && n > 0 && n <= std::numeric_limits<std::int32_t>::max() ? n.get<std::int64_t>() : 0;
  };
  return size(0) > 0 && size(1) > 0 ? std::optional(scale_grid{size(0), size(1)}) : std::nullopt;
}

}  // namespace

bool is_one_of(std::string_view part, std::initializer_list<std::string_view> parts) noexcept {
  return std::find(parts.begin(), parts.end(), part) != parts.end();
}

std::span<const model_family> model_families() noexcept { return families; }

const model_family& find_family(std::string_view model_type) noexcept {
  for (const model_family& f : families)
    if (f.model_type == model_type) return f;
  return unknown_family;
}

void read_model(const ordered_json& config, plan_options& options) {
  if (!config.is_object()) return;
  const auto text = config.find("text_config");
  const ordered_json& inner = text != config.end() && text->is_object() ? *text : config;
  options.model_type = json_text_member(inner, "model_type");
  if (options.model_type.empty()) options.model_type = json_text_member(config, "model_type");
  for (const char* key : {"dtype", "torch_dtype"})
    if (options.dtype.empty()) options.dtype = json_text_member(inner.contains(key) ? inner : config, key);
  for (const ordered_json* part : {&inner, &config})
    if (const auto found = part->find("quantization_config"); !options.fp8_grid && found != part->end())
      options.fp8_grid = read_block_size(*found);
  for (const ordered_json* part : {&inner, &config})
    options.tied = options.tied || json_member_or_null(*part, "tie_word_embeddings") == true;
  const auto hidden = inner.find("hidden_size");
  if (hidden != inner.end() && hidden->is_number_integer()) options.hidden_size = hidden->get<std::int64_t>();
}

weight_role role_of(const tensor_info& tensor, const model_family& family) {
  constexpr std::string_view suffix = ".weight";
  std::string_view name = tensor.name;
  if (is_expert_weight(name, tensor.shape.size())) return weight_role::expert;
  if (tensor.shape.size() != 2 || !name.ends_with(suffix)) return weight_role::other;
  name.remove_suffix(suffix.size());
  const auto cut = [&name] {
    const std::size_t dot = name.rfind('.');
    const std::string_view part = name.substr(dot == std::string_view::npos ? 0 : dot + 1);
    name = name.substr(0, dot == std::string_view::npos ? 0 : dot);
    return part;
  };
  const std::string_view last = cut(), parent = cut();
  if (is_one_of(last, {"lm_head", "embed_out"}) || (last == "head" && parent.empty())) return weight_role::output;
  if (last.find("embed") != std::string_view::npos ||
      is_one_of(last, {"wte", "wpe", "shared", "relative_attention_bias"}))
    return weight_role::embedding;
  if (is_one_of(last, {family.router, "gate", "router", "shared_expert_gate"}) ||
      is_one_of(parent, {family.router, "router"}))
    return weight_role::router;
  return last.find("norm") != std::string_view::npos || last.find("conv") != std::string_view::npos
             ? weight_role::other
             : weight_role::linear;
}

bool is_transposed(std::string_view name, const model_family& family) noexcept {
  constexpr std::string_view suffix = ".weight";
  if (family.transposed.empty() || !name.ends_with(suffix)) return false;
  name.remove_suffix(suffix.size());
  name = name.substr(name.rfind('.') + 1);
  for (std::string_view rest = family.transposed; !rest.empty();) {
    const std::size_t end = std::min(rest.find(' '), rest.size());
    if (rest.substr(0, end) == name) return true;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return false;
}

stack_axes axes_by_bias(const tensor_info& weight, const std::function<const tensor_info*(const std::string&)>& find) {
  constexpr std::string_view suffix = "weight";
  if (weight.shape.size() != 2 || weight.shape[0] == weight.shape[1] || !weight.name.ends_with(".weight"))
    return stack_axes::unknown;
  const tensor_info* bias = find(weight.name.substr(0, weight.name.size() - suffix.size()) + "bias");
  if (bias == nullptr || bias->shape.size() != 1) return stack_axes::unknown;
  if (bias->shape[0] == weight.shape[0]) return stack_axes::out_in;
  return bias->shape[0] == weight.shape[1] ? stack_axes::in_out : stack_axes::unknown;
}

std::string_view role_text(weight_role role) noexcept {
  switch (role) {
    case weight_role::expert:
      return "an expert";
    case weight_role::linear:
      return "a linear layer";
    case weight_role::router:
      return "a router";
    case weight_role::output:
      return "the output layer";
    case weight_role::embedding:
      return "an embedding";
    case weight_role::other:
      break;
  }
  return "no linear layer's weight";
}

}  // namespace mxfp4::checkpoint
