// mxfp4/kernel/f32_lines.hpp -- a few tokens times W, in f32, straight from the codes.
// SPDX-License-Identifier: Apache-2.0
//
// With few tokens a panel of decoded weights (f32_gemm.hpp) is written and read for a few FMAs each. Here a line of
// codes is decoded in registers, and a scale s costs one multiplication of each sum a block, not one of each weight: a
// sum is kept divided by s / 2, and 2v * x is added to it, v a code's value.
//
// The bits are those of the panels' FMAs. Dividing by a power of two changes no rounding, as long as nothing leaves the
// range of a float on either side. That is so where
//
//   2^-64 <= s / 2 <= 1            bytes 64 .. 128
//   x = 0 or 2^-62 <= |x| < 2^20   the activations of every token
//   |sum| < 2^60                   at the start; then |sum| < 2^61, for 2^31 terms below 12 * 2^20
//
// for then x is a multiple of 2^-85, and a product, or a sum, of 2^-149: below the normal floats nothing is rounded. A
// sum divided by s / 2 is a multiple of no less, and stays below 2^125. All else goes through panels, block by block.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "mxfp4/kernel/f32_panel.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::kernel {
inline namespace MXFP4_ISA_NS {
namespace detail {

/// Bits of |x| for x in [2^low, 2^high).
[[nodiscard]] MXFP4_INLINE constexpr bool is_between(std::uint32_t magnitude, int low, int high) noexcept {
  const auto bits = [](int exponent) { return static_cast<std::uint32_t>(exponent + 127) << 23; };
  return magnitude - bits(low) < bits(high) - bits(low);
}

/// Do lines give the bits of panels for these activations? `count` of every Stride numbers are looked at.
template <int Stride>
[[nodiscard]] bool lines_hold(const float* x, std::int64_t cols, std::int64_t count) noexcept {
  std::uint32_t odd = 0;
  for (std::int64_t k = 0; k < cols; ++k)
    for (std::int64_t m = 0; m < count; ++m) {
      const std::uint32_t magnitude = mxfp4::detail::float_bits(x[k * Stride + m]) & mxfp4::detail::f32_abs_mask;
      odd |= magnitude != 0 && !is_between(magnitude, -62, 20) ? 1u : 0u;
    }
  return odd == 0;
}

/// For these scale bytes?
[[nodiscard]] inline bool lines_hold(const std::uint8_t* scales, std::int64_t count) noexcept {
  std::uint8_t odd = 0;
  for (std::int64_t i = 0; i < count; ++i) odd |= static_cast<std::uint8_t>(scales[i] - 64) > 64 ? 1 : 0;
  return odd == 0;
}

/// For sums that start with these?
[[nodiscard]] inline bool lines_hold(const float* sums, std::int64_t count) noexcept {
  std::uint32_t odd = 0;
  for (std::int64_t i = 0; i < count; ++i)
    odd |=
        (mxfp4::detail::float_bits(sums[i]) & mxfp4::detail::f32_abs_mask) >= std::uint32_t{127 + 60} << 23 ? 1u : 0u;
  return odd == 0;
}

/// sums[m][n] += the products of M tokens with N registers of rows; x: [k][Stride].
template <class Arch, nibble_order Order, int Stride, int M, int N>
[[gnu::noinline]] void multiply_f32_lines(const f32_lines& w, const float* x, float* sums) noexcept {
  using floats = simd::floats<Arch>;
  using words = simd::words<Arch>;
  constexpr int V = lanes<Arch>, parts = registers_per_tile<Arch>;
  constexpr std::int64_t ahead = 8 * tile_block_bytes;
  // The elements of a line's nibbles: four side by side in either half of the block, or eight.
  constexpr int passes = std::is_same_v<Order, half_split> ? 2 : 1, halves = 3 - passes;
  static_assert(passes == 2 || std::is_same_v<Order, low_first>);
  const simd::line_decoder<Arch> decoder;
  const words low = decoder.low_bytes(), high = decoder.high_bytes();
  const std::uint8_t *codes = w.codes, *scales = w.scales;
  const std::int64_t code_step = w.code_step, scale_step = w.scale_step;
  floats sum[std::size_t{M}][std::size_t{N}];
  MXFP4_UNROLL
  for (int m = 0; m < M; ++m) {
    MXFP4_UNROLL
    for (int n = 0; n < N; ++n) sum[m][n] = floats::load_aligned(sums + (m * N + n) * V);
  }
  alignas(64) std::uint32_t bytes[std::size_t{N * V}];  // of the scales that the sums are divided by, plus 127
  std::uint32_t* divisor = bytes;
  std::fill_n(divisor, N * V, 128u + 127u);
  for (std::int64_t left = w.blocks; left > 0; --left, codes += tile_block_bytes, scales += tile_rows) {
    simd::stay_in_memory(divisor);
    MXFP4_UNROLL
    for (int n = 0; n < N; ++n) {
      const std::int64_t tile = n / parts;
      const words byte = simd::detail::load_words<Arch>(scales + tile * scale_step + n % parts * V);
      const floats factor = simd::bitwise_cast<float>((words::load_aligned(divisor + n * V) - byte) << 23);
      (byte + words(127u)).store_aligned(divisor + n * V);
      MXFP4_UNROLL
      for (int m = 0; m < M; ++m) sum[m][n] = sum[m][n] * factor;
      for (int line = 0; line < 2; ++line)
        simd::prefetch_next(codes + tile * code_step + ahead + 64 * (n % parts * 2 + line));
    }
    MXFP4_UNROLL
    for (int pass = 0; pass < passes; ++pass) {
#pragma GCC unroll 1
      for (int g = 0; g < 4; ++g, x += 4 * halves * Stride) {
        MXFP4_UNROLL
        for (int n = 0; n < N; ++n) {
          const words line = decoder.load(codes + n / parts * code_step + 64 * g + n % parts * 4 * V);
          words pair[2][std::size_t{halves}];
          MXFP4_UNROLL
          for (int h = 0; h < halves; ++h) decoder.decode(line, pass + h, low, high, pair[0][h], pair[1][h]);
          MXFP4_UNROLL
          for (int i = 0; i < 4 * halves; ++i) {
            const words two = pair[i / (2 * halves)][i % halves];
            const floats weight = i / halves % 2 == 0 ? decoder.lower(two) : decoder.upper(two);
            MXFP4_UNROLL
            for (int m = 0; m < M; ++m) {
              sum[m][n] = simd::fma(weight, floats(x[i * Stride + m]), sum[m][n]);
              decoder.finish(sum[m][n]);
            }
          }
        }
      }
    }
  }
  MXFP4_UNROLL
  for (int n = 0; n < N; ++n) {
    const floats scale = simd::bitwise_cast<float>((words::load_aligned(divisor + n * V) - words(128u)) << 23);
    MXFP4_UNROLL
    for (int m = 0; m < M; ++m) (sum[m][n] * scale).store_aligned(sums + (m * N + n) * V);
  }
}

using line_product = void (*)(const f32_lines&, const float*, float*) noexcept;

/// multiply_f32_lines for a number of tokens, with as many tiles as line_shape says.
template <class Arch, nibble_order Order, int Stride, int... M>
[[nodiscard]] line_product line_product_for(std::int64_t tokens, std::integer_sequence<int, M...>) noexcept {
  static constexpr line_product products[] = {
      &multiply_f32_lines<Arch, Order, Stride, M + 1,
                          line_shape<Arch>::tiles_for(M + 1) * registers_per_tile<Arch>>...};
  return products[tokens - 1];
}
template <class Arch, nibble_order Order, int Stride>
[[nodiscard]] line_product line_product_for(std::int64_t tokens) noexcept {
  return line_product_for<Arch, Order, Stride>(tokens,
                                               std::make_integer_sequence<int, line_shape<Arch>::most_tokens>{});
}

}  // namespace detail
}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
