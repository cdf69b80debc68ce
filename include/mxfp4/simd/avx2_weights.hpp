// mxfp4/simd/avx2_weights.hpp -- weights on AVX2 by byte shuffles: two lookups for 32 codes.
// SPDX-License-Identifier: Apache-2.0
//
// Every weight is a bf16 number (dequant_table.hpp), so two tables of 16 bytes hold those of a scale byte. Their bytes
// are zipped to words, and a pair of words in 32 bits is two floats: the lower shifted up, the upper as it stands.
//
//   per 32 codes: 2 lookups, 2 zips, 2 shifts, 2 ands; by permutations of floats (table16): 8, 4 blends, 8 shifts
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mxfp4/simd/dequant_table.hpp"
#include "mxfp4/simd/register_lookup.hpp"
#include "mxfp4/simd/widen.hpp"

#if defined(__AVX2__)

namespace mxfp4::inline MXFP4_VERSION_NS::simd {
inline namespace MXFP4_ISA_NS {

template <has_avx2 Arch>
inline constexpr bool looks_up_bytes<Arch> = !has_avx512bw<Arch>;

namespace detail {

[[nodiscard]] MXFP4_INLINE __m256i sixteen_bytes(const std::uint8_t* bytes) noexcept {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
}

/// The lower or upper word of each 32 bits as the upper half of a float.
[[nodiscard]] MXFP4_INLINE __m256 half_of_pair(__m256i pair, bool upper) noexcept {
  return _mm256_castsi256_ps(upper ? _mm256_and_si256(pair, _mm256_set1_epi32(static_cast<int>(0xFFFF0000)))
                                   : _mm256_slli_epi32(pair, 16));
}

/// The words of the 32 codes in `index`, from tables of their lower and upper bytes; as upper halves of floats, four
/// registers of them.
struct byte_weights {
  __m256i words[2];

  MXFP4_INLINE byte_weights(__m256i low_table, __m256i high_table, __m256i index) noexcept {
    const __m256i low = _mm256_shuffle_epi8(low_table, index), high = _mm256_shuffle_epi8(high_table, index);
    words[0] = _mm256_unpacklo_epi8(low, high);
    words[1] = _mm256_unpackhi_epi8(low, high);
  }
  [[nodiscard]] MXFP4_INLINE __m256 operator[](int r) const noexcept { return half_of_pair(words[r / 2], r % 2 != 0); }
};

/// The bytes of 0, 1, 2, 3, 4, 6, 8, 12 and their negatives as bf16, for both lanes of 128 bits.
alignas(32) inline constexpr std::uint8_t doubled_low[32] = {
    0, 0x80, 0, 0x40, 0x80, 0xC0, 0, 0x40, 0, 0x80, 0, 0x40, 0x80, 0xC0, 0, 0x40,
    0, 0x80, 0, 0x40, 0x80, 0xC0, 0, 0x40, 0, 0x80, 0, 0x40, 0x80, 0xC0, 0, 0x40};
alignas(32) inline constexpr std::uint8_t doubled_high[32] = {
    0, 0x3F, 0x40, 0x40, 0x40, 0x40, 0x41, 0x41, 0x80, 0xBF, 0xC0, 0xC0, 0xC0, 0xC0, 0xC1, 0xC1,
    0, 0x3F, 0x40, 0x40, 0x40, 0x40, 0x41, 0x41, 0x80, 0xBF, 0xC0, 0xC0, 0xC0, 0xC0, 0xC1, 0xC1};

/// Twice the values of the codes in the low nibbles of 32 bytes.
[[nodiscard]] MXFP4_INLINE byte_weights doubled_weights(__m256i codes) noexcept {
  return {_mm256_load_si256(reinterpret_cast<const __m256i*>(doubled_low)),
          _mm256_load_si256(reinterpret_cast<const __m256i*>(doubled_high)),
          _mm256_and_si256(codes, _mm256_set1_epi8(15))};
}

/// A line of eight rows, byte i of four rows side by side: a pair of bytes 0 and 1, then of 2 and 3.
[[nodiscard]] MXFP4_INLINE __m256i load_line(const std::uint8_t* line) noexcept {
  return _mm256_shuffle_epi8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(line)),
                             _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15,  //
                                              0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
}

/// Zips and shifts work on lanes of 128 bits, so the codes are put into that order before.
///
///   16 bits   words of the two results:  0..7 | 8..15     16..23 | 24..31     lower | upper lane
///   f32       pairs of words:            0 8  1 9 .. 3 11 | 4 12 .. 7 15      16 24 .. 19 27 | 20 28 .. 23 31
///             the first of each pair shifted up, the second as it stands: 0..3 | 4..7, 8..11 | 12..15, ..
template <has_avx2 Arch, std::size_t Bytes>
struct code_decoder<Arch, Bytes> {
  template <nibble_order Order, store Store, element_type T>
  MXFP4_INLINE static void decode(const std::uint8_t* codes, const split_row& row, T* out) noexcept {
    const byte_weights found(sixteen_bytes(row.low), sixteen_bytes(row.high),
                             _mm256_and_si256(spread<Order>(sixteen_bytes(codes)), _mm256_set1_epi8(15)));
    auto* to = reinterpret_cast<__m256i*>(out);
    if constexpr (Bytes == 2)
      for (int i = 0; i < 2; ++i) put<Store>(found.words[i], to + i);
    else
      for (int i = 0; i < 4; ++i) put<Store>(_mm256_castps_si256(found[i]), to + i);
  }

 private:
  template <store Store>
  MXFP4_INLINE static void put(__m256i numbers, __m256i* to) noexcept {
    if constexpr (Store == store::stream) _mm256_stream_si256(to, numbers);
    else _mm256_storeu_si256(to, numbers);
  }

  /// The 32 codes in the order above, each in the low bits of a byte.
  template <nibble_order Order>
  [[nodiscard]] MXFP4_INLINE static __m256i spread(__m256i codes) noexcept {
    if constexpr (std::same_as<Order, half_split>) {
      const __m256i order = Bytes == 2 ? _mm256_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7,  //
                                                          8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15)
                                       : _mm256_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 0, 8, 1, 9, 2, 10, 3, 11,  //
                                                          4, 12, 5, 13, 6, 14, 7, 15, 4, 12, 5, 13, 6, 14, 7, 15);
      return _mm256_srlv_epi64(_mm256_shuffle_epi8(codes, order), _mm256_setr_epi64x(0, 4, 0, 4));
    } else if constexpr (Bytes == 2) {
      const __m256i bytes =
          _mm256_shuffle_epi8(codes, _mm256_setr_epi8(0, -1, 1, -1, 2, -1, 3, -1, 8, -1, 9, -1, 10, -1, 11, -1,  //
                                                      4, -1, 5, -1, 6, -1, 7, -1, 12, -1, 13, -1, 14, -1, 15, -1));
      return _mm256_or_si256(bytes, _mm256_slli_epi16(bytes, 4));
    } else {
      const __m256i bytes =
          _mm256_shuffle_epi8(codes, _mm256_setr_epi8(0, 4, 0, 4, 1, 5, 1, 5, 8, 12, 8, 12, 9, 13, 9, 13,  //
                                                      2, 6, 2, 6, 3, 7, 3, 7, 10, 14, 10, 14, 11, 15, 11, 15));
      return _mm256_blend_epi16(bytes, _mm256_srli_epi16(bytes, 4), 0xAA);
    }
  }
};

}  // namespace detail

/// Low nibbles in the lower 128 bits, high ones in the upper; register r has bytes r % 2 + 8 (r / 2) + 0, 2, 4, 6.
template <has_avx2 Arch>
  requires looks_up_bytes<Arch>
struct row_weights<Arch> {
  static constexpr int lanes = 8, registers = 4;

  [[nodiscard]] static constexpr int byte_of(int r, int lane) noexcept { return r / 2 * 8 + r % 2 + lane % 4 * 2; }
  [[nodiscard]] static constexpr bool is_high(int, int lane) noexcept { return lane >= 4; }

  template <class Table>
  MXFP4_INLINE static void load(const Table& table, const std::uint8_t* codes, std::uint8_t scale,
                                floats<Arch> (&w)[4]) noexcept {
    if constexpr (Table::splits) {
      const split_row& row = table.split(scale);
      const __m256i nibbles = _mm256_srlv_epi64(detail::sixteen_bytes(codes), _mm256_setr_epi64x(0, 0, 4, 4));
      const detail::byte_weights found(detail::sixteen_bytes(row.low), detail::sixteen_bytes(row.high),
                                       _mm256_and_si256(nibbles, _mm256_set1_epi8(15)));
      for (int r = 0; r < 4; ++r) w[r] = found[r];
    } else {
      const decode_row<float>& row = table.row(scale);
      for (int r = 0; r < 4; ++r) {
        alignas(32) float found[8];
        for (int i = 0; i < 8; ++i) found[i] = row.value[codes[byte_of(r, i)] >> (is_high(r, i) ? 4 : 0) & 15];
        w[r] = floats<Arch>::load_aligned(found);
      }
    }
  }

  /// In the order of the other architectures: low and high nibble of a byte, then the bytes.
  [[nodiscard]] MXFP4_INLINE static float sum(floats<Arch> even, floats<Arch> odd) noexcept {
    const auto bytes = [](__m256 s) noexcept {
      return _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    };
    const __m128 a = bytes(even), b = bytes(odd);
    return simd::reduce_add(floats<Arch>(_mm256_set_m128(_mm_unpackhi_ps(a, b), _mm_unpacklo_ps(a, b))));
  }
};

template <has_avx2 Arch>
  requires looks_up_bytes<Arch>
class line_weights<Arch> {
 public:
  [[nodiscard]] MXFP4_INLINE static words<Arch> load(const std::uint8_t* line) noexcept {
    return detail::load_line(line);
  }
  [[nodiscard]] MXFP4_INLINE static floats<Arch> at(words<Arch> line, int nibble) noexcept {
    const __m256i codes = line;
    return detail::doubled_weights(nibble % 2 == 0 ? codes : _mm256_srli_epi16(codes, 4))[nibble / 2];
  }
};

template <has_avx2 Arch>
  requires looks_up_bytes<Arch>
MXFP4_INLINE void finish_here(xsimd::batch<float, Arch>& sum) noexcept {
  asm("" : "+x"(sum.data) : : "memory");
}

/// What line_decoder has as operands in memory, so that its users have the registers for sums.
struct alignas(32) line_constants {
  std::uint8_t order[32];       ///< load_line's
  std::uint8_t mask[32];        ///< 15
  std::uint8_t lower_word[32];  ///< that of each 32 bits to the upper half, zero below
  std::uint32_t upper_word[8];
};
inline constexpr line_constants line_operands = [] {
  line_constants c{};
  for (std::size_t i = 0; i < 32; ++i) {
    const std::size_t lane = i % 16;
    c.order[i] = static_cast<std::uint8_t>(lane / 8 * 2 + lane % 8 / 2 * 4 + lane % 2);
    c.mask[i] = 15;
    c.lower_word[i] = static_cast<std::uint8_t>(lane % 4 < 2 ? 0x80 : lane - 2);
  }
  for (std::uint32_t& word : c.upper_word) word = 0xFFFF0000;
  return c;
}();

template <has_avx2 Arch>
  requires looks_up_bytes<Arch>
class line_decoder<Arch> {
  using w = words<Arch>;

 public:
  static constexpr bool available = true;

  MXFP4_INLINE line_decoder() noexcept : constants_(&line_operands) {
    asm("" : "+r"(constants_));  // else they are loaded once, and spilled
  }
  [[nodiscard]] MXFP4_INLINE static w low_bytes() noexcept { return of(detail::doubled_low); }
  [[nodiscard]] MXFP4_INLINE static w high_bytes() noexcept { return of(detail::doubled_high); }

  [[nodiscard]] MXFP4_INLINE w load(const std::uint8_t* line) const noexcept {
    return _mm256_shuffle_epi8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(line)), of(constants_->order));
  }
  MXFP4_INLINE void decode(w line, int half, w low_bytes, w high_bytes, w& first, w& second) const noexcept {
    const __m256i codes = line, shifted = half == 0 ? codes : _mm256_srli_epi16(codes, 4);
    const __m256i index = _mm256_and_si256(shifted, of(constants_->mask));
    const __m256i low = _mm256_shuffle_epi8(low_bytes, index), high = _mm256_shuffle_epi8(high_bytes, index);
    first = _mm256_unpacklo_epi8(low, high);
    second = _mm256_unpackhi_epi8(low, high);
  }
  [[nodiscard]] MXFP4_INLINE floats<Arch> lower(w pair) const noexcept {
    return _mm256_castsi256_ps(_mm256_shuffle_epi8(pair, of(constants_->lower_word)));
  }
  [[nodiscard]] MXFP4_INLINE floats<Arch> upper(w pair) const noexcept {
    return _mm256_castsi256_ps(_mm256_and_si256(pair, of(constants_->upper_word)));
  }
  MXFP4_INLINE static void finish(floats<Arch>& sum) noexcept { finish_here(sum); }

 private:
  template <class T>
  [[nodiscard]] MXFP4_INLINE static __m256i of(const T* constant) noexcept {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(constant));
  }

  const line_constants* constants_;
};

/// A line's codes are looked up where they stand, so that a register has bytes 0 and 2, or 1 and 3, of two rows in each
/// half; an activation is broadcast as such a pair.
template <has_avx2 Arch>
  requires looks_up_bytes<Arch>
class block_product<Arch> {
 public:
  /// 0, 2, 1, 3 of each four
  [[nodiscard]] static constexpr int place(int k) noexcept { return k / 4 * 4 + k % 2 * 2 + k % 4 / 2; }
  [[nodiscard]] MXFP4_INLINE static floats<Arch> arrange(floats<Arch> x) noexcept { return _mm256_permute_ps(x, 0xD8); }

  [[nodiscard]] MXFP4_INLINE floats<Arch> operator()(const std::uint8_t* lines, const float* x) const noexcept {
    floats<Arch> chain[4];
    MXFP4_UNROLL
    for (int g = 0; g < 4; ++g) {
      const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lines + 64 * g));
      MXFP4_UNROLL
      for (int half = 0; half < 2; ++half) {
        const detail::byte_weights w = detail::doubled_weights(half == 0 ? codes : _mm256_srli_epi16(codes, 4));
        MXFP4_UNROLL
        for (int i = 0; i < 4; ++i) {
          const floats<Arch> weights = w[i], pair = two(x + 16 * half + 4 * g + 2 * (i % 2));
          chain[i] = g == 0 && half == 0 ? weights * pair : simd::fma(weights, pair, chain[i]);
        }
        MXFP4_UNROLL
        for (int i = 0; i < 4; ++i) finish_here(chain[i]);
      }
    }
    return _mm256_hadd_ps(chain[0] + chain[1], chain[2] + chain[3]);
  }

 private:
  [[nodiscard]] MXFP4_INLINE static __m256 two(const float* x) noexcept {
    double both;
    std::memcpy(&both, x, sizeof both);
    return _mm256_castpd_ps(_mm256_set1_pd(both));
  }
};

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd

#endif
