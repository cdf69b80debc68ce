// mxfp4/simd/neon_i8mm.hpp -- two tokens times two rows, eight elements at a time: smmla.
// SPDX-License-Identifier: Apache-2.0
//
//   a register of   holds                                            made of
//   tokens          8 codes of token t     | 8 codes of t + 1        quads q, q + 1 of the group (activation.hpp)
//   rows            8 weights of row r     | 8 weights of r + 1      lines g, g + 1 of the tile (packed_matrix.hpp)
//   sums            (t, r)   (t, r + 1)    | (t + 1, r)   (t + 1, r + 1)
//
// In memory both are quads, in the order for sdot: a zip of 32-bit lanes puts two quads of a row side by side. That
// takes one instruction for a register of tokens, and one for two registers of rows, which are zipped as codes, before
// low and high nibbles are separated. An smmla does as many products as two sdot, 32; the sums keep this order from the
// first block to the last.
// Exact: a block is at most 32 * 12 * 127.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "mxfp4/simd/dot.hpp"
#include "mxfp4/simd/neon_dotprod.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::simd {
inline namespace MXFP4_ISA_NS {

template <class Arch>
concept has_mmla =
#if defined(__ARM_FEATURE_MATMUL_INT8)
    has_neon64<Arch> && std::is_base_of_v<xsimd::i8mm<xsimd::neon64>, Arch>;
#else
    false;
#endif

#if defined(__ARM_FEATURE_MATMUL_INT8)

template <class Arch>
  requires has_mmla<Arch> && has_neon_dotprod<Arch>
inline constexpr const char* isa_name<Arch> = "neon_i8mm";

template <has_mmla Arch>
struct mmla<Arch> {
  using bytes = int8x16_t;     ///< of tokens or of rows
  using products = int32x4_t;  ///< the sums of a block

  /// Four rows in lines g and g + 1, g even: `codes` points at the first row in line g. low: twice the weights of rows
  /// 0, 1 and of rows 2, 3 in columns 4g .. 4g + 7; high: 16 columns further.
  MXFP4_INLINE static void load_rows(const std::uint8_t* codes, bytes* low, bytes* high) noexcept {
    const uint8x16_t table = vld1q_u8(detail::weight_table<Arch>.entry);
    const uint32x4_t line = load_words(codes), next = load_words(codes + 64);  // tile_line_bytes
    const uint8x16_t pair[2] = {vreinterpretq_u8_u32(vzip1q_u32(line, next)),
                                vreinterpretq_u8_u32(vzip2q_u32(line, next))};
    MXFP4_UNROLL
    for (int p = 0; p < 2; ++p) {
      low[p] = vreinterpretq_s8_u8(vqtbl1q_u8(table, vandq_u8(pair[p], vdupq_n_u8(15))));
      high[p] = vreinterpretq_s8_u8(vqtbl1q_u8(table, vshrq_n_u8(pair[p], 4)));
    }
  }

  /// 2, 4 or 8 tokens of a group of `Width`: `codes` points at the first of them in quad q; quads q and q + 1.
  template <int Width, std::size_t Pairs>
  MXFP4_INLINE static void load_tokens(const std::uint8_t* codes, bytes (&tokens)[Pairs]) noexcept {
    if constexpr (Width == 2) {  // one register has it all
      const uint8x16_t order = {0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15};
      tokens[0] = vreinterpretq_s8_u8(vqtbl1q_u8(vld1q_u8(codes), order));
    } else {
      MXFP4_UNROLL
      for (std::size_t t = 0; t < Pairs; t += 2) {
        const uint32x4_t quad = load_words(codes + 8 * t), next = load_words(codes + 4 * Width + 8 * t);
        tokens[t] = vreinterpretq_s8_u32(vzip1q_u32(quad, next));
        tokens[t + 1] = vreinterpretq_s8_u32(vzip2q_u32(quad, next));
      }
    }
  }

  MXFP4_INLINE static void add(products& sum, bytes tokens, bytes rows) noexcept {
    sum = vmmlaq_s32(sum, tokens, rows);
  }

  /// A word for each of four rows -> registers in the order of the sums, of rows 0, 1 and of rows 2, 3.
  MXFP4_INLINE static void spread_rows(const int_lanes<Arch>& words, int_lanes<Arch>* pair) noexcept {
    const int64x2_t both = vreinterpretq_s64_s32(words);
    pair[0] = int_lanes<Arch>(vreinterpretq_s32_s64(vdupq_laneq_s64(both, 0)));
    pair[1] = int_lanes<Arch>(vreinterpretq_s32_s64(vdupq_laneq_s64(both, 1)));
  }
  /// A word in memory for each of two tokens -> a register in the order of the sums.
  [[nodiscard]] MXFP4_INLINE static int_lanes<Arch> spread_tokens(const std::uint8_t* words) noexcept {
    const int32x4_t two = vreinterpretq_s32_u8(vcombine_u8(vld1_u8(words), vdup_n_u8(0)));
    return int_lanes<Arch>(vzip1q_s32(two, two));
  }

  /// The sums of two rows and two tokens, the latter `stride` floats apart.
  [[nodiscard]] MXFP4_INLINE static float_lanes<Arch> load_sums(const float* from, std::ptrdiff_t stride) noexcept {
    return float_lanes<Arch>(vcombine_f32(vld1_f32(from), vld1_f32(from + stride)));
  }
  MXFP4_INLINE static void store_sums(const float_lanes<Arch>& sums, float* to, std::ptrdiff_t stride) noexcept {
    vst1_f32(to, vget_low_f32(sums));
    vst1_f32(to + stride, vget_high_f32(sums));
  }

 private:
  [[nodiscard]] MXFP4_INLINE static uint32x4_t load_words(const std::uint8_t* from) noexcept {
    return vreinterpretq_u32_u8(vld1q_u8(from));
  }
};

#endif

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd
