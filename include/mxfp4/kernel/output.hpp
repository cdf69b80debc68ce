// mxfp4/kernel/output.hpp -- from the float sums of a product to what it writes: a bias, and one rounding.
// SPDX-License-Identifier: Apache-2.0
//
//   y <- round(sum + bias)     in f32, to float, bf16 or f16: nearest, ties to even. Any NaN becomes the canonical one:
//                              0x7FC00000, bf16 0x7FC0, f16 0x7E00
#pragma once

#include <cstdint>
#include <cstring>

#include "mxfp4/core/executor_ref.hpp"
#include "mxfp4/simd/simd.hpp"
#include "mxfp4/tensor/output_view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::kernel {
inline namespace MXFP4_ISA_NS {

/// y[i] <- round(sums[i] + bias[i]) for `count` of them; bias may be null, sums may be y.
template <class Arch, output_element T>
void round_sums(const float* sums, const float* bias, std::int64_t count, T* y) noexcept {
  using floats = simd::floats<Arch>;
  constexpr std::size_t lanes = floats::size;
  constexpr auto step = static_cast<std::int64_t>(lanes);
  const floats nan(mxfp4::detail::float_from_bits(mxfp4::detail::f32_nan));
  const auto round = [&nan](floats sum, const float* add, T* to) {
    if (add != nullptr) sum = sum + floats::load_unaligned(add);
    simd::store_narrowed<Arch>(simd::select(sum == sum, sum, nan), to);
  };
  std::int64_t i = 0;
  for (; i + step <= count; i += step)
    round(floats::load_unaligned(sums + i), bias == nullptr ? nullptr : bias + i, y + i);
  if (i == count) return;
  const auto rest = static_cast<std::size_t>(count - i);
  float last[lanes]{}, add[lanes]{};
  T to[lanes];
  std::memcpy(last, sums + i, rest * sizeof(float));
  if (bias != nullptr) std::memcpy(add, bias + i, rest * sizeof(float));
  round(floats::load_unaligned(last), bias == nullptr ? nullptr : add, to);
  std::memcpy(y + i, to, rest * sizeof(T));
}

/// `count` elements of row m of y from column n on <- the sums.
template <class Arch>
void store_sums(const mxfp4::detail::output_view& y, std::int64_t m, std::int64_t n, std::int64_t count,
                const float* sums, const float* bias) noexcept {
  mxfp4::detail::with_output(y, [=](const auto& v) noexcept {
    round_sums<Arch>(sums, bias == nullptr ? nullptr : bias + n, count, v.row(m) + n);
  });
}

/// The inverse, for sums that start at Y: exact.
inline void load_sums(const mxfp4::detail::output_view& y, std::int64_t m, std::int64_t n, std::int64_t count,
                      float* sums) noexcept {
  mxfp4::detail::with_output(y, [=](const auto& v) noexcept {
    for (std::int64_t i = 0; i < count; ++i) sums[i] = decode(v.row(m)[n + i]);
  });
}

/// Y <- Y + bias, a task for each token.
template <class Arch>
void add_bias(const dense_view<float>& y, const float* bias, executor_ref executor) {
  executor.run(static_cast<std::size_t>(y.rows), [&](std::size_t m) noexcept {
    float* const row = y.row(static_cast<std::int64_t>(m));
    round_sums<Arch>(row, bias, y.cols, row);
  });
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
