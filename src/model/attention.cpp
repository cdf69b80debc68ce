// src/model/attention.cpp -- see attention.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "model/attention.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "model/dense_product.hpp"
#include "model/loops.hpp"
#include "mxfp4/tensor/fp8.hpp"

namespace mxfp4::model {

using namespace io;
using namespace checkpoint;

namespace {

constexpr float latent_eps = 1e-6f;  // of the norms of latent vectors, whatever rms_norm_eps is

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
  for (std::int64_t h = 0; h < heads; ++h) turn_part(x + h * head_dim + rotary_.first, position);
}

void rotary_table::turn_part(float* part, std::int64_t position) const noexcept {
  const std::int64_t half = rotary_.dim / 2, step = rotary_.neighbours ? 2 : 1, apart = rotary_.neighbours ? 1 : half;
  const float *const cosine = cosines_.data() + position * half, *const sine = sines_.data() + position * half;
  for (std::int64_t i = 0; i < half; ++i) {
    float &first = part[i * step], &second = part[i * step + apart];
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

void kv_cache::append(const token_rows& k, const token_rows& v, std::int64_t heads, std::int64_t d, std::int64_t dv) {
  const std::int64_t parts = (dv + panel_width - 1) / panel_width, end = length + k.count;
  keys.resize(static_cast<std::size_t>(heads));
  values.resize(static_cast<std::size_t>(heads * parts));
  for (std::int64_t h = 0; h < heads; ++h) {
    std::vector<float>& panels = keys[static_cast<std::size_t>(h)];
    panels.resize(static_cast<std::size_t>((end + panel_width - 1) / panel_width * panel_width * d));
    for (std::int64_t t = 0; t < k.count; ++t) {
      const std::int64_t at = length + t;
      float* const to = panels.data() + at / panel_width * panel_width * d + at % panel_width;
      for (std::int64_t i = 0; i < d; ++i) to[i * panel_width] = k.row(t)[h * d + i];
    }
    for (std::int64_t p = 0; p < parts; ++p) {
      std::vector<float>& panel = values[static_cast<std::size_t>(h * parts + p)];
      panel.resize(static_cast<std::size_t>(end * panel_width));
      for (std::int64_t t = 0; t < v.count; ++t)
        std::copy_n(v.row(t) + h * dv + p * panel_width, std::min(panel_width, dv - p * panel_width),
                    panel.data() + (length + t) * panel_width);
    }
  }
  length = end;
}

template <class Vector, class Matrix>
void attention::for_each_tensor(const model_config& config, std::int64_t layer, Vector vector, Matrix matrix) {
  const attention_description& a = config.attention;
  const model_shape& s = config.shape;
  const std::int64_t q_size = config.query_size();
  const auto name = [layer](const char* part) { return layer_name(layer, std::string("self_attn.") + part); };
  vector(&attention::norm_, layer_name(layer, "input_layernorm.weight"), s.hidden);
  if (a.latent.key_rank > 0) {
    const std::int64_t rank = a.latent.key_rank;
    if (const std::int64_t q_rank = a.latent.query_rank; q_rank > 0) {
      matrix(&attention::q_latent_, name("q_a_proj"), q_rank, s.hidden, a.qkv_bias);
      vector(&attention::q_latent_norm_, name("q_a_layernorm.weight"), q_rank);
      matrix(&attention::q_, name("q_b_proj"), q_size, q_rank, false);
    } else {
      matrix(&attention::q_, name("q_proj"), q_size, s.hidden, false);
    }
    matrix(&attention::kv_latent_, name("kv_a_proj_with_mqa"), rank + a.rotary.dim, s.hidden, a.qkv_bias);
    vector(&attention::kv_latent_norm_, name("kv_a_layernorm.weight"), rank);
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

namespace {

/// Rows of kv_b_proj that a head has: those of k that are not turned, then those of v.
[[nodiscard]] std::int64_t unturned_of(const model_config& config) {
  return config.shape.head_dim - config.attention.rotary.dim;
}
[[nodiscard]] std::int64_t rows_from_latent(const model_config& config) {
  return config.shape.heads * (unturned_of(config) + config.shape.value_dim);
}
[[nodiscard]] std::string latent_name(std::int64_t layer) { return layer_name(layer, "self_attn.kv_b_proj"); }

}  // namespace

attention::attention(const checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer,
                     std::uint64_t keep)
    : config_(config), window_(config.attention.windows[static_cast<std::size_t>(layer)]) {
  const model_shape& s = config.shape;
  const std::int64_t rank = config.attention.latent.key_rank;
  stored_ = {s.key_value_heads, s.head_dim, s.value_dim};
  if (is_latent()) {
    stored_ = {1, rank + config.attention.rotary.dim, rank};
    file_ = &checkpoint;
    layer_ = layer;
    constexpr std::uint64_t nothing = 0;  // of it is read here
    latent_bytes_ =
        linear::load(checkpoint, latent_name(layer), rows_from_latent(config), rank, false, nothing).stored_bytes();
    for (std::int64_t head = 0; head < s.heads; ++head) {
      panel_matrix of_key = key_panels(head), of_value = value_panels(head);
      const std::uint64_t bytes = of_key.bytes() + of_value.bytes();
      if (bytes > keep) break;
      keep -= bytes;
      of_key_.push_back(std::move(of_key));
      of_value_.push_back(std::move(of_value));
    }
  }
  for_each_tensor(
      config, layer,
      [&](auto member, const std::string& name, std::int64_t size) {
        this->*member = read_vector(checkpoint, name, size);
      },
      [&](auto member, const std::string& name, std::int64_t rows, std::int64_t cols, bool bias) {
        this->*member = linear::load(checkpoint, name, rows, cols, bias, keep);
        keep -= std::min(keep, (this->*member).memory_bytes());
      });
}

/// Rows of kv_b_proj as numbers, read from a multiple of 128 on: blocks of FP8 begin there.
std::vector<float> attention::latent_rows(std::int64_t first, std::int64_t count) const {
  const std::int64_t rank = stored_.value, begin = first / fp8_block * fp8_block, before = first - begin;
  const linear part =
      linear::load_rows(*file_, latent_name(layer_), rows_from_latent(config_), rank, begin, before + count);
  std::vector<float> rows(static_cast<std::size_t>(count * rank));
  for (std::int64_t r = 0; r < count; ++r) part.decode_row(before + r, rows.data() + r * rank);
  return rows;
}

panel_matrix attention::key_panels(std::int64_t head) const {
  const std::int64_t unturned = unturned_of(config_), rank = stored_.value;
  const std::vector<float> rows = latent_rows(head * (unturned + config_.shape.value_dim), unturned);
  std::vector<float> column(static_cast<std::size_t>(unturned));
  return {rank, unturned, [&](std::int64_t n) {
            for (std::int64_t i = 0; i < unturned; ++i)
              column[static_cast<std::size_t>(i)] = rows[static_cast<std::size_t>(i * rank + n)];
            return column.data();
          }};
}

panel_matrix attention::value_panels(std::int64_t head) const {
  const std::int64_t unturned = unturned_of(config_), rank = stored_.value, size = config_.shape.value_dim;
  const std::vector<float> rows = latent_rows(head * (unturned + size) + unturned, size);
  return {size, rank, [&](std::int64_t n) { return rows.data() + n * rank; }};
}

void attention::require(const checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer) {
  for_each_tensor(
      config, layer, [&](auto, const std::string& name, std::int64_t size) { require_vector(checkpoint, name, size); },
      [&](auto, const std::string& name, std::int64_t rows, std::int64_t cols, bool bias) {
        linear::require(checkpoint, name, rows, cols, bias);
      });
  if (config.attention.latent.key_rank > 0)
    linear::require(checkpoint, latent_name(layer), rows_from_latent(config), config.attention.latent.key_rank);
}

void attention::arrange() {
  for (linear* w : {&q_, &k_, &v_, &o_, &q_latent_, &kv_latent_}) w->arrange();
}

std::uint64_t attention::stored_bytes() const noexcept {
  std::uint64_t bytes = latent_bytes_;
  for (const linear* w : {&q_, &k_, &v_, &o_, &q_latent_, &kv_latent_}) bytes += w->stored_bytes();
  return bytes;
}

/// q of all heads, before norms and turning.
token_rows attention::queries(const token_rows& h, const product_options& options) const {
  token_rows q(h.count, config_.query_size());
  if (q_latent_.rows() > 0) {
    token_rows latent(h.count, q_latent_.rows());
    q_latent_.multiply(h.view(), latent.view(), options);
    for (std::int64_t t = 0; t < h.count; ++t) rms_norm(latent.row(t), q_latent_norm_, latent_eps, latent.row(t));
    q_.multiply(std::as_const(latent).view(), q.view(), options);
  } else {
    q_.multiply(h.view(), q.view(), options);
  }
  return q;
}

token_rows attention::normed(const token_rows& x, std::int64_t first, std::int64_t count) const {
  token_rows h(count, config_.shape.hidden);
  for (std::int64_t t = 0; t < count; ++t) rms_norm(x.row(first + t), norm_, config_.rms_eps, h.row(t));
  return h;
}

token_rows attention::mixed(const token_rows& h, kv_cache& cache, rotary_table& rotary,
                            const product_options& options) const {
  if (is_latent()) return mixed_latent(h, cache, rotary, options);
  const model_shape& s = config_.shape;
  const std::int64_t count = h.count;
  token_rows q, k(count, config_.key_size()), v(count, config_.value_size()), heads(count, s.heads * s.value_dim);
  const auto product = [&](std::size_t i) {
    if (i == 0) q = queries(h, options);
    else (i == 1 ? k_ : v_).multiply(h.view(), (i == 1 ? k : v).view(), options);
  };
  // Of one token tasks that have their own, since k and v are too little for all threads; of several one after the
  // other, since each needs memory.
  (count == 1 ? options.executor : executor_ref(serial)).run(3, product);
  rotary.extend_to(cache.length + count);
  for (std::int64_t t = 0; t < count; ++t) {
    norm_heads(q.row(t), q.size, q_norm_, config_.rms_eps);
    norm_heads(k.row(t), k.size, k_norm_, config_.rms_eps);
    rotary.turn(q.row(t), s.heads, s.head_dim, cache.length + t);
    rotary.turn(k.row(t), s.key_value_heads, s.head_dim, cache.length + t);
  }
  cache.append(k, v, stored_.heads, stored_.key, stored_.value);
  attend_all(q, cache, heads, options.executor);
  return heads;
}

/// As if all heads shared one k, which is c and the turned part, and one v, which is c: q goes through Wb before, what
/// the heads mix behind.
token_rows attention::mixed_latent(const token_rows& h, kv_cache& cache, rotary_table& rotary,
                                   const product_options& options) const {
  const model_shape& s = config_.shape;
  const std::int64_t count = h.count, rank = stored_.value, turned = config_.attention.rotary.dim,
                     unturned = s.head_dim - turned;
  token_rows q = queries(h, options), k(count, stored_.key), v(count, rank);
  kv_latent_.multiply(h.view(), k.view(), options);
  rotary.extend_to(cache.length + count);
  for (std::int64_t t = 0; t < count; ++t) {
    rms_norm(k.row(t), kv_latent_norm_, latent_eps, v.row(t));
    std::copy_n(v.row(t), rank, k.row(t));
    rotary.turn_part(k.row(t) + rank, cache.length + t);
    rotary.turn(q.row(t), s.heads, s.head_dim, cache.length + t);
  }
  cache.append(k, v, stored_.heads, stored_.key, stored_.value);
  token_rows wide(count, s.heads * stored_.key), latent(count, s.heads * rank), heads(count, s.heads * s.value_dim);
  options.executor.run(static_cast<std::size_t>(s.heads), [&](std::size_t head) {
    const auto i = static_cast<std::int64_t>(head);
    const panel_matrix read = head < of_key_.size() ? panel_matrix() : key_panels(i);
    (read.empty() ? of_key_[head] : read)
        .multiply(q.data.data() + i * s.head_dim, q.size, count, wide.data.data() + i * stored_.key, wide.size);
    for (std::int64_t t = 0; t < count; ++t)
      std::copy_n(q.row(t) + i * s.head_dim + unturned, turned, wide.row(t) + i * stored_.key + rank);
  });
  attend_all(wide, cache, latent, options.executor);
  options.executor.run(static_cast<std::size_t>(s.heads), [&](std::size_t head) {
    const auto i = static_cast<std::int64_t>(head);
    const panel_matrix read = head < of_value_.size() ? panel_matrix() : value_panels(i);
    (read.empty() ? of_value_[head] : read)
        .multiply(latent.data.data() + i * rank, latent.size, count, heads.data.data() + i * s.value_dim, heads.size);
  });
  return heads;
}

namespace {

constexpr std::int64_t most_heads_a_task = 16;

/// Heads of q that a task has, of `shared` that share one of k and v.
[[nodiscard]] std::int64_t heads_a_task(std::int64_t shared) {
  std::int64_t heads = std::min(shared, most_heads_a_task);
  while (shared % heads != 0) --heads;
  return heads;
}

}  // namespace

void attention::attend_all(const token_rows& q, const kv_cache& cache, token_rows& mixed, executor_ref executor) const {
  const std::int64_t heads = config_.shape.heads, groups = heads / heads_a_task(heads / stored_.heads);
  const std::int64_t tasks = (q.count + attention_tokens_at_once - 1) / attention_tokens_at_once * groups;
  executor.run(static_cast<std::size_t>(tasks),
               [&](std::size_t task) { attend(q, cache, mixed, static_cast<std::int64_t>(task)); });
}

void attention::add_to(token_rows& x, std::int64_t first, std::int64_t count, kv_cache& cache, rotary_table& rotary,
                       const product_options& options) const {
  token_rows h = normed(x, first, count);
  const token_rows heads = mixed(h, cache, rotary, options);
  o_.multiply(heads.view(), h.view(), options);
  for (std::int64_t t = 0; t < count; ++t)
    for (std::int64_t i = 0; i < h.size; ++i) x.row(first + t)[i] += h.row(t)[i];
}

/// Some tokens and heads of q that share one of k and v: rows of a product with the keys, then with the values.
void attention::attend(const token_rows& q, const kv_cache& cache, token_rows& mixed, std::int64_t task) const {
  const std::int64_t d = stored_.key, dv = stored_.value, all_heads = config_.shape.heads;
  const std::int64_t shared = heads_a_task(all_heads / stored_.heads), groups = all_heads / shared;
  const std::int64_t parts = (dv + panel_width - 1) / panel_width;
  const std::int64_t group = task % groups, kv_head = group * shared / (all_heads / stored_.heads);
  const std::int64_t first = task / groups * attention_tokens_at_once,
                     count = std::min(attention_tokens_at_once, q.count - first);
  const std::int64_t before = cache.length - q.count + first;  // tokens in front of the first of these
  // A token sees [begin_of, end_of) of the cache; columns of the scores are those from `start` on, a panel's first.
  const auto end_of = [&](std::int64_t token) { return before + token + 1; };
  const auto begin_of = [&](std::int64_t token) {
    return window_ == 0 ? std::int64_t{0} : std::max<std::int64_t>(0, end_of(token) - window_);
  };
  const std::int64_t start = begin_of(0) / panel_width * panel_width, length = before + count - start;
  const std::int64_t rows = count * shared;
  const auto head_of = [&](std::int64_t row) { return group * shared + row % shared; };
  std::vector<float> heads(static_cast<std::size_t>(rows * std::max(d, dv))),
      scores(static_cast<std::size_t>(rows * length));
  for (std::int64_t r = 0; r < rows; ++r)
    std::copy_n(q.row(first + r / shared) + head_of(r) * d, d, heads.data() + r * d);
  const float* const keys = cache.keys[static_cast<std::size_t>(kv_head)].data() + start * d;
  for (std::int64_t t = 0; t < length; t += panel_width)
    multiply_panel(heads.data(), d, rows, keys + t * d, d, scores.data() + t, length, std::min(panel_width, length - t),
                   false);
  for (std::int64_t r = 0; r < rows; ++r) {
    float* const row = scores.data() + r * length;
    const std::int64_t begin = begin_of(r / shared) - start, end = end_of(r / shared) - start;
    loops().softmax(row + begin, end - begin, config_.attention.scale,
                    sinks_.empty() ? nullptr : sinks_.data() + head_of(r));
  }
  for (std::int64_t p = 0; p < parts; ++p) {
    const float* const panel = cache.values[static_cast<std::size_t>(kv_head * parts + p)].data();
    const std::int64_t c = p * panel_width, width = std::min(panel_width, dv - c);
    const auto add_values = [&](std::int64_t token, std::int64_t tokens, std::int64_t begin, std::int64_t end,
                                bool add) {
      multiply_panel(scores.data() + token * shared * length + begin - start, length, tokens * shared,
                     panel + begin * panel_width, end - begin, heads.data() + token * shared * dv + c, dv, width, add);
    };
    if (window_ > 0) {
      for (std::int64_t t = 0; t < count; ++t) add_values(t, 1, begin_of(t), end_of(t), false);
      continue;
    }
    // What all tokens see, then for each what it alone sees more: not a term of weight 0, which a NaN would pass.
    const std::int64_t all = before + 1;
    add_values(0, count, 0, all, false);
    for (std::int64_t t = 1; t < count; ++t) add_values(t, 1, all, end_of(t), true);
  }
  for (std::int64_t r = 0; r < rows; ++r)
    std::copy_n(heads.data() + r * dv, dv, mixed.row(first + r / shared) + head_of(r) * dv);
}

}  // namespace mxfp4::model
