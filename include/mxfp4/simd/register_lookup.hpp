// mxfp4/simd/register_lookup.hpp -- codes in the lanes of a register -> their numbers; rows of codes -> lanes.
// SPDX-License-Identifier: Apache-2.0
//
// A permutation looks at the low bits of a lane only, so a code need not be masked, just shifted down:
//
//   AVX-512   vpermps: sixteen entries, four bits
//   AVX2      vpermps twice: eight entries, three bits; bit 3 blends
//   NEON      tbl: 64 bytes, six bits; a lane becomes the indices of its four bytes
//   else      lane by lane
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "mxfp4/format/nibble.hpp"
#include "mxfp4/simd/batch.hpp"
#include "mxfp4/simd/widen.hpp"

namespace mxfp4::simd {
inline namespace MXFP4_ISA_NS {

/// Sixteen floats, looked up by the low four bits of each lane; the bits above may be anything. Made of sixteen entries
/// aligned to 64 bytes, which must outlive the plain version.
template <class Arch>
class table16 {
 public:
  MXFP4_INLINE explicit table16(const float* entries) noexcept : entries_(entries) {}
  [[nodiscard]] MXFP4_INLINE floats<Arch> operator[](words<Arch> index) const noexcept {
    alignas(64) std::array<std::uint32_t, words<Arch>::size> at;
    alignas(64) std::array<float, words<Arch>::size> found;
    index.store_aligned(at.data());
    for (std::size_t i = 0; i < at.size(); ++i) found[i] = entries_[at[i] & 15u];
    return floats<Arch>::load_aligned(found.data());
  }

 private:
  const float* entries_;
};

#if defined(__AVX2__)
template <class Arch>
  requires(has_avx2<Arch> && !has_avx512bw<Arch>)
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
#endif

#if defined(__AVX512BW__)
template <class Arch>
  requires has_avx512bw<Arch>
class table16<Arch> {
 public:
  MXFP4_INLINE explicit table16(const float* entries) noexcept : entries_(_mm512_load_ps(entries)) {}
  [[nodiscard]] MXFP4_INLINE floats<Arch> operator[](words<Arch> index) const noexcept {
    return _mm512_permutexvar_ps(index, entries_);
  }

 private:
  __m512 entries_;
};
#endif

#if defined(__aarch64__)
template <class Arch>
  requires has_neon64<Arch>
class table16<Arch> {
 public:
  MXFP4_INLINE explicit table16(const float* entries) noexcept
      : bytes_(vld1q_u8_x4(reinterpret_cast<const std::uint8_t*>(entries))) {}
  [[nodiscard]] MXFP4_INLINE floats<Arch> operator[](words<Arch> index) const noexcept {
    const uint32x4_t code = vandq_u32(index, vdupq_n_u32(15));
    const uint32x4_t places = vmlaq_n_u32(vdupq_n_u32(0x03020100u), code, 0x04040404u);
    return vreinterpretq_f32_u8(vqtbl4q_u8(bytes_, vreinterpretq_u8_u32(places)));
  }

 private:
  uint8x16x4_t bytes_;
};
#endif

/// The 32 codes of a block, low nibble first -> the low four bits of the lanes, in order; the bits above may be
/// anything.
template <class Arch>
MXFP4_INLINE void load_codes(const std::uint8_t* codes, words<Arch> (&lanes)[block_size / words<Arch>::size]) noexcept {
#if defined(__AVX512BW__)
  if constexpr (has_avx512bw<Arch>) {
    if constexpr (has_avx512vbmi<Arch>) {  // eight codes of a word to eight lanes: a broadcast load, one shift
#if defined(__AVX512VBMI__)
      std::int64_t half[2];
      std::memcpy(half, codes, sizeof half);
      const __m512i places =
          _mm512_setr_epi64(0x0000000400000000, 0x0000000C00000008, 0x0000001400000010, 0x0000001C00000018,
                            0x0000002400000020, 0x0000002C00000028, 0x0000003400000030, 0x0000003C00000038);
      lanes[0] = _mm512_multishift_epi64_epi8(places, _mm512_set1_epi64(half[0]));
      lanes[1] = _mm512_multishift_epi64_epi8(places, _mm512_set1_epi64(half[1]));
#endif
    } else {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)), high = _mm_srli_epi16(bytes, 4);
      lanes[0] = _mm512_cvtepu8_epi32(_mm_unpacklo_epi8(bytes, high));
      lanes[1] = _mm512_cvtepu8_epi32(_mm_unpackhi_epi8(bytes, high));
    }
    return;
  }
#endif
#if defined(__AVX2__)
  if constexpr (has_avx2<Arch> && !has_avx512bw<Arch>) {
    for (int i = 0; i < 4; ++i) {
      std::int32_t eight;
      std::memcpy(&eight, codes + 4 * i, sizeof eight);
      lanes[i] = _mm256_srlv_epi32(_mm256_set1_epi32(eight), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    }
    return;
  }
#endif
  alignas(64) std::array<std::uint32_t, block_size> all;
  for (std::size_t j = 0; j < block_code_bytes; ++j) {
    all[2 * j] = codes[j];
    all[2 * j + 1] = codes[j] >> 4;
  }
  for (std::size_t i = 0; i < block_size / words<Arch>::size; ++i)
    lanes[i] = words<Arch>::load_aligned(all.data() + i * words<Arch>::size);
}

/// Lanes of 32 bits from memory, little-endian whatever the machine; no alignment asked.
template <class Arch>
[[nodiscard]] MXFP4_INLINE words<Arch> load_lines(const std::uint8_t* from) noexcept {
  if constexpr (std::is_same_v<Arch, scalar_arch>) {
    return words<Arch>::make([from](std::size_t i) {
      return std::uint32_t{from[4 * i]} | std::uint32_t{from[4 * i + 1]} << 8 | std::uint32_t{from[4 * i + 2]} << 16 |
             std::uint32_t{from[4 * i + 3]} << 24;
    });
  } else {
    return simd::bitwise_cast<std::uint32_t>(simd::batch<std::uint8_t, Arch>::load_unaligned(from));
  }
}

/// Four rows of 16 bytes -> out + 64 g, g = 0..3: bytes 4g .. 4g + 3 of each row, one row after the other.
MXFP4_INLINE void transpose_rows(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                                 const std::uint8_t* d, std::uint8_t* out) noexcept {
#if defined(__SSE2__)
  const auto load = [](const std::uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); };
  const auto store = [out](int g, __m128i line) { _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 64 * g), line); };
  const __m128i ra = load(a), rb = load(b), rc = load(c), rd = load(d);
  const __m128i ab = _mm_unpacklo_epi32(ra, rb), cd = _mm_unpacklo_epi32(rc, rd);
  store(0, _mm_unpacklo_epi64(ab, cd));
  store(1, _mm_unpackhi_epi64(ab, cd));
  const __m128i ab_high = _mm_unpackhi_epi32(ra, rb), cd_high = _mm_unpackhi_epi32(rc, rd);
  store(2, _mm_unpacklo_epi64(ab_high, cd_high));
  store(3, _mm_unpackhi_epi64(ab_high, cd_high));
#elif defined(__aarch64__)
  const auto load = [](const std::uint8_t* p) { return vreinterpretq_u32_u8(vld1q_u8(p)); };
  const auto pair = [](uint32x4_t low, uint32x4_t high) {
    return uint64x2x2_t{{vreinterpretq_u64_u32(low), vreinterpretq_u64_u32(high)}};
  };
  const auto store = [out](int g, uint64x2_t line) { vst1q_u8(out + 64 * g, vreinterpretq_u8_u64(line)); };
  const uint32x4_t ra = load(a), rb = load(b), rc = load(c), rd = load(d);
  const uint64x2x2_t first = pair(vzip1q_u32(ra, rb), vzip1q_u32(rc, rd));
  const uint64x2x2_t second = pair(vzip2q_u32(ra, rb), vzip2q_u32(rc, rd));
  store(0, vzip1q_u64(first.val[0], first.val[1]));
  store(1, vzip2q_u64(first.val[0], first.val[1]));
  store(2, vzip1q_u64(second.val[0], second.val[1]));
  store(3, vzip2q_u64(second.val[0], second.val[1]));
#else
  const std::uint8_t* const rows[4] = {a, b, c, d};
  for (int r = 0; r < 4; ++r)
    for (int g = 0; g < 4; ++g) std::memcpy(out + 64 * g + 4 * r, rows[r] + 4 * g, 4);
#endif
}

/// Brings a line that is wanted in a few microseconds into the second-level cache. Any address will do.
MXFP4_INLINE void prefetch_soon(const void* address) noexcept { __builtin_prefetch(address, 0, 2); }
/// Brings a line that is wanted next into the first-level cache. Any address will do.
MXFP4_INLINE void prefetch_next(const void* address) noexcept { __builtin_prefetch(address, 0, 3); }

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd
