// mxfp4/simd/dot.hpp -- four-bit weights to bytes, and dot products of four bytes per lane.
// SPDX-License-Identifier: Apache-2.0
//
// A lane is a row of a tile (packed_matrix.hpp) and holds four consecutive elements, a quad. Weights are twice their
// value plus zero_point<Arch>: 12 makes them the unsigned operand 0..24 of x86's instructions, and the -12 * sum of
// the block's activation codes is where such a sum starts; NEON multiplies signed bytes and has no bias.
//
//   path                 instructions for a quad         partial sums
//   avx512vnni, avxvnni  vpdpbusd                        int32
//   avx512bw, avx2       vpmaddubsw, vpaddw              int16, four quads at the most: 4 * 2 * 24 * 127 = 24384
//   sse2                 punpck, pmaddwd                 int32 pairs
//   neon dotprod         sdot                            int32; neon i8mm, two tokens and more: smmla, mmla.hpp
//   neon                 smlal                           int16, eight quads: 8 * 12 * 127 = 12192
// All are exact, so all are equal. Reads: batch.hpp.  Read by: mmla.hpp, kernel/int8.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mxfp4/simd/batch.hpp"

namespace mxfp4::simd {
inline namespace MXFP4_ISA_NS {

enum class dot_path { portable, sse2, avx2, avxvnni, avx512bw, avx512vnni, neon, neon_dotprod };

template <class Arch>
inline constexpr dot_path dot_path_of = [] {
  [[maybe_unused]] constexpr bool native = std::is_same_v<Arch, native_arch>;
#if defined(__AVX512VNNI__)
  if constexpr (has_avx512bw<Arch> && native) return dot_path::avx512vnni;
#endif
#if defined(__AVXVNNI__)
  if constexpr (!has_avx512bw<Arch> && has_avx2<Arch> && native) return dot_path::avxvnni;
#endif
  if constexpr (has_avx512bw<Arch>) return dot_path::avx512bw;
  else if constexpr (has_avx2<Arch>) return dot_path::avx2;
  else if constexpr (std::is_base_of_v<xsimd::sse2, Arch> && !std::is_base_of_v<xsimd::avx, Arch>)
    return dot_path::sse2;
#if defined(__ARM_FEATURE_DOTPROD)
  else if constexpr (has_neon64<Arch>) return dot_path::neon_dotprod;
#endif
  else if constexpr (has_neon64<Arch>) return dot_path::neon;
  else return dot_path::portable;
}();

template <class Arch>
using byte_lanes = simd::batch<std::uint8_t, Arch>;
template <class Arch>
using int_lanes = simd::batch<std::int32_t, Arch>;
template <class Arch>
using float_lanes = simd::batch<float, Arch>;

/// Rows in a register.
template <class Arch>
inline constexpr int rows_per_register = static_cast<int>(int_lanes<Arch>::size);

/// What is added to twice a weight.
template <class Arch>
inline constexpr int zero_point = has_neon64<Arch> ? 0 : 12;

namespace detail {

/// Twice the weight of each code, plus the bias.
template <class Arch>
inline constexpr auto weight_table = [] {
  constexpr int doubled[8] = {0, 1, 2, 3, 4, 6, 8, 12};
  struct {
    alignas(64) std::uint8_t entry[64];
  } t{};
  for (int i = 0; i < 64; ++i)
    t.entry[i] = static_cast<std::uint8_t>(zero_point<Arch> + (i % 16 < 8 ? doubled[i % 8] : -doubled[i % 8]));
  return t;
}();

}  // namespace detail

/// The low and the high nibbles of a register's worth of a line as biased weights.
template <class Arch>
MXFP4_INLINE void decode_quads(const std::uint8_t* line, byte_lanes<Arch>& low, byte_lanes<Arch>& high) noexcept {
  using bytes = byte_lanes<Arch>;
  [[maybe_unused]] const std::uint8_t* const table = detail::weight_table<Arch>.entry;
  if constexpr (has_avx512vbmi<Arch>) {
#if defined(__AVX512VBMI__)  // vpermb takes six index bits: a table that repeats four times needs no mask
    const __m512i t = _mm512_load_si512(table), codes = _mm512_loadu_si512(line);
    low = bytes(_mm512_permutexvar_epi8(codes, t));
    high = bytes(_mm512_permutexvar_epi8(_mm512_srli_epi16(codes, 4), t));
#endif
  } else if constexpr (has_avx512bw<Arch>) {
#if defined(__AVX512BW__)
    const __m512i t = _mm512_load_si512(table), codes = _mm512_loadu_si512(line), mask = _mm512_set1_epi8(15);
    low = bytes(_mm512_shuffle_epi8(t, _mm512_and_si512(codes, mask)));
    high = bytes(_mm512_shuffle_epi8(t, _mm512_and_si512(_mm512_srli_epi16(codes, 4), mask)));
#endif
  } else if constexpr (has_avx2<Arch>) {
#if defined(__AVX2__)
    const __m256i t = _mm256_load_si256(reinterpret_cast<const __m256i*>(table));
    const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line)), mask = _mm256_set1_epi8(15);
    low = bytes(_mm256_shuffle_epi8(t, _mm256_and_si256(codes, mask)));
    high = bytes(_mm256_shuffle_epi8(t, _mm256_and_si256(_mm256_srli_epi16(codes, 4), mask)));
#endif
  } else if constexpr (dot_path_of<Arch> == dot_path::sse2) {
#if defined(__SSE2__)  // no byte shuffle: 2|v| = m + [m > 4] + [m > 5] + 3 [m > 6]
    const auto weights = [](__m128i code) noexcept {
      const __m128i m = _mm_and_si128(code, _mm_set1_epi8(7)), minus = _mm_cmpgt_epi8(code, _mm_set1_epi8(7));
      __m128i w = _mm_sub_epi8(m, _mm_cmpgt_epi8(m, _mm_set1_epi8(4)));
      w = _mm_sub_epi8(w, _mm_cmpgt_epi8(m, _mm_set1_epi8(5)));
      w = _mm_add_epi8(w, _mm_and_si128(_mm_cmpgt_epi8(m, _mm_set1_epi8(6)), _mm_set1_epi8(3)));
      w = _mm_sub_epi8(_mm_xor_si128(w, minus), minus);
      return _mm_add_epi8(w, _mm_set1_epi8(zero_point<Arch>));
    };
    const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(line)), mask = _mm_set1_epi8(15);
    low = bytes(weights(_mm_and_si128(codes, mask)));
    high = bytes(weights(_mm_and_si128(_mm_srli_epi16(codes, 4), mask)));
#endif
  } else if constexpr (has_neon64<Arch>) {
#if defined(__aarch64__)
    const uint8x16_t t = vld1q_u8(table), codes = vld1q_u8(line);
    low = bytes(vqtbl1q_u8(t, vandq_u8(codes, vdupq_n_u8(15))));
    high = bytes(vqtbl1q_u8(t, vshrq_n_u8(codes, 4)));
#endif
  } else {
    alignas(64) std::uint8_t l[bytes::size], h[bytes::size];
    for (std::size_t i = 0; i < bytes::size; ++i) {
      l[i] = table[line[i] & 15u];
      h[i] = table[line[i] >> 4];
    }
    low = bytes::load_aligned(l);
    high = bytes::load_aligned(h);
  }
}

/// Four activation codes, to be multiplied with every row's quad.
[[nodiscard]] MXFP4_INLINE std::int32_t load_quad(const std::uint8_t* codes) noexcept {
  std::int32_t quad = 0;
  std::memcpy(&quad, codes, sizeof quad);
  return quad;
}

/// A block's sum in the making, for one token: start(initial_sum), add each of the 8 quads once, half 0 for the first
/// four and 1 for the others, then sum(). `initial_sum` is -12 * (sum of the token's codes); where there is no bias it
/// is not used.
template <class Arch, dot_path = dot_path_of<Arch>>
struct block_sum {
  MXFP4_INLINE void start(std::int32_t initial_sum) noexcept {
    for (std::int32_t& lane : lanes) lane = zero_point<Arch> != 0 ? initial_sum : 0;
  }
  MXFP4_INLINE void add(int, const byte_lanes<Arch>& weights, std::int32_t quad) noexcept {
    alignas(64) std::uint8_t w[byte_lanes<Arch>::size];
    weights.store_aligned(w);
    std::int8_t x[4];
    std::memcpy(x, &quad, sizeof x);
    for (std::size_t i = 0; i < byte_lanes<Arch>::size; ++i)
      lanes[i / 4] += (zero_point<Arch> != 0 ? int{w[i]} : int{static_cast<std::int8_t>(w[i])}) * x[i % 4];
  }
  [[nodiscard]] MXFP4_INLINE int_lanes<Arch> sum() const noexcept { return int_lanes<Arch>::load_aligned(lanes); }

  alignas(64) std::int32_t lanes[int_lanes<Arch>::size];
};

#if defined(__AVX512VNNI__)
template <class Arch>
struct block_sum<Arch, dot_path::avx512vnni> {
  MXFP4_INLINE void start(std::int32_t initial_sum) noexcept { lanes = _mm512_set1_epi32(initial_sum); }
  MXFP4_INLINE void add(int, const byte_lanes<Arch>& weights, std::int32_t quad) noexcept {
    lanes = _mm512_dpbusd_epi32(lanes, weights, _mm512_set1_epi32(quad));
  }
  [[nodiscard]] MXFP4_INLINE int_lanes<Arch> sum() const noexcept { return int_lanes<Arch>(lanes); }

  __m512i lanes;
};
#endif

#if defined(__AVXVNNI__)
template <class Arch>
struct block_sum<Arch, dot_path::avxvnni> {
  MXFP4_INLINE void start(std::int32_t initial_sum) noexcept { lanes = _mm256_set1_epi32(initial_sum); }
  MXFP4_INLINE void add(int, const byte_lanes<Arch>& weights, std::int32_t quad) noexcept {
    lanes = _mm256_dpbusd_avx_epi32(lanes, weights, _mm256_set1_epi32(quad));
  }
  [[nodiscard]] MXFP4_INLINE int_lanes<Arch> sum() const noexcept { return int_lanes<Arch>(lanes); }

  __m256i lanes;
};
#endif

#if defined(__AVX512BW__)
template <class Arch>
struct block_sum<Arch, dot_path::avx512bw> {
  MXFP4_INLINE void start(std::int32_t s) noexcept {
    initial_sum = s;
    pairs[0] = pairs[1] = _mm512_setzero_si512();
  }
  MXFP4_INLINE void add(int half, const byte_lanes<Arch>& weights, std::int32_t quad) noexcept {
    pairs[half] = _mm512_add_epi16(pairs[half], _mm512_maddubs_epi16(weights, _mm512_set1_epi32(quad)));
  }
  [[nodiscard]] MXFP4_INLINE int_lanes<Arch> sum() const noexcept {
    const __m512i one = _mm512_set1_epi16(1);
    const __m512i both = _mm512_add_epi32(_mm512_madd_epi16(pairs[0], one), _mm512_madd_epi16(pairs[1], one));
    return int_lanes<Arch>(_mm512_add_epi32(both, _mm512_set1_epi32(initial_sum)));
  }

  __m512i pairs[2];
  std::int32_t initial_sum;
};
#endif

#if defined(__AVX2__)
template <class Arch>
struct block_sum<Arch, dot_path::avx2> {
  MXFP4_INLINE void start(std::int32_t s) noexcept {
    initial_sum = s;
    pairs[0] = pairs[1] = _mm256_setzero_si256();
  }
  MXFP4_INLINE void add(int half, const byte_lanes<Arch>& weights, std::int32_t quad) noexcept {
    pairs[half] = _mm256_add_epi16(pairs[half], _mm256_maddubs_epi16(weights, _mm256_set1_epi32(quad)));
  }
  [[nodiscard]] MXFP4_INLINE int_lanes<Arch> sum() const noexcept {
    const __m256i one = _mm256_set1_epi16(1);
    const __m256i both = _mm256_add_epi32(_mm256_madd_epi16(pairs[0], one), _mm256_madd_epi16(pairs[1], one));
    return int_lanes<Arch>(_mm256_add_epi32(both, _mm256_set1_epi32(initial_sum)));
  }

  __m256i pairs[2];
  std::int32_t initial_sum;
};
#endif

#if defined(__SSE2__)
template <class Arch>
struct block_sum<Arch, dot_path::sse2> {
  MXFP4_INLINE void start(std::int32_t s) noexcept {
    initial_sum = s;
    pairs[0] = pairs[1] = _mm_setzero_si128();
  }
  MXFP4_INLINE void add(int, const byte_lanes<Arch>& weights, std::int32_t quad) noexcept {
    const __m128i q = _mm_set1_epi32(quad), x = _mm_srai_epi16(_mm_unpacklo_epi8(q, q), 8), zero = _mm_setzero_si128();
    pairs[0] = _mm_add_epi32(pairs[0], _mm_madd_epi16(_mm_unpacklo_epi8(weights, zero), x));
    pairs[1] = _mm_add_epi32(pairs[1], _mm_madd_epi16(_mm_unpackhi_epi8(weights, zero), x));
  }
  [[nodiscard]] MXFP4_INLINE int_lanes<Arch> sum() const noexcept {  // rows 0, 1 | 2, 3, each as two partial sums
    const __m128 a = _mm_castsi128_ps(pairs[0]), b = _mm_castsi128_ps(pairs[1]);
    const __m128i even = _mm_castps_si128(_mm_shuffle_ps(a, b, 0x88)),
                  odd = _mm_castps_si128(_mm_shuffle_ps(a, b, 0xDD));
    return int_lanes<Arch>(_mm_add_epi32(_mm_add_epi32(even, odd), _mm_set1_epi32(initial_sum)));
  }

  __m128i pairs[2];
  std::int32_t initial_sum;
};
#endif

#if defined(__aarch64__)
template <class Arch>
struct block_sum<Arch, dot_path::neon> {
  MXFP4_INLINE void start(std::int32_t) noexcept { pairs[0] = pairs[1] = vdupq_n_s16(0); }
  MXFP4_INLINE void add(int, const byte_lanes<Arch>& weights, std::int32_t quad) noexcept {
    const int8x16_t w = vreinterpretq_s8_u8(weights), x = vreinterpretq_s8_s32(vdupq_n_s32(quad));
    pairs[0] = vmlal_s8(pairs[0], vget_low_s8(w), vget_low_s8(x));
    pairs[1] = vmlal_high_s8(pairs[1], w, x);
  }
  [[nodiscard]] MXFP4_INLINE int_lanes<Arch> sum() const noexcept {
    return int_lanes<Arch>(vpaddq_s32(vpaddlq_s16(pairs[0]), vpaddlq_s16(pairs[1])));
  }

  int16x8_t pairs[2];
};
#endif

#if defined(__ARM_FEATURE_DOTPROD)
template <class Arch>
struct block_sum<Arch, dot_path::neon_dotprod> {
  MXFP4_INLINE void start(std::int32_t) noexcept { lanes = vdupq_n_s32(0); }
  MXFP4_INLINE void add(int, const byte_lanes<Arch>& weights, std::int32_t quad) noexcept {
    lanes = vdotq_s32(lanes, vreinterpretq_s8_u8(weights), vreinterpretq_s8_s32(vdupq_n_s32(quad)));
  }
  [[nodiscard]] MXFP4_INLINE int_lanes<Arch> sum() const noexcept { return int_lanes<Arch>(lanes); }

  int32x4_t lanes;
};
#endif

/// One quad of weights onto the sums of some tokens, whose quads lie one after the other at `codes`.
template <class Arch, std::size_t Tokens>
MXFP4_INLINE void add_quads(block_sum<Arch> (&dot)[Tokens], int half, const byte_lanes<Arch>& weights,
                            const std::uint8_t* codes) noexcept {
#if defined(__ARM_FEATURE_DOTPROD)
  if constexpr (dot_path_of<Arch> == dot_path::neon_dotprod && (Tokens == 2 || Tokens == 4)) {
    // sdot takes a lane for all rows: one load for the tokens, and no copies of a quad
    const int8x16_t w = vreinterpretq_s8_u8(weights);
    if constexpr (Tokens == 2) {
      const int8x8_t x = vreinterpret_s8_u8(vld1_u8(codes));
      dot[0].lanes = vdotq_lane_s32(dot[0].lanes, w, x, 0);
      dot[1].lanes = vdotq_lane_s32(dot[1].lanes, w, x, 1);
    } else {
      const int8x16_t x = vreinterpretq_s8_u8(vld1q_u8(codes));
      dot[0].lanes = vdotq_laneq_s32(dot[0].lanes, w, x, 0);
      dot[1].lanes = vdotq_laneq_s32(dot[1].lanes, w, x, 1);
      dot[2].lanes = vdotq_laneq_s32(dot[2].lanes, w, x, 2);
      dot[3].lanes = vdotq_laneq_s32(dot[3].lanes, w, x, 3);
    }
    return;
  }
#endif
  MXFP4_UNROLL
  for (std::size_t t = 0; t < Tokens; ++t) dot[t].add(half, weights, load_quad(codes + 4 * t));
}

/// Scale bytes as int32 lanes; reads rows_per_register bytes.
template <class Arch>
[[nodiscard]] MXFP4_INLINE int_lanes<Arch> widen_bytes(const std::uint8_t* bytes) noexcept {
  if constexpr (has_avx512bw<Arch>) {
#if defined(__AVX512BW__)
    return int_lanes<Arch>(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes))));
#endif
  } else if constexpr (has_avx2<Arch>) {
#if defined(__AVX2__)
    return int_lanes<Arch>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes))));
#endif
  } else if constexpr (dot_path_of<Arch> == dot_path::sse2) {
#if defined(__SSE2__)
    const __m128i zero = _mm_setzero_si128(), four = _mm_cvtsi32_si128(load_quad(bytes));
    return int_lanes<Arch>(_mm_unpacklo_epi16(_mm_unpacklo_epi8(four, zero), zero));
#endif
  } else if constexpr (has_neon64<Arch>) {
#if defined(__aarch64__)
    const uint8x8_t four = vreinterpret_u8_s32(vdup_n_s32(load_quad(bytes)));
    return int_lanes<Arch>(vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(four)))));
#endif
  } else {
    alignas(64) std::int32_t lanes[int_lanes<Arch>::size];
    for (std::size_t i = 0; i < int_lanes<Arch>::size; ++i) lanes[i] = bytes[i];
    return int_lanes<Arch>::load_aligned(lanes);
  }
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd
