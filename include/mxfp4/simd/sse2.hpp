// mxfp4/simd/sse2.hpp -- registers of 16 bytes on x86-64: no byte shuffle, no multiplication of bytes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

#include "mxfp4/simd/dot.hpp"
#include "mxfp4/simd/register_lookup.hpp"
#include "mxfp4/simd/widen.hpp"

#if defined(__SSE2__)

namespace mxfp4::inline MXFP4_VERSION_NS::simd {
inline namespace MXFP4_ISA_NS {

template <has_sse2 Arch>
inline constexpr const char* isa_name<Arch> = "sse2";

namespace detail {

template <has_sse2 Arch>
struct small_lanes<Arch> {
  template <class Small>
  [[nodiscard]] MXFP4_INLINE static words<Arch> load(const Small* from) noexcept {
    const __m128i zero = _mm_setzero_si128();
    if constexpr (sizeof(Small) == 1) {
      std::int32_t four;
      std::memcpy(&four, from, sizeof four);
      return _mm_unpacklo_epi16(_mm_unpacklo_epi8(_mm_cvtsi32_si128(four), zero), zero);
    } else {
      return _mm_unpacklo_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)), zero);
    }
  }
  MXFP4_INLINE static void store(words<Arch> w, std::uint16_t* to) noexcept {
    const __m128i as_signed = _mm_srai_epi32(_mm_slli_epi32(w, 16), 16);  // packing saturates
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packs_epi32(as_signed, as_signed));
  }
};

template <has_sse2 Arch>
struct row_transposer<Arch> {
  MXFP4_INLINE static void transpose(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                                     const std::uint8_t* d, std::uint8_t* out) noexcept {
    const auto load = [](const std::uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); };
    const auto store = [out](int g, __m128i line) { _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 64 * g), line); };
    const __m128i ra = load(a), rb = load(b), rc = load(c), rd = load(d);
    const __m128i ab = _mm_unpacklo_epi32(ra, rb), cd = _mm_unpacklo_epi32(rc, rd);
    store(0, _mm_unpacklo_epi64(ab, cd));
    store(1, _mm_unpackhi_epi64(ab, cd));
    const __m128i ab_high = _mm_unpackhi_epi32(ra, rb), cd_high = _mm_unpackhi_epi32(rc, rd);
    store(2, _mm_unpacklo_epi64(ab_high, cd_high));
    store(3, _mm_unpackhi_epi64(ab_high, cd_high));
  }
};

template <has_sse2 Arch>
struct quad_decoder<Arch> {
  MXFP4_INLINE static void decode(const std::uint8_t* line, byte_lanes<Arch>& low, byte_lanes<Arch>& high) noexcept {
    const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(line)), mask = _mm_set1_epi8(15);
    low = byte_lanes<Arch>(weights(_mm_and_si128(codes, mask)));
    high = byte_lanes<Arch>(weights(_mm_and_si128(_mm_srli_epi16(codes, 4), mask)));
  }

 private:
  /// 2|v| = m + [m > 4] + [m > 5] + 3 [m > 6]
  [[nodiscard]] MXFP4_INLINE static __m128i weights(__m128i code) noexcept {
    const __m128i m = _mm_and_si128(code, _mm_set1_epi8(7)), minus = _mm_cmpgt_epi8(code, _mm_set1_epi8(7));
    __m128i w = _mm_sub_epi8(m, _mm_cmpgt_epi8(m, _mm_set1_epi8(4)));
    w = _mm_sub_epi8(w, _mm_cmpgt_epi8(m, _mm_set1_epi8(5)));
    w = _mm_add_epi8(w, _mm_and_si128(_mm_cmpgt_epi8(m, _mm_set1_epi8(6)), _mm_set1_epi8(3)));
    w = _mm_sub_epi8(_mm_xor_si128(w, minus), minus);
    return _mm_add_epi8(w, _mm_set1_epi8(zero_point<Arch>));
  }
};

}  // namespace detail

template <has_sse2 Arch>
struct block_sum<Arch> {
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

/// xsimd 13 has no minimum of bytes for SSE2: it compares and selects.
using bytes16 = batch<std::uint8_t, register128>;
[[nodiscard]] MXFP4_INLINE bytes16 min_bytes(const bytes16& a, const bytes16& b) noexcept {
  return bytes16(_mm_min_epu8(a, b));
}
[[nodiscard]] MXFP4_INLINE bytes16 max_bytes(const bytes16& a, const bytes16& b) noexcept {
  return bytes16(_mm_max_epu8(a, b));
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd

#endif
