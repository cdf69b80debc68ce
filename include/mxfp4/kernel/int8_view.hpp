// mxfp4/kernel/int8_view.hpp -- 16 rows of a view times one token, without bringing their codes into tile order.
// SPDX-License-Identifier: Apache-2.0
//
// To gather a tile costs twice what multiplying it with one token does. So here the registers are blocks of rows, and
// it is the products that are brought into the order of rows. Sums and their order are those of the tile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "mxfp4/kernel/int8_operands.hpp"
#include "mxfp4/kernel/pack.hpp"
#include "mxfp4/simd/simd.hpp"
#include "mxfp4/tensor/activation.hpp"
#include "mxfp4/tensor/packed_matrix.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::kernel {
inline namespace MXFP4_ISA_NS {

/// Is there such a kernel? Rows must lie at equal distances.
template <class Arch, block_layout Layout>
inline constexpr bool multiplies_rows =
    simd::holds_tile<Arch> && Layout::rows_per_band == 1 &&
    (std::is_same_v<typename Layout::order, low_first> || std::is_same_v<typename Layout::order, half_split>);

/// `codes`: the first block of the first of 16 rows, `stride` bytes apart; `next`: that of the rows that come after
/// them, for the cache. No scale byte is below smallest_byte.
template <class Arch, bool MultiplyScales, block_layout Layout>
MXFP4_NOINLINE void multiply_int8_view_rows(const std::uint8_t* codes, std::int64_t stride, const std::uint8_t* next,
                                            const std::uint8_t* scales, const std::uint8_t* x, std::int64_t blocks,
                                            float* sums) noexcept {
  using ints = simd::int_lanes<Arch>;
  using floats = simd::float_lanes<Arch>;
  using dots = simd::row_dots<Arch>;
  constexpr int registers = tile_rows / dots::rows;
  constexpr std::int64_t line = 4;  // blocks, whose codes are one cache line of a row
  const typename dots::strides strides(stride);
  floats acc[static_cast<std::size_t>(registers)];
  MXFP4_UNROLL
  for (int v = 0; v < registers; ++v) acc[v] = floats::load_aligned(sums + v * dots::rows);
  for (std::int64_t b = 0; b < blocks; ++b) {
    const std::int64_t offset = Layout::code_offset(0, b, 0);
    if (b % line == 0) {
      MXFP4_UNROLL
      for (int v = 0; v < registers; ++v) dots::prefetch(next + offset + v * dots::rows * stride, strides);
    }
    const auto token = dots::template token<typename Layout::order>(x);
    const ints initial_sum(simd::load_quad(x + 4 * block_quads)),
        token_scale(simd::load_quad(x + 4 * (block_quads + 1)));
    MXFP4_UNROLL
    for (int v = 0; v < registers; ++v) {
      const ints dot = dots::sum(codes + offset + v * dots::rows * stride, strides, token, initial_sum);
      const ints byte = simd::widen_bytes<Arch>(scales + v * dots::rows);
      acc[v] = simd::fma(simd::to_float(dot),
                         factor<Arch, MultiplyScales>(byte << mxfp4::detail::f32_mantissa_bits, token_scale), acc[v]);
    }
    scales += tile_rows;
    x += int8_activations::block_bytes_at(1);
  }
  MXFP4_UNROLL
  for (int v = 0; v < registers; ++v) acc[v].store_aligned(sums + v * dots::rows);
}

/// Blocks [first, first + blocks), at most `Blocks`, of the 16 rows from `row` on. False, and nothing done, where there
/// are not 16, or where some factor might not be a normal float: blocks of zeros are not looked for.
template <class Arch, int Blocks, class Byte, block_layout Layout>
[[nodiscard]] bool multiply_int8_view(const basic_mx_view<Byte, Layout>& w, std::int64_t row, std::int64_t first,
                                      std::int64_t blocks, const group_ref& x, group_sums& sums) noexcept {
  if (row + tile_rows > w.rows) return false;
  alignas(64) std::uint8_t scales[static_cast<std::size_t>(Blocks * tile_rows)];
  gather_scales(w, row, first, blocks, scales);
  if (!is_regular(all_scales_range(scales, blocks), x.scale_exponents)) return false;
  const std::uint8_t* const codes = w.block_codes(row, first);
  const std::int64_t stride = w.block_codes(row + 1, first) - codes;
  const std::uint8_t* const next = row + 2 * tile_rows <= w.rows ? codes + tile_rows * stride : codes;
  if (x.multiply_scales)
    multiply_int8_view_rows<Arch, true, Layout>(codes, stride, next, scales, x.blocks, blocks, sums.at[0]);
  else multiply_int8_view_rows<Arch, false, Layout>(codes, stride, next, scales, x.blocks, blocks, sums.at[0]);
  return true;
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
