// src/model/architectures.cpp -- the families of models that are computed here, each as what config.hpp asks.
// SPDX-License-Identifier: Apache-2.0
//
// A function a family, and a line of the table at the end. Sources: transformers 5.24 models/<model_type>, the config
// and the modeling file.
#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "checkpoint/family.hpp"
#include "io/strict_json.hpp"
#include "model/config_reader.hpp"
#include "mxfp4/io/error.hpp"

namespace mxfp4::model {

using namespace io;

namespace {

using nlohmann::ordered_json;

/// What quantize, plan, verify and convert know of the family too stands in their table alone.
void read_family(const checkpoint::model_family& family, expert_description& e) {
  e.router = family.router;
  e.shared = family.shared;
  if (family.names == checkpoint::expert_names::w) e.gate = "w1", e.up = "w3", e.down = "w2";
  if (family.form == checkpoint::expert_form::gpt_oss) {
    e.stacked = true;
    e.gate = "gate_up_proj", e.up = "", e.down = "down_proj";
  }
}

void read_experts(const config_reader& in, model_config& c, const char* count, const char* intermediate) {
  c.shape.experts = in.size(count);
  c.shape.experts_per_token = in.size("num_experts_per_tok");
  c.shape.intermediate = in.size(intermediate);
  if (c.shape.experts_per_token > c.shape.experts)
    throw file_error({.file = in.where(),
                      .value = "num_experts_per_tok is " + std::to_string(c.shape.experts_per_token),
                      .expected = std::string("at most ") + count + ", " + std::to_string(c.shape.experts)});
}

void read_dense(const config_reader& in, model_config& c) {
  c.experts.dense.assign(c.experts.dense.size(), true);
  c.experts.dense_intermediate = in.size("intermediate_size");
  c.experts.function.act = in.activation();
}

/// Groups of experts of which a token's are chosen from the best alone.
void read_groups(const config_reader& in, model_config& c) {
  const std::int64_t experts = c.shape.experts, groups = in.size("n_group", 8), taken = in.size("topk_group", 4);
  const auto refuse = [&in](const std::string& value, const std::string& expected) {
    throw file_error({.file = in.where(), .value = value, .expected = expected});
  };
  if (experts % groups != 0)
    refuse("n_group is " + std::to_string(groups), "a divisor of the number of experts, " + std::to_string(experts));
  if (taken > groups) refuse("topk_group is " + std::to_string(taken), "at most n_group, " + std::to_string(groups));
  if (const std::int64_t most = taken * (experts / groups); c.shape.experts_per_token > most)
    refuse("num_experts_per_tok is " + std::to_string(c.shape.experts_per_token),
           "at most the " + std::to_string(most) + " experts of topk_group groups");
  c.experts.route.n_group = groups;
  c.experts.route.topk_group = taken;
}

[[nodiscard]] std::string_view full_attention(std::int64_t) { return "full_attention"; }
[[nodiscard]] std::string_view in_turns(std::int64_t layer) {
  return layer % 2 == 0 ? "sliding_attention" : "full_attention";
}

void read_deepseek_v3(const config_reader& in, model_config& c) {
  // head_dim of such a config is that of the turned part alone, and key/value heads are those of q.
  in.require("num_key_value_heads", c.shape.heads);
  const std::int64_t turned = in.size("qk_rope_head_dim"), unturned = in.size("qk_nope_head_dim");
  c.shape.key_value_heads = c.shape.heads;
  c.shape.head_dim = unturned + turned;
  c.shape.value_dim = in.size("v_head_dim");
  c.attention.latent = {in.size("q_lora_rank", 0), in.size("kv_lora_rank")};
  c.attention.qkv_bias = c.attention.o_bias = in.flag("attention_bias", false);
  c.attention.rotary = in.rotary(turned, c.context, 10000);
  c.attention.rotary.first = unturned;
  c.attention.rotary.neighbours = in.flag("rope_interleave", true);
  c.attention.scale =
      static_cast<float>(c.attention.rotary.score_scale / std::sqrt(static_cast<double>(c.shape.head_dim)));
  read_experts(in, c, in.has("num_local_experts") ? "num_local_experts" : "n_routed_experts", "moe_intermediate_size");
  const std::int64_t dense = in.count("first_k_dense_replace", 3);
  std::fill_n(c.experts.dense.begin(), std::min(dense, c.shape.layers), true);
  c.experts.dense_intermediate = in.size("intermediate_size");
  c.experts.function.act = in.activation();
  c.experts.choice_bias = "gate.e_score_correction_bias";
  c.experts.route.renormalize = in.flag("norm_topk_prob", true);
  c.experts.route.scale = static_cast<float>(in.number("routed_scaling_factor", 2.5));
  read_groups(in, c);
  c.experts.shared_intermediate = c.shape.intermediate * in.size("n_shared_experts", 1);
  in.require("scoring_func", "sigmoid");
  in.require("topk_method", "noaux_tc");
  in.require("moe_layer_freq", 1);
}

void read_minimax_m2(const config_reader& in, model_config& c) {
  (void)in.size("head_dim");  // here it does not follow from the others
  read_experts(in, c, "num_local_experts", "intermediate_size");
  in.require("scoring_func", "sigmoid");
  in.require("use_routing_bias", true);
  in.require("norm_topk_prob", true);
  in.require("use_qk_norm", true);
  in.require("qk_norm_type", "per_layer");
  in.require("hidden_act", "silu");
  in.require("shared_intermediate_size", 0);
  in.require("tie_word_embeddings", false);
  in.require("rope_scaling", nullptr);
  in.require("sliding_window", nullptr);
  const std::int64_t rotary_dim = in.size("rotary_dim");
  if (rotary_dim % 2 != 0 || rotary_dim > c.shape.head_dim)
    throw file_error({.file = in.where(),
                      .value = "rotary_dim is " + std::to_string(rotary_dim),
                      .expected = "an even number up to head_dim, " + std::to_string(c.shape.head_dim)});
  const double part = static_cast<double>(rotary_dim) / static_cast<double>(c.shape.head_dim);
  c.attention.rotary = in.rotary(c.shape.head_dim, c.context, 0, part);
  c.attention.norm = head_norm::all_heads;
  c.experts.block = "block_sparse_moe";
  c.experts.choice_bias = "e_score_correction_bias";
}

void read_gpt_oss(const config_reader& in, model_config& c) {
  read_experts(in, c, "num_local_experts", "intermediate_size");
  in.require("hidden_act", "silu");
  c.attention.qkv_bias = c.attention.o_bias = in.flag("attention_bias", true);
  c.attention.sinks = true;
  c.attention.windows = in.windows(c.shape.layers, in_turns);
  c.attention.rotary = in.rotary(c.shape.head_dim, c.context, 150000);
  c.experts.biases = c.experts.router_bias = true;
  c.experts.route.scoring = scoring_func::softmax_of_chosen;
  c.experts.function.act = hidden_act::gpt_oss;
  c.experts.function.alpha = static_cast<float>(in.number("swiglu_alpha", 1.702));
  c.experts.function.limit = static_cast<float>(in.number("swiglu_limit", 7.0));
}

void read_olmoe(const config_reader& in, model_config& c) {
  in.require("clip_qkv", nullptr);
  c.attention.norm = head_norm::all_heads;
  c.attention.qkv_bias = c.attention.o_bias = in.flag("attention_bias", false);
  c.attention.rotary = in.rotary(c.shape.head_dim, c.context, 10000);
  read_experts(in, c, "num_experts", "intermediate_size");
  c.experts.function.act = in.activation();
  c.experts.route.scoring = scoring_func::softmax;
  c.experts.route.renormalize = in.flag("norm_topk_prob", false);
}

void read_qwen3_attention(const config_reader& in, model_config& c) {
  c.attention.norm = head_norm::each_head;
  c.attention.qkv_bias = c.attention.o_bias = in.flag("attention_bias", false);
  c.attention.rotary = in.rotary(c.shape.head_dim, c.context);
}

void read_qwen3_moe(const config_reader& in, model_config& c) {
  read_qwen3_attention(in, c);
  read_experts(in, c, in.has("num_local_experts") ? "num_local_experts" : "num_experts", "moe_intermediate_size");
  // Of this family every layer slides where one does: modeling_qwen3_moe.py asks for sliding_window alone.
  if (in.flag("use_sliding_window", false) && in.has("sliding_window"))
    c.attention.windows.assign(c.attention.windows.size(), in.size("sliding_window"));
  const std::int64_t step = in.size("decoder_sparse_step", 1);
  for (std::int64_t l = 0; l < c.shape.layers; ++l)
    c.experts.dense[static_cast<std::size_t>(l)] = (l + 1) % step != 0 || in.lists("mlp_only_layers", l);
  c.experts.dense_intermediate = in.size("intermediate_size");
  c.experts.function.act = in.activation();
  c.experts.route.scoring = scoring_func::softmax;
  c.experts.route.renormalize = in.flag("norm_topk_prob", false);
}

void read_mixtral(const config_reader& in, model_config& c) {
  read_experts(in, c, "num_local_experts", "intermediate_size");
  c.attention.rotary = in.rotary(c.shape.head_dim, c.context, 1e6);
  if (in.has("sliding_window")) c.attention.windows.assign(c.attention.windows.size(), in.size("sliding_window"));
  c.experts.block = "block_sparse_moe";
  c.experts.function.act = in.activation();
  c.experts.route.scoring = scoring_func::softmax;
}

void read_llama(const config_reader& in, model_config& c) {
  c.experts.biases = in.flag("mlp_bias", false);
  c.attention.qkv_bias = c.attention.o_bias = in.flag("attention_bias", false);
  c.attention.rotary = in.rotary(c.shape.head_dim, c.context, 10000);
  read_dense(in, c);
}

void read_qwen3(const config_reader& in, model_config& c) {
  read_qwen3_attention(in, c);
  if (in.flag("use_sliding_window", false)) c.attention.windows = in.windows(c.shape.layers, full_attention);
  read_dense(in, c);
}

struct architecture {
  std::string_view model_type;
  void (*read)(const config_reader& in, model_config& c);
};

constexpr std::array architectures = {
    architecture{"deepseek_v3", read_deepseek_v3},
    architecture{"gpt_oss", read_gpt_oss},
    architecture{"llama", read_llama},
    architecture{"minimax_m2", read_minimax_m2},
    architecture{"mixtral", read_mixtral},
    architecture{"olmoe", read_olmoe},
    architecture{"qwen3", read_qwen3},
    architecture{"qwen3_moe", read_qwen3_moe},
};

}  // namespace

std::string architecture_names() {
  std::string names;
  for (const architecture& a : architectures)
    names += (names.empty()                                     ? ""
              : a.model_type == architectures.back().model_type ? " or "
                                                                : ", ") +
             std::string(a.model_type);
  return names;
}

model_config read_model_config(const ordered_json& config, const std::string& where) {
  if (!config.is_object())
    throw file_error({.file = where, .value = "is not a JSON object", .expected = "a model's config.json"});
  const config_reader in(config, where);
  const auto type = config.find("model_type");
  const auto found = std::ranges::find_if(
      architectures, [&](const architecture& a) { return type != config.end() && *type == a.model_type; });
  if (found == architectures.end())
    throw file_error({.file = where,
                      .value = "model_type is " + json_shown(type == config.end() ? ordered_json() : *type),
                      .expected = architecture_names(),
                      .advice = "no other family is computed here"});
  model_config c;
  c.model_type = found->model_type;
  in.read_shape(c);
  read_family(checkpoint::find_family(c.model_type), c.experts);
  found->read(in, c);
  constexpr std::int64_t most_tensors = 10'000'000;  // a hundred times the largest model
  if (c.shape.experts > 0 && c.shape.layers > most_tensors / c.shape.experts / 3)
    throw file_error(
        {.file = where,
         .value = std::to_string(c.shape.layers) + " layers of " + std::to_string(c.shape.experts) + " experts",
         .expected = "less than 10 million tensors"});
  return c;
}

void require_same_model(const model_config& original, const model_config& other, const std::string& where) {
  const auto same = [&](const auto& expected, const auto& found, const char* key) {
    if (found != expected)
      throw file_error({.file = where,
                        .value = std::string(key) + " is " + ordered_json(found).dump(),
                        .expected = ordered_json(expected).dump() + " as the original has it",
                        .advice = "compare two forms of one model"});
  };
  same(original.model_type, other.model_type, "model_type");
  const model_shape &a = original.shape, &b = other.shape;
  same(a.vocabulary, b.vocabulary, "vocab_size");
  same(a.hidden, b.hidden, "hidden_size");
  same(a.intermediate, b.intermediate, "the intermediate size of experts");
  same(a.layers, b.layers, "num_hidden_layers");
  same(a.heads, b.heads, "num_attention_heads");
  same(a.key_value_heads, b.key_value_heads, "num_key_value_heads");
  same(a.head_dim, b.head_dim, "head_dim");
  same(a.value_dim, b.value_dim, "v_head_dim");
  same(a.experts, b.experts, "the number of experts");
  same(a.experts_per_token, b.experts_per_token, "num_experts_per_tok");
  same(original.experts.dense, other.experts.dense, "whether layers are dense");
  same(original.experts.dense_intermediate, other.experts.dense_intermediate, "intermediate_size");
  same(original.experts.shared_intermediate, other.experts.shared_intermediate, "the size of the shared expert");
  same(original.attention.windows, other.attention.windows, "the windows of layers");
  same(original.attention.rotary.dim, other.attention.rotary.dim, "rotary_dim");
  same(original.attention.rotary.theta, other.attention.rotary.theta, "rope_theta");
  same(original.attention.rotary.frequencies, other.attention.rotary.frequencies, "the scaling of positions");
  same(original.rms_eps, other.rms_eps, "rms_norm_eps");
}

}  // namespace mxfp4::model
