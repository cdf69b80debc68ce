// src/model/attention.cpp -- see attention.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "model/attention.hpp"

#include <algorithm>
#include <cmath>

#include "model/dense_product.hpp"

namespace mxfp4::model {

using namespace io;
using namespace checkpoint;

namespace {

constexpr std::int64_t tokens_a_task = 16;

/// scores[0..length) become their softmax.
void softmax(float* scores, std::int64_t length) {
  const float largest = *std::max_element(scores, scores + length);
  double total = 0;
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
    for (std::int64_t i = 0; i < half_; ++i) {
      const double angle =
          static_cast<double>(positions_) * std::pow(theta_, -static_cast<double>(i) / static_cast<double>(half_));
      cosines_.push_back(static_cast<float>(std::cos(angle)));
      sines_.push_back(static_cast<float>(std::sin(angle)));
    }
}

void rotary_table::turn(float* x, std::int64_t heads, std::int64_t head_dim, std::int64_t position) const noexcept {
  const float *const cosine = cosines_.data() + position * half_, *const sine = sines_.data() + position * half_;
  for (std::int64_t h = 0; h < heads; ++h, x += head_dim)
    for (std::int64_t i = 0; i < half_; ++i) {
      const float a = x[i], b = x[i + half_];
      x[i] = a * cosine[i] - b * sine[i];
      x[i + half_] = b * cosine[i] + a * sine[i];
    }
}

attention::attention(const checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer)
    : config_(config) {
  const std::int64_t hidden = config.shape.hidden, q_size = config.query_size(), kv_size = config.key_size();
  norm_ = read_vector(checkpoint, layer_name(layer, "input_layernorm.weight"), hidden);
  q_norm_ = read_vector(checkpoint, layer_name(layer, "self_attn.q_norm.weight"), q_size);
  k_norm_ = read_vector(checkpoint, layer_name(layer, "self_attn.k_norm.weight"), kv_size);
  q_ = linear::load(checkpoint, layer_name(layer, "self_attn.q_proj"), q_size, hidden);
  k_ = linear::load(checkpoint, layer_name(layer, "self_attn.k_proj"), kv_size, hidden);
  v_ = linear::load(checkpoint, layer_name(layer, "self_attn.v_proj"), kv_size, hidden);
  o_ = linear::load(checkpoint, layer_name(layer, "self_attn.o_proj"), hidden, q_size);
}

std::uint64_t attention::stored_bytes() const noexcept {
  return q_.stored_bytes() + k_.stored_bytes() + v_.stored_bytes() + o_.stored_bytes();
}

void attention::add_to(token_rows& x, std::int64_t first, std::int64_t count, kv_cache& cache, rotary_table& rotary,
                       const product_options& options) const {
  const minimax_m2_shape& s = config_.shape;
  token_rows h(count, s.hidden), q(count, config_.query_size()), k(count, config_.key_size()),
      v(count, config_.key_size()), mixed(count, config_.query_size());
  for (std::int64_t t = 0; t < count; ++t) rms_norm(x.row(first + t), norm_, config_.rms_eps, h.row(t));
  q_.multiply(h.view(), q.view(), options);
  k_.multiply(h.view(), k.view(), options);
  v_.multiply(h.view(), v.view(), options);
  rotary.extend_to(cache.length + count);
  for (std::int64_t t = 0; t < count; ++t) {
    rms_norm(q.row(t), q_norm_, config_.rms_eps, q.row(t));
    rms_norm(k.row(t), k_norm_, config_.rms_eps, k.row(t));
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
  const minimax_m2_shape& s = config_.shape;
  const std::int64_t kv_head = task % s.key_value_heads, kv_size = config_.key_size(), d = s.head_dim;
  const std::int64_t shared = s.heads / s.key_value_heads, column = kv_head * shared * d;
  const std::int64_t first = task / s.key_value_heads * tokens_a_task, count = std::min(tokens_a_task, q.count - first);
  const std::int64_t before = cache.length - q.count + first;  // tokens in front of the first of these
  const std::int64_t length = before + count, rows = count * shared;
  const auto token_part = [&](const token_rows& of, std::int64_t row) {
    return of.row(first + row / shared) + column + row % shared * d;
  };
  std::vector<float> heads(static_cast<std::size_t>(rows * d)), scores(static_cast<std::size_t>(rows * length)), panel;
  for (std::int64_t r = 0; r < rows; ++r) std::copy_n(token_part(q, r), d, heads.data() + r * d);
  for (std::int64_t t = 0; t < length; t += panel_width) {
    const std::int64_t width = std::min(panel_width, length - t);
    pack_rows(
        width, d, [&](std::int64_t i) { return cache.keys.data() + (t + i) * kv_size + kv_head * d; }, panel);
    multiply_panel(heads.data(), d, rows, panel.data(), d, scores.data() + t, length, width, false);
  }
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  for (std::int64_t r = 0; r < rows; ++r) {
    float* const row = scores.data() + r * length;
    const std::int64_t visible = before + r / shared + 1;
    for (std::int64_t t = 0; t < visible; ++t) row[t] *= scale;
    softmax(row, visible);
  }
  for (std::int64_t c = 0; c < d; c += panel_width) {
    const std::int64_t width = std::min(panel_width, d - c);
    panel.assign(static_cast<std::size_t>(length * panel_width), 0.0f);
    for (std::int64_t t = 0; t < length; ++t)
      std::copy_n(cache.values.data() + t * kv_size + kv_head * d + c, width, panel.data() + t * panel_width);
    // What all rows see, then for each row what it alone sees more: not a term of weight 0, which a NaN would pass.
    const std::int64_t all = before + 1;
    multiply_panel(scores.data(), length, rows, panel.data(), all, heads.data() + c, d, width, false);
    for (std::int64_t r = shared; r < rows; ++r)
      multiply_panel(scores.data() + r * length + all, length, 1, panel.data() + all * panel_width, r / shared,
                     heads.data() + r * d + c, d, width, true);
  }
  for (std::int64_t r = 0; r < rows; ++r)
    std::copy_n(heads.data() + r * d, d, mixed.row(first + r / shared) + column + r % shared * d);
}

}  // namespace mxfp4::model
