// mxfp4/moe/router.hpp -- which experts a token goes to, and with what weight.
// SPDX-License-Identifier: Apache-2.0
//
//   logits M x E --> s = sigmoid or softmax of them --> the k largest of s + bias --> weight = s / sum of the k s
//                --> the k largest of logit + bias  --> weight = softmax of the k logits           softmax_of_chosen
//
// The bias takes part in the choice of experts, not in their weights: MiniMax-M2 and DeepSeek-V3 balance the load of
// their experts with it. Groups of experts limit the choice: only those of the best groups are taken.
//
//   MiniMax-M2       sigmoid, bias                             gpt-oss     softmax_of_chosen
//   DeepSeek-V3      sigmoid, bias, groups, scale 2.5          Qwen3-MoE   softmax, renormalize as norm_topk_prob says
//   Mixtral          softmax, which renormalised is softmax_of_chosen
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "mxfp4/core/executor_ref.hpp"
#include "mxfp4/core/status.hpp"
#include "mxfp4/reference/sigmoid.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// What becomes of a token's logits.
enum class scoring_func : std::uint8_t {
  sigmoid,           ///< of each alone
  softmax,           ///< of all, before the choice
  softmax_of_chosen  ///< the choice is by the logits themselves, the weights are the softmax of those chosen
};

/// How a token's experts are chosen and weighed, and how the call is run. The names are those of config.json, where it
/// has any.
struct route_options {
  bool renormalize = true;  ///< divide by the sum of the chosen s: norm_topk_prob. softmax_of_chosen: without influence
  float scale = 1.0f;       ///< of the weights, after that: routed_scaling_factor
  executor_ref executor{};  ///< runs the tasks, 16 tokens each
  scoring_func scoring = scoring_func::sigmoid;  ///< what s is
  std::int64_t n_group = 1;                      ///< groups of E / n_group experts side by side, up to 64; 0 is 1
  std::int64_t topk_group = 1;  ///< so many of them are open to a token: with a bias those with the largest sum of
                                ///< their two best s + bias, without one those with the best s
};

namespace kernel {
inline namespace MXFP4_ISA_NS {

inline constexpr std::int64_t most_groups = 64;  ///< a bit each

/// s of a token's experts.
class token_scores {
 public:
  token_scores(const float* logits, std::int64_t experts, scoring_func scoring) noexcept
      : logits_(logits), scoring_(scoring) {
    if (scoring != scoring_func::softmax) return;
    for (std::int64_t e = 0; e < experts; ++e) largest_ = logits[e] > largest_ ? logits[e] : largest_;
    float sum = 0.0f;
    for (std::int64_t e = 0; e < experts; ++e) sum += power(logits[e], largest_);
    sum_ = sum == 0.0f ? 1.0f : sum;  // all of them -inf
  }
  [[nodiscard]] float operator()(std::int64_t e) const noexcept {
    if (scoring_ == scoring_func::sigmoid) return sigmoid(logits_[e]);
    return scoring_ == scoring_func::softmax ? power(logits_[e], largest_) / sum_ : logits_[e];
  }
  /// e^(logit - largest): 1 for the largest itself, which may be infinite, and 0 where all are -inf.
  [[nodiscard]] static float power(float logit, float largest) noexcept {
    if (largest == -std::numeric_limits<float>::infinity()) return 0.0f;
    return logit == largest ? 1.0f : mxfp4::detail::exp_of_negative(logit - largest);
  }

 private:
  const float* logits_;
  scoring_func scoring_;
  float largest_ = -std::numeric_limits<float>::infinity(), sum_ = 1.0f;
};

/// The groups that are open to a token, as bits: of equal ones the first.
inline std::uint64_t open_groups(const token_scores& s, const float* bias, std::int64_t experts,
                                 const route_options& options) noexcept {
  float best[most_groups];
  const std::int64_t size = experts / options.n_group;
  for (std::int64_t g = 0; g < options.n_group; ++g) {
    float first = -std::numeric_limits<float>::infinity(), second = first;
    for (std::int64_t e = g * size; e < (g + 1) * size; ++e) {
      const float key = bias == nullptr ? s(e) : s(e) + bias[e];
      if (key > first) second = first, first = key;
      else if (key > second) second = key;
    }
    best[g] = bias == nullptr || size < 2 ? first : first + second;
  }
  std::uint64_t open = 0;
  for (std::int64_t i = 0; i < options.topk_group; ++i) {
    std::int64_t at = -1;
    for (std::int64_t g = 0; g < options.n_group; ++g)
      if ((open >> g & 1u) == 0 && (at < 0 || best[g] > best[at])) at = g;
    open |= std::uint64_t{1} << at;
  }
  return open;
}

/// One token, by insertion: indices and weights hold the best experts so far and their s, in order.
inline void route_token(const float* logits, const float* bias, std::int64_t experts, std::int64_t top_k,
                        std::int32_t* indices, float* weights, const route_options& options) noexcept {
  const token_scores score_of(logits, experts, options.scoring);
  const bool grouped = options.n_group > 1;
  const std::uint64_t open = grouped ? open_groups(score_of, bias, experts, options) : 0;
  const std::int64_t group_size = grouped ? experts / options.n_group : experts;
  const auto score = [bias](float s, std::int64_t e) { return bias == nullptr ? s : s + bias[e]; };
  std::int64_t found = 0;
  for (std::int64_t e = 0; e < experts; ++e) {
    if (grouped && (open >> (e / group_size) & 1u) == 0) continue;
    const float s = score_of(e), key = score(s, e);
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
  if (options.scoring == scoring_func::softmax_of_chosen) {
    float largest = weights[0];
    for (std::int64_t i = 1; i < top_k; ++i) largest = weights[i] > largest ? weights[i] : largest;
    for (std::int64_t i = 0; i < top_k; ++i) weights[i] = token_scores::power(weights[i], largest);
  }
  float sum = 0.0f;
  for (std::int64_t i = 0; i < top_k; ++i) sum += weights[i];
  const bool divided = options.renormalize || options.scoring == scoring_func::softmax_of_chosen;
  const float divisor = !divided || sum == 0.0f ? 1.0f : sum;
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

/// The top k experts of each token by s + bias, with weights from s alone: see the top of this file.
///
/// @param logits   M x E, finite or infinite (-inf masks an expert: its s is 0).
/// @param bias     E numbers added to s for the choice, or null: e_score_correction_bias.
/// @param indices  M x k, 1 <= k <= E, overwritten: the largest s + bias first, of equal ones the lower index first.
/// @param weights  M x k, overwritten: s / sum of the token's k s in that order (renormalize), times options.scale. If
///                 all of them are 0, the weights are 0.
/// @return   ok, or what is wrong with the arguments (NaN in logits or bias: errc::not_a_number with its place; groups
///           that do not divide E, or hold fewer than k experts); nothing is written then. No argument may overlap
///           indices or weights.
/// Accuracy: s of sigmoid within 3 ulp (sigmoid.hpp); a power of softmax within 2 ulp of e to the rounded difference,
///           their sum rounded E - 1 times; s + bias and the quotient rounded once each, the sum k - 1 times.
/// Same bits on every ISA, compiler, executor and for any M: the order of all operations is fixed and none is fused.
/// Source:   huggingface/transformers minimax_m2, deepseek_v3, qwen3_moe, gpt_oss; torch.topk promises no order of
///           equal scores. An expert of a closed group is never chosen.
inline status route_topk(const dense_view<const float>& logits, const float* bias,
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
  if (options.scoring > scoring_func::softmax_of_chosen)
    return {errc::out_of_range, "scoring", static_cast<std::int64_t>(options.scoring),
            static_cast<std::int64_t>(scoring_func::softmax_of_chosen), "options"};
  std::int64_t choice = logits.cols;  // experts that a token may take
  if (options.n_group < 0 || options.n_group > kernel::most_groups)
    return {errc::out_of_range, "n_group", options.n_group, kernel::most_groups, "options"};
  if (options.n_group > 1) {
    const std::int64_t size = logits.cols / options.n_group;
    if (options.topk_group < 0 || options.topk_group > options.n_group)
      return {errc::out_of_range, "topk_group", options.topk_group, options.n_group, "options"};
    if (size * options.n_group != logits.cols)
      return {errc::shape_mismatch, "cols", logits.cols, size * options.n_group, "logits"};
    choice = size * options.topk_group;
  }
  if (indices.cols > choice) return {errc::too_large, "cols", indices.cols, choice, "indices"};
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

/// route_topk with scoring_func::sigmoid, whatever options.scoring says.
inline status route_topk_sigmoid(const dense_view<const float>& logits, const float* bias,
                                 const dense_view<std::int32_t>& indices, const dense_view<float>& weights,
                                 route_options options = {}) {
  options.scoring = scoring_func::sigmoid;
  return mxfp4::route_topk(logits, bias, indices, weights, options);
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4
