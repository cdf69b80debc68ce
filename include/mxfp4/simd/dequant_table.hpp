// mxfp4/simd/dequant_table.hpp -- 32 codes -> 32 numbers, by looking them up in the row of their scale byte.
// SPDX-License-Identifier: Apache-2.0
//
// decode_rows<T, Dialect>[byte][code] holds every weight there is: 256 rows of 16 numbers, made by the plain loop at
// compile time. Decoding is one load of a row and one permutation of it, the same for every byte, dialect and type: no
// multiplication, no special case for subnormal, infinite and NaN rows, nothing that flush-to-zero could touch. A
// tensor uses a dozen scale bytes or so, and the rows in use are a cache line each (half of one for 16 bits).
#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <cstring>

#include "mxfp4/format/dialect.hpp"
#include "mxfp4/format/nibble.hpp"
#include "mxfp4/simd/isa.hpp"

namespace mxfp4::simd {

/// The values of all 16 codes under one scale byte.
template <element_type T>
struct alignas(16 * sizeof(T)) decode_row {
  T value[16];
};

}  // namespace mxfp4::simd

namespace mxfp4::detail {
template <element_type T, decode_dialect Dialect>
[[nodiscard]] consteval std::array<simd::decode_row<T>, 256> make_decode_rows() noexcept {
  std::array<simd::decode_row<T>, 256> rows{};
  for (unsigned byte = 0; byte < 256; ++byte)
    for (unsigned code = 0; code < 16; ++code)
      rows[byte].value[code] = decode_weight<T, Dialect>(static_cast<e2m1>(code), static_cast<e8m0>(byte));
  return rows;
}
}  // namespace mxfp4::detail

namespace mxfp4::simd {

template <element_type T, decode_dialect Dialect>
inline constexpr std::array<decode_row<T>, 256> decode_rows = mxfp4::detail::make_decode_rows<T, Dialect>();

/// How numbers leave the register. `stream` goes past the cache and wants `out` aligned to 64 bytes.
enum class store : std::uint8_t { cached, stream };

inline namespace MXFP4_ISA_NS {

/// The orders of the formats that there are; for any other decode_codes is a loop.
template <class Order>
inline constexpr bool is_common_order = std::same_as<Order, low_first> || std::same_as<Order, half_split>;

/// 16 bytes of codes in `Order` -> 32 numbers at `out`, which are entries of `row`.
template <class Arch, nibble_order Order, store Store, element_type T>
MXFP4_INLINE void decode_codes(const std::uint8_t* codes, const decode_row<T>& row, T* out) noexcept {
#if defined(__AVX512BW__)
  if constexpr (has_avx512bw<Arch> && is_common_order<Order>) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
    if constexpr (sizeof(T) == 4) {
      const __m512i table = _mm512_load_si512(row.value);
      __m512i first, second;  // a code in the low four bits of each lane: all that the permutation looks at
      if constexpr (std::same_as<Order, half_split>) {
        first = _mm512_cvtepu8_epi32(bytes);
        second = _mm512_srli_epi32(first, 4);
      } else if constexpr (has_avx512vbmi<Arch>) {  // eight codes of a word to eight lanes: a broadcast load, one shift
        std::int64_t words[2];
        std::memcpy(words, codes, sizeof words);
        const __m512i places =
            _mm512_setr_epi64(0x0000000400000000, 0x0000000C00000008, 0x0000001400000010, 0x0000001C00000018,
                              0x0000002400000020, 0x0000002C00000028, 0x0000003400000030, 0x0000003C00000038);
        first = _mm512_multishift_epi64_epi8(places, _mm512_set1_epi64(words[0]));
        second = _mm512_multishift_epi64_epi8(places, _mm512_set1_epi64(words[1]));
      } else {
        const __m128i high = _mm_srli_epi16(bytes, 4);
        first = _mm512_cvtepu8_epi32(_mm_unpacklo_epi8(bytes, high));
        second = _mm512_cvtepu8_epi32(_mm_unpackhi_epi8(bytes, high));
      }
      const __m512i a = _mm512_permutexvar_epi32(first, table), b = _mm512_permutexvar_epi32(second, table);
      if constexpr (Store == store::stream) {
        _mm512_stream_si512(reinterpret_cast<__m512i*>(out), a);
        _mm512_stream_si512(reinterpret_cast<__m512i*>(out + 16), b);
      } else {
        _mm512_storeu_si512(out, a);
        _mm512_storeu_si512(out + 16, b);
      }
    } else {
      const __m256i sixteen = _mm256_load_si256(reinterpret_cast<const __m256i*>(row.value));
#if defined(__AVX512VBMI__) && defined(__AVX512VL__)
      if constexpr (has_avx512vbmi<Arch>) {  // two halves, of which each is one load, one shift and one permutation
        __m256i first, second;               // a code in the low four bits of each lane
        if constexpr (std::same_as<Order, half_split>) {
          first = _mm256_cvtepu8_epi16(bytes);
          second = _mm256_srli_epi16(first, 4);
        } else {
          std::int64_t words[2];
          std::memcpy(words, codes, sizeof words);
          const __m256i places =
              _mm256_setr_epi64x(0x000C000800040000, 0x001C001800140010, 0x002C002800240020, 0x003C003800340030);
          first = _mm256_multishift_epi64_epi8(places, _mm256_set1_epi64x(words[0]));
          second = _mm256_multishift_epi64_epi8(places, _mm256_set1_epi64x(words[1]));
        }
        auto* to = reinterpret_cast<__m256i*>(out);
        const __m256i a = _mm256_permutexvar_epi16(first, sixteen), b = _mm256_permutexvar_epi16(second, sixteen);
        if constexpr (Store == store::stream) {
          _mm512_stream_si512(reinterpret_cast<__m512i*>(out), _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1));
        } else {
          _mm256_storeu_si256(to, a);
          _mm256_storeu_si256(to + 1, b);
        }
        return;
      }
#endif
      const __m512i table = _mm512_broadcast_i64x4(sixteen);
      __m512i index;  // five bits of each lane count, and the table holds the row twice
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
    return;
  }
#endif
#if defined(__AVX2__)
  if constexpr (has_avx2<Arch> && !has_avx512bw<Arch> && is_common_order<Order> &&
                sizeof(T) == 4) {  // two permutations of half the row, blended
    const __m256i low = _mm256_load_si256(reinterpret_cast<const __m256i*>(row.value));
    const __m256i high = _mm256_load_si256(reinterpret_cast<const __m256i*>(row.value + 8));
    for (int part = 0; part < 4; ++part) {
      __m256i index;
      if constexpr (std::same_as<Order, half_split>) {
        std::int64_t eight;
        std::memcpy(&eight, codes + part % 2 * 8, sizeof eight);
        index = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(eight));
        if (part >= 2) index = _mm256_srli_epi32(index, 4);
      } else {
        std::int32_t four;
        std::memcpy(&four, codes + part * 4, sizeof four);
        index = _mm256_srlv_epi32(_mm256_set1_epi32(four), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
      }
      const __m256 a = _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(low, index));
      const __m256 b = _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(high, index));
      const __m256 numbers = _mm256_blendv_ps(a, b, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
      auto* to = reinterpret_cast<__m256i*>(out + 8 * part);
      if constexpr (Store == store::stream) _mm256_stream_si256(to, _mm256_castps_si256(numbers));
      else _mm256_storeu_si256(to, _mm256_castps_si256(numbers));
    }
    return;
  }
#endif
#if defined(__AVX2__)
  if constexpr (has_avx2<Arch> && !has_avx512bw<Arch> && is_common_order<Order> &&
                sizeof(T) == 2) {  // low and high bytes looked up, then zipped
    const __m256i apart = _mm256_shuffle_epi8(_mm256_load_si256(reinterpret_cast<const __m256i*>(row.value)),
                                              _mm256_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15,  //
                                                               0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
    const __m256i low_bytes = _mm256_permute4x64_epi64(apart, 0x88), high_bytes = _mm256_permute4x64_epi64(apart, 0xDD);
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
    __m256i index;  // zipping works on lanes of 128 bits: their elements are 0..7, 16..23 and 8..15, 24..31
    if constexpr (std::same_as<Order, half_split>) {
      index = _mm256_srlv_epi64(_mm256_permute4x64_epi64(_mm256_castsi128_si256(bytes), 0x50),
                                _mm256_setr_epi64x(0, 4, 0, 4));
    } else {
      const __m256i spread =
          _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes),
                              _mm256_setr_epi8(0, -1, 1, -1, 2, -1, 3, -1, 8, -1, 9, -1, 10, -1, 11, -1,  //
                                               4, -1, 5, -1, 6, -1, 7, -1, 12, -1, 13, -1, 14, -1, 15, -1));
      index = _mm256_or_si256(spread, _mm256_slli_epi16(spread, 4));
    }
    index = _mm256_and_si256(index, _mm256_set1_epi8(15));
    const __m256i low = _mm256_shuffle_epi8(low_bytes, index), high = _mm256_shuffle_epi8(high_bytes, index);
    auto* to = reinterpret_cast<__m256i*>(out);
    if constexpr (Store == store::stream) {
      _mm256_stream_si256(to, _mm256_unpacklo_epi8(low, high));
      _mm256_stream_si256(to + 1, _mm256_unpackhi_epi8(low, high));
    } else {
      _mm256_storeu_si256(to, _mm256_unpacklo_epi8(low, high));
      _mm256_storeu_si256(to + 1, _mm256_unpackhi_epi8(low, high));
    }
    return;
  }
#endif
#if defined(__aarch64__)
  if constexpr (has_neon64<Arch> &&
                is_common_order<Order>) {  // tbl looks up bytes: a code becomes the places of its number's bytes
    const uint8x16_t bytes = vld1q_u8(codes), low = vandq_u8(bytes, vdupq_n_u8(15)), high = vshrq_n_u8(bytes, 4);
    uint8x16_t half[2] = {low, high};
    if constexpr (std::same_as<Order, low_first>) {
      half[0] = vzip1q_u8(low, high);
      half[1] = vzip2q_u8(low, high);
    }
    auto* to = reinterpret_cast<std::uint8_t*>(out);
    const auto* const entries = reinterpret_cast<const std::uint8_t*>(row.value);
    for (const uint8x16_t& code : half) {
      if constexpr (sizeof(T) == 4) {
        const uint8x16x4_t table = vld1q_u8_x4(entries);
        const uint8x16_t first = vshlq_n_u8(code, 2), one = vdupq_n_u8(1);
        const uint8x16_t second = vaddq_u8(first, one), third = vaddq_u8(second, one), fourth = vaddq_u8(third, one);
        const uint16x8_t ab[2] = {vreinterpretq_u16_u8(vzip1q_u8(first, second)),
                                  vreinterpretq_u16_u8(vzip2q_u8(first, second))};
        const uint16x8_t cd[2] = {vreinterpretq_u16_u8(vzip1q_u8(third, fourth)),
                                  vreinterpretq_u16_u8(vzip2q_u8(third, fourth))};
        for (int part = 0; part < 2; ++part, to += 32) {
          vst1q_u8(to, vqtbl4q_u8(table, vreinterpretq_u8_u16(vzip1q_u16(ab[part], cd[part]))));
          vst1q_u8(to + 16, vqtbl4q_u8(table, vreinterpretq_u8_u16(vzip2q_u16(ab[part], cd[part]))));
        }
      } else {
        const uint8x16x2_t table = vld1q_u8_x2(entries);
        const uint8x16_t first = vshlq_n_u8(code, 1), second = vaddq_u8(first, vdupq_n_u8(1));
        vst1q_u8(to, vqtbl2q_u8(table, vzip1q_u8(first, second)));
        vst1q_u8(to + 16, vqtbl2q_u8(table, vzip2q_u8(first, second)));
        to += 32;
      }
    }
    return;
  }
#endif
  for (int i = 0; i < block_size; ++i) out[i] = row.value[static_cast<unsigned>(get_code<Order>(codes, i))];
}

/// After the last streaming store, before another thread may read.
template <class Arch, store Store>
MXFP4_INLINE void finish_stores() noexcept {
#if defined(__SSE2__)
  if constexpr (Store == store::stream) _mm_sfence();
#endif
}

/// Does this architecture stream at all?
template <class Arch>
inline constexpr bool has_stream = has_avx2<Arch>;

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd
