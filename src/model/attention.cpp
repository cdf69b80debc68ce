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

constexpr float latent_eps = 1e-6f;  // of the norms of latent vectors, whatever rms_norm_eps is

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

}  // namespace

template <class Vector, class Matrix>
void attention::for_each_tensor(const model_config& config, std::int64_t layer, Vector vector, Matrix matrix) {
  const attention_description& a = config.attention;
  const model_shape& s = config.shape;
  const std::int64_t q_size = config.query_size();
  const auto name = [layer](const char* part) { return layer_name(layer, std::string("self_attn.") + part); };
  vector(&attention::norm_, layer_name(layer, "input_layernorm.weight"), s.hidden);
  if (a.latent.key_rank > 0) {
    const std::int64_t rank = a.latent.key_rank, from_latent = s.head_dim - a.rotary.dim + s.value_dim;
    if (const std::int64_t q_rank = a.latent.query_rank; q_rank > 0) {
      matrix(&attention::q_latent_, name("q_a_proj"), q_rank, s.hidden, a.qkv_bias);
      vector(&attention::q_latent_norm_, name("q_a_layernorm.weight"), q_rank);
      matrix(&attention::q_, name("q_b_proj"), q_size, q_rank, false);
    } else {
      matrix(&attention::q_, name("q_proj"), q_size, s.hidden, false);
    }
    matrix(&attention::kv_latent_, name("kv_a_proj_with_mqa"), rank + a.rotary.dim, s.hidden, a.qkv_bias);
    vector(&attention::kv_latent_norm_, name("kv_a_layernorm.weight"), rank);
    matrix(&attention::kv_, name("kv_b_proj"), s.heads * from_latent, rank, false);
  } else {
    matrix(&attention::q_, name("q_proj"), q_size, s.hidden, a.qkv_bias);
    matrix(&attention::k_, name("k_proj"), config.key_size(), s.hidden, a.qkv_bias);
    matrix(&attention::v_, name("v_proj"), config.value_size(), s.hidden, a.qkv_bias);
  }
  matrix(&attention::o_, name("o_proj"), s.hidden, s.heads * s.value_dim, a.o_bias);
  if (a.norm != head_norm::none) {
    vector(&attention::q_norm_, name("q_norm.weight"), norm_size(config, s.heads));
    vector(&attention::k_norm_, name("k_norm.weight"), norm_size(config, s.key_value_heads));
  }
  if (a.sinks) vector(&attention::sinks_, name("sinks"), s.heads);
}

attention::attention(const checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer)
    : config_(config), window_(config.attention.windows[static_cast<std::size_t>(layer)]) {
  for_each_tensor(
      config, layer,
      [&](auto member, const std::string& name, std::int64_t size) {
        this->*member = read_vector(checkpoint, name, size);
      },
      [&](auto member, const std::string& name, std::int64_t rows, std::int64_t cols, bool bias) {
        this->*member = linear::load(checkpoint, name, rows, cols, bias);
      });
}

void attention::require(const checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer) {
  for_each_tensor(
      config, layer, [&](auto, const std::string& name, std::int64_t size) { require_vector(checkpoint, name, size); },
      [&](auto, const std::string& name, std::int64_t rows, std::int64_t cols, bool bias) {
        linear::require(checkpoint, name, rows, cols, bias);
      });
}

std::uint64_t attention::stored_bytes() const noexcept {
  std::uint64_t bytes = 0;
  for (const linear* w : {&q_, &k_, &v_, &o_, &q_latent_, &kv_latent_, &kv_}) bytes += w->stored_bytes();
  return bytes;
}

/// q, k and v of all heads, before norms and turning.
void attention::project(const token_rows& h, token_rows& q, token_rows& k, token_rows& v,
                        const product_options& options) const {
  if (config_.attention.latent.key_rank == 0) {
    q_.multiply(h.view(), q.view(), options);
    k_.multiply(h.view(), k.view(), options);
    return v_.multiply(h.view(), v.view(), options);
  }
  const model_shape& s = config_.shape;
  const auto rank = static_cast<std::size_t>(config_.attention.latent.key_rank);
  if (q_latent_.rows() > 0) {
    token_rows latent(h.count, q_latent_.rows());
    q_latent_.multiply(h.view(), latent.view(), options);
    for (std::int64_t t = 0; t < h.count; ++t) rms_norm(latent.row(t), q_latent_norm_, latent_eps, latent.row(t));
    q_.multiply(std::as_const(latent).view(), q.view(), options);
  } else {
    q_.multiply(h.view(), q.view(), options);
  }
  token_rows latent(h.count, kv_latent_.rows()), normed(h.count, static_cast<std::int64_t>(rank)),
      both(h.count, kv_.rows());
  kv_latent_.multiply(h.view(), latent.view(), options);
  for (std::int64_t t = 0; t < h.count; ++t) rms_norm(latent.row(t), kv_latent_norm_, latent_eps, normed.row(t));
  kv_.multiply(std::as_const(normed).view(), both.view(), options);
  const std::int64_t turned = config_.attention.rotary.dim, unturned = s.head_dim - turned;
  for (std::int64_t t = 0; t < h.count; ++t)
    for (std::int64_t head = 0; head < s.heads; ++head) {
      const float* const from = both.row(t) + head * (unturned + s.value_dim);
      float* const key = k.row(t) + head * s.head_dim;
      std::copy_n(from, unturned, key);
      std::copy_n(latent.row(t) + rank, turned, key + unturned);
      std::copy_n(from + unturned, s.value_dim, v.row(t) + head * s.value_dim);
    }
}

token_rows attention::normed(const token_rows& x, std::int64_t first, std::int64_t count) const {
  token_rows h(count, config_.shape.hidden);
  for (std::int64_t t = 0; t < count; ++t) rms_norm(x.row(first + t), norm_, config_.rms_eps, h.row(t));
  return h;
}

token_rows attention::mixed(const token_rows& h, kv_cache& cache, rotary_table& rotary,
                            const product_options& options) const {
  const model_shape& s = config_.shape;
  const std::int64_t count = h.count;
  token_rows q(count, config_.query_size()), k(count, config_.key_size()), v(count, config_.value_size()),
      heads(count, s.heads * s.value_dim);
  project(h, q, k, v, options);
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
  const std::int64_t tasks = (count + attention_tokens_at_once - 1) / attention_tokens_at_once * s.key_value_heads;
  options.executor.run(static_cast<std::size_t>(tasks),
                       [&](std::size_t task) { attend(q, cache, heads, static_cast<std::int64_t>(task)); });
  return heads;
}

void attention::add_to(token_rows& x, std::int64_t first, std::int64_t count, kv_cache& cache, rotary_table& rotary,
                       const product_options& options) const {
  token_rows h = normed(x, first, count);
  const token_rows heads = mixed(h, cache, rotary, options);
  o_.multiply(heads.view(), h.view(), options);
  for (std::int64_t t = 0; t < count; ++t)
    for (std::int64_t i = 0; i < h.size; ++i) x.row(first + t)[i] += h.row(t)[i];
}

/// Some tokens and all heads of q that share one of k and v: rows of a product with the keys, then with the values.
void attention::attend(const token_rows& q, const kv_cache& cache, token_rows& mixed, std::int64_t task) const {
  const model_shape& s = config_.shape;
  const std::int64_t kv_head = task % s.key_value_heads, kv_size = config_.key_size(), d = s.head_dim;
  const std::int64_t dv = s.value_dim, value_size = config_.value_size();
  const std::int64_t shared = s.heads / s.key_value_heads;
  const std::int64_t first = task / s.key_value_heads * attention_tokens_at_once,
                     count = std::min(attention_tokens_at_once, q.count - first);
  const std::int64_t before = cache.length - q.count + first;  // tokens in front of the first of these
  // A row sees the tokens [begin_of, end_of) of the cache; columns of the scores are those from `start` on.
  const auto end_of = [&](std::int64_t row) { return before + row / shared + 1; };
  const auto begin_of = [&](std::int64_t row) {
    return window_ == 0 ? std::int64_t{0} : std::max<std::int64_t>(0, end_of(row) - window_);
  };
  const std::int64_t start = begin_of(0), length = before + count - start, rows = count * shared;
  const auto head_of = [&](std::int64_t row) { return kv_head * shared + row % shared; };
  std::vector<float> heads(static_cast<std::size_t>(rows * std::max(d, dv))),
      scores(static_cast<std::size_t>(rows * length)), panel;
  for (std::int64_t r = 0; r < rows; ++r)
    std::copy_n(q.row(first + r / shared) + head_of(r) * d, d, heads.data() + r * d);
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
    softmax(row + begin, end - begin, sinks_.empty() ? nullptr : sinks_.data() + head_of(r));
  }
  for (std::int64_t c = 0; c < dv; c += panel_width) {
    const std::int64_t width = std::min(panel_width, dv - c);
    panel.assign(static_cast<std::size_t>(length * panel_width), 0.0f);
    for (std::int64_t t = 0; t < length; ++t)
      std::copy_n(cache.values.data() + (start + t) * value_size + kv_head * dv + c, width,
                  panel.data() + t * panel_width);
    const auto add_values = [&](std::int64_t row, std::int64_t count_of_rows, std::int64_t begin, std::int64_t end,
                                bool add) {
      multiply_panel(scores.data() + row * length + begin, length, count_of_rows, panel.data() + begin * panel_width,
                     end - begin, heads.data() + row * dv + c, dv, width, add);
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
    std::copy_n(heads.data() + r * dv, dv, mixed.row(first + r / shared) + head_of(r) * dv);
}

}  // namespace mxfp4::model
