// mxfp4/simd/encode.hpp -- floor 6: 32 numbers -> their largest magnitude; 32 numbers under a scale -> 16 bytes of codes.
// SPDX-License-Identifier: Apache-2.0
//
// Everywhere a code is the number of cuts reached (rounding.hpp): seven compares and subtractions of integers. AVX-512 has
// a permutation of sixteen lanes, and a half binade of the scaled magnitude holds one cut at the most; so a table with an
// entry for each half binade makes of the seven compares one permutation, one addition and one shift:
//
//   half binade   < .25 | .25  .375 | .5  .75 | 1   1.5 | 2    3  | 4    6      sum = magnitude + entry
//   codes           0   | 0|1   1   |  1  1|2 | 2|3 3|4 | 4|5 5|6 | 6|7  7      code = sum >> 22
//
// Reads: floors 0-3, isa.hpp.  Read by: kernel/quantize.hpp.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "mxfp4/recipe.hpp"
#include "mxfp4/simd/isa.hpp"

namespace mxfp4::simd {

/// The scale bytes that the vector paths take: in between, every cut and every magnitude that reaches one is a normal
/// float, and none overflows. Blocks outside are left to the scalar floor.
inline constexpr unsigned vector_scale_min = 4, vector_scale_max = 252;

}  // namespace mxfp4::simd

namespace mxfp4::detail {

/// Entry for the half binade with number (bits >> 22), at its last four bits: 0xF9 is just below 0.25, 0x103 is [6, 8).
template <rounding_rule Round>
[[nodiscard]] consteval std::array<std::uint32_t, 16> make_half_binades() noexcept {
  std::array<std::uint32_t, 16> entries{};
  for (std::uint32_t number = 0xF9; number <= 0x103; ++number) {
    const std::uint32_t first = number << 22, last = first + 0x3FFFFFu;
    std::uint32_t code = 0, cut = last + 1;
    for (unsigned i = 0; i < 7; ++i) {
      const std::uint32_t at = Round::base(i) + static_cast<std::uint32_t>(Round::ulps(i));
      if (at <= first) ++code;
      else if (at <= last) cut = at;
    }
    entries[number & 15u] = ((code + 1) << 22) - cut;  // modulo 2^32
  }
  return entries;
}

template <rounding_rule Round>
inline constexpr std::array<std::uint32_t, 16> half_binades = make_half_binades<Round>();

}  // namespace mxfp4::detail

namespace mxfp4::simd {

inline namespace MXFP4_ISA_NS {

/// 32 elements of T as f32 bits. As decode() gives them, but that a NaN of f16 may come out quiet.
template <class Arch, element_type T>
struct block_bits {
  alignas(64) std::uint32_t lane[block_size];

  MXFP4_INLINE void load(const T* x) noexcept {
    for (int i = 0; i < block_size; ++i) lane[i] = mxfp4::detail::float_bits(decode(x[i]));
  }
  MXFP4_INLINE void store(std::uint32_t (&bits)[block_size]) const noexcept { std::memcpy(bits, lane, sizeof bits); }
  [[nodiscard]] MXFP4_INLINE std::uint32_t amax() const noexcept { return mxfp4::detail::amax_bits(lane); }

  /// Codes under the scale byte `byte`, vector_scale_min..vector_scale_max, packed in `Order`.
  template <rounding_rule Round, zero_rule Zero, nibble_order Order>
  MXFP4_INLINE void encode(unsigned byte, std::uint8_t* codes) const noexcept {
    const element_cuts cuts = make_cuts<Round, Zero>(static_cast<e8m0>(byte));
    alignas(16) std::uint32_t code[block_size];
    for (int i = 0; i < block_size; ++i) {  // written so that compilers vectorise it for any -m flags
      const std::uint32_t magnitude = lane[i] & mxfp4::detail::f32_abs_mask;
      std::uint32_t count = magnitude == cuts.stray ? 1u : 0u;
      for (const std::uint32_t cut : cuts.cut) count += magnitude >= cut ? 1u : 0u;
      std::uint32_t sign = magnitude >= cuts.sign_cut ? lane[i] >> 28 & 8u : 0u;
      if constexpr (Zero::zero_is_negative) sign |= magnitude < cuts.sign_cut ? 8u : 0u;
      code[i] = count | sign;
    }
    for (int j = 0; j < block_code_bytes; ++j) {
      if constexpr (std::same_as<Order, half_split>) codes[j] = static_cast<std::uint8_t>(code[j] | code[j + 16] << 4);
      else if constexpr (std::same_as<Order, low_first>)
        codes[j] = static_cast<std::uint8_t>(code[2 * j] | code[2 * j + 1] << 4);
      else codes[j] = static_cast<std::uint8_t>(code[2 * j + 1] | code[2 * j] << 4);
    }
  }
};

#if defined(__AVX512BW__)

template <class Arch, element_type T>
  requires has_avx512bw<Arch> && (!std::same_as<T, e4m3>)
struct block_bits<Arch, T> {
  __m512i first, second;

  MXFP4_INLINE void load(const T* x) noexcept {
    first = sixteen(x);
    second = sixteen(x + 16);
  }
  MXFP4_INLINE void store(std::uint32_t (&bits)[block_size]) const noexcept {
    _mm512_storeu_si512(bits, first);
    _mm512_storeu_si512(bits + 16, second);
  }
  [[nodiscard]] MXFP4_INLINE std::uint32_t amax() const noexcept {
    const __m512i abs = _mm512_set1_epi32(0x7FFFFFFF);
    return _mm512_reduce_max_epu32(_mm512_max_epu32(_mm512_and_si512(first, abs), _mm512_and_si512(second, abs)));
  }

  template <rounding_rule Round, zero_rule Zero, nibble_order Order>
  MXFP4_INLINE void encode(unsigned byte, std::uint8_t* codes) const noexcept {
    const auto scale = static_cast<e8m0>(byte);
    const int k = static_cast<int>(byte) - mxfp4::detail::f32_bias;
    const std::uint32_t first_cut = mxfp4::detail::cut_bits(Round::base(0), Round::ulps(0), k);
    const std::uint32_t sign_cut = Zero::sign_cut(scale, first_cut), stray = Round::stray(k);
    const __m512i a = lanes<Round, Zero>(first, k, sign_cut, stray), b = lanes<Round, Zero>(second, k, sign_cut, stray);
    if constexpr (std::same_as<Order, half_split>) {
      const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_or_si512(a, _mm512_slli_epi32(b, 4)));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), bytes);
    } else {  // the odd lane of a pair comes down beside the even one
      static_assert(std::same_as<Order, low_first>);
      const __m128i low = _mm512_cvtepi64_epi8(_mm512_or_si512(a, _mm512_srli_epi64(a, 28)));
      const __m128i high = _mm512_cvtepi64_epi8(_mm512_or_si512(b, _mm512_srli_epi64(b, 28)));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), _mm_unpacklo_epi64(low, high));
    }
  }

 private:
  [[nodiscard]] MXFP4_INLINE static __m512i sixteen(const T* x) noexcept {
    if constexpr (std::same_as<T, float>) {
      return _mm512_loadu_si512(x);
    } else {
      const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
      if constexpr (std::same_as<T, bf16>) return _mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16);
      else return _mm512_castps_si512(_mm512_cvtph_ps(words));
    }
  }

  /// Sixteen codes, one a lane.
  template <rounding_rule Round, zero_rule Zero>
  [[nodiscard]] MXFP4_INLINE static __m512i lanes(__m512i bits, int k, std::uint32_t sign_cut,
                                                  std::uint32_t stray) noexcept {
    const __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7FFFFFFF)), eight = _mm512_set1_epi32(8);
    __m512i scaled = _mm512_sub_epi32(magnitude, _mm512_set1_epi32(k * (1 << 23)));  // below 0: far below the first cut
    scaled = _mm512_max_epi32(scaled, _mm512_set1_epi32(0x3E7FFFFF));                // just below 0.25
    scaled = _mm512_min_epi32(scaled, _mm512_set1_epi32(0x40FFFFFF));                // just below 8
    const __m512i entries = _mm512_loadu_si512(mxfp4::detail::half_binades<Round>.data());
    const __m512i entry = _mm512_permutexvar_epi32(_mm512_srli_epi32(scaled, 22), entries);
    __m512i code = _mm512_srli_epi32(_mm512_add_epi32(scaled, entry), 22);
    if constexpr (Round::stray(0) != mxfp4::detail::never) {
      const __mmask16 is_stray = _mm512_cmpeq_epi32_mask(magnitude, _mm512_set1_epi32(static_cast<int>(stray)));
      code = _mm512_mask_mov_epi32(code, is_stray, _mm512_set1_epi32(1));
    }
    const __m512i sign = _mm512_srli_epi32(bits, 28);
    if constexpr (std::same_as<Zero, keep_sign>)
      return _mm512_ternarylogic_epi32(code, sign, eight, 0xF8);  // a | (b & c)
    const __mmask16 kept = _mm512_cmpge_epu32_mask(magnitude, _mm512_set1_epi32(static_cast<int>(sign_cut)));
    code = _mm512_or_si512(code, _mm512_maskz_and_epi32(kept, sign, eight));
    if constexpr (Zero::zero_is_negative) code = _mm512_mask_or_epi32(code, _knot_mask16(kept), code, eight);
    return code;
  }
};

#endif

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd
