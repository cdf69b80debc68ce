// mxfp4/kernel/moe.hpp -- floor 7: what an expert does between its products, and what becomes of its results.
// SPDX-License-Identifier: Apache-2.0
//
//   swiglu      gate <- silu(gate) * up
//   combine     y <- y + w[0] * down[0] + w[1] * down[1] + ...     slots in this order, one fma each
//
// The bits are sigmoid.hpp's and std::fma's on every ISA: where xsimd::fma rounds twice, the scalar text runs.
// Reads: sigmoid.hpp, simd/isa.hpp.  Read by: moe.hpp.
#pragma once

#include <cmath>
#include <cstdint>

#include "mxfp4/sigmoid.hpp"
#include "mxfp4/simd/isa.hpp"

namespace mxfp4::kernel {
inline namespace MXFP4_ISA_NS {

/// silu of sigmoid.hpp, lane by lane; a NaN may have another payload.
template <class Arch>
[[nodiscard]] MXFP4_INLINE xsimd::batch<float, Arch> silu_lanes(const xsimd::batch<float, Arch>& x) noexcept {
  using namespace mxfp4::detail;
  using floats = xsimd::batch<float, Arch>;
  using ints = xsimd::batch<std::int32_t, Arch>;
  const auto power = [](const ints& n) {
    return xsimd::bitwise_cast<float>((n + ints(f32_bias)) << f32_mantissa_bits);
  };
  const floats range(sigmoid_range), minus = -xsimd::min(xsimd::abs(x), range);
  const ints n = xsimd::to_int(xsimd::fma(minus, floats(log2_e), floats(-0.5f)));
  const floats count = xsimd::to_float(n);
  const floats r = xsimd::fma(-count, floats(ln2_low), xsimd::fma(-count, floats(ln2_high), minus));
  floats q(exp_poly[sigmoid_terms - 1]);
  for (int i = sigmoid_terms - 2; i >= 0; --i) q = xsimd::fma(q, r, floats(exp_poly[i]));
  const floats p = xsimd::fma(r * r, q, r) + floats(1.0f);
  const floats divisor = xsimd::fma(p, power(xsimd::max(n, ints(-126))), floats(1.0f));
  const auto negative = x < floats(0.0f);
  const floats quotient = xsimd::select(negative, xsimd::max(x, -range) * p, x) / divisor;
  const ints shift = xsimd::select(xsimd::batch_bool_cast<std::int32_t>(negative), n, ints(0)), half = shift >> 1;
  const floats result = quotient * power(half) * power(shift - half);
  return xsimd::select(x == floats(-HUGE_VALF), floats(float_from_bits(f32_nan)), result);
}

/// gate[i] <- silu(gate[i]) * up[i]; count is a multiple of 16.
template <class Arch>
void swiglu(float* gate, const float* up, std::int64_t count) noexcept {
  if constexpr (simd::has_fma<Arch>) {
    using floats = xsimd::batch<float, Arch>;
    for (std::int64_t i = 0; i < count; i += static_cast<std::int64_t>(floats::size))
      (silu_lanes<Arch>(floats::load_unaligned(gate + i)) * floats::load_unaligned(up + i)).store_unaligned(gate + i);
  } else {
    for (std::int64_t i = 0; i < count; ++i) gate[i] = silu(gate[i]) * up[i];
  }
}

/// y[i] <- sum over slots of weights[slot] * down[place[slot] * stride + i], from y[i] or +0 on; count is a multiple of
/// 32. Any NaN becomes 0x7FC00000.
template <class Arch>
void combine(const float* down, std::int64_t stride, const std::int64_t* place, const float* weights,
             std::int64_t slots, std::int64_t count, bool accumulate, float* y) noexcept {
  const float nan = mxfp4::detail::float_from_bits(mxfp4::detail::f32_nan);
  if constexpr (simd::has_fma<Arch>) {
    using floats = xsimd::batch<float, Arch>;
    for (std::int64_t i = 0; i < count; i += static_cast<std::int64_t>(floats::size)) {
      floats sum = accumulate ? floats::load_unaligned(y + i) + floats(0.0f) : floats(0.0f);
      for (std::int64_t s = 0; s < slots; ++s)
        sum = xsimd::fma(floats(weights[s]), floats::load_unaligned(down + place[s] * stride + i), sum);
      xsimd::select(sum == sum, sum, floats(nan)).store_unaligned(y + i);
    }
  } else {
    for (std::int64_t i = 0; i < count; ++i) {
      float sum = accumulate ? y[i] + 0.0f : 0.0f;
      for (std::int64_t s = 0; s < slots; ++s) sum = std::fma(weights[s], down[place[s] * stride + i], sum);
      y[i] = sum == sum ? sum : nan;
    }
  }
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
