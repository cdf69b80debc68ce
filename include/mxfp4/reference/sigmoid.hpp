// mxfp4/reference/sigmoid.hpp -- sigmoid and silu in float, the same bits on every machine.
// SPDX-License-Identifier: Apache-2.0
//
//   e^-|x| = p * 2^n     n = round(-|x| / ln 2),  p = e^r,  |r| <= ln 2 / 2
//
//   sigmoid(x) = 1 / (1 + e^-|x|)        x >= 0     nothing overflows, and no small result is a difference of large
//                e^-|x| / (1 + e^-|x|)   x < 0      numbers
//
// Every multiply-add is an explicit fma; any other product is either exact or not added to anything, so that a compiler
// may fuse what it likes without changing a bit. The vector loop of kernel/moe.hpp gives the same bits.
#pragma once

#include <cmath>
#include <cstdint>

#include "mxfp4/core/bits.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

namespace detail {

inline constexpr float log2_e = 0x1.715476p+0f;
inline constexpr float ln2_high = 0x1.62ep-1f;  ///< n * ln2_high is exact
inline constexpr float ln2_low = 0x1.0bfbe8p-15f;
inline constexpr float sigmoid_range = 174.0f;  ///< |x| is cut to this: e^-174 is 0, and n / 2 still fits pow2()
inline constexpr int sigmoid_terms = 5;
/// e^r = 1 + r + r^2 * (sum of exp_poly[i] * r^i), interpolated at the Chebyshev nodes of |r| <= ln 2 / 2: off by less
/// than 2^-26.
inline constexpr float exp_poly[sigmoid_terms] = {0x1p-1f, 0x1.5554dcp-3f, 0x1.55551ap-5f, 0x1.120ba2p-7f,
                                                  0x1.6d113cp-10f};

[[nodiscard]] MXFP4_INLINE float pow2(int n) noexcept {
  return float_from_bits(static_cast<std::uint32_t>(n + f32_bias) << f32_mantissa_bits);
}

/// e^x as p * 2^n.
struct split_power {
  float p;
  int n;
};
/// @param minus  -sigmoid_range .. 0
[[nodiscard]] MXFP4_INLINE split_power split_exp(float minus) noexcept {
  const int n = static_cast<int>(std::fma(minus, log2_e, -0.5f));  // negative: - 0.5 and truncation give the nearest
  const auto count = static_cast<float>(n);
  const float r = std::fma(-count, ln2_low, std::fma(-count, ln2_high, minus));
  float q = exp_poly[sigmoid_terms - 1];
  for (int i = sigmoid_terms - 2; i >= 0; --i) q = std::fma(q, r, exp_poly[i]);
  return {std::fma(r * r, q, r) + 1.0f, n};
}

/// e^x for x <= 0: within 2 ulp, below 2^-126 within 2^-149.
[[nodiscard]] MXFP4_INLINE float exp_of_negative(float x) noexcept {
  const auto [p, n] = split_exp(x > -sigmoid_range ? x : -sigmoid_range);
  return multiply(p * pow2(n / 2), pow2(n - n / 2));
}

/// by * sigmoid(x); where x is below -sigmoid_range, |by| must not be above it.
[[nodiscard]] MXFP4_INLINE float times_sigmoid(float by, float x) noexcept {
  const float magnitude = std::fabs(x);
  const auto [p, n] = split_exp(magnitude < sigmoid_range ? -magnitude : -sigmoid_range);
  const float divisor = std::fma(p, pow2(n < -126 ? -126 : n), 1.0f);
  const float quotient = (x < 0.0f ? by * p : by) / divisor;
  const int shift = x < 0.0f ? n : 0;
  if (shift > -100) return quotient * pow2(shift);  // exact
  return multiply(quotient * pow2(shift / 2), pow2(shift - shift / 2));
}

}  // namespace detail

/// 1 / (1 + e^-x); 0 and 1 at the infinities, NaN for NaN.
/// Accuracy: within 3 ulp; below 2^-126 within 2^-149.
[[nodiscard]] MXFP4_INLINE float sigmoid(float x) noexcept {
  return detail::is_nan_bits(detail::float_bits(x)) ? detail::float_from_bits(detail::f32_nan)
                                                    : detail::times_sigmoid(1.0f, x);
}

/// x * sigmoid(x). silu(-0) is -0, silu(inf) is inf; NaN for NaN and, as in PyTorch, for -inf: after an overflow a 0
/// would look like a result.
/// Accuracy: within 4 ulp; below 2^-126 within 2^-148.
[[nodiscard]] MXFP4_INLINE float silu(float x) noexcept {
  if (detail::is_nan_bits(detail::float_bits(x)) || x == -HUGE_VALF) return detail::float_from_bits(detail::f32_nan);
  return detail::times_sigmoid(x > -detail::sigmoid_range ? x : -detail::sigmoid_range, x);
}

}  // namespace mxfp4
