// src/model/config.cpp -- see config.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "model/config.hpp"

#include <cmath>

#include "io/strict_json.hpp"
#include "mxfp4/io/error.hpp"

namespace mxfp4::model {

using namespace io;
using namespace checkpoint;

namespace {

using nlohmann::ordered_json;

[[nodiscard]] double number(const ordered_json& config, const char* key, const std::string& where) {
  const auto found = config.find(key);
  if (found == config.end())
    throw file_error({.file = where, .value = std::string("has no ") + key, .expected = "a number"});
  if (!found->is_number() || !(found->get<double>() > 0) || !std::isfinite(found->get<double>()))
    throw file_error(
        {.file = where, .value = std::string(key) + " is " + json_shown(*found), .expected = "a number above 0"});
  return found->get<double>();
}

[[nodiscard]] std::int64_t whole_number(const ordered_json& config, const char* key, const std::string& where) {
  constexpr double largest = 1 << 30;
  const double value = number(config, key, where);
  if (value != std::floor(value) || value > largest)
    throw file_error({.file = where,
                      .value = std::string(key) + " is " + json_shown(config.at(key)),
                      .expected = "an integer from 1 to 2^30"});
  return static_cast<std::int64_t>(value);
}

/// A key that may be missing, but not say anything else.
void require(const ordered_json& config, const char* key, const ordered_json& value, const std::string& where) {
  const auto found = config.find(key);
  if (found != config.end() && *found != value)
    throw file_error({.file = where,
                      .value = std::string(key) + " is " + json_shown(*found),
                      .expected = json_shown(value),
                      .advice = "no other variant is computed here"});
}

}  // namespace

model_config read_model_config(const ordered_json& config, const std::string& where) {
  ordered_json plain = config;
  if (plain.is_object()) plain.erase("quantization_config");  // whatever it says, the tensors say what they are
  model_config c;
  c.shape = read_minimax_m2_shape(plain, where);
  require(config, "scoring_func", "sigmoid", where);
  require(config, "use_routing_bias", true, where);
  require(config, "norm_topk_prob", true, where);
  require(config, "use_qk_norm", true, where);
  require(config, "qk_norm_type", "per_layer", where);
  require(config, "hidden_act", "silu", where);
  require(config, "shared_intermediate_size", 0, where);
  require(config, "tie_word_embeddings", false, where);
  require(config, "rope_scaling", nullptr, where);
  require(config, "sliding_window", nullptr, where);
  if (const auto kinds = config.find("attn_type_list"); kinds != config.end())
    for (const ordered_json& kind : *kinds)
      if (kind != 1)
        throw file_error(
            {.file = where, .value = "attn_type_list has " + json_shown(kind), .expected = "1, full attention"});
  c.rope_theta = number(config, "rope_theta", where);
  c.rms_eps = static_cast<float>(number(config, "rms_norm_eps", where));
  c.context = whole_number(config, "max_position_embeddings", where);
  c.rotary_dim = whole_number(config, "rotary_dim", where);
  if (c.rotary_dim % 2 != 0 || c.rotary_dim > c.shape.head_dim)
    throw file_error({.file = where,
                      .value = "rotary_dim is " + std::to_string(c.rotary_dim),
                      .expected = "an even number up to head_dim, " + std::to_string(c.shape.head_dim)});
  if (c.shape.heads % c.shape.key_value_heads != 0)
    throw file_error({.file = where,
                      .value = "num_attention_heads is " + std::to_string(c.shape.heads),
                      .expected = "a multiple of num_key_value_heads, " + std::to_string(c.shape.key_value_heads)});
  if (c.shape.experts_per_token > c.shape.experts)
    throw file_error({.file = where,
                      .value = "num_experts_per_tok is " + std::to_string(c.shape.experts_per_token),
                      .expected = "at most num_local_experts, " + std::to_string(c.shape.experts)});
  return c;
}

void require_same_model(const model_config& original, const model_config& other, const std::string& where) {
  const auto same = [&](auto expected, auto found, const char* key) {
    if (found != expected)
      throw file_error({.file = where,
                        .value = std::string(key) + " is " + ordered_json(found).dump(),
                        .expected = ordered_json(expected).dump() + " as the original has it",
                        .advice = "compare two forms of one model"});
  };
  const minimax_m2_shape &a = original.shape, &b = other.shape;
  same(a.vocabulary, b.vocabulary, "vocab_size");
  same(a.hidden, b.hidden, "hidden_size");
  same(a.intermediate, b.intermediate, "intermediate_size");
  same(a.layers, b.layers, "num_hidden_layers");
  same(a.heads, b.heads, "num_attention_heads");
  same(a.key_value_heads, b.key_value_heads, "num_key_value_heads");
  same(a.head_dim, b.head_dim, "head_dim");
  same(a.experts, b.experts, "num_local_experts");
  same(a.experts_per_token, b.experts_per_token, "num_experts_per_tok");
  same(original.rotary_dim, other.rotary_dim, "rotary_dim");
  same(original.rope_theta, other.rope_theta, "rope_theta");
  same(original.rms_eps, other.rms_eps, "rms_norm_eps");
}

}  // namespace mxfp4::model
