// mxfp4/simd/avx512bw.hpp -- registers of 64 bytes: AVX-512 F, DQ, CD, BW and VL.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "mxfp4/simd/avx2.hpp"
#include "mxfp4/simd/dequant_table.hpp"
#include "mxfp4/simd/dot.hpp"
#include "mxfp4/simd/encode.hpp"
#include "mxfp4/simd/register_lookup.hpp"
#include "mxfp4/simd/widen.hpp"

#if defined(__AVX512BW__)

namespace mxfp4::inline MXFP4_VERSION_NS::simd {
inline namespace MXFP4_ISA_NS {

template <has_avx512bw Arch>
inline constexpr const char* isa_name<Arch> = "avx512bw";

// ---- elements in memory <-> lanes ----

namespace detail {

template <has_avx512bw Arch>
struct small_lanes<Arch> {
  template <class Small>
  [[nodiscard]] MXFP4_INLINE static words<Arch> load(const Small* from) noexcept {
    if constexpr (sizeof(Small) == 1) {
      return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    } else {
      return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    }
  }
  MXFP4_INLINE static void store(words<Arch> w, std::uint16_t* to) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(w));
  }
};

template <has_avx512bw Arch>
struct f16_lanes<Arch> {
  [[nodiscard]] MXFP4_INLINE static floats<Arch> load(const f16* x) noexcept {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
  }
  MXFP4_INLINE static void store(floats<Arch> x, f16* to) noexcept {
    // All lanes by a mask of our own: without optimisation GCC's unmasked form is a macro that converts -1 to a mask,
    // which -Wsign-conversion reports in the caller's build.
    constexpr __mmask16 all = 0xFFFF;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm512_maskz_cvtps_ph(all, x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
};

// ---- rows -> tiles ----

}  // namespace detail

template <has_avx512bw Arch>
struct tile_transposer<Arch> {
  static constexpr bool available = true;

  /// @param rows  16; the block of each is at + that.
  MXFP4_INLINE static void transpose(const std::uint8_t* const* rows, std::int64_t at, std::uint8_t* out) noexcept {
    // Register r has rows r, r + 4, r + 8 and r + 12 in its quarters: what is left is to transpose 4 x 4 words in each.
    const __m512i low = _mm512_set1_epi8(0x0F);
    __m512i half[4];
    MXFP4_UNROLL
    for (int r = 0; r < 4; ++r) {
      const auto row = [&](int quarter) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[r + 4 * quarter] + at));
      };
      __m512i x = _mm512_castsi128_si512(row(0));
      x = _mm512_inserti32x4(x, row(1), 1);
      x = _mm512_inserti32x4(x, row(2), 2);
      x = _mm512_inserti32x4(x, row(3), 3);
      const __m512i front = _mm512_unpacklo_epi8(x, _mm512_srli_epi16(x, 4));  // elements 0..15 in the low nibbles
      const __m512i back = _mm512_unpackhi_epi8(_mm512_slli_epi16(x, 4), x);   // elements 16..31 in the high ones
      half[r] = _mm512_ternarylogic_epi32(low, front, back, 0xCA);             // low ? front : back
    }
    const __m512i ab = _mm512_unpacklo_epi32(half[0], half[1]), cd = _mm512_unpacklo_epi32(half[2], half[3]);
    const __m512i ab2 = _mm512_unpackhi_epi32(half[0], half[1]), cd2 = _mm512_unpackhi_epi32(half[2], half[3]);
    _mm512_storeu_si512(out, _mm512_unpacklo_epi64(ab, cd));
    _mm512_storeu_si512(out + 64, _mm512_unpackhi_epi64(ab, cd));
    _mm512_storeu_si512(out + 128, _mm512_unpacklo_epi64(ab2, cd2));
    _mm512_storeu_si512(out + 192, _mm512_unpackhi_epi64(ab2, cd2));
  }
};

namespace detail {

// ---- codes -> numbers ----

template <has_avx512bw Arch>
struct code_lanes<Arch> {
  MXFP4_INLINE static void load(const std::uint8_t* codes,
                                words<Arch> (&lanes)[block_size / words<Arch>::size]) noexcept {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)), high = _mm_srli_epi16(bytes, 4);
    lanes[0] = _mm512_cvtepu8_epi32(_mm_unpacklo_epi8(bytes, high));
    lanes[1] = _mm512_cvtepu8_epi32(_mm_unpackhi_epi8(bytes, high));
  }
};

/// One permutation of the row, which looks at the low four bits of a lane.
template <has_avx512bw Arch>
struct code_decoder<Arch, 4> {
  template <nibble_order Order, store Store, element_type T>
  MXFP4_INLINE static void decode(const std::uint8_t* codes, const decode_row<T>& row, T* out) noexcept {
    const __m512i table = _mm512_load_si512(row.value);
    words<Arch> lanes[2];
    if constexpr (std::same_as<Order, half_split>) {
      lanes[0] = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
      lanes[1] = _mm512_srli_epi32(lanes[0], 4);
    } else {
      code_lanes<Arch>::load(codes, lanes);
    }
    const __m512i a = _mm512_permutexvar_epi32(lanes[0], table), b = _mm512_permutexvar_epi32(lanes[1], table);
    if constexpr (Store == store::stream) {
      _mm512_stream_si512(reinterpret_cast<__m512i*>(out), a);
      _mm512_stream_si512(reinterpret_cast<__m512i*>(out + 16), b);
    } else {
      _mm512_storeu_si512(out, a);
      _mm512_storeu_si512(out + 16, b);
    }
  }
};

/// The same with five bits of a lane, and the row twice.
template <has_avx512bw Arch>
struct code_decoder<Arch, 2> {
  template <nibble_order Order, store Store, element_type T>
  MXFP4_INLINE static void decode(const std::uint8_t* codes, const decode_row<T>& row, T* out) noexcept {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
    const __m512i table = _mm512_broadcast_i64x4(_mm256_load_si256(reinterpret_cast<const __m256i*>(row.value)));
    __m512i index;
    if constexpr (std::same_as<Order, half_split>) {
      index = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_cvtepu8_epi16(bytes)),
                                 _mm256_cvtepu8_epi16(_mm_srli_epi16(bytes, 4)), 1);
    } else {
      const __m512i spread = _mm512_cvtepu8_epi32(bytes);
      index = _mm512_or_si512(spread, _mm512_slli_epi32(spread, 12));
    }
    const __m512i words = _mm512_permutexvar_epi16(index, table);
    if constexpr (Store == store::stream) _mm512_stream_si512(reinterpret_cast<__m512i*>(out), words);
    else _mm512_storeu_si512(out, words);
  }
};

}  // namespace detail

template <has_avx512bw Arch>
class table16<Arch> {
 public:
  MXFP4_INLINE explicit table16(const float* entries) noexcept : entries_(_mm512_load_ps(entries)) {}
  [[nodiscard]] MXFP4_INLINE floats<Arch> operator[](words<Arch> index) const noexcept {
    return _mm512_permutexvar_ps(index, entries_);
  }

 private:
  __m512 entries_;
};

/// The codes of a register's rows are permutation indices as they stand, once shifted down: a pair is a word with the
/// code of byte 0 or 2 at its lower end, and that of the next byte eight bits above.
template <has_avx512bw Arch>
class line_decoder<Arch> {
  using w = words<Arch>;

 public:
  static constexpr bool available = true;

  MXFP4_INLINE line_decoder() noexcept : values_(doubled_values) {}
  [[nodiscard]] MXFP4_INLINE static w low_bytes() noexcept { return w(0u); }
  [[nodiscard]] MXFP4_INLINE static w high_bytes() noexcept { return w(0u); }

  [[nodiscard]] MXFP4_INLINE static w load(const std::uint8_t* line) noexcept { return load_lines<Arch>(line); }
  MXFP4_INLINE static void decode(w line, int half, w, w, w& first, w& second) noexcept {
    first = half == 0 ? line : line >> 4;
    second = line >> (half == 0 ? 16 : 20);
  }
  [[nodiscard]] MXFP4_INLINE floats<Arch> lower(w pair) const noexcept { return values_[pair]; }
  [[nodiscard]] MXFP4_INLINE floats<Arch> upper(w pair) const noexcept { return values_[pair >> 8]; }
  MXFP4_INLINE static void finish(floats<Arch>& sum) noexcept { asm("" : "+v"(sum.data) : : "memory"); }

 private:
  table16<Arch> values_;
};

// ---- dot products ----

namespace detail {

template <has_avx512bw Arch>
struct quad_decoder<Arch> {
  MXFP4_INLINE static void decode(const std::uint8_t* line, byte_lanes<Arch>& low, byte_lanes<Arch>& high) noexcept {
    const __m512i t = _mm512_load_si512(weight_table<Arch>.entry), codes = _mm512_loadu_si512(line);
    const __m512i mask = _mm512_set1_epi8(15);
    low = byte_lanes<Arch>(_mm512_shuffle_epi8(t, _mm512_and_si512(codes, mask)));
    high = byte_lanes<Arch>(_mm512_shuffle_epi8(t, _mm512_and_si512(_mm512_srli_epi16(codes, 4), mask)));
  }
};

}  // namespace detail

template <has_avx512bw Arch>
struct block_sum<Arch> {
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

// ---- numbers -> codes ----

namespace detail {

/// Byte 1 of each 32 bits.
template <has_avx512bw Arch>
struct second_bytes {
  [[nodiscard]] MXFP4_INLINE static __m128i of(__m512i x) noexcept {
    return _mm512_cvtepi32_epi8(_mm512_srli_epi32(x, 8));
  }
};

}  // namespace detail

template <has_avx512bw Arch>
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

  template <nibble_order Order, class Words>
  MXFP4_INLINE void encode(const Words& recipe, const word_scale& scale, std::uint8_t* codes) const noexcept {
    const auto all = [](std::uint32_t pair) noexcept { return _mm512_set1_epi32(static_cast<int>(pair)); };
    const __m512i abs = _mm512_set1_epi16(word_abs_mask), magnitude = _mm512_and_si512(word, abs);
    const __m512i v = _mm512_subs_epu16(magnitude, all(scale.offset));
    const __m512i number =
        _mm512_mulhi_epu16(v, _mm512_set1_epi16(1024));  // v >> 6; shifts share ports with permutations
    const __m512i entries = _mm512_loadu_si512(recipe.half().both.data());
    const __m512i sum = _mm512_add_epi16(v, _mm512_permutexvar_epi16(number, entries));
    const __mmask32 kept = _mm512_cmpge_epu16_mask(word, all(scale.negative));
    __m512i code = _mm512_and_si512(sum, _mm512_set1_epi16(7 * 64));  // and the sign above: all times 64
    code = _mm512_mask_add_epi16(code, kept, code, _mm512_set1_epi16(8 * 64));
    if (recipe.zero_is_negative()) {
      const __mmask32 zero = _mm512_cmplt_epu16_mask(magnitude, _mm512_and_si512(all(scale.negative), abs));
      code = _mm512_mask_add_epi16(code, zero, code, _mm512_set1_epi16(8 * 64));
    }
    if constexpr (std::same_as<Order, half_split>) code = _mm512_permutexvar_epi16(halves_as_pairs(), code);
    constexpr int weights =
        std::same_as<Order, high_first> ? 0x00040040 : 0x00400004;  // a pair to byte 1 of its 32 bits
    const __m512i pairs = _mm512_madd_epi16(code, _mm512_set1_epi32(weights));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), detail::second_bytes<Arch>::of(pairs));
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
};

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd

#endif
