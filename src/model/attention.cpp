// src/model/attention.cpp -- see attention.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "model/attention.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "model/dense_product.hpp"

namespace mxfp4::model {

using namespace io;
using namespace checkpoint;

namespace {

constexpr std::int64_t tokens_a_task = 16;

/// scores[0..length) become their softmax, which a sink joins where there is one.
void softmax(float* scores, std::int64_t length, const float* sink) {
  float largest = *std::max_element(scores, scores + length);
  if (sink != nullptr) largest = std::max(largest, *sink);
  double total = sink != nullptr ? static_cast<double>(std::exp(*sink - largest)) : 0.0;
  for (std::int64_t t = 0; t < length; ++t) {
    scores[t] = std::exp(scores[t] - largest);
    total += static_cast<double>(scores[t]);
  }
  const auto scale = static_cast<float>(1.0 / total);
  for (std::int64_t t = 0; t < length; ++t) scores[t] *= scale;
}

}  // namespace

void rotary_table::extend_to(std::int64_t positions) {
  for (; positions_ < positions; ++positions_)
    for (const double frequency : rotary_.frequencies) {
      const double angle = static_cast<double>(positions_) * frequency;
      cosines_.push_back(static_cast<float>(rotary_.magnitude * std::cos(angle)));
      sines_.push_back(static_cast<float>(rotary_.magnitude * std::sin(angle)));
    }
}

void rotary_table::turn(float* x, std::int64_t heads, std::int64_t head_dim, std::int64_t position) const noexcept {
  const std::int64_t half = rotary_.dim / 2, step = rotary_.neighbours ? 2 : 1, apart = rotary_.neighbours ? 1 : half;
  const float *const cosine = cosines_.data() + position * half, *const sine = sines_.data() + position * half;
  x += rotary_.first;
  for (std::int64_t h = 0; h < heads; ++h, x += head_dim)
    for (std::int64_t i = 0; i < half; ++i) {
      float &first = x[i * step], &second = x[i * step + apart];
      const float a = first, b = second;
      first = a * cosine[i] - b * sine[i];
      second = b * cosine[i] + a * sine[i];
    }
}

namespace {

/// The numbers that a norm of q or k has weights for: one head's, or those of all.
[[nodiscard]] std::int64_t norm_size(const model_config& config, std::int64_t heads) {
  return config.attention.norm == head_norm::each_head ? config.shape.head_dim : heads * config.shape.head_dim;
}

void norm_heads(float* x, std::int64_t size, const std::vector<float>& weight, float eps) {
  const std::int64_t step = std::ssize(weight);
  if (step == 0) return;
  for (std::int64_t first = 0; first < size; first += step) rms_norm(x + first, weight, eps, x + first);
}

/// Calls vector(name, size) and matrix(name, rows, cols, bias) for each tensor of a layer's attention, in one order.
template <class Vector, class Matrix>
void for_each_tensor(const model_config& config, std::int64_t layer, Vector vector, Matrix matrix) {
  const attention_description& a = config.attention;
  const std::int64_t hidden = config.shape.hidden, q_size = config.query_size(), kv_size = config.key_size();
  const auto name = [layer](const char* part) { return layer_name(layer, std::string("self_attn.") + part); };
  vector(layer_name(layer, "input_layernorm.weight"), hidden);
  matrix(name("q_proj"), q_size, hidden, a.qkv_bias);
  matrix(name("k_proj"), kv_size, hidden, a.qkv_bias);
  matrix(name("v_proj"), kv_size, hidden, a.qkv_bias);
  matrix(name("o_proj"), hidden, q_size, a.o_bias);
  if (a.norm != head_norm::none) {
    vector(name("q_norm.weight"), norm_size(config, config.shape.heads));
    vector(name("k_norm.weight"), norm_size(config, config.shape.key_value_heads));
  }
  if (a.sinks) vector(name("sinks"), config.shape.heads);
}

}  // namespace

attention::attention(const checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer)
    : config_(config), window_(config.attention.windows[static_cast<std::size_t>(layer)]) {
  std::vector<std::vector<float>> vectors;
  std::vector<linear> matrices;
  for_each_tensor(
      config, layer,
      [&](const std::string& name, std::int64_t size) { vectors.push_back(read_vector(checkpoint, name, size)); },
      [&](const std::string& name, std::int64_t rows, std::int64_t cols, bool bias) {
        matrices.push_back(linear::load(checkpoint, name, rows, cols, bias));
      });
  q_ = std::move(matrices[0]), k_ = std::move(matrices[1]), v_ = std::move(matrices[2]), o_ = std::move(matrices[3]);
  norm_ = std::move(vectors[0]);
  if (config.attention.norm != head_norm::none) q_norm_ = std::move(vectors[1]), k_norm_ = std::move(vectors[2]);
  if (config.attention.sinks) sinks_ = std::move(vectors.back());
}

void attention::require(const checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer) {
  for_each_tensor(
      config, layer, [&](const std::string& name, std::int64_t size) { require_vector(checkpoint, name, size); },
      [&](const std::string& name, std::int64_t rows, std::int64_t cols, bool bias) {
        linear::require(checkpoint, name, rows, cols, bias);
      });
}

std::uint64_t attention::stored_bytes() const noexcept {
  return q_.stored_bytes() + k_.stored_bytes() + v_.stored_bytes() + o_.stored_bytes();
}

void attention::add_to(token_rows& x, std::int64_t first, std::int64_t count, kv_cache& cache, rotary_table& rotary,
                       const product_options& options) const {
  const model_shape& s = config_.shape;
  token_rows h(count, s.hidden), q(count, config_.query_size()), k(count, config_.key_size()),
      v(count, config_.key_size()), mixed(count, config_.query_size());
  for (std::int64_t t = 0; t < count; ++t) rms_norm(x.row(first + t), norm_, config_.rms_eps, h.row(t));
  q_.multiply(h.view(), q.view(), options);
  k_.multiply(h.view(), k.view(), options);
  v_.multiply(h.view(), v.view(), options);
  rotary.extend_to(cache.length + count);
  for (std::int64_t t = 0; t < count; ++t) {
    norm_heads(q.row(t), q.size, q_norm_, config_.rms_eps);
    norm_heads(k.row(t), k.size, k_norm_, config_.rms_eps);
    rotary.turn(q.row(t), s.heads, s.head_dim, cache.length + t);
    rotary.turn(k.row(t), s.key_value_heads, s.head_dim, cache.length + t);
  }
  cache.keys.insert(cache.keys.end(), k.data.begin(), k.data.end());
  cache.values.insert(cache.values.end(), v.data.begin(), v.data.end());
  cache.length += count;
  const std::int64_t tasks = (count + tokens_a_task - 1) / tokens_a_task * s.key_value_heads;
  options.executor.run(static_cast<std::size_t>(tasks),
                       [&](std::size_t task) { attend(q, cache, mixed, static_cast<std::int64_t>(task)); });
  o_.multiply(mixed.view(), h.view(), options);
  for (std::int64_t t = 0; t < count; ++t)
    for (std::int64_t i = 0; i < s.hidden; ++i) x.row(first + t)[i] += h.row(t)[i];
}

/// Some tokens and all heads of q that share one of k and v: rows of a product with the keys, then with the values.
void attention::attend(const token_rows& q, const kv_cache& cache, token_rows& mixed, std::int64_t task) const {
  const model_shape& s = config_.shape;
  const std::int64_t kv_head = task % s.key_value_heads, kv_size = config_.key_size(), d = s.head_dim;
  const std::int64_t shared = s.heads / s.key_value_heads, column = kv_head * shared * d;
  const std::int64_t first = task / s.key_value_heads * tokens_a_task, count = std::min(tokens_a_task, q.count - first);
  const std::int64_t before = cache.length - q.count + first;  // tokens in front of the first of these
  // A row sees the tokens [begin_of, end_of) of the cache; columns of the scores are those from `start` on.
  const auto end_of = [&](std::int64_t row) { return before + row / shared + 1; };
  const auto begin_of = [&](std::int64_t row) {
    return window_ == 0 ? std::int64_t{0} : std::max<std::int64_t>(0, end_of(row) - window_);
  };
  const std::int64_t start = begin_of(0), length = before + count - start, rows = count * shared;
  const auto token_part = [&](const token_rows& of, std::int64_t row) {
    return of.row(first + row / shared) + column + row % shared * d;
  };
  std::vector<float> heads(static_cast<std::size_t>(rows * d)), scores(static_cast<std::size_t>(rows * length)), panel;
  for (std::int64_t r = 0; r < rows; ++r) std::copy_n(token_part(q, r), d, heads.data() + r * d);
  for (std::int64_t t = 0; t < length; t += panel_width) {
    const std::int64_t width = std::min(panel_width, length - t);
    pack_rows(
        width, d, [&](std::int64_t i) { return cache.keys.data() + (start + t + i) * kv_size + kv_head * d; }, panel);
    multiply_panel(heads.data(), d, rows, panel.data(), d, scores.data() + t, length, width, false);
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    float* const row = scores.data() + r * length;
    const std::int64_t begin = begin_of(r) - start, end = end_of(r) - start;
    for (std::int64_t t = begin; t < end; ++t) row[t] *= config_.attention.scale;
    softmax(row + begin, end - begin, sinks_.empty() ? nullptr : sinks_.data() + kv_head * shared + r % shared);
  }
  for (std::int64_t c = 0; c < d; c += panel_width) {
    const std::int64_t width = std::min(panel_width, d - c);
    panel.assign(static_cast<std::size_t>(length * panel_width), 0.0f);
    for (std::int64_t t = 0; t < length; ++t)
      std::copy_n(cache.values.data() + (start + t) * kv_size + kv_head * d + c, width, panel.data() + t * panel_width);
    const auto add_values = [&](std::int64_t row, std::int64_t count_of_rows, std::int64_t begin, std::int64_t end,
                                bool add) {
      multiply_panel(scores.data() + row * length + begin, length, count_of_rows, panel.data() + begin * panel_width,
                     end - begin, heads.data() + row * d + c, d, width, add);
    };
    if (window_ > 0) {
      for (std::int64_t r = 0; r < rows; ++r) add_values(r, 1, begin_of(r) - start, end_of(r) - start, false);
      continue;
    }
    // What all rows see, then for each row what it alone sees more: not a term of weight 0, which a NaN would pass.
    const std::int64_t all = before + 1;
    add_values(0, rows, 0, all, false);
    for (std::int64_t r = shared; r < rows; ++r) add_values(r, 1, all, end_of(r), true);
  }
  for (std::int64_t r = 0; r < rows; ++r)
    std::copy_n(heads.data() + r * d, d, mixed.row(first + r / shared) + column + r % shared * d);
}

}  // namespace mxfp4::model
