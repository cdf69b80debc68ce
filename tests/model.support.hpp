// tests/model.support.hpp -- a MiniMax-M2 of a few thousand weights, and its forward pass in double, as plain loops.
// SPDX-License-Identifier: Apache-2.0
//
// Nothing here is shared with the programs: numbers of FP8 and MXFP4 are decoded by formula, every sum is written out.
// The pass can be wrong on purpose, in each way that readers of the model have been wrong before.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "convert.support.hpp"
#include "support/oracle.hpp"

namespace mxfp4::test {

enum class weight_kind { f32, bf16, fp8, mxfp4_experts };

inline double bf16_nearest_even(double x) {
  int exponent = 0;
  const double m = std::frexp(static_cast<double>(static_cast<float>(x)), &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(m, 8)), exponent - 8);
}

/// A matrix as its reader means it, and the tensors it is stored as.
struct tiny_matrix {
  std::int64_t rows = 0, cols = 0;
  std::vector<double> values;
  [[nodiscard]] double at(std::int64_t r, std::int64_t c) const {
    return values[static_cast<std::size_t>(r * cols + c)];
  }
};

struct tiny_model {
  static constexpr std::int64_t vocabulary = 256, hidden = 160, intermediate = 32, layers = 2, heads = 4, kv_heads = 2,
                                head_dim = 12, rotary = 8, experts = 5, top_k = 2;
  tensor_map tensors;
  std::map<std::string, tiny_matrix> matrices;  ///< by the layer's name; vectors have one row

  explicit tiny_model(weight_kind kind) {
    add("model.embed_tokens", vocabulary, hidden, 1.0, weight_kind::bf16);
    for (int l = 0; l < layers; ++l) {
      const std::string layer = "model.layers." + std::to_string(l) + ".", moe = layer + "block_sparse_moe.";
      add_vector(layer + "input_layernorm.weight", hidden, 1.0, 0.5);
      add_vector(layer + "post_attention_layernorm.weight", hidden, 1.0, 0.5);
      add_vector(layer + "self_attn.q_norm.weight", heads * head_dim, 1.5, 1.0);
      add_vector(layer + "self_attn.k_norm.weight", kv_heads * head_dim, 1.5, 1.0);
      const weight_kind linear = kind == weight_kind::mxfp4_experts ? weight_kind::bf16 : kind;
      add(layer + "self_attn.q_proj", heads * head_dim, hidden, 1.0, linear);
      add(layer + "self_attn.k_proj", kv_heads * head_dim, hidden, 1.0, linear);
      add(layer + "self_attn.v_proj", kv_heads * head_dim, hidden, 1.0, linear);
      add(layer + "self_attn.o_proj", hidden, heads * head_dim, 1.0, linear);
      add(moe + "gate", experts, hidden, 1.0, weight_kind::f32);
      add_vector(moe + "e_score_correction_bias", experts, 0.0, 0.3);
      for (int e = 0; e < experts; ++e) {
        const std::string expert = moe + "experts." + std::to_string(e) + ".";
        add(expert + "w1", intermediate, hidden, 2.0, kind);
        add(expert + "w2", hidden, intermediate, 1.0, kind);
        add(expert + "w3", intermediate, hidden, 2.0, kind);
      }
    }
    add_vector("model.norm.weight", hidden, 1.0, 0.5);
    add("lm_head", vocabulary, hidden, 2.0, weight_kind::bf16);
  }

  [[nodiscard]] static nlohmann::json config() {
    return {{"model_type", "minimax_m2"},
            {"vocab_size", vocabulary},
            {"hidden_size", hidden},
            {"intermediate_size", intermediate},
            {"num_hidden_layers", layers},
            {"num_attention_heads", heads},
            {"num_key_value_heads", kv_heads},
            {"head_dim", head_dim},
            {"rotary_dim", rotary},
            {"rope_theta", 10000},
            {"rms_norm_eps", 1e-6},
            {"max_position_embeddings", 512},
            {"num_local_experts", experts},
            {"num_experts_per_tok", top_k},
            {"scoring_func", "sigmoid"},
            {"tie_word_embeddings", false}};
  }
  /// Without a tokenizer: tokens are bytes.
  std::string write(const std::string& path, const nlohmann::json& changed = config()) const {
    write_checkpoint(path, tensors, changed);
    std::filesystem::remove(path + "/tokenizer.json");
    return path;
  }

  [[nodiscard]] const tiny_matrix& matrix(const std::string& name) const { return matrices.at(name); }

 private:
  [[nodiscard]] double uniform() { return static_cast<double>(random_.next() >> 11) * 0x1p-52 - 1; }  // [-1, 1)

  void add_vector(const std::string& name, std::int64_t size, double centre, double spread) {
    std::vector<float> stored;
    tiny_matrix m{1, size, {}};
    for (std::int64_t i = 0; i < size; ++i) {
      stored.push_back(static_cast<float>(centre + spread * uniform()));
      m.values.push_back(static_cast<double>(stored.back()));
    }
    tensors[name] = {dtype::f32, {size}, bytes_of(stored)};
    matrices[name] = m;
  }

  /// Products with inputs of size 1 have the size `gain`.
  void add(const std::string& name, std::int64_t rows, std::int64_t cols, double gain, weight_kind kind) {
    const double limit = gain * std::sqrt(3.0 / static_cast<double>(name == "model.embed_tokens" ? 1 : cols));
    tiny_matrix m{rows, cols, {}};
    const auto count = static_cast<std::size_t>(rows * cols);
    if (kind == weight_kind::f32) {
      std::vector<float> stored;
      for (std::size_t i = 0; i < count; ++i) stored.push_back(static_cast<float>(limit * uniform()));
      m.values.assign(stored.begin(), stored.end());
      tensors[name + ".weight"] = {dtype::f32, {rows, cols}, bytes_of(stored)};
    } else if (kind == weight_kind::bf16) {
      std::vector<std::uint16_t> stored;
      for (std::size_t i = 0; i < count; ++i) {
        m.values.push_back(bf16_nearest_even(limit * uniform()));
        const auto value = static_cast<float>(m.values.back());
        std::uint32_t bits = 0;
        std::memcpy(&bits, &value, sizeof bits);
        stored.push_back(static_cast<std::uint16_t>(bits >> 16));
      }
      tensors[name + ".weight"] = {dtype::bf16, {rows, cols}, bytes_of(stored)};
    } else if (kind == weight_kind::fp8) {
      const std::int64_t scale_rows = (rows + 127) / 128, scale_cols = (cols + 127) / 128;
      std::vector<float> scales;
      for (std::int64_t i = 0; i < scale_rows * scale_cols; ++i)
        scales.push_back(static_cast<float>(limit / 448 * (2 + uniform())));
      std::string codes;
      for (std::int64_t i = 0; i < rows * cols; ++i) {
        const int code = random_.in(0x60, 0x7E) | random_.in(0, 1) << 7;
        const float scale = scales[static_cast<std::size_t>(i / cols / 128 * scale_cols + i % cols / 128)];
        codes += static_cast<char>(code);
        m.values.push_back(bf16_nearest_even(e4m3_number(static_cast<unsigned>(code)) * static_cast<double>(scale)));
      }
      tensors[name + ".weight"] = {dtype::f8_e4m3, {rows, cols}, codes};
      tensors[name + ".weight_scale_inv"] = {dtype::f32, {scale_rows, scale_cols}, bytes_of(scales)};
    } else {
      const int exponent = static_cast<int>(std::floor(std::log2(limit))) - 2;
      m.values.resize(count);
      std::string codes(count / 2, '\0'), scales;
      for (std::size_t i = 0; i < count; ++i) {
        if (i % 32 == 0) scales += static_cast<char>(127 + exponent + random_.in(-1, 1));
        const int code = random_.in(0, 15), scale = static_cast<unsigned char>(scales.back());
        codes[i / 2] = static_cast<char>(static_cast<unsigned char>(codes[i / 2]) | code << (i % 2 * 4));
        m.values[i] = weight(static_cast<unsigned>(code), scale);
      }
      tensors[name + ".weight_packed"] = {dtype::u8, {rows, cols / 2}, codes};
      tensors[name + ".weight_scale"] = {dtype::u8, {rows, cols / 32}, scales};
    }
    matrices[name] = m;
  }

  splitmix random_{1};
};

// ---- the forward pass -----------------------------------------------------------------------------------------------

/// How to be wrong.
enum class variant { none, swapped_w1_w3, interleaved_rope, norm_per_head, bias_in_weights, not_renormalised };

using numbers = std::vector<double>;

struct oracle_result {
  std::vector<numbers> logits;   ///< of each token
  double router_margin = 1e300;  ///< between the last expert that is taken and the first that is not, at the least
};

class forward_oracle {
 public:
  forward_oracle(const tiny_model& model, variant how) : model_(model), how_(how) {}

  [[nodiscard]] oracle_result run(std::span<const std::int64_t> ids) {
    oracle_result result;
    std::vector<numbers> x;
    for (const std::int64_t id : ids) {
      numbers row;
      for (int i = 0; i < m::hidden; ++i) row.push_back(model_.matrix("model.embed_tokens").at(id, i));
      x.push_back(row);
    }
    for (int l = 0; l < m::layers; ++l) {
      const std::string layer = "model.layers." + std::to_string(l) + ".";
      attend(x, layer);
      for (numbers& token : x) mix(token, layer, result.router_margin);
    }
    for (const numbers& token : x) result.logits.push_back(times("lm_head", norm(token, "model.norm.weight")));
    return result;
  }

 private:
  using m = tiny_model;

  [[nodiscard]] numbers times(const std::string& name, const numbers& x) const {
    const tiny_matrix& w = model_.matrix(name);
    numbers y(static_cast<std::size_t>(w.rows));
    for (std::int64_t n = 0; n < w.rows; ++n)
      for (std::int64_t k = 0; k < w.cols; ++k)
        y[static_cast<std::size_t>(n)] += w.at(n, k) * x[static_cast<std::size_t>(k)];
    return y;
  }
  /// Over `size` numbers at a time, all of them where that is 0.
  [[nodiscard]] numbers norm(numbers x, const std::string& name, std::size_t size = 0) const {
    if (size == 0) size = x.size();
    for (std::size_t first = 0; first < x.size(); first += size) {
      double sum = 0;
      for (std::size_t i = first; i < first + size; ++i) sum += x[i] * x[i];
      for (std::size_t i = first; i < first + size; ++i)
        x[i] *= model_.matrix(name).values[i] / std::sqrt(sum / static_cast<double>(size) + 1e-6);
    }
    return x;
  }
  void rotate(numbers& x, std::size_t position) const {
    constexpr std::size_t half = m::rotary / 2;
    for (std::size_t head = 0; head < x.size(); head += m::head_dim)
      for (std::size_t i = 0; i < half; ++i) {
        const double angle =
            static_cast<double>(position) * std::pow(10000.0, -2.0 * static_cast<double>(i) / m::rotary);
        const bool pairs = how_ == variant::interleaved_rope;
        double &a = x[head + (pairs ? 2 * i : i)], &b = x[head + (pairs ? 2 * i + 1 : i + half)];
        const double turned = a * std::cos(angle) - b * std::sin(angle);
        b = a * std::sin(angle) + b * std::cos(angle);
        a = turned;
      }
  }

  void attend(std::vector<numbers>& x, const std::string& layer) const {
    const std::size_t per_head = how_ == variant::norm_per_head ? std::size_t{m::head_dim} : 0;
    std::vector<numbers> q, k, v;
    for (std::size_t t = 0; t < x.size(); ++t) {
      const numbers h = norm(x[t], layer + "input_layernorm.weight");
      q.push_back(norm(times(layer + "self_attn.q_proj", h), layer + "self_attn.q_norm.weight", per_head));
      k.push_back(norm(times(layer + "self_attn.k_proj", h), layer + "self_attn.k_norm.weight", per_head));
      v.push_back(times(layer + "self_attn.v_proj", h));
      rotate(q[t], t);
      rotate(k[t], t);
    }
    for (std::size_t t = 0; t < x.size(); ++t) {
      numbers mixed(static_cast<std::size_t>(m::heads * m::head_dim));
      for (std::size_t head = 0; head < m::heads; ++head) {
        const std::size_t at = head * m::head_dim, from = head / (m::heads / m::kv_heads) * m::head_dim;
        numbers weights(t + 1);
        double total = 0;
        for (std::size_t s = 0; s <= t; ++s) {
          for (std::size_t i = 0; i < m::head_dim; ++i) weights[s] += q[t][at + i] * k[s][from + i];
          total += weights[s] = std::exp(weights[s] / std::sqrt(static_cast<double>(m::head_dim)));
        }
        for (std::size_t s = 0; s <= t; ++s)
          for (std::size_t i = 0; i < m::head_dim; ++i) mixed[at + i] += weights[s] / total * v[s][from + i];
      }
      const numbers out = times(layer + "self_attn.o_proj", mixed);
      for (std::size_t i = 0; i < out.size(); ++i) x[t][i] += out[i];
    }
  }

  void mix(numbers& x, const std::string& layer, double& margin) const {
    const std::string moe = layer + "block_sparse_moe.";
    const numbers h = norm(x, layer + "post_attention_layernorm.weight");
    numbers s = times(moe + "gate", h), key;
    for (std::size_t e = 0; e < s.size(); ++e) {
      s[e] = 1 / (1 + std::exp(-s[e]));
      key.push_back(s[e] + model_.matrix(moe + "e_score_correction_bias").values[e]);
    }
    std::vector<std::size_t> order(s.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return key[a] > key[b]; });
    margin = std::min(margin, key[order[m::top_k - 1]] - key[order[m::top_k]]);
    const numbers& weights = how_ == variant::bias_in_weights ? key : s;
    double total = 0;
    for (std::size_t i = 0; i < m::top_k; ++i) total += weights[order[i]];
    if (how_ == variant::not_renormalised) total = 1;
    for (std::size_t i = 0; i < m::top_k; ++i) {
      const std::string expert = moe + "experts." + std::to_string(order[i]) + ".";
      numbers gate = times(expert + "w1", h), up = times(expert + "w3", h);
      if (how_ == variant::swapped_w1_w3) std::swap(gate, up);
      for (std::size_t j = 0; j < gate.size(); ++j) gate[j] *= up[j] / (1 + std::exp(-gate[j]));
      const numbers out = times(expert + "w2", gate);
      for (std::size_t j = 0; j < out.size(); ++j) x[j] += weights[order[i]] / total * out[j];
    }
  }

  const tiny_model& model_;
  variant how_;
};

}  // namespace mxfp4::test
