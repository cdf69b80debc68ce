// src/model/config_reader.cpp -- see config_reader.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "model/config_reader.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "io/strict_json.hpp"
#include "mxfp4/io/error.hpp"

namespace mxfp4::model {

using namespace io;

namespace {

using nlohmann::ordered_json;

/// The dimension, not rounded, whose pair makes `turns` turns over `positions` positions.
[[nodiscard]] double dimension_of(double turns, double dim, double theta, double positions) {
  return dim * std::log(positions / (turns * 2 * std::numbers::pi)) / (2 * std::log(theta));
}

/// Between what is left as it is, pairs that turn fast, and what is slowed down by `factor`, a ramp over the pairs.
void scale_by_yarn(const config_reader& scaling, double positions, rotary_description& r) {
  if (!(r.theta > 1)) scaling.refuse("rope_theta", r.theta, "a number above 1 for YaRN", {});
  const double factor = scaling.number("factor"), dim = static_cast<double>(r.dim);
  double low = dimension_of(scaling.number("beta_fast", 32), dim, r.theta, positions);
  double high = dimension_of(scaling.number("beta_slow", 1), dim, r.theta, positions);
  if (scaling.flag("truncate", true)) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0), high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < r.frequencies.size(); ++i) {
    const double slowed = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    r.frequencies[i] *= slowed / factor + (1 - slowed);
  }
  const auto magnitude = [factor](double scale) { return factor <= 1 ? 1.0 : 0.1 * scale * std::log(factor) + 1.0; };
  const double mscale = scaling.number("mscale", 0), mscale_all_dim = scaling.number("mscale_all_dim", 0);
  const double made = mscale > 0 && mscale_all_dim > 0 ? magnitude(mscale) / magnitude(mscale_all_dim) : magnitude(1);
  r.magnitude = scaling.number("attention_factor", made);
  r.score_scale = mscale_all_dim > 0 ? magnitude(mscale_all_dim) * magnitude(mscale_all_dim) : 1.0;
}

/// Llama 3.1: pairs of long waves are slowed down by `factor`, those of short waves not, between them a ramp.
void scale_by_llama3(const config_reader& scaling, double positions, rotary_description& r) {
  const double factor = scaling.number("factor");
  const double low = scaling.number("low_freq_factor"), high = scaling.number("high_freq_factor");
  if (!(low < high)) scaling.refuse("high_freq_factor", high, "more than low_freq_factor", {});
  for (double& frequency : r.frequencies) {
    const double waves = positions * frequency / (2 * std::numbers::pi);  // in so many positions
    const double kept = std::clamp((waves - low) / (high - low), 0.0, 1.0);
    frequency *= (1 - kept) / factor + kept;
  }
}

}  // namespace

config_reader::config_reader(const ordered_json& config, std::string where)
    : config_(config), where_(std::move(where)) {}

const ordered_json* config_reader::find(const char* key) const {
  const auto found = config_.find(key);
  return found == config_.end() || found->is_null() ? nullptr : &*found;
}

bool config_reader::has(const char* key) const { return find(key) != nullptr; }

void config_reader::refuse(const std::string& key, const ordered_json& value, const std::string& expected,
                           const std::string& advice) const {
  throw file_error({.file = where_, .value = key + " is " + json_shown(value), .expected = expected, .advice = advice});
}

std::string config_reader::text(const char* key, std::string_view otherwise) const {
  const ordered_json* const value = find(key);
  if (value == nullptr) return std::string(otherwise);
  if (!value->is_string()) refuse(key, *value, "a text", {});
  return value->get<std::string>();
}

bool config_reader::flag(const char* key, bool otherwise) const {
  const ordered_json* const value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) refuse(key, *value, "true or false", {});
  return value->get<bool>();
}

double config_reader::number(const char* key) const {
  const ordered_json* const value = find(key);
  if (value == nullptr)
    throw file_error({.file = where_, .value = std::string("has no ") + key, .expected = "a number"});
  if (!value->is_number() || !(value->get<double>() > 0) || !std::isfinite(value->get<double>()))
    refuse(key, *value, "a number above 0", {});
  return value->get<double>();
}

double config_reader::number(const char* key, double otherwise) const { return has(key) ? number(key) : otherwise; }

std::int64_t config_reader::size(const char* key) const {
  constexpr double largest = 1 << 30;  // products of two are far from overflow
  const ordered_json* const value = find(key);
  if (value == nullptr)
    throw file_error({.file = where_, .value = std::string("has no ") + key, .expected = "a number"});
  const double n = value->is_number() ? value->get<double>() : 0;
  if (!(n >= 1) || n != std::floor(n) || n > largest) refuse(key, *value, "an integer from 1 to 2^30", {});
  return static_cast<std::int64_t>(n);
}

std::int64_t config_reader::size(const char* key, std::int64_t otherwise) const {
  return has(key) ? size(key) : otherwise;
}

std::int64_t config_reader::count(const char* key, std::int64_t otherwise) const {
  const ordered_json* const value = find(key);
  return value != nullptr && *value == 0 ? 0 : size(key, otherwise);
}

bool config_reader::lists(const char* key, std::int64_t number) const {
  const ordered_json* const value = find(key);
  if (value == nullptr) return false;
  if (!value->is_array()) refuse(key, *value, "an array of numbers", {});
  return std::ranges::find(*value, ordered_json(number)) != value->end();
}

void config_reader::require(const char* key, const ordered_json& value) const {
  const auto found = config_.find(key);
  if (found != config_.end() && *found != value) refuse(key, *found, json_shown(value));
}

void config_reader::read_shape(model_config& c) const {
  model_shape& s = c.shape;
  s.vocabulary = size("vocab_size");
  s.hidden = size("hidden_size");
  s.layers = size("num_hidden_layers");
  s.heads = size("num_attention_heads");
  s.key_value_heads = size("num_key_value_heads", s.heads);
  s.head_dim = has("head_dim") ? size("head_dim") : s.hidden / s.heads;
  if (s.head_dim < 1)
    throw file_error({.file = where_,
                      .value = "hidden_size is " + std::to_string(s.hidden),
                      .expected = "at least num_attention_heads, " + std::to_string(s.heads)});
  if (s.heads % s.key_value_heads != 0)
    throw file_error({.file = where_,
                      .value = "num_attention_heads is " + std::to_string(s.heads),
                      .expected = "a multiple of num_key_value_heads, " + std::to_string(s.key_value_heads)});
  constexpr std::int64_t most_layers = 100'000;
  if (s.layers > most_layers)
    throw file_error({.file = where_,
                      .value = "num_hidden_layers is " + std::to_string(s.layers),
                      .expected = "at most " + std::to_string(most_layers)});
  s.value_dim = s.head_dim;
  c.rms_eps = static_cast<float>(number("rms_norm_eps"));
  c.context = size("max_position_embeddings");
  c.tied_head = flag("tie_word_embeddings", false);
  c.attention.scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
  c.attention.windows.assign(static_cast<std::size_t>(s.layers), 0);
  c.experts.dense.assign(static_cast<std::size_t>(s.layers), false);
}

rotary_description config_reader::rotary(std::int64_t head_dim, std::int64_t context, double given_theta,
                                         double given_part) const {
  const ordered_json nothing = ordered_json::object();
  // transformers 5 writes everything into rope_parameters, others rope_theta beside rope_scaling.
  const char* const key = has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const ordered_json& inner = has(key) ? *find(key) : nothing;
  if (!inner.is_object()) refuse(key, inner, "an object", {});
  const config_reader scaling(inner, where_ + ": " + key);
  const config_reader& of_theta = scaling.has("rope_theta") ? scaling : *this;
  rotary_description r;
  r.theta = given_theta > 0 ? of_theta.number("rope_theta", given_theta) : of_theta.number("rope_theta");
  const config_reader& of_part = scaling.has("partial_rotary_factor") ? scaling : *this;
  r.dim = std::llround(
      std::floor(static_cast<double>(head_dim) * of_part.number("partial_rotary_factor", given_part) + 1e-9));
  constexpr std::int64_t most_dimensions = 65536;
  if (head_dim > most_dimensions)
    throw file_error({.file = where_,
                      .value = "a head has " + std::to_string(head_dim) + " dimensions that may turn",
                      .expected = "at most " + std::to_string(most_dimensions)});
  if (r.dim < 2 || r.dim > head_dim || r.dim % 2 != 0)
    throw file_error({.file = where_,
                      .value = std::to_string(r.dim) + " of " + std::to_string(head_dim) + " dimensions of a head turn",
                      .expected = "an even number of them"});
  for (std::int64_t i = 0; i < r.dim / 2; ++i)
    r.frequencies.push_back(std::pow(r.theta, -2 * static_cast<double>(i) / static_cast<double>(r.dim)));
  const std::string kind = scaling.text("rope_type", scaling.text("type", "default"));
  const auto original = static_cast<double>(
      scaling.size("original_max_position_embeddings", size("original_max_position_embeddings", context)));
  if (kind == "yarn") {
    scale_by_yarn(scaling, original, r);
  } else if (kind == "llama3") {
    scale_by_llama3(scaling, original, r);
  } else if (kind == "linear") {
    for (double& frequency : r.frequencies) frequency /= scaling.number("factor");
  } else if (kind != "default") {
    scaling.refuse("rope_type", kind, R"("default", "linear", "llama3" or "yarn")");
  }
  return r;
}

std::vector<std::int64_t> config_reader::windows(std::int64_t layers,
                                                 std::string_view (*otherwise)(std::int64_t layer)) const {
  std::vector<std::string> kinds;
  if (const ordered_json* const list = find("layer_types")) {
    if (!list->is_array() || std::ssize(*list) != layers)
      refuse("layer_types", *list, "an array of " + std::to_string(layers) + " kinds, one a layer", {});
    for (const ordered_json& kind : *list) {
      if (kind != "sliding_attention" && kind != "full_attention")
        refuse("layer_types", kind, R"("sliding_attention" or "full_attention")");
      kinds.push_back(kind.get<std::string>());
    }
  } else {
    for (std::int64_t l = 0; l < layers; ++l) kinds.emplace_back(otherwise(l));
  }
  std::vector<std::int64_t> windows;
  for (const std::string& kind : kinds) windows.push_back(kind == "sliding_attention" ? size("sliding_window") : 0);
  return windows;
}

hidden_act config_reader::activation() const {
  const std::string name = text("hidden_act", "silu");
  if (name == "silu" || name == "swish") return hidden_act::silu;
  if (name == "gelu_pytorch_tanh") return hidden_act::gelu_tanh;
  refuse("hidden_act", name, R"("silu" or "gelu_pytorch_tanh")");
}

}  // namespace mxfp4::model
