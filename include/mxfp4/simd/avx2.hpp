// mxfp4/simd/avx2.hpp -- registers of 32 bytes on x86-64, with FMA and F16C where the flags allow them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mxfp4/simd/avx2_weights.hpp"
#include "mxfp4/simd/dequant_table.hpp"
#include "mxfp4/simd/dot.hpp"
#include "mxfp4/simd/encode.hpp"
#include "mxfp4/simd/register_lookup.hpp"
#include "mxfp4/simd/widen.hpp"

#if defined(__AVX2__)

namespace mxfp4::inline MXFP4_VERSION_NS::simd {
inline namespace MXFP4_ISA_NS {

template <has_avx2 Arch>
inline constexpr const char* isa_name<Arch> = "avx2";

// ---- elements in memory <-> lanes ----

namespace detail {

template <has_avx2 Arch>
struct small_lanes<Arch> {
  template <class Small>
  [[nodiscard]] MXFP4_INLINE static words<Arch> load(const Small* from) noexcept {
    if constexpr (sizeof(Small) == 1) {
      return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
    } else {
      return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    }
  }
  MXFP4_INLINE static void store(words<Arch> w, std::uint16_t* to) noexcept {
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(w, w), 0x08);  // quarters 0 and 2
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(packed));
  }
};

#if defined(__F16C__)
template <has_avx2 Arch>
struct f16_lanes<Arch> {
  [[nodiscard]] MXFP4_INLINE static floats<Arch> load(const f16* x) noexcept {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
  }
  MXFP4_INLINE static void store(floats<Arch> x, f16* to) noexcept {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
};
#endif

// ---- codes -> numbers ----

template <has_avx2 Arch>
struct streaming<Arch> {
  static constexpr bool available = true;
  MXFP4_INLINE static void finish() noexcept { _mm_sfence(); }
};

template <has_avx2 Arch>
struct code_lanes<Arch> {
  MXFP4_INLINE static void load(const std::uint8_t* codes,
                                words<Arch> (&lanes)[block_size / words<Arch>::size]) noexcept {
    for (int i = 0; i < 4; ++i) {
      std::int32_t eight;
      std::memcpy(&eight, codes + 4 * i, sizeof eight);
      lanes[i] = _mm256_srlv_epi32(_mm256_set1_epi32(eight), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    }
  }
};

}  // namespace detail

template <has_avx2 Arch>
class table16<Arch> {
 public:
  MXFP4_INLINE explicit table16(const float* entries) noexcept
      : low_(_mm256_load_ps(entries)), high_(_mm256_load_ps(entries + 8)) {}
  [[nodiscard]] MXFP4_INLINE floats<Arch> operator[](words<Arch> index) const noexcept {
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(low_, index), _mm256_permutevar8x32_ps(high_, index),
                            _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
  }

 private:
  __m256 low_, high_;
};

// ---- dot products ----

namespace detail {

template <has_avx2 Arch>
struct quad_decoder<Arch> {
  MXFP4_INLINE static void decode(const std::uint8_t* line, byte_lanes<Arch>& low, byte_lanes<Arch>& high) noexcept {
    const __m256i t = _mm256_load_si256(reinterpret_cast<const __m256i*>(weight_table<Arch>.entry));
    const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line)), mask = _mm256_set1_epi8(15);
    low = byte_lanes<Arch>(_mm256_shuffle_epi8(t, _mm256_and_si256(codes, mask)));
    high = byte_lanes<Arch>(_mm256_shuffle_epi8(t, _mm256_and_si256(_mm256_srli_epi16(codes, 4), mask)));
  }
};

}  // namespace detail

template <has_avx2 Arch>
struct block_sum<Arch> {
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

template <has_avx2 Arch>
struct nibble_weights<Arch> {
  [[nodiscard]] MXFP4_INLINE static byte_lanes<Arch> low(const std::uint8_t* line) noexcept { return of(load(line)); }
  [[nodiscard]] MXFP4_INLINE static byte_lanes<Arch> high(const std::uint8_t* line) noexcept {
    return of(_mm256_srli_epi16(load(line), 4));
  }

 private:
  [[nodiscard]] MXFP4_INLINE static __m256i load(const std::uint8_t* line) noexcept {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line));
  }
  [[nodiscard]] MXFP4_INLINE static byte_lanes<Arch> of(__m256i codes) noexcept {
    const __m256i t = _mm256_load_si256(reinterpret_cast<const __m256i*>(detail::weight_table<Arch>.entry));
    return byte_lanes<Arch>(_mm256_shuffle_epi8(t, _mm256_and_si256(codes, _mm256_set1_epi8(15))));
  }
};

/// Half a block: int16 holds the products of four quads.
template <has_avx2 Arch>
struct part_sum<Arch> {
  static constexpr int parts_per_block = 2;
  [[nodiscard]] MXFP4_INLINE static __m256i first(__m256i weights, __m256i quad, __m256i) noexcept {
    return _mm256_maddubs_epi16(weights, quad);
  }
  [[nodiscard]] MXFP4_INLINE static __m256i add(__m256i sum, __m256i weights, __m256i quad) noexcept {
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(weights, quad));
  }
  [[nodiscard]] MXFP4_INLINE static __m256i sum(__m256i sum, __m256i before) noexcept {
    return _mm256_add_epi32(_mm256_madd_epi16(sum, _mm256_set1_epi16(1)), before);
  }
  MXFP4_INLINE static void hold(__m256i& sum) noexcept { asm volatile("" : "+x"(sum)); }
};

/// A row's block is one register: low nibbles in the lower lane, high ones in the upper. Pairs of products are added up
/// across rows as long as int16 holds them, four times 2 * 24 * 127.
template <has_avx2 Arch>
struct row_dots<Arch> {
  static constexpr int rows = 8;

  template <nibble_order Order>
  [[nodiscard]] MXFP4_INLINE static __m256i token(const std::uint8_t* codes) noexcept {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
    if constexpr (std::same_as<Order, half_split>) return x;
    const __m256i apart =
        _mm256_shuffle_epi8(x, _mm256_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15,  //
                                                0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
    return _mm256_permute4x64_epi64(apart, 0xD8);
  }

  /// Row r's block is at codes + r * stride. Of the multiples of a stride that an address cannot hold three are kept.
  struct strides {
    MXFP4_INLINE explicit strides(std::int64_t stride) noexcept
        : one(stride), three(3 * stride), five(5 * stride), seven(7 * stride) {}
    std::int64_t one, three, five, seven;
  };
  [[nodiscard]] MXFP4_INLINE static int_lanes<Arch> sum(const std::uint8_t* codes, const strides& to, __m256i x,
                                                        __m256i before) noexcept {
    const __m256i lower = four(codes, codes + to.one, codes + 2 * to.one, codes + to.three, x);
    const __m256i upper = four(codes + 4 * to.one, codes + to.five, codes + 2 * to.three, codes + to.seven, x);
    const __m256i both =
        _mm256_add_epi32(_mm256_permute2x128_si256(lower, upper, 0x20), _mm256_permute2x128_si256(lower, upper, 0x31));
    return int_lanes<Arch>(_mm256_add_epi32(both, before));
  }
  /// The lines of the same addresses.
  MXFP4_INLINE static void prefetch(const std::uint8_t* codes, const strides& to) noexcept {
    for (const std::int64_t offset :
         {std::int64_t{0}, to.one, 2 * to.one, to.three, 4 * to.one, to.five, 2 * to.three, to.seven})
      prefetch_soon(codes + offset);
  }

 private:
  [[nodiscard]] MXFP4_INLINE static __m256i pairs(const std::uint8_t* codes, __m256i x) noexcept {
    const __m256i t = _mm256_load_si256(reinterpret_cast<const __m256i*>(detail::weight_table<Arch>.entry));
    const __m256i twice = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
    const __m256i nibbles = _mm256_srlv_epi32(twice, _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4));
    return _mm256_maddubs_epi16(_mm256_shuffle_epi8(t, _mm256_and_si256(nibbles, _mm256_set1_epi8(15))), x);
  }
  /// Four rows, once in each lane: half of each row's sum.
  [[nodiscard]] MXFP4_INLINE static __m256i four(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                                                 const std::uint8_t* d, __m256i x) noexcept {
    const auto two = [x](const std::uint8_t* first, const std::uint8_t* second) noexcept {
      const __m256i p = pairs(first, x), q = pairs(second, x);
      return _mm256_castsi256_ps(_mm256_add_epi16(_mm256_unpacklo_epi64(p, q), _mm256_unpackhi_epi64(p, q)));
    };
    const __m256 front = two(a, b), back = two(c, d);
    const __m256i sums = _mm256_add_epi16(_mm256_castps_si256(_mm256_shuffle_ps(front, back, 0x88)),
                                          _mm256_castps_si256(_mm256_shuffle_ps(front, back, 0xDD)));
    return _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
  }
};

// ---- numbers -> codes ----

namespace detail {

/// Two bytes of codes -> one byte of both: which of them counts sixteen times.
template <nibble_order Order>
inline constexpr std::int16_t nibble_weights = std::same_as<Order, low_first> ? 0x1001 : 0x0110;

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

}  // namespace detail

template <has_avx2 Arch>
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

  template <nibble_order Order, class Words>
  MXFP4_INLINE void encode(const Words& recipe, const word_scale& scale, std::uint8_t* codes) const noexcept {
    const half_binades& h = recipe.half();
    const auto all = [](std::uint32_t pair) noexcept { return _mm256_set1_epi32(static_cast<int>(pair)); };
    const __m256i abs = _mm256_set1_epi16(word_abs_mask), eight = _mm256_set1_epi8(8);
    __m256i number[2], magnitude[2];
    for (int i = 0; i < 2; ++i) {
      magnitude[i] = _mm256_and_si256(half[i], abs);
      const __m256i v = _mm256_subs_epu16(magnitude[i], all(scale.offset));
      const __m256i carry =
          _mm256_shuffle_epi8(table(h.carry), _mm256_srli_epi16(v, 6));  // entry 0 is 0: for upper bytes
      number[i] = _mm256_srli_epi16(_mm256_add_epi16(v, carry), 6);
    }
    __m256i code = _mm256_shuffle_epi8(table(h.code), _mm256_packus_epi16(number[0], number[1]));
    if (recipe.keeps_sign()) {
      code = _mm256_or_si256(code, _mm256_and_si256(_mm256_srli_epi16(_mm256_packs_epi16(half[0], half[1]), 4), eight));
    } else {
      const auto reach = [](const __m256i(&x)[2], __m256i boundary) noexcept {  // -1 where x >= boundary
        const auto one = [boundary](__m256i w) noexcept {
          return _mm256_cmpeq_epi16(_mm256_max_epu16(w, boundary), w);
        };
        return _mm256_packs_epi16(one(x[0]), one(x[1]));
      };
      code = _mm256_or_si256(code, _mm256_and_si256(reach(half, all(scale.negative)), eight));
      if (recipe.zero_is_negative())
        code = _mm256_or_si256(
            code, _mm256_andnot_si256(reach(magnitude, _mm256_and_si256(all(scale.negative), abs)), eight));
    }
    auto* const to = reinterpret_cast<__m128i*>(codes);  // of code: elements 0..7, 16..23 | 8..15, 24..31
    if constexpr (std::same_as<Order, half_split>) {
      const __m256i both = _mm256_or_si256(code, _mm256_slli_epi16(_mm256_unpackhi_epi64(code, code), 4));
      _mm_storeu_si128(to, _mm_unpacklo_epi64(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1)));
    } else {
      const __m256i pairs = _mm256_maddubs_epi16(code, _mm256_set1_epi16(detail::nibble_weights<Order>));
      const __m128i packed = _mm_packus_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
      _mm_storeu_si128(to, _mm_shuffle_epi32(packed, 0xD8));
    }
  }

 private:
  [[nodiscard]] MXFP4_INLINE static __m256i table(const std::array<std::uint8_t, 16>& entries) noexcept {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(entries.data())));
  }
};

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd

#endif
