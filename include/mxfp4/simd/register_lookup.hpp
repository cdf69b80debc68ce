// mxfp4/simd/register_lookup.hpp -- codes in the lanes of a register -> their numbers; rows of codes -> lanes.
// SPDX-License-Identifier: Apache-2.0
//
// A permutation looks at the low bits of a lane only, so a code need not be masked, just shifted down:
//
//   avx512bw   vpermps: sixteen entries, four bits
//   avx2       vpermps twice: eight entries, three bits; bit 3 blends
//   neon       tbl: 64 bytes, six bits; a lane becomes the indices of its four bytes
//   else       lane by lane
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "mxfp4/format/nibble.hpp"
#include "mxfp4/simd/batch.hpp"
#include "mxfp4/simd/widen.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::simd {
inline namespace MXFP4_ISA_NS {

/// Sixteen floats, looked up by the low four bits of each lane; the bits above may be anything. Constructed from
/// sixteen entries, aligned to 64 bytes, which must outlive it: the plain version keeps the pointer.
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

namespace detail {

template <class Arch>
struct code_lanes {
  MXFP4_INLINE static void load(const std::uint8_t* codes,
                                words<Arch> (&lanes)[block_size / words<Arch>::size]) noexcept {
    alignas(64) std::array<std::uint32_t, block_size> all;
    for (std::size_t j = 0; j < block_code_bytes; ++j) {
      all[2 * j] = codes[j];
      all[2 * j + 1] = codes[j] >> 4;
    }
    for (std::size_t i = 0; i < block_size / words<Arch>::size; ++i)
      lanes[i] = words<Arch>::load_aligned(all.data() + i * words<Arch>::size);
  }
};

template <class Arch>
struct row_transposer {
  MXFP4_INLINE static void transpose(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                                     const std::uint8_t* d, std::uint8_t* out) noexcept {
    const std::uint8_t* const rows[4] = {a, b, c, d};
    for (int r = 0; r < 4; ++r)
      for (int g = 0; g < 4; ++g) std::memcpy(out + 64 * g + 4 * r, rows[r] + 4 * g, 4);
  }
};

}  // namespace detail

/// The 32 codes of a block, low nibble first -> the low four bits of the lanes, in order; the bits above may be
/// anything.
template <class Arch>
MXFP4_INLINE void load_codes(const std::uint8_t* codes, words<Arch> (&lanes)[block_size / words<Arch>::size]) noexcept {
  detail::code_lanes<Arch>::load(codes, lanes);
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
template <class Arch = register128>
MXFP4_INLINE void transpose_rows(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                                 const std::uint8_t* d, std::uint8_t* out) noexcept {
  detail::row_transposer<Arch>::transpose(a, b, c, d, out);
}

/// Brings a line that is needed in a few microseconds into the second-level cache. Any address is allowed.
MXFP4_INLINE void prefetch_soon(const void* address) noexcept { __builtin_prefetch(address, 0, 2); }
/// Brings a line that is needed next into the first-level cache. Any address is allowed.
MXFP4_INLINE void prefetch_next(const void* address) noexcept { __builtin_prefetch(address, 0, 3); }

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd
