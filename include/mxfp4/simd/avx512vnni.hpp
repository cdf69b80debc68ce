// mxfp4/simd/avx512vnni.hpp -- AVX-512 VBMI, which permutes bytes, and VNNI, which adds up products of bytes.
// SPDX-License-Identifier: Apache-2.0
//
// They are two extensions, and CPUs with one alone exist; isas.def has them together, as all CPUs since 2019 do.
// avx512vnni_fp8_table.hpp has what VBMI makes of FP8 weights.
#pragma once

#include <concepts>
#include <cstdint>
#include <cstring>

#include "mxfp4/simd/avx512bw.hpp"
#include "mxfp4/simd/dequant_table.hpp"
#include "mxfp4/simd/dot.hpp"
#include "mxfp4/simd/register_lookup.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::simd {
inline namespace MXFP4_ISA_NS {

/// vpermb and vpmultishiftqb: implied by no xsimd tag of 13.2 and 14 alike, so the flags decide for the native one.
template <class Arch>
concept has_avx512vbmi =
#if defined(__AVX512VBMI__)
    has_avx512bw<Arch> && std::same_as<Arch, native_arch>;
#else
    false;
#endif

/// vpdpbusd: the same.
template <class Arch>
concept has_avx512vnni =
#if defined(__AVX512VNNI__)
    has_avx512bw<Arch> && std::same_as<Arch, native_arch>;
#else
    false;
#endif

template <class Arch>
  requires has_avx512vbmi<Arch> && has_avx512vnni<Arch>
inline constexpr const char* isa_name<Arch> = "avx512vnni";

#if defined(__AVX512VBMI__) && defined(__AVX512BW__)

namespace detail {

/// Eight codes of a word to eight lanes: a broadcast load, one shift.
template <has_avx512vbmi Arch>
struct code_lanes<Arch> {
  MXFP4_INLINE static void load(const std::uint8_t* codes,
                                words<Arch> (&lanes)[block_size / words<Arch>::size]) noexcept {
    std::int64_t half[2];
    std::memcpy(half, codes, sizeof half);
    const __m512i places =
        _mm512_setr_epi64(0x0000000400000000, 0x0000000C00000008, 0x0000001400000010, 0x0000001C00000018,
                          0x0000002400000020, 0x0000002C00000028, 0x0000003400000030, 0x0000003C00000038);
    lanes[0] = _mm512_multishift_epi64_epi8(places, _mm512_set1_epi64(half[0]));
    lanes[1] = _mm512_multishift_epi64_epi8(places, _mm512_set1_epi64(half[1]));
  }
};

#if defined(__AVX512VL__)
/// Two halves, of which each is one load, one shift and one permutation.
template <has_avx512vbmi Arch>
struct code_decoder<Arch, 2> {
  template <nibble_order Order, store Store, element_type T>
  MXFP4_INLINE static void decode(const std::uint8_t* codes, const decode_row<T>& row, T* out) noexcept {
    const __m256i table = _mm256_load_si256(reinterpret_cast<const __m256i*>(row.value));
    __m256i first, second;  // a code in the low four bits of each lane
    if constexpr (std::same_as<Order, half_split>) {
      first = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
      second = _mm256_srli_epi16(first, 4);
    } else {
      std::int64_t half[2];
      std::memcpy(half, codes, sizeof half);
      const __m256i places =
          _mm256_setr_epi64x(0x000C000800040000, 0x001C001800140010, 0x002C002800240020, 0x003C003800340030);
      first = _mm256_multishift_epi64_epi8(places, _mm256_set1_epi64x(half[0]));
      second = _mm256_multishift_epi64_epi8(places, _mm256_set1_epi64x(half[1]));
    }
    const __m256i a = _mm256_permutexvar_epi16(first, table), b = _mm256_permutexvar_epi16(second, table);
    if constexpr (Store == store::stream) {
      _mm512_stream_si512(reinterpret_cast<__m512i*>(out), _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1));
    } else {
      auto* to = reinterpret_cast<__m256i*>(out);
      _mm256_storeu_si256(to, a);
      _mm256_storeu_si256(to + 1, b);
    }
  }
};
#endif

/// vpermb takes six index bits: a table that repeats four times needs no mask.
template <has_avx512vbmi Arch>
struct quad_decoder<Arch> {
  MXFP4_INLINE static void decode(const std::uint8_t* line, byte_lanes<Arch>& low, byte_lanes<Arch>& high) noexcept {
    const __m512i t = _mm512_load_si512(weight_table<Arch>.entry), codes = _mm512_loadu_si512(line);
    low = byte_lanes<Arch>(_mm512_permutexvar_epi8(codes, t));
    high = byte_lanes<Arch>(_mm512_permutexvar_epi8(_mm512_srli_epi16(codes, 4), t));
  }
};

template <has_avx512vbmi Arch>
struct second_bytes<Arch> {
  [[nodiscard]] MXFP4_INLINE static __m128i of(__m512i x) noexcept {
    const __m128i places = _mm_setr_epi8(1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 41, 45, 49, 53, 57, 61);
    return _mm512_castsi512_si128(_mm512_permutexvar_epi8(_mm512_castsi128_si512(places), x));
  }
};

}  // namespace detail

#endif

#if defined(__AVX512VNNI__)

template <has_avx512vnni Arch>
struct block_sum<Arch> {
  MXFP4_INLINE void start(std::int32_t initial_sum) noexcept { lanes = _mm512_set1_epi32(initial_sum); }
  MXFP4_INLINE void add(int, const byte_lanes<Arch>& weights, std::int32_t quad) noexcept {
    lanes = _mm512_dpbusd_epi32(lanes, weights, _mm512_set1_epi32(quad));
  }
  [[nodiscard]] MXFP4_INLINE int_lanes<Arch> sum() const noexcept { return int_lanes<Arch>(lanes); }

  __m512i lanes;
};

#endif

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd
