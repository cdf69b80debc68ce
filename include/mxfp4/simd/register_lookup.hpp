// mxfp4/simd/register_lookup.hpp -- codes in the lanes of a register -> their numbers; rows of codes -> lanes.
// SPDX-License-Identifier: Apache-2.0
//
// A permutation looks at the low bits of a lane only, so a code need not be masked, just shifted down:
//
//   avx512bw   vpermps: sixteen entries, four bits
//   avx2       vpermps twice: eight entries, three bits; bit 3 blends
//   neon       tbl: 64 bytes, six bits; a lane becomes the indices of its four bytes
//   else       lane by lane
//
// AVX2 looks up the weights of a matrix by the byte instead, 32 codes at a time (avx2_weights.hpp).
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "mxfp4/format/nibble.hpp"
#include "mxfp4/simd/batch.hpp"
#include "mxfp4/simd/dequant_table.hpp"
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

/// Where registers are few: a compiler neither moves the end of a sum behind this point nor keeps what it has loaded
/// before. With more in flight than there are registers, it would all go to memory and back.
template <class Batch>
MXFP4_INLINE void finish_here(Batch&) noexcept {}

/// The weights of a block of one row -> registers whose lanes run along k: the low nibbles of the block's bytes in
/// registers 0, 2, .., the high ones in 1, 3, ..
template <class Arch>
struct row_weights {
  static constexpr int lanes = static_cast<int>(words<Arch>::size), registers = block_size / lanes;

  /// Where lane `lane` of register r comes from: a byte of the block, the upper half of it?
  [[nodiscard]] static constexpr int byte_of(int r, int lane) noexcept { return r / 2 * lanes + lane; }
  [[nodiscard]] static constexpr bool is_high(int r, int) noexcept { return r % 2 != 0; }

  /// The floats of a weight table (dequant_table.hpp), any scale byte.
  template <class Table>
  MXFP4_INLINE static void load(const Table& table, const std::uint8_t* codes, std::uint8_t scale,
                                floats<Arch> (&w)[std::size_t{registers}]) noexcept {
    const table16<Arch> values(table.row(scale).value);
    MXFP4_UNROLL
    for (int r = 0; r < registers; r += 2) {
      const words<Arch> bytes = detail::load_words<Arch>(codes + byte_of(r, 0));
      w[r] = values[bytes];
      w[r + 1] = values[bytes >> 4];
    }
  }

  /// The sum over the lanes of both: `even` was made with registers 0, 2, .., `odd` with 1, 3, ..
  [[nodiscard]] MXFP4_INLINE static float sum(floats<Arch> even, floats<Arch> odd) noexcept {
    return simd::reduce_add(even + odd);
  }
};

/// Twice the value of every code: integers, so a product with one has no digits below the last place of the factor.
alignas(64) inline constexpr float doubled_values[16] = {0.0f,  1.0f,  2.0f,  3.0f,  4.0f,  6.0f,  8.0f,  12.0f,
                                                         -0.0f, -1.0f, -2.0f, -3.0f, -4.0f, -6.0f, -8.0f, -12.0f};

/// Twice the values of a line's codes: lanes are rows, each of which has four bytes in the line.
template <class Arch>
class line_weights {
 public:
  MXFP4_INLINE line_weights() noexcept : values_(doubled_values) {}
  /// A line of V rows, 4V bytes.
  [[nodiscard]] MXFP4_INLINE static words<Arch> load(const std::uint8_t* line) noexcept {
    return load_lines<Arch>(line);
  }
  /// Nibble 0..7 of every row, from bit 0 up, of what load() has given.
  [[nodiscard]] MXFP4_INLINE floats<Arch> at(words<Arch> line, int nibble) const noexcept {
    return values_[line >> (4 * nibble)];
  }

 private:
  table16<Arch> values_;
};

/// Where few registers suffice to decode a line while its products are added up: load() takes a line of V rows, and
/// decode() the low nibbles of what it gives (half 0) or the high ones, by two tables that its user keeps. lower() and
/// upper() of the first result are twice the values of the rows' bytes 0 and 1, those of the second of bytes 2 and 3.
/// finish() is finish_here for a sum.
template <class Arch>
class line_decoder {
 public:
  static constexpr bool available = false;
};

/// The sums over a block of 2v * x, v a code's value, for V rows of a tile: chain i, 0..3, takes byte i of every line;
/// the chains are added as (0 + 1) + (2 + 3).
template <class Arch>
class block_product {
 public:
  /// Where the activation of element k is wanted, and lanes of consecutive activations in that order.
  [[nodiscard]] static constexpr int place(int k) noexcept { return k; }
  [[nodiscard]] MXFP4_INLINE static floats<Arch> arrange(floats<Arch> x) noexcept { return x; }

  /// @param lines  the V rows' part of the block's first line; the others follow 64 bytes apart.
  /// @param x      32 activations.
  [[nodiscard]] MXFP4_INLINE floats<Arch> operator()(const std::uint8_t* lines, const float* x) const noexcept {
    floats<Arch> chain[4];
    MXFP4_UNROLL
    for (int g = 0; g < 4; ++g) {
      const words<Arch> line = weights_.load(lines + 64 * g);
      MXFP4_UNROLL
      for (int i = 0; i < 4; ++i) {
        const floats<Arch> low = weights_.at(line, 2 * i), high = weights_.at(line, 2 * i + 1);
        const floats<Arch> x_low(x[4 * g + i]), x_high(x[16 + 4 * g + i]);
        chain[i] = g == 0 ? low * x_low : simd::fma(low, x_low, chain[i]);
        chain[i] = simd::fma(high, x_high, chain[i]);
      }
    }
    return (chain[0] + chain[1]) + (chain[2] + chain[3]);
  }

 private:
  line_weights<Arch> weights_;
};

/// Four rows of 16 bytes -> out + 64 g, g = 0..3: bytes 4g .. 4g + 3 of each row, one row after the other.
template <class Arch = register128>
MXFP4_INLINE void transpose_rows(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                                 const std::uint8_t* d, std::uint8_t* out) noexcept {
  detail::row_transposer<Arch>::transpose(a, b, c, d, out);
}

/// Blocks in low_first order of 16 rows -> a block of a tile: four lines of 64 bytes, line g of word g of each row in
/// half_split order (nibble.hpp). By all rows at once, where a register holds a line.
template <class Arch>
struct tile_transposer {
  static constexpr bool available = false;
};

/// Brings a line that is needed in a few microseconds into the second-level cache. Any address is allowed.
MXFP4_INLINE void prefetch_soon(const void* address) noexcept { __builtin_prefetch(address, 0, 2); }
/// Brings a line that is needed next into the first-level cache. Any address is allowed.
MXFP4_INLINE void prefetch_next(const void* address) noexcept { __builtin_prefetch(address, 0, 3); }
/// Brings a line that is written next, as a whole, into the first-level cache. Any address is allowed.
MXFP4_INLINE void prefetch_written(const void* address) noexcept { __builtin_prefetch(address, 1, 3); }

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd
