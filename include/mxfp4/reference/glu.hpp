// mxfp4/reference/glu.hpp -- what an expert makes of its gate and up products: gated linear units, a number at a time.
// SPDX-License-Identifier: Apache-2.0
//
//   silu        silu(g) * u
//   gpt_oss     g' * sigmoid(alpha g') * (u' + 1)      g' = min(g, limit), u' = u cut to +-limit
//   gelu_tanh   g * sigmoid(2 c (g + 0.044715 g^3)) * u     c = sqrt(2 / pi): PyTorch's gelu, approximate="tanh"
//
// The vector loop of kernel/moe.hpp gives the same bits.
// Source: huggingface/transformers gpt_oss (GptOssExperts), activations.py (silu, gelu_pytorch_tanh).
#pragma once

#include <cmath>

#include "mxfp4/reference/sigmoid.hpp"
#include "mxfp4/tensor/moe_options.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

namespace detail {

inline constexpr float gelu_linear = 0x1.988454p+0f;  ///< 2 sqrt(2 / pi)
inline constexpr float gelu_cubic = 0x1.2444f2p-4f;   ///< 0.044715 times that

/// by * sigmoid(x) for a `by` of any size, which is negative where x is: NaN for -inf, as in PyTorch.
[[nodiscard]] MXFP4_INLINE float gated(float by, float x) noexcept {
  if (is_nan_bits(float_bits(by)) || by == -HUGE_VALF) return float_from_bits(f32_nan);
  return times_sigmoid(by > -sigmoid_range ? by : -sigmoid_range, x);
}

}  // namespace detail

/// The hidden activation of one gate and one up.
/// @param alpha, limit  of gpt_oss.
/// Accuracy: with u = 2^-24 and z what sigmoid is taken of, within (10 + 4 |z|) u of the result; results below 2^-126
/// within 2^-147 times |u| + 1.
/// Special:  NaN for a NaN, and for a gate of -inf: after an overflow a 0 would look like a result.
[[nodiscard]] MXFP4_INLINE float glu(hidden_act act, float gate, float up, float alpha = 1.702f,
                                     float limit = 7.0f) noexcept {
  if (act == hidden_act::gpt_oss) {
    const float g = gate > limit ? limit : gate;
    const float u = up > limit ? limit : up < -limit ? -limit : up;
    return detail::gated(g, alpha * g) * (u + 1.0f);
  }
  if (act == hidden_act::gelu_tanh)
    return detail::gated(gate, gate * std::fma(gate * gate, detail::gelu_cubic, detail::gelu_linear)) * up;
  return silu(gate) * up;
}

}  // namespace mxfp4
