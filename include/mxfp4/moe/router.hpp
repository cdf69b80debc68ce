// mxfp4/moe/router.hpp -- which experts a token goes to, and with what weight.
// SPDX-License-Identifier: Apache-2.0
//
//   logits M x E --> s = sigmoid(logit) --> the k largest of s + bias --> weight = s / sum of the k s
//
// The bias takes part in the choice of experts, not in their weights: MiniMax-M2 and DeepSeek-V3 balance the load of
// their experts with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "mxfp4/core/executor_ref.hpp"
#include "mxfp4/core/status.hpp"
#include "mxfp4/reference/sigmoid.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// How a token's experts are weighed, and how the call is run.
struct route_options {
  bool renormalize = true;  ///< divide by the sum of the chosen s
  float scale = 1.0f;       ///< of the weights, after that: DeepSeek's routed_scaling_factor
  executor_ref executor{};  ///< runs the tasks, 16 tokens each
};

namespace kernel {
inline namespace MXFP4_ISA_NS {

/// One token, by insertion: indices and weights hold the best experts so far and their s, in order.
inline void route_token(const float* logits, const float* bias, std::int64_t experts, std::int64_t top_k,
                        std::int32_t* indices, float* weights, const route_options& options) noexcept {
  const auto score = [bias](float s, std::int64_t e) { return bias == nullptr ? s : s + bias[e]; };
  std::int64_t found = 0;
  for (std::int64_t e = 0; e < experts; ++e) {
    const float s = sigmoid(logits[e]), key = score(s, e);
    std::int64_t at = found;  // goes behind experts with the same score, whose index is lower
    while (at > 0 && key > score(weights[at - 1], indices[at - 1])) --at;
    if (at == top_k) continue;
    if (found < top_k) ++found;
    for (std::int64_t i = found - 1; i > at; --i) {
      indices[i] = indices[i - 1];
      weights[i] = weights[i - 1];
    }
    indices[at] = static_cast<std::int32_t>(e);
    weights[at] = s;
  }
  float sum = 0.0f;
  for (std::int64_t i = 0; i < top_k; ++i) sum += weights[i];
  const float divisor = !options.renormalize || sum == 0.0f ? 1.0f : sum;
  for (std::int64_t i = 0; i < top_k; ++i) weights[i] = weights[i] / divisor * options.scale;
}

/// The first NaN of a matrix as a status, or ok.
inline status find_nan(const dense_view<const float>& x, const char* what) noexcept {
  if (x.cols == 0) return {};
  for (std::int64_t r = 0; r < x.rows; ++r)
    for (std::int64_t c = 0; c < x.cols; ++c)
      if (mxfp4::detail::is_nan_bits(mxfp4::detail::float_bits(x.row(r)[c])))
        return {errc::not_a_number, what, 0, 0, "", r, c};
  return {};
}

}  // namespace MXFP4_ISA_NS
}  // namespace kernel

inline namespace MXFP4_ISA_NS {

/// The top k experts of each token by sigmoid(logit) + bias, with weights from sigmoid(logit) alone.
///
/// @param logits   M x E, finite or infinite (-inf masks an expert: its s is 0).
/// @param bias     E numbers added to s for the choice, or null: MiniMax's e_score_correction_bias.
/// @param indices  M x k, 1 <= k <= E, overwritten: the largest s + bias first, of equal ones the lower index first.
/// @param weights  M x k, overwritten: s / sum of the token's k s in that order (renormalize), times options.scale. If
///                 all of them are 0, the weights are 0.
/// @return   ok, or what is wrong with the arguments (NaN in logits or bias: errc::not_a_number with its place);
///           nothing is written then. No argument may overlap indices or weights.
/// Accuracy: s within 3 ulp (sigmoid.hpp), s + bias and the quotient rounded once each, the sum k - 1 times.
/// Same bits on every ISA, compiler, executor and for any M: the order of all operations is fixed and none is fused.
/// Source:   huggingface/transformers minimax_m2, whose torch.topk promises no order of equal scores.
inline status route_topk_sigmoid(const dense_view<const float>& logits, const float* bias,
                                 const dense_view<std::int32_t>& indices, const dense_view<float>& weights,
                                 const route_options& options = {}) {
  if (const status s = check(logits, "logits"); !s.ok()) return s;
  if (const status s = check(indices, "indices"); !s.ok()) return s;
  if (const status s = check(weights, "weights"); !s.ok()) return s;
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  if (logits.cols > most) return {errc::too_large, "cols", logits.cols, most, "logits"};
  if (indices.rows != logits.rows) return {errc::shape_mismatch, "rows", indices.rows, logits.rows, "indices"};
  if (weights.rows != logits.rows) return {errc::shape_mismatch, "rows", weights.rows, logits.rows, "weights"};
  if (weights.cols != indices.cols) return {errc::shape_mismatch, "cols", weights.cols, indices.cols, "weights"};
  if (indices.cols > logits.cols) return {errc::too_large, "cols", indices.cols, logits.cols, "indices"};
  const mxfp4::detail::byte_range inputs[] = {mxfp4::detail::data_of(logits),
                                              {bias, bias == nullptr ? 0 : logits.cols * std::int64_t{sizeof(float)}},
                                              mxfp4::detail::data_of(indices)};
  for (int i = 0; i < 2; ++i)
    if (mxfp4::detail::overlap(inputs[i], mxfp4::detail::data_of(indices))) return {errc::overlap, "indices"};
  for (const auto& input : inputs)
    if (mxfp4::detail::overlap(input, mxfp4::detail::data_of(weights))) return {errc::overlap, "weights"};
  if (const status s = kernel::find_nan(logits, "logits"); !s.ok()) return s;
  if (bias != nullptr)
    for (std::int64_t e = 0; e < logits.cols; ++e)
      if (mxfp4::detail::is_nan_bits(mxfp4::detail::float_bits(bias[e])))
        return {errc::not_a_number, "bias", 0, 0, "", e};
  if (indices.rows == 0 || indices.cols == 0) return {};
  constexpr std::int64_t tokens_a_task = 16;
  options.executor.run(
      static_cast<std::size_t>(mxfp4::detail::ceil_div(logits.rows, tokens_a_task)), [&](std::size_t i) {
        const std::int64_t first = static_cast<std::int64_t>(i) * tokens_a_task;
        const std::int64_t last = first + tokens_a_task < logits.rows ? first + tokens_a_task : logits.rows;
        for (std::int64_t m = first; m < last; ++m)
          kernel::route_token(logits.row(m), bias, logits.cols, indices.cols, indices.row(m), weights.row(m), options);
      });
  return {};
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4
