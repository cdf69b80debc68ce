// src/model/attention.hpp -- the attention of a layer, over the tokens of a window so far.
// SPDX-License-Identifier: Apache-2.0
//
//   x M x H --> h = norm(x) --> q = rotate(norm(Wq h)), k = rotate(norm(Wk h)), v = Wv h
//               k, v --> the cache;   softmax over what a token sees of (q k) * scale, times v
//               x += Wo (all heads)         heads / key_value_heads heads of q share one of k and v
//   latent      c = norm(Wa h) stands for k and v of all heads, which are Wb c: as (Wb^T q) c = q (Wb c), the cache
//               has c, and the turned dimensions of k, which all heads share; q may come from a short vector too
//   norm        none, over each head, or over all heads at once
//   rotate      pairs of dimensions of a head by position * frequency, times a magnitude; other dimensions stay
//   sees        the cache up to the token itself, or the last `window` tokens of that; the sink of a head joins the
//               softmax and takes no value
//
// Sums have one order each, whether tokens come one by one or all at once: q k by dimension, the softmax's divisor by
// position in eight sums side by side, the sum over v by position. A cache changes no bit therefore.
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
  /// Turns `heads` heads of `head_dim` floats each, or one part of them where it lies.
  /// @param position  below what the table was extended to.
  void turn(float* x, std::int64_t heads, std::int64_t head_dim, std::int64_t position) const noexcept;
  void turn_part(float* part, std::int64_t position) const noexcept;

 private:
  rotary_description rotary_;
  std::int64_t positions_ = 0;
  std::vector<float> cosines_, sines_;  // [positions][half]
};

/// Keys and values of a window's tokens, in one layer, as panels of dense_product.hpp.
struct kv_cache {
  std::int64_t length = 0;                 ///< tokens
  std::vector<std::vector<float>> keys;    ///< of each head: panels of 8 tokens, zeros where there are fewer
  std::vector<std::vector<float>> values;  ///< of each head, 8 dimensions: a panel that is as long as the text

  /// @param k, v  of tokens that follow; a head has `d` and `dv` numbers.
  void append(const token_rows& k, const token_rows& v, std::int64_t heads, std::int64_t d, std::int64_t dv);
};

class attention {
 public:
  attention() = default;
  /// @param keep  bytes of weights that are in memory; what is beyond that is read for each product (linear::load).
  /// @throws file_error where weights are missing or do not fit.
  attention(const checkpoint::checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer,
            std::uint64_t keep = UINT64_MAX);

  /// Rows [first, first + count) of x are tokens that follow those of the cache; they are added to it.
  void add_to(token_rows& x, std::int64_t first, std::int64_t count, kv_cache& cache, rotary_table& rotary,
              const product_options& options) const;

  /// The first two steps of add_to: normed rows of x, and what o is multiplied with, heads * value_dim numbers a token.
  [[nodiscard]] token_rows normed(const token_rows& x, std::int64_t first, std::int64_t count) const;
  [[nodiscard]] token_rows mixed(const token_rows& h, kv_cache& cache, rotary_table& rotary,
                                 const product_options& options) const;

  /// q, k, v and o; of latent attention k and v are none.
  [[nodiscard]] std::array<linear*, 4> projections() noexcept { return {&q_, &k_, &v_, &o_}; }
  [[nodiscard]] std::array<const linear*, 4> projections() const noexcept { return {&q_, &k_, &v_, &o_}; }

  /// What the constructor will read, by the headers alone. @throws file_error as it does.
  static void require(const checkpoint::checkpoint_reader& checkpoint, const model_config& config, std::int64_t layer);

  /// linear::arrange of all projections.
  void arrange();

  [[nodiscard]] std::uint64_t stored_bytes() const noexcept;

 private:
  /// Calls vector(member, name, size) and matrix(member, name, rows, cols, bias) for each tensor of a layer.
  template <class Vector, class Matrix>
  static void for_each_tensor(const model_config& config, std::int64_t layer, Vector vector, Matrix matrix);
  [[nodiscard]] bool is_latent() const noexcept { return config_.attention.latent.key_rank > 0; }
  [[nodiscard]] token_rows queries(const token_rows& h, const product_options& options) const;
  [[nodiscard]] token_rows mixed_latent(const token_rows& h, kv_cache& cache, rotary_table& rotary,
                                        const product_options& options) const;
  [[nodiscard]] std::vector<float> latent_rows(std::int64_t first, std::int64_t count) const;
  /// The part of Wb that makes a head's k, transposed, and the part that makes its v, read from the file.
  [[nodiscard]] panel_matrix key_panels(std::int64_t head) const;
  [[nodiscard]] panel_matrix value_panels(std::int64_t head) const;
  void attend_all(const token_rows& q, const kv_cache& cache, token_rows& mixed, executor_ref executor) const;
  void attend(const token_rows& q, const kv_cache& cache, token_rows& mixed, std::int64_t task) const;

  /// What the cache has: heads of k and v, and their numbers.
  struct stored_shape {
    std::int64_t heads = 0, key = 0, value = 0;
  };

  model_config config_;
  stored_shape stored_;
  std::int64_t window_ = 0;
  std::vector<float> norm_, q_norm_, k_norm_, sinks_;
  linear q_, k_, v_, o_;
  std::vector<float> q_latent_norm_, kv_latent_norm_;  // these and the next: of latent attention
  linear q_latent_, kv_latent_;
  std::uint64_t latent_bytes_ = 0;  // of kv_b_proj in the checkpoint
  const checkpoint::checkpoint_reader* file_ = nullptr;
  std::int64_t layer_ = 0;
  std::vector<panel_matrix> of_key_, of_value_;  // of the heads whose parts of Wb are kept
};

}  // namespace mxfp4::model
