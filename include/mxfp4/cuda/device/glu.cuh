// mxfp4/cuda/device/glu.cuh -- gated linear units on the device: the bits of reference/glu.hpp.
// SPDX-License-Identifier: Apache-2.0
//
//   e^-|z| = p * 2^n     n = round(-|z| / ln 2),  p = e^r,  |r| <= ln 2 / 2
//
// The numbers are those of reference/sigmoid.hpp, which says why: its functions are the host's, and a table of the
// host's cannot be indexed here. Multiply-adds are explicit, and division rounds to nearest unless the program is
// compiled with --prec-div=false or --use_fast_math; then results are off by two units more in the last place.
#pragma once

#include <cstdint>

#include "mxfp4/core/bits.hpp"
#include "mxfp4/cuda/device/intrinsics.cuh"
#include "mxfp4/tensor/moe_options.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::device {

MXFP4_DEVICE float power_of_2(int n) {
  return mxfp4::detail::float_from_bits(static_cast<std::uint32_t>(n + mxfp4::detail::f32_bias)
                                        << mxfp4::detail::f32_mantissa_bits);
}

/// by * sigmoid(z), `by` negative where z is; NaN for NaN, and for a `by` of -infinity.
MXFP4_DEVICE float gated(float by, float z) {
  using namespace mxfp4::detail;
  constexpr float range = 174.0f;  // e^-174 is 0
  if (!(by >= -3.402823466e38f)) return float_from_bits(f32_nan);
  if (!(by > -range)) by = -range;
  const float magnitude = z < 0.0f ? -z : z, minus = magnitude < range ? -magnitude : -range;
  const int n = static_cast<int>(fused_multiply_add(minus, 0x1.715476p+0f, -0.5f));
  const auto count = static_cast<float>(n);
  const float r = fused_multiply_add(-count, 0x1.0bfbe8p-15f, fused_multiply_add(-count, 0x1.62ep-1f, minus));
  float q = fused_multiply_add(0x1.6d113cp-10f, r, 0x1.120ba2p-7f);
  q = fused_multiply_add(q, r, 0x1.55551ap-5f);
  q = fused_multiply_add(q, r, 0x1.5554dcp-3f);
  q = fused_multiply_add(q, r, 0.5f);
  const float p = fused_multiply_add(r * r, q, r) + 1.0f;
  const float divisor = fused_multiply_add(p, power_of_2(n < -126 ? -126 : n), 1.0f);
  const float quotient = (z < 0.0f ? by * p : by) / divisor;
  const int shift = z < 0.0f ? n : 0;
  return quotient * power_of_2(shift / 2) * power_of_2(shift - shift / 2);  // only the last may round
}

/// What an expert makes of a gate and an up product.
MXFP4_DEVICE float glu(hidden_act act, float gate, float up, float alpha, float limit) {
  if (act == hidden_act::gpt_oss) {
    const float g = gate > limit ? limit : gate;
    const float u = up > limit ? limit : up < -limit ? -limit : up;
    return gated(g, alpha * g) * (u + 1.0f);
  }
  if (act == hidden_act::gelu_tanh)
    return gated(gate, gate * fused_multiply_add(gate * gate, 0x1.2444f2p-4f, 0x1.988454p+0f)) * up;
  return gated(gate, gate) * up;
}

}  // namespace mxfp4::cuda::device
