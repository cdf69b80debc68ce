// mxfp4/simd/avx512vnni_fp8_table.hpp -- four rows of 128 FP8 weights -> codes, scales and what was lost: vpermi2b.
// SPDX-License-Identifier: Apache-2.0
//
// The tables and the places in them: fp8_table.hpp. One vpermi2b looks up 64 weights whatever their scales are.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mxfp4/simd/avx512bw.hpp"
#include "mxfp4/simd/avx512vnni.hpp"
#include "mxfp4/simd/fp8_table.hpp"
#include "mxfp4/simd/words.hpp"

#if defined(__AVX512VBMI__) && defined(__AVX512BW__)

namespace mxfp4::inline MXFP4_VERSION_NS::simd {
inline namespace MXFP4_ISA_NS {

namespace detail {

inline constexpr int first_index = 120;  ///< of the last binade of a table

/// A number for each of the 16 blocks of a tile is in lane 4 (2 h + b) + r: row r, half h of the row, block b of the
/// half. The indices by which a permutation spreads the two numbers of (r, h) over the lanes of its 64 weights.
template <class Lane, int Bytes>
[[nodiscard]] consteval std::array<std::array<Lane, 64 / sizeof(Lane)>, 8> make_spreads() noexcept {
  std::array<std::array<Lane, 64 / sizeof(Lane)>, 8> spreads{};
  constexpr std::size_t lanes = 64 / sizeof(Lane);
  for (unsigned i = 0; i < 8; ++i)
    for (unsigned lane = 0; lane < lanes; ++lane)
      spreads[i][lane] = static_cast<Lane>((8 * (i / 4) + 4 * (lane / (lanes / 2)) + i % 4) * Bytes);
  return spreads;
}
/// Indices of vpermb, vpermw and vpermps into sixteen lanes of 32 bits.
alignas(64) inline constexpr auto spread_bytes = make_spreads<std::uint8_t, 4>();
alignas(64) inline constexpr auto spread_words = make_spreads<std::uint16_t, 2>();
alignas(64) inline constexpr auto spread_floats = make_spreads<std::uint32_t, 1>();

[[nodiscard]] consteval std::array<std::uint8_t, 64> make_even_bytes() noexcept {
  std::array<std::uint8_t, 64> even{};
  for (unsigned i = 0; i < 64; ++i) even[i] = static_cast<std::uint8_t>(2 * i);
  return even;
}
alignas(64) inline constexpr std::array<std::uint8_t, 64> even_bytes = make_even_bytes();

/// 128 bytes to look up; bit 7 of an index does not count.
class table {
 public:
  explicit table(const std::uint8_t* bytes) noexcept
      : low_(_mm512_load_si512(bytes)), high_(_mm512_load_si512(bytes + 64)) {}
  [[nodiscard]] MXFP4_INLINE __m512i operator[](__m512i index) const noexcept {
    return _mm512_permutex2var_epi8(low_, index, high_);
  }

 private:
  __m512i low_, high_;
};

/// Row i of one of these.
template <class Spreads>
[[nodiscard]] MXFP4_INLINE __m512i spread(const Spreads& spreads, int i) noexcept {
  return _mm512_load_si512(spreads[static_cast<std::size_t>(i)].data());
}

/// Largest bytes of the sixteen blocks in eight registers: lane 8 (i / 4) + 4 b + i % 4 has block b of register i.
[[nodiscard]] MXFP4_INLINE __m512i largest_bytes(const __m512i (&x)[8]) noexcept {
  __m512i eighth[4], quarter[2];
  MXFP4_UNROLL
  for (int i = 0; i < 4; ++i)
    eighth[i] =
        _mm512_max_epu8(_mm512_unpacklo_epi64(x[2 * i], x[2 * i + 1]), _mm512_unpackhi_epi64(x[2 * i], x[2 * i + 1]));
  MXFP4_UNROLL
  for (int i = 0; i < 2; ++i) {
    const __m512 a = _mm512_castsi512_ps(eighth[2 * i]), b = _mm512_castsi512_ps(eighth[2 * i + 1]);
    quarter[i] = _mm512_max_epu8(_mm512_castps_si512(_mm512_shuffle_ps(a, b, 0x88)),
                                 _mm512_castps_si512(_mm512_shuffle_ps(a, b, 0xDD)));
  }
  __m512i all = _mm512_max_epu8(_mm512_shuffle_i32x4(quarter[0], quarter[1], 0x88),
                                _mm512_shuffle_i32x4(quarter[0], quarter[1], 0xDD));
  all = _mm512_max_epu8(all, _mm512_srli_epi32(all, 16));
  all = _mm512_max_epu8(all, _mm512_srli_epi32(all, 8));
  return _mm512_and_si512(all, _mm512_set1_epi32(0xFF));
}

/// Squares of 64 numbers, 32 in a register and bf16 each, added up: lane i has those of bytes 4 i .. 4 i + 3, in some
/// order within 128 bits.
template <has_avx512vbmi Arch>
struct bf16_squares {
  [[nodiscard]] MXFP4_INLINE static __m512 of(__m512i low, __m512i high) noexcept {
    const auto even = [](__m512i x) noexcept { return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16)); };
    const auto odd = [](__m512i x) noexcept {
      return _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32(static_cast<int>(0xFFFF0000))));
    };
    __m512 sum = _mm512_mul_ps(even(low), even(low));
    sum = _mm512_fmadd_ps(odd(low), odd(low), sum);
    sum = _mm512_fmadd_ps(even(high), even(high), sum);
    return _mm512_fmadd_ps(odd(high), odd(high), sum);
  }
};

MXFP4_INLINE void add_lanes(__m512 lanes, __m512d unit, double* to) noexcept {
  const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(lanes));
  const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(lanes, 1));
  _mm512_store_pd(to, _mm512_fmadd_pd(low, unit, _mm512_load_pd(to)));
  _mm512_store_pd(to + 8, _mm512_fmadd_pd(high, unit, _mm512_load_pd(to + 8)));
}

/// Adds up eight by eight.
MXFP4_INLINE void add_bytes(__m512i bytes, std::int64_t* to) noexcept {
  _mm512_store_si512(to, _mm512_add_epi64(_mm512_load_si512(to), _mm512_sad_epu8(bytes, _mm512_setzero_si512())));
}

/// The bytes of the words' halves, 64 each.
MXFP4_INLINE void split_words(__m512i first, __m512i second, std::uint8_t* low, std::uint8_t* high) noexcept {
  const __m512i even = _mm512_load_si512(even_bytes.data()), odd = _mm512_add_epi8(even, _mm512_set1_epi8(1));
  _mm512_store_si512(low, _mm512_permutex2var_epi8(first, even, second));
  _mm512_store_si512(high, _mm512_permutex2var_epi8(first, odd, second));
}

/// |w - q| of 32 weights, bf16, whose codes are bytes: exact.
[[nodiscard]] MXFP4_INLINE __m512i errors(__m512i weights, const std::uint8_t* code) noexcept {
  const __m512 numbers =
      _mm512_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f, 0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f);
  const auto sixteen = [&numbers](__m256i words, const std::uint8_t* codes) noexcept {
    const __m512 w = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16));
    const __m512i c = _mm512_cvtepu8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(codes)));
    const __m512 e = _mm512_abs_ps(_mm512_sub_ps(w, _mm512_permutexvar_ps(c, numbers)));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(e), 16));
  };
  const __m256i low = sixteen(_mm512_castsi512_si256(weights), code);
  const __m256i high = sixteen(_mm512_extracti64x4_epi64(weights, 1), code + 16);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

/// Adds the errors of a tile. `index` and `up` are those of encode_fp8_tile. A function of its own, so that the tables
/// of the encoding stay in registers.
template <has_avx512vbmi Arch>
MXFP4_INLINE void measure_fp8_tile(const __m512i (&index)[8], __m512i up, fp8_table& tables,
                                   fp8_table_sums& sums) noexcept {
  const table weight_low(tables.weight[0]), weight_high(tables.weight[1]);
  const table error_low(tables.error[0]), error_high(tables.error[1]), marks(tables.mark);
  const __m512i words = _mm512_slli_epi32(up, 4);  // what a scale adds to the word of a bf16
  const __m512 square = _mm512_castsi512_ps(       // 4^(up / 8 - 24)
      _mm512_add_epi32(_mm512_slli_epi32(up, 21), _mm512_set1_epi32((127 - 48) << 23)));
  __m512 squared_weights = _mm512_setzero_ps(), squared_error = _mm512_setzero_ps();
  __m512i largest = _mm512_load_si512(tables.largest.data()), marked = _mm512_setzero_si512();
  for (int j = 0; j < 8; ++j) {
    const int i = 4 * (j % 2) + j / 2;  // a row after the other
    const __m512i w0 = weight_low[index[i]], w1 = weight_high[index[i]];
    const __m512i e0 = error_low[index[i]], e1 = error_high[index[i]];
    const __m512i low = _mm512_unpacklo_epi8(e0, e1), high = _mm512_unpackhi_epi8(e0, e1);
    const __m512 unit = _mm512_permutexvar_ps(spread(spread_floats, i), square);
    const __m512 squares = bf16_squares<Arch>::of(_mm512_unpacklo_epi8(w0, w1), _mm512_unpackhi_epi8(w0, w1));
    squared_weights = _mm512_fmadd_ps(squares, unit, squared_weights);
    squared_error = _mm512_fmadd_ps(bf16_squares<Arch>::of(low, high), unit, squared_error);
    const __m512i scale = _mm512_permutexvar_epi16(spread(spread_words, i), words);
    largest = _mm512_max_epu16(largest, _mm512_add_epi16(_mm512_max_epu16(low, high), scale));
    marked = _mm512_add_epi8(marked, marks[index[i]]);
  }
  _mm512_store_si512(tables.largest.data(), largest);
  const __m512d unit = _mm512_set1_pd(fp8_table::unit(127 + 2 * (tables.byte + 24 - 127)));
  add_lanes(squared_weights, unit, sums.squared_weights.data());
  add_lanes(squared_error, unit, sums.squared_error.data());
  const __m512i nibbles = _mm512_set1_epi8(15);
  add_bytes(_mm512_and_si512(marked, nibbles), sums.saturated.data());
  add_bytes(_mm512_and_si512(_mm512_srli_epi16(marked, 4), nibbles), sums.zeroed.data());
}

/// Adds the errors of weights that are not 0 and so far below the largest of their block that they have no index: their
/// code is 0, so the error is the weight.
inline void measure_least_weights(const e4m3* w, std::int64_t stride, const __m512i (&index)[8],
                                  const fp8_table& tables, fp8_table_sums& sums) noexcept {
  for (int i = 0; i < 8; ++i) {
    const e4m3* const from = w + i % 4 * stride + i / 4 * 64;
    const __mmask64 least = _mm512_mask_testn_epi8_mask(
        _mm512_test_epi8_mask(_mm512_loadu_si512(from), _mm512_set1_epi8(0x7F)), index[i], index[i]);
    for (std::uint64_t left = least; left != 0; left &= left - 1) {
      const double lost =
          std::abs(static_cast<double>(decode(decode_scaled(from[std::countr_zero(left)], tables.scale))));
      sums.squared_weights[0] += lost * lost;
      sums.squared_error[0] += lost * lost;
      sums.max_error = std::max(sums.max_error, lost);
      ++sums.zeroed[0];
    }
  }
}

}  // namespace detail

/// Makes the tables of an FP8 scale under a recipe; those of weights and errors where `Measured`.
template <has_avx512vbmi Arch, bool Measured, class Words>
void make_fp8_table(const Words& recipe, float scale, fp8_table& to) noexcept {
  const place_rule rule = recipe.place();
  constexpr std::uint32_t reach = 10;  // binades from the scale to any weight's
  const std::uint32_t exponent = mxfp4::detail::float_bits(scale) >> mxfp4::detail::f32_mantissa_bits;
  to.regular = rule.last >= rule.first && exponent >= rule.first + reach && exponent + reach <= rule.last &&
               exponent >= 27 && exponent <= 227;  // a scale < 0 has bit 8 set
  if (!to.regular) return;
  to.scale = scale;

  alignas(16) std::uint16_t binade[8];
  for (unsigned m = 0; m < 8; ++m)
    binade[m] = static_cast<std::uint16_t>(decode_scaled(static_cast<e4m3>(8 + m), scale));
  const auto binade_of = [&binade, carry = rule.carry](unsigned m) noexcept {
    return static_cast<int>((binade[m] + carry) >> 7);
  };
  int below = 0;  // of the eight, which the scale rule takes for the same binade as the first
  for (unsigned m = 0; m < 8; ++m) below += binade_of(m) == binade_of(0) ? 1 : 0;
  to.carry = 8 - below;
  to.byte = binade_of(0) - 17 - static_cast<int>(rule.down);

  // words of |w| / s for all indices
  const int lowest = 127 + static_cast<int>(rule.down) - binade_of(0) - detail::first_index / 8;
  const __m512i eight = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(binade)));
  __m512i lanes = _mm512_broadcastw_epi16(_mm_cvtsi32_si128(lowest * 128));
  lanes = _mm512_add_epi16(
      lanes, _mm512_inserti64x4(
                 _mm512_castsi256_si512(_mm256_inserti128_si256(_mm256_setzero_si256(), _mm_set1_epi16(128), 1)),
                 _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_set1_epi16(256)), _mm_set1_epi16(384), 1), 1));
  word_block<Arch> words[4];
  std::uint8_t positive[64], negative[64];
  const word_scale& one = recipe.scale(127);
  for (int i = 0; i < 4; ++i) {
    words[i].word = _mm512_add_epi16(eight, _mm512_add_epi16(lanes, _mm512_set1_epi16(static_cast<short>(512 * i))));
    if (i == 0) words[i].word = _mm512_maskz_mov_epi16(0xFFFFFFFEu, words[i].word);  // index 0 is a weight of 0
    words[i].template encode<low_first>(recipe, one, positive + 16 * i);
    word_block<Arch> below_zero;
    below_zero.word = _mm512_or_si512(words[i].word, _mm512_set1_epi16(-0x8000));
    below_zero.template encode<low_first>(recipe, one, negative + 16 * i);
  }
  for (int i = 0; i < 64; ++i) {
    to.code[2 * i] = static_cast<std::uint8_t>((positive[i] & 15) | negative[i] << 4);
    to.code[2 * i + 1] = static_cast<std::uint8_t>(positive[i] >> 4 | (negative[i] & 0xF0));
  }
  if constexpr (Measured) {
    to.largest = {};
    for (int i = 0; i < 4; i += 2) {
      detail::split_words(words[i].word, words[i + 1].word, to.weight[0] + 32 * i, to.weight[1] + 32 * i);
      detail::split_words(detail::errors(words[i].word, to.code + 32 * i),
                          detail::errors(words[i + 1].word, to.code + 32 * i + 32), to.error[0] + 32 * i,
                          to.error[1] + 32 * i);
      const __m512i six = _mm512_set1_epi16(0x40C0);
      const __mmask64 above_six = _mm512_cmpgt_epu16_mask(words[i].word, six) |
                                  std::uint64_t{_mm512_cmpgt_epu16_mask(words[i + 1].word, six)} << 32;
      const __mmask64 zeroed =
          _mm512_testn_epi8_mask(_mm512_load_si512(to.code + 32 * i), _mm512_set1_epi8(7)) & (i == 0 ? ~1ULL : ~0ULL);
      _mm512_store_si512(to.mark + 32 * i,
                         _mm512_or_si512(_mm512_maskz_set1_epi8(above_six, 1), _mm512_maskz_set1_epi8(zeroed, 16)));
    }
  }
}

/// counts[v] += the number of bytes with value v, among those of 64 bytes whose bit in `which` is set. Counts one value
/// at a time, all its bytes at once: a tensor has few different scale bytes.
inline void count_bytes(const std::uint8_t* bytes, std::uint64_t which,
                        std::array<std::int64_t, 256>& counts) noexcept {
  const __m512i all = _mm512_maskz_loadu_epi8(which, bytes);
  while (which != 0) {
    const std::uint8_t byte = bytes[std::countr_zero(which)];
    const std::uint64_t equal = _mm512_mask_cmpeq_epi8_mask(which, all, _mm512_set1_epi8(static_cast<char>(byte)));
    counts[byte] += std::popcount(equal);
    which &= ~equal;
  }
}

/// Four rows of 128 weights -> codes and scales, and what was lost added to `sums` where `Measured`: all but `scales`,
/// which count_bytes takes from the output. False, and nothing is added, where a weight is NaN or a block has nothing
/// but 0 and 2^-9: the caller then encodes the tile in another way.
/// Accuracy: errors are exact; a square is rounded at most thirteen times before it is part of a double.
/// @param stride  bytes from one row of weights to the next; code_stride, scale_stride: of the output.
template <has_avx512vbmi Arch, bool Measured>
[[nodiscard]] MXFP4_INLINE bool encode_fp8_tile(const e4m3* w, std::int64_t stride, fp8_table& tables,
                                                std::uint8_t* codes, std::int64_t code_stride, std::uint8_t* scales,
                                                std::int64_t scale_stride, fp8_table_sums& sums) noexcept {
  const detail::table places(mxfp4::detail::fp8_places.data()), code(tables.code);
  __m512i place[8];
  MXFP4_UNROLL
  for (int i = 0; i < 8; ++i) place[i] = places[_mm512_loadu_si512(w + i % 4 * stride + i / 4 * 64)];
  const __m512i top = detail::largest_bytes(place);
  const __m512i least = _mm512_set1_epi32(detail::first_index);
  if (_mm512_cmpgt_epu32_mask(_mm512_sub_epi32(top, least), _mm512_set1_epi32(254 - detail::first_index)) != 0)
      [[unlikely]]
    return false;
  const __m512i up = _mm512_and_si512(_mm512_add_epi32(top, _mm512_set1_epi32(tables.carry)), _mm512_set1_epi32(-8));
  const __m512i down = _mm512_sub_epi32(up, least);
  const __m512i byte = _mm512_add_epi32(_mm512_srli_epi32(up, 3), _mm512_set1_epi32(tables.byte));
  const __m128i by_row =
      _mm_shuffle_epi8(_mm512_cvtepi32_epi8(byte), _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  alignas(16) std::uint8_t bytes[16];
  _mm_store_si128(reinterpret_cast<__m128i*>(bytes), by_row);
  for (int r = 0; r < 4; ++r) std::memcpy(scales + r * scale_stride, bytes + 4 * r, 4);

  alignas(64) __m512i index[8];
  __m512i least_index = _mm512_set1_epi8(1);  // any index that is not 0
  MXFP4_UNROLL
  for (int r = 0; r < 4; ++r) {
    __m512i pair[2];
    MXFP4_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int i = 4 * h + r;
      const __m512i raw = _mm512_loadu_si512(w + r * stride + h * 64);
      const __mmask64 nonzero = _mm512_test_epi8_mask(raw, _mm512_set1_epi8(0x7F));
      const __m512i distance =
          _mm512_subs_epu8(place[i], _mm512_permutexvar_epi8(detail::spread(detail::spread_bytes, i), down));
      const __m512i at = _mm512_maskz_max_epu8(nonzero, distance, _mm512_set1_epi8(1));
      if constexpr (Measured) {
        index[i] = distance;
        least_index = _mm512_mask_min_epu8(least_index, nonzero, least_index, distance);
      }
      const __m512i both = code[at];
      const __m512i nibble = _mm512_mask_blend_epi8(_mm512_movepi8_mask(raw), both, _mm512_srli_epi16(both, 4));
      pair[h] = _mm512_maddubs_epi16(_mm512_and_si512(nibble, _mm512_set1_epi8(15)), _mm512_set1_epi16(0x1001));
    }
    const __m512i packed = _mm512_permutex2var_epi8(pair[0], _mm512_load_si512(detail::even_bytes.data()), pair[1]);
    _mm512_storeu_si512(codes + r * code_stride, packed);
  }
  if constexpr (Measured) {
    detail::measure_fp8_tile<Arch>(index, up, tables, sums);
    if (_mm512_testn_epi8_mask(least_index, least_index) != 0) [[unlikely]]
      detail::measure_least_weights(w, stride, index, tables, sums);
  }
  return true;
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd

#endif
