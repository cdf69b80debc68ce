// mxfp4/kernel/moe.hpp -- what an expert does between its products, and what becomes of its results.
// SPDX-License-Identifier: Apache-2.0
//
//   add_bias    y <- y + bias
//   activate    gate <- glu(gate, up)                              of reference/glu.hpp: silu(gate) * up, and others
//   combine     y <- y + w[0] * down[0] + w[1] * down[1] + ...     slots in this order, one fma each
//
// The bits are those of reference/sigmoid.hpp, reference/glu.hpp and std::fma on every ISA: where registers have no
// fma, a scalar loop runs.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "mxfp4/reference/glu.hpp"
#include "mxfp4/reference/sigmoid.hpp"
#include "mxfp4/simd/simd.hpp"
#include "mxfp4/tensor/moe_options.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::kernel {
inline namespace MXFP4_ISA_NS {

/// Is it done in registers? Otherwise by the scalar loop.
template <class Arch>
inline constexpr bool in_lanes = simd::fuses<Arch> && !std::is_same_v<Arch, simd::scalar_arch>;

/// gated of glu.hpp, lane by lane; a NaN may have another payload.
template <class Arch>
[[nodiscard]] MXFP4_INLINE simd::batch<float, Arch> gated_lanes(const simd::batch<float, Arch>& by,
                                                                const simd::batch<float, Arch>& x) noexcept {
  using namespace mxfp4::detail;
  using floats = simd::batch<float, Arch>;
  using ints = simd::batch<std::int32_t, Arch>;
  const auto power = [](const ints& n) { return simd::bitwise_cast<float>((n + ints(f32_bias)) << f32_mantissa_bits); };
  const floats range(sigmoid_range), minus = -simd::min(simd::max(x, -x), range);
  const ints n = simd::to_int(simd::fma(minus, floats(log2_e), floats(-0.5f)));
  const floats count = simd::to_float(n);
  const floats r = simd::fma(-count, floats(ln2_low), simd::fma(-count, floats(ln2_high), minus));
  floats q(exp_poly[sigmoid_terms - 1]);
  for (int i = sigmoid_terms - 2; i >= 0; --i) q = simd::fma(q, r, floats(exp_poly[i]));
  const floats p = simd::fma(r * r, q, r) + floats(1.0f);
  const floats divisor = simd::fma(p, power(simd::max(n, ints(-126))), floats(1.0f));
  const auto negative = x < floats(0.0f);
  const floats quotient = simd::select(negative, simd::max(by, -range) * p, by) / divisor;
  const ints shift = n & (simd::bitwise_cast<std::int32_t>(x) >> 31), half = shift >> 1;  // 0 where x is not negative
  const floats result = quotient * power(half) * power(shift - half);
  return simd::select(by == floats(-HUGE_VALF), floats(float_from_bits(f32_nan)), result);
}

/// glu of glu.hpp, lane by lane.
template <class Arch>
[[nodiscard]] MXFP4_INLINE simd::batch<float, Arch> glu_lanes(const simd::batch<float, Arch>& gate,
                                                              const simd::batch<float, Arch>& up,
                                                              const moe_options& options) noexcept {
  using floats = simd::batch<float, Arch>;
  if (options.act == hidden_act::gpt_oss) {
    const floats limit(options.limit);
    const floats g = simd::select(gate > limit, limit, gate);
    const floats u = simd::select(up > limit, limit, simd::select(up < -limit, -limit, up));
    return gated_lanes<Arch>(g, floats(options.alpha) * g) * (u + floats(1.0f));
  }
  if (options.act == hidden_act::gelu_tanh) {
    const floats slope = simd::fma(gate * gate, floats(mxfp4::detail::gelu_cubic), floats(mxfp4::detail::gelu_linear));
    return gated_lanes<Arch>(gate, gate * slope) * up;
  }
  return gated_lanes<Arch>(gate, gate) * up;
}

/// gate[i] <- glu(gate[i], up[i]); count is a multiple of 16.
template <class Arch>
void activate(float* gate, const float* up, std::int64_t count, const moe_options& options) noexcept {
  if constexpr (in_lanes<Arch>) {
    using floats = simd::batch<float, Arch>;
    for (std::int64_t i = 0; i < count; i += static_cast<std::int64_t>(floats::size))
      glu_lanes<Arch>(floats::load_unaligned(gate + i), floats::load_unaligned(up + i), options)
          .store_unaligned(gate + i);
  } else {
    for (std::int64_t i = 0; i < count; ++i) gate[i] = glu(options.act, gate[i], up[i], options.alpha, options.limit);
  }
}

/// y[i] <- y[i] + bias[i]; nothing where bias is null.
inline void add_bias(float* y, const float* bias, std::int64_t count) noexcept {
  if (bias == nullptr) return;
  for (std::int64_t i = 0; i < count; ++i) y[i] += bias[i];
}

/// y[i] <- sum over slots of weights[slot] * down[permuted_row[slot] * stride + i], which starts at +0 or, with
/// accumulate, at y[i]; count is a multiple of 32. Any NaN becomes 0x7FC00000.
template <class Arch>
void combine(const float* down, std::int64_t stride, const std::int64_t* permuted_row, const float* weights,
             std::int64_t slots, std::int64_t count, bool accumulate, float* y) noexcept {
  const float nan = mxfp4::detail::float_from_bits(mxfp4::detail::f32_nan);
  if constexpr (in_lanes<Arch>) {
    using floats = simd::batch<float, Arch>;
    for (std::int64_t i = 0; i < count; i += static_cast<std::int64_t>(floats::size)) {
      floats sum = accumulate ? floats::load_unaligned(y + i) + floats(0.0f) : floats(0.0f);
      for (std::int64_t s = 0; s < slots; ++s)
        sum = simd::fma(floats(weights[s]), floats::load_unaligned(down + permuted_row[s] * stride + i), sum);
      simd::select(sum == sum, sum, floats(nan)).store_unaligned(y + i);
    }
  } else {
    for (std::int64_t i = 0; i < count; ++i) {
      float sum = accumulate ? y[i] + 0.0f : 0.0f;
      for (std::int64_t s = 0; s < slots; ++s) sum = std::fma(weights[s], down[permuted_row[s] * stride + i], sum);
      y[i] = sum == sum ? sum : nan;
    }
  }
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
