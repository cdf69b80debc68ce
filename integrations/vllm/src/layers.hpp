// integrations/vllm/src/layers.hpp -- a linear layer and a layer of experts as vLLM's loader fills them, packed.
// SPDX-License-Identifier: Apache-2.0
//
// Everything between the tensors of vLLM and mxfp4::dispatch, without Python: the tests of the project run it.
//
//   vLLM's tensor   shape                  here
//   weight          N x K / 2              a matrix N x K; q, k and v, or gate and up, are one: rows one after another
//   w13             E x 2 I x H / 2        gate and up of each expert: one above the other, or (gpt-oss) rows in turn
//   w2              E x H x I / 2          down of each expert
//   ..._scale       the same, / 32         E8M0 bytes
#pragma once

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <mxfp4/core/aligned_buffer.hpp>
#include <mxfp4/dispatch.hpp>
#include <span>
#include <vector>

#include "process_team.hpp"

namespace mxfp4::vllm {

/// What activations are multiplied as.
enum class activations : std::uint8_t {
  exact,      ///< as they are: products in f32
  int8,       ///< int8 under a power-of-two scale for each 32 (int8_scaling::e8m0)
  residual2,  ///< the sum of two such numbers
  residual3   ///< of three
};

/// Rows of numbers without gaps inside a row: activations in, results out.
struct rows_in {
  const void* data = nullptr;
  std::int64_t rows = 0, stride = 0;  ///< stride in elements
};
struct rows_out {
  void* data = nullptr;  ///< the input's type, no gaps between rows
};
enum class number : std::uint8_t { float32, bfloat16, float16 };

/// What all layers of a process share: threads, and memory to work in, which grows to what the largest call asks for
/// and is used by one call at a time.
struct workshop {
  process_team team;
  std::int64_t most_bytes = std::int64_t{256} << 20;  ///< about: calls of more tokens are cut, down to 16 tokens
  std::mutex mutex;
  std::vector<float> results;  ///< of a product, before they are rounded
  std::vector<float> panel;    ///< activations of a plain_linear
  std::vector<float> logits, chosen_weights;
  std::vector<std::int32_t> chosen;
  moe_workspace workspace;  ///< for any call up to `largest`
  moe_shape largest;
};

/// Rows that floats of this number a row leave room for in most_bytes; 16 at the least.
[[nodiscard]] inline std::int64_t rows_within(const workshop& shop, std::int64_t floats_a_row) noexcept {
  constexpr std::int64_t fewest = 16, size = sizeof(float);
  return std::max(fewest, shop.most_bytes / size / std::max<std::int64_t>(1, floats_a_row));
}

/// Memory of `count` floats at least, which is kept.
[[nodiscard]] inline float* grown(std::vector<float>& memory, std::int64_t count) {
  if (const auto need = static_cast<std::size_t>(count); memory.size() < need) memory.resize(need);
  return memory.data();
}

/// N x K weights, packed.
class linear {
 public:
  [[nodiscard]] static result<linear> create(const const_mx_view<>& w, const process_team& team);

  [[nodiscard]] std::int64_t rows() const noexcept { return weights_.rows(); }
  [[nodiscard]] std::int64_t cols() const noexcept { return weights_.cols(); }
  /// What it keeps, in bytes.
  [[nodiscard]] std::int64_t bytes() const noexcept;

  /// y = x W^T + bias, rounded once to the numbers' type. x: M x K, y: M x N.
  /// @param bias  N floats or null.
  [[nodiscard]] status run(const rows_in& x, const float* bias, const rows_out& y, number type, activations kind,
                           workshop& shop) const;

 private:
  packed_matrix weights_;
};

/// Logits of the router, M x E, and how route_topk makes indices and weights of them.
struct routing {
  rows_in logits;
  number type = number::float32;
  const float* bias = nullptr;  ///< E, or null
  std::int64_t top_k = 1;
  route_options options;
};

/// The experts of a layer that this process has.
class expert_layer {
 public:
  expert_layer() = default;
  expert_layer(expert_layer&&) = default;  // by name: a vector of what cannot be copied says that it can
  expert_layer& operator=(expert_layer&&) = default;

  /// Where the weights are: vLLM's tensors, with no gaps.
  struct source {
    std::int64_t experts = 0, intermediate = 0, hidden = 0;
    const std::uint8_t *w13 = nullptr, *w13_scale = nullptr, *w2 = nullptr, *w2_scale = nullptr;
    const float *w13_bias = nullptr, *w2_bias = nullptr;  ///< E x 2 I and E x H, or null; copied
    bool rows_in_turn = false;                            ///< gate 0, up 0, gate 1, up 1, ...
  };
  /// @param options  act, alpha and limit; the rest is set by each call.
  [[nodiscard]] static result<expert_layer> create(const source& from, const moe_options& options,
                                                   const process_team& team);

  [[nodiscard]] std::int64_t experts() const noexcept { return static_cast<std::int64_t>(experts_.size()); }
  [[nodiscard]] std::int64_t hidden() const noexcept { return hidden_; }
  [[nodiscard]] std::int64_t intermediate() const noexcept { return intermediate_; }
  [[nodiscard]] std::int64_t bytes() const noexcept;

  /// y[m] = sum over slots of weights[m][s] * expert(indices[m][s])(x[m]), rounded once to the numbers' type. M x H.
  /// @param local  empty, or for each expert of the model its number here, -1 where another process has it (vLLM's
  ///               expert_map): its slots add nothing, and cost nothing.
  [[nodiscard]] status run(const rows_in& x, const dense_view<const std::int32_t>& indices,
                           const dense_view<const float>& weights, std::span<const std::int32_t> local,
                           const rows_out& y, number type, activations kind, workshop& shop) const;

  /// The same from the router's logits on.
  [[nodiscard]] status run(const rows_in& x, const routing& router, std::span<const std::int32_t> local,
                           const rows_out& y, number type, activations kind, workshop& shop) const;

 private:
  template <class T>
  [[nodiscard]] status run_unlocked(const rows_in& x, const dense_view<const std::int32_t>& indices,
                                    const dense_view<const float>& weights, std::span<const std::int32_t> local, T* y,
                                    activations kind, workshop& shop) const;
  template <class T>
  [[nodiscard]] status multiply(const dense_view<const T>& x, const dense_view<const std::int32_t>& indices,
                                const dense_view<const float>& weights, const dense_view<float>& y, activations kind,
                                workshop& shop) const;

  mxfp4::detail::aligned_buffer memory_;  // of all matrices
  std::vector<expert<packed_matrix>> experts_;
  std::vector<float> biases_;
  moe_options options_;
  std::int64_t hidden_ = 0, intermediate_ = 0;
};

}  // namespace mxfp4::vllm
