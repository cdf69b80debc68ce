// src/model/attention.hpp -- the attention of a layer, over the tokens of a window so far.
// SPDX-License-Identifier: Apache-2.0
//
//   x M x H --> h = norm(x) --> q = rotate(norm(Wq h)), k = rotate(norm(Wk h)), v = Wv h
//               k, v --> the cache;   softmax over what a token sees of (q k) * scale, times v
//               x += Wo (all heads)         heads / key_value_heads heads of q share one of k and v
//   latent      c = Wa h, then k and v of all heads = Wb norm(c); the turned dimensions of k are one product for all
//               heads, and q may come from a short vector too
//   norm        none, over each head, or over all heads at once
//   rotate      pairs of dimensions of a head by position * frequency, times a magnitude; other dimensions stay
//   sees        the cache up to the token itself, or the last `window` tokens of that; the sink of a head joins the
//               softmax and takes no value
//
// Sums have one order each, whether tokens come one by one or all at once: q k by dimension, the softmax's divisor and
// the sum over v by position. With weights that are not MXFP4 a cache changes no bit therefore.
// Source: huggingface/transformers models/{minimax_m2,gpt_oss,qwen3_moe,llama}.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "model/config.hpp"
#include "model/token_rows.hpp"
#include "model/weights.hpp"

namespace mxfp4::model {

inline constexpr std::int64_t attention_tokens_at_once = 16;  ///< of a task, which has their scores in memory

/// Cosines and sines of all positions so far: computed in double, kept in float.
class rotary_table {
 public:
  explicit rotary_table(const model_config& config) : rotary_(config.attention.rotary) {}

  void extend_to(std::int64_t positions);
  /// Turns `heads` heads of `head_dim` floats each. @param position  below what the table was extended to.
  void turn(float* x, std::int64_t heads, std::int64_t head_dim, std::int64_t position) const noexcept;

 private:
  rotary_description rotary_;
  std::int64_t positions_ = 0;
  std::vector<float> cosines_, sines_;  // [positions][half]
};

/// Keys and values of a window's tokens, in one layer.
struct kv_cache {
  std::int64_t length = 0;          ///< tokens
  std::vector<float> keys, values;  ///< length x (key_value_heads * head_dim), and * value_dim
};

class attention {
 public:
  attention() = default;
  /// @throws file_error where weights are missing or do not fit.
  attention(const checkpoint::checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer);

  /// Rows [first, first + count) of x are tokens that follow those of the cache; they are added to it.
  void add_to(token_rows& x, std::int64_t first, std::int64_t count, kv_cache& cache, rotary_table& rotary,
              const product_options& options) const;

  /// The first two steps of add_to: normed rows of x, and what o is multiplied with, heads * value_dim numbers a token.
  [[nodiscard]] token_rows normed(const token_rows& x, std::int64_t first, std::int64_t count) const;
  [[nodiscard]] token_rows mixed(const token_rows& h, kv_cache& cache, rotary_table& rotary,
                                 const product_options& options) const;

  /// q, k, v and o; where q, k and v are made of short vectors, what makes them of those, and no k of its own.
  [[nodiscard]] std::array<linear*, 4> projections() noexcept { return {&q_, &k_, &v_, &o_}; }
  [[nodiscard]] std::array<const linear*, 4> projections() const noexcept { return {&q_, &k_, &v_, &o_}; }

  /// What the constructor will read, by the headers alone. @throws file_error as it does.
  static void require(const checkpoint::checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer);

  [[nodiscard]] std::uint64_t stored_bytes() const noexcept;

 private:
  /// Calls vector(member, name, size) and matrix(member, name, rows, cols, bias) for each tensor of a layer.
  template <class Vector, class Matrix>
  static void for_each_tensor(const model_config& config, std::int64_t layer, Vector vector, Matrix matrix);
  void project(const token_rows& h, token_rows& q, token_rows& k, token_rows& v, const product_options& options) const;
  void attend(const token_rows& q, const kv_cache& cache, token_rows& mixed, std::int64_t task) const;

  model_config config_;
  std::int64_t window_ = 0;
  std::vector<float> norm_, q_norm_, k_norm_, sinks_;
  linear q_, k_, v_, o_;
  std::vector<float> q_latent_norm_, kv_latent_norm_;  // these and the next: of latent attention
  linear q_latent_, kv_latent_, kv_;
};

}  // namespace mxfp4::model
