// mxfp4/simd/encode.hpp -- 32 numbers -> words; words -> their largest magnitude; words -> 16 bytes of codes.
// SPDX-License-Identifier: Apache-2.0
//
// A block is 32 words of 16 bits (words.hpp): one register of AVX-512, two of AVX2. A half binade of the scaled
// magnitude holds one boundary at the most: a table with an entry for each replaces seven compares by a permutation and
// an addition.
//
//   half binade   < .25 | .25  .375 | .5  .75 | 1   1.5 | 2    3  | 4    6      sum = magnitude + entry
//   codes           0   | 0|1   1   |  1  1|2 | 2|3 3|4 | 4|5 5|6 | 6|7  7      code = sum / half binade
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mxfp4/simd/isa.hpp"
#include "mxfp4/simd/widen.hpp"
#include "mxfp4/simd/words.hpp"

namespace mxfp4::simd {

inline namespace MXFP4_ISA_NS {

/// Blocks whose largest magnitudes are found together: the horizontal steps of eight cost little more than of one.
template <class Arch>
inline constexpr std::size_t blocks_together = has_avx2<Arch> ? 8 : 1;

/// 32 numbers as words.
template <class Arch>
struct word_block {
  alignas(64) std::uint16_t lane[block_size];

  template <element_type T>
  MXFP4_INLINE void load(const T* x) noexcept {
    if constexpr (std::same_as<T, bf16>) {
      std::memcpy(lane, x, sizeof lane);
    } else {
      for (int i = 0; i < block_size; ++i) {
        const std::uint32_t bits = mxfp4::detail::float_bits(decode(x[i]));
        lane[i] = static_cast<std::uint16_t>(bits >> 16 | ((bits & 0xFFFFu) != 0 ? 1u : 0u));
      }
    }
  }
  MXFP4_INLINE void load(const e4m3* x, const fp8_words& table) noexcept {
    for (int i = 0; i < block_size; ++i) lane[i] = table.word[static_cast<unsigned>(x[i])];
  }

  /// The words as bf16; every NaN as decode_scaled has it.
  MXFP4_INLINE void store(bf16* to) const noexcept {
    alignas(64) std::uint16_t words[block_size];
    for (int i = 0; i < block_size; ++i) words[i] = (lane[i] & word_abs_mask) > word_inf ? word_nan : lane[i];
    std::memcpy(to, words, sizeof words);
  }

  /// The largest magnitude of each block, as a word.
  MXFP4_INLINE static void amax(const word_block (&block)[1], std::uint32_t (&out)[1]) noexcept {
    std::int16_t largest = 0;  // signed: SSE2 has no other maximum of words
    for (const std::uint16_t w : block[0].lane) {
      const auto magnitude = static_cast<std::int16_t>(w & word_abs_mask);
      largest = magnitude > largest ? magnitude : largest;
    }
    out[0] = static_cast<std::uint32_t>(largest);
  }

  /// Does a magnitude equal `magnitude`?
  [[nodiscard]] MXFP4_INLINE bool has(std::uint16_t magnitude) const noexcept {
    unsigned found = 0;
    for (const std::uint16_t w : lane) found |= (w & word_abs_mask) == magnitude ? 1u : 0u;
    return found != 0;
  }

  /// Codes under `scale`, packed in `Order`.
  template <rounding_rule Round, zero_rule Zero, nibble_order Order>
  MXFP4_INLINE void encode(const word_scale& scale, std::uint8_t* codes) const noexcept {
    const auto sign_boundary = static_cast<std::int16_t>(scale.negative & word_abs_mask);
    std::int16_t boundary[7];
    for (unsigned i = 0; i < 7; ++i)
      boundary[i] = static_cast<std::int16_t>(
          mxfp4::detail::word_boundary(Round::base(i) + static_cast<unsigned>(Round::ulps(i))) - (125 * 128 - 64) +
          static_cast<int>(scale.offset & 0xFFFFu));
    alignas(16) std::uint16_t code[block_size];
    for (int i = 0; i < block_size; ++i) {  // written so that compilers vectorise it for any -m flags
      const auto magnitude = static_cast<std::int16_t>(lane[i] & word_abs_mask);
      int count = 0;
      for (const std::int16_t c : boundary) count += magnitude >= c ? 1 : 0;
      int sign = magnitude >= sign_boundary ? lane[i] >> 12 & 8 : 0;
      if constexpr (Zero::zero_is_negative) sign |= magnitude < sign_boundary ? 8 : 0;
      code[i] = static_cast<std::uint16_t>(count | sign);
    }
    for (int j = 0; j < block_code_bytes; ++j) {
      if constexpr (std::same_as<Order, half_split>) codes[j] = static_cast<std::uint8_t>(code[j] | code[j + 16] << 4);
      else if constexpr (std::same_as<Order, low_first>)
        codes[j] = static_cast<std::uint8_t>(code[2 * j] | code[2 * j + 1] << 4);
      else codes[j] = static_cast<std::uint8_t>(code[2 * j + 1] | code[2 * j] << 4);
    }
  }
};

namespace detail {
/// A word of two codes -> one byte of them: which half counts sixteen times.
template <nibble_order Order>
inline constexpr int nibble_weights = std::same_as<Order, low_first> ? 0x00100001 : 0x00010010;

#if defined(__AVX2__)

/// Largest words of eight blocks, each already folded to one register of 16 magnitudes.
MXFP4_INLINE void amax_of_eight(const __m256i (&h)[8], std::uint32_t (&out)[8]) noexcept {
  __m256i quarter[4], eighth[2];
  MXFP4_UNROLL
  for (int i = 0; i < 4; ++i)
    quarter[i] =
        _mm256_max_epu16(_mm256_blend_epi32(h[i], h[i + 4], 0xF0), _mm256_permute2x128_si256(h[i], h[i + 4], 0x21));
  MXFP4_UNROLL
  for (int i = 0; i < 2; ++i) {
    const __m256d a = _mm256_castsi256_pd(quarter[i]), b = _mm256_castsi256_pd(quarter[i + 2]);
    eighth[i] = _mm256_max_epu16(_mm256_castpd_si256(_mm256_blend_pd(a, b, 0xA)),
                                 _mm256_castpd_si256(_mm256_shuffle_pd(a, b, 0x5)));
  }
  const __m256i swapped = _mm256_shuffle_epi32(_mm256_blend_epi32(eighth[1], eighth[0], 0xAA), 0xB1);
  const __m256i pair = _mm256_max_epu16(_mm256_blend_epi32(eighth[0], eighth[1], 0xAA), swapped);
  const __m256i one = _mm256_and_si256(_mm256_max_epu16(pair, _mm256_srli_epi32(pair, 16)), _mm256_set1_epi32(0xFFFF));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), one);
}

MXFP4_INLINE void amax_of_one(__m256i h, std::uint32_t& out) noexcept {
  const __m128i m = _mm_max_epu16(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
  const __m128i least = _mm_minpos_epu16(_mm_xor_si128(m, _mm_set1_epi16(-1)));
  out = static_cast<std::uint32_t>(_mm_extract_epi16(least, 0)) ^ 0xFFFFu;
}

/// Sixteen floats -> sixteen words, in order.
MXFP4_INLINE __m256i odd_words(__m256i a, __m256i b) noexcept {
  const __m256i one = _mm256_set1_epi32(static_cast<int>(0xFFFF0001));
  const auto upper = [one](__m256i x) noexcept {  // the lower half, 0 or 1, joins the upper one
    const __m256i sticky = _mm256_min_epu16(x, one);
    return _mm256_srli_epi32(_mm256_or_si256(sticky, _mm256_slli_epi32(sticky, 16)), 16);
  };
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(upper(a), upper(b)), 0xD8);
}

#endif
}  // namespace detail

#if defined(__AVX2__)

template <class Arch>
  requires(has_avx2<Arch> && !has_avx512bw<Arch>)
struct word_block<Arch> {
  __m256i half[2];

  template <element_type T>
  MXFP4_INLINE void load(const T* x) noexcept {
    for (int i = 0; i < 2; ++i) {
      if constexpr (std::same_as<T, bf16>) {
        half[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x) + i);
      } else {
        const __m256 a = load_widened<Arch>(x + 16 * i), b = load_widened<Arch>(x + 16 * i + 8);
        half[i] = detail::odd_words(_mm256_castps_si256(a), _mm256_castps_si256(b));
      }
    }
  }
  /// A mantissa looked up among the eight of a binade, its exponent added; subnormals are looked up among themselves.
  /// NaN may come out with another sign.
  MXFP4_INLINE void load(const e4m3* x, const fp8_words& table) noexcept {
    if (!table.regular) [[unlikely]] {
      word_block<scalar_arch> plain;
      plain.load(x, table);
      std::memcpy(half, plain.lane, sizeof half);
      return;
    }
    const auto eight = [](const std::uint16_t* words) noexcept {
      return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(words)));
    };
    const auto all = [](int word) noexcept { return _mm256_set1_epi16(static_cast<std::int16_t>(word)); };
    const __m256i subnormals = eight(table.word), normals = _mm256_sub_epi16(eight(table.word + 8), all(1 << 7));
    for (int i = 0; i < 2; ++i) {
      const __m256i code = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x) + i));
      const __m256i magnitude = _mm256_and_si256(code, all(0x7F));
      const __m256i bytes =
          _mm256_add_epi16(_mm256_mullo_epi16(_mm256_and_si256(code, all(7)), all(0x0202)), all(0x0100));
      const __m256i exponent = _mm256_slli_epi16(_mm256_and_si256(code, all(0x78)), 4);
      const __m256i normal = _mm256_add_epi16(_mm256_shuffle_epi8(normals, bytes), exponent);
      __m256i w =
          _mm256_blendv_epi8(normal, _mm256_shuffle_epi8(subnormals, bytes), _mm256_cmpgt_epi16(all(8), magnitude));
      w = _mm256_blendv_epi8(w, all(0x7FC0), _mm256_cmpeq_epi16(magnitude, all(0x7F)));
      half[i] = _mm256_xor_si256(w, _mm256_slli_epi16(_mm256_and_si256(code, all(0x80)), 8));
    }
  }

  MXFP4_INLINE void store(bf16* to) const noexcept {
    const __m256i nan = _mm256_set1_epi16(static_cast<std::int16_t>(word_nan));
    for (int i = 0; i < 2; ++i) {
      const __m256i magnitude = _mm256_and_si256(half[i], _mm256_set1_epi16(word_abs_mask));
      const __m256i is_nan = _mm256_cmpgt_epi16(magnitude, _mm256_set1_epi16(word_inf));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to) + i, _mm256_blendv_epi8(half[i], nan, is_nan));
    }
  }

  template <std::size_t Count>
  MXFP4_INLINE static void amax(const word_block (&block)[Count], std::uint32_t (&out)[Count]) noexcept {
    const __m256i abs = _mm256_set1_epi16(word_abs_mask);
    __m256i h[Count];
    MXFP4_UNROLL
    for (std::size_t i = 0; i < Count; ++i)
      h[i] = _mm256_max_epu16(_mm256_and_si256(block[i].half[0], abs), _mm256_and_si256(block[i].half[1], abs));
    if constexpr (Count == 8) detail::amax_of_eight(h, out);
    else detail::amax_of_one(h[0], out[0]);
  }

  [[nodiscard]] MXFP4_INLINE bool has(std::uint16_t magnitude) const noexcept {
    const auto equal = [magnitude](__m256i w) noexcept {
      return _mm256_cmpeq_epi16(_mm256_and_si256(w, _mm256_set1_epi16(word_abs_mask)),
                                _mm256_set1_epi16(static_cast<std::int16_t>(magnitude)));
    };
    return _mm256_movemask_epi8(_mm256_or_si256(equal(half[0]), equal(half[1]))) != 0;
  }

  template <rounding_rule Round, zero_rule Zero, nibble_order Order>
  MXFP4_INLINE void encode(const word_scale& scale, std::uint8_t* codes) const noexcept {
    __m256i code[2];
    for (int i = 0; i < 2; ++i) code[i] = lanes<Round, Zero>(half[i], scale);
    if constexpr (std::same_as<Order, half_split>) {
      const __m256i bytes = _mm256_or_si256(code[0], _mm256_slli_epi16(code[1], 4));
      const __m128i packed = _mm_packus_epi16(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), packed);
    } else {
      const __m256i weights = _mm256_set1_epi32(detail::nibble_weights<Order>);
      const __m256i words =
          _mm256_packus_epi32(_mm256_madd_epi16(code[0], weights), _mm256_madd_epi16(code[1], weights));
      const __m128i packed = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), _mm_shuffle_epi32(packed, 0xD8));
    }
  }

 private:
  /// Sixteen codes, one a word.
  template <rounding_rule Round, zero_rule Zero>
  [[nodiscard]] MXFP4_INLINE static __m256i lanes(__m256i w, const word_scale& scale) noexcept {
    constexpr auto& h = mxfp4::detail::half_binades_of<Round>;
    const auto table = [](const std::array<std::uint8_t, 16>& entries) noexcept {
      return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(entries.data())));
    };
    const auto all = [](std::uint32_t pair) noexcept { return _mm256_set1_epi32(static_cast<int>(pair)); };
    const __m256i magnitude = _mm256_and_si256(w, _mm256_set1_epi16(word_abs_mask));
    const __m256i v = _mm256_subs_epu16(magnitude, all(scale.offset));
    const __m256i carry =
        _mm256_shuffle_epi8(table(h.carry), _mm256_srli_epi16(v, 6));  // entry 0 is 0: for upper bytes
    __m256i code = _mm256_shuffle_epi8(table(h.code), _mm256_srli_epi16(_mm256_add_epi16(v, carry), 6));
    const __m256i eight = _mm256_set1_epi16(8);
    if constexpr (std::same_as<Zero, keep_sign>)
      return _mm256_or_si256(code, _mm256_and_si256(_mm256_srli_epi16(w, 12), eight));
    const auto reaches = [eight](__m256i x, __m256i boundary) noexcept {  // 8 where x >= boundary
      return _mm256_and_si256(_mm256_cmpeq_epi16(_mm256_max_epu16(x, boundary), x), eight);
    };
    code = _mm256_or_si256(code, reaches(w, all(scale.negative)));
    if constexpr (Zero::zero_is_negative) {
      const __m256i boundary = _mm256_and_si256(all(scale.negative), _mm256_set1_epi16(word_abs_mask));
      code = _mm256_or_si256(code, _mm256_xor_si256(reaches(magnitude, boundary), eight));
    }
    return code;
  }
};

#endif

#if defined(__AVX512BW__)

template <class Arch>
  requires has_avx512bw<Arch>
struct word_block<Arch> {
  __m512i word;

  template <element_type T>
  MXFP4_INLINE void load(const T* x) noexcept {
    if constexpr (std::same_as<T, bf16>) {
      word = _mm512_loadu_si512(x);
    } else {
      const __m512i a = _mm512_castps_si512(load_widened<Arch>(x)), b = _mm512_castps_si512(load_widened<Arch>(x + 16));
      const __m512i even = every_other(), odd = _mm512_add_epi16(even, _mm512_set1_epi16(1));
      const __m512i lower = _mm512_permutex2var_epi16(a, even, b), upper = _mm512_permutex2var_epi16(a, odd, b);
      word = _mm512_or_si512(upper, _mm512_min_epu16(lower, _mm512_set1_epi16(1)));
    }
  }
  /// Two halves of the lower half of the table, and the sign as it is: NaN may come out with another sign.
  MXFP4_INLINE void load(const e4m3* x, const fp8_words& table) noexcept {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
    const __m512i code = _mm512_cvtepu8_epi16(bytes);
    const auto sixty_four = [&table, code](int from) noexcept {
      return _mm512_permutex2var_epi16(_mm512_load_si512(table.word + from), code,
                                       _mm512_load_si512(table.word + from + 32));
    };
    const __mmask32 upper = _mm512_test_epi16_mask(code, _mm512_set1_epi16(64));
    const __mmask32 negative = _mm512_test_epi16_mask(code, _mm512_set1_epi16(128));
    const __m512i magnitude = _mm512_mask_blend_epi16(upper, sixty_four(0), sixty_four(64));
    word = _mm512_mask_add_epi16(magnitude, negative, magnitude, _mm512_set1_epi16(-0x8000));
  }

  MXFP4_INLINE void store(bf16* to) const noexcept {
    const __m512i magnitude = _mm512_and_si512(word, _mm512_set1_epi16(word_abs_mask));
    const __mmask32 is_nan = _mm512_cmpgt_epi16_mask(magnitude, _mm512_set1_epi16(word_inf));
    _mm512_storeu_si512(to, _mm512_mask_mov_epi16(word, is_nan, _mm512_set1_epi16(word_nan)));
  }

  template <std::size_t Count>
  MXFP4_INLINE static void amax(const word_block (&block)[Count], std::uint32_t (&out)[Count]) noexcept {
    __m256i h[Count];
    MXFP4_UNROLL
    for (std::size_t i = 0; i < Count; ++i) {
      const __m512i magnitude = _mm512_and_si512(block[i].word, _mm512_set1_epi16(word_abs_mask));
      h[i] = _mm256_max_epu16(_mm512_castsi512_si256(magnitude), _mm512_extracti64x4_epi64(magnitude, 1));
    }
    if constexpr (Count == 8) detail::amax_of_eight(h, out);
    else detail::amax_of_one(h[0], out[0]);
  }

  [[nodiscard]] MXFP4_INLINE bool has(std::uint16_t magnitude) const noexcept {
    const __m512i abs = _mm512_and_si512(word, _mm512_set1_epi16(word_abs_mask));
    return _mm512_cmpeq_epi16_mask(abs, _mm512_set1_epi16(static_cast<std::int16_t>(magnitude))) != 0;
  }

  template <rounding_rule Round, zero_rule Zero, nibble_order Order>
  MXFP4_INLINE void encode(const word_scale& scale, std::uint8_t* codes) const noexcept {
    const auto all = [](std::uint32_t pair) noexcept { return _mm512_set1_epi32(static_cast<int>(pair)); };
    const __m512i abs = _mm512_set1_epi16(word_abs_mask), magnitude = _mm512_and_si512(word, abs);
    const __m512i v = _mm512_subs_epu16(magnitude, all(scale.offset));
    const __m512i number =
        _mm512_mulhi_epu16(v, _mm512_set1_epi16(1024));  // v >> 6; shifts share ports with permutations
    const __m512i entries = _mm512_loadu_si512(mxfp4::detail::half_binades_of<Round>.both.data());
    const __m512i sum = _mm512_add_epi16(v, _mm512_permutexvar_epi16(number, entries));
    const __mmask32 kept = _mm512_cmpge_epu16_mask(word, all(scale.negative));
    __m512i code = _mm512_and_si512(sum, _mm512_set1_epi16(7 * 64));  // and the sign above: all times 64
    code = _mm512_mask_add_epi16(code, kept, code, _mm512_set1_epi16(8 * 64));
    if constexpr (Zero::zero_is_negative) {
      const __mmask32 zero = _mm512_cmplt_epu16_mask(magnitude, _mm512_and_si512(all(scale.negative), abs));
      code = _mm512_mask_add_epi16(code, zero, code, _mm512_set1_epi16(8 * 64));
    }
    if constexpr (std::same_as<Order, half_split>) code = _mm512_permutexvar_epi16(halves_as_pairs(), code);
    constexpr int weights =
        std::same_as<Order, high_first> ? 0x00040040 : 0x00400004;  // a pair to byte 1 of its 32 bits
    const __m512i pairs = _mm512_madd_epi16(code, _mm512_set1_epi32(weights));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), second_bytes(pairs));
  }

 private:
  /// 0, 2, 4 .. 62
  [[nodiscard]] MXFP4_INLINE static __m512i every_other() noexcept {
    return _mm512_cvtepu8_epi16(_mm256_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36,
                                                 38, 40, 42, 44, 46, 48, 50, 52, 54, 56, 58, 60, 62));
  }
  /// 0, 16, 1, 17 .. 15, 31
  [[nodiscard]] MXFP4_INLINE static __m512i halves_as_pairs() noexcept {
    return _mm512_cvtepu8_epi16(_mm256_setr_epi8(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25,
                                                 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
  }
  /// Byte 1 of each 32 bits.
  [[nodiscard]] MXFP4_INLINE static __m128i second_bytes(__m512i x) noexcept {
#if defined(__AVX512VBMI__)
    if constexpr (has_avx512vbmi<Arch>) {
      const __m128i places = _mm_setr_epi8(1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 41, 45, 49, 53, 57, 61);
      return _mm512_castsi512_si128(_mm512_permutexvar_epi8(_mm512_castsi128_si512(places), x));
    }
#endif
    return _mm512_cvtepi32_epi8(_mm512_srli_epi32(x, 8));
  }
};

#endif

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd
