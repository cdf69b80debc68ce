// mxfp4/simd/dot.hpp -- four-bit weights to bytes, and dot products of four bytes per lane.
// SPDX-License-Identifier: Apache-2.0
//
// A lane is a row of a tile (packed_matrix.hpp) and holds four consecutive elements, a quad. Weights are twice their
// value plus zero_point<Arch>: 12 makes them the unsigned operand 0..24 of x86's instructions, and a sum then starts at
// -12 * (sum of the block's activation codes); NEON multiplies signed bytes, and its zero point is 0.
//
//   file                 instructions for a quad         partial sums
//   avx512vnni, avxvnni  vpdpbusd                        int32
//   avx512bw, avx2       vpmaddubsw, vpaddw              int16, four quads at the most: 4 * 2 * 24 * 127 = 24384
//   sse2                 punpck, pmaddwd                 int32 pairs
//   neon_dotprod         sdot                            int32; neon_i8mm, for two tokens and more: smmla
//   neon                 smlal                           int16, eight quads: 8 * 12 * 127 = 12192
// All are exact, so all are equal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mxfp4/simd/batch.hpp"
#include "mxfp4/simd/widen.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::simd {
inline namespace MXFP4_ISA_NS {

template <class Arch>
using byte_lanes = simd::batch<std::uint8_t, Arch>;
template <class Arch>
using int_lanes = simd::batch<std::int32_t, Arch>;
template <class Arch>
using float_lanes = simd::batch<float, Arch>;

/// Rows in a register.
template <class Arch>
inline constexpr int rows_per_register = static_cast<int>(int_lanes<Arch>::size);

/// The number that is added to twice a weight: 12, or 0 for NEON.
template <class Arch>
inline constexpr int zero_point = has_neon64<Arch> ? 0 : 12;

namespace detail {

/// Twice the weight of each code, plus the zero point.
template <class Arch>
inline constexpr auto weight_table = [] {
  constexpr int doubled[8] = {0, 1, 2, 3, 4, 6, 8, 12};
  struct {
    alignas(64) std::uint8_t entry[64];
  } t{};
  for (int i = 0; i < 64; ++i)
    t.entry[i] = static_cast<std::uint8_t>(zero_point<Arch> + (i % 16 < 8 ? doubled[i % 8] : -doubled[i % 8]));
  return t;
}();

template <class Arch>
struct quad_decoder {
  MXFP4_INLINE static void decode(const std::uint8_t* line, byte_lanes<Arch>& low, byte_lanes<Arch>& high) noexcept {
    using bytes = byte_lanes<Arch>;
    const std::uint8_t* const table = weight_table<Arch>.entry;
    alignas(64) std::uint8_t l[bytes::size], h[bytes::size];
    for (std::size_t i = 0; i < bytes::size; ++i) {
      l[i] = table[line[i] & 15u];
      h[i] = table[line[i] >> 4];
    }
    low = bytes::load_aligned(l);
    high = bytes::load_aligned(h);
  }
};

}  // namespace detail

/// A register of a line -> the weights of its low and of its high nibbles, doubled, plus the zero point.
template <class Arch>
MXFP4_INLINE void decode_quads(const std::uint8_t* line, byte_lanes<Arch>& low, byte_lanes<Arch>& high) noexcept {
  detail::quad_decoder<Arch>::decode(line, low, high);
}

/// Four activation codes, to be multiplied with every row's quad.
[[nodiscard]] MXFP4_INLINE std::int32_t load_quad(const std::uint8_t* codes) noexcept {
  std::int32_t quad = 0;
  std::memcpy(&quad, codes, sizeof quad);
  return quad;
}

/// Adds up a block for one token: start(initial_sum), add each of the 8 quads once, half 0 for the first four and 1 for
/// the others, then sum(). `initial_sum` is -12 * (sum of the token's codes); where the zero point is 0 it is not used.
template <class Arch>
struct block_sum {
  MXFP4_INLINE void start(std::int32_t initial_sum) noexcept {
    for (std::int32_t& lane : lanes) lane = zero_point<Arch> != 0 ? initial_sum : 0;
  }
  MXFP4_INLINE void add(int, const byte_lanes<Arch>& weights, std::int32_t quad) noexcept {
    alignas(64) std::uint8_t w[byte_lanes<Arch>::size];
    weights.store_aligned(w);
    std::int8_t x[4];
    std::memcpy(x, &quad, sizeof x);
    for (std::size_t i = 0; i < byte_lanes<Arch>::size; ++i)
      lanes[i / 4] += (zero_point<Arch> != 0 ? int{w[i]} : int{static_cast<std::int8_t>(w[i])}) * x[i % 4];
  }
  [[nodiscard]] MXFP4_INLINE int_lanes<Arch> sum() const noexcept { return int_lanes<Arch>::load_aligned(lanes); }

  alignas(64) std::int32_t lanes[int_lanes<Arch>::size];
};

namespace detail {

template <class Arch>
struct quad_adder {
  template <std::size_t Tokens>
  MXFP4_INLINE static void add(block_sum<Arch> (&dot)[Tokens], int half, const byte_lanes<Arch>& weights,
                               const std::uint8_t* codes) noexcept {
    MXFP4_UNROLL
    for (std::size_t t = 0; t < Tokens; ++t) dot[t].add(half, weights, load_quad(codes + 4 * t));
  }
};

}  // namespace detail

/// Multiplies one quad of weights with those of some tokens, which are side by side at `codes`, and adds to their sums.
template <class Arch, std::size_t Tokens>
MXFP4_INLINE void add_quads(block_sum<Arch> (&dot)[Tokens], int half, const byte_lanes<Arch>& weights,
                            const std::uint8_t* codes) noexcept {
  detail::quad_adder<Arch>::add(dot, half, weights, codes);
}

/// For architectures with holds_tile: a kernel that keeps 16 rows of several tokens in registers decodes the low
/// nibbles of a register of a line, or the high ones, when it needs them.
template <class Arch>
struct nibble_weights;

/// And adds up a block in parts_per_block parts, of as many quads as its lanes can hold: first() and add() take a quad
/// each, sum() gives `before`, which first() was given too, and the part's products. A sum is a plain register, and
/// hold() binds it to one in the order of the text: g++ 12 would move multiplications before additions, until the
/// registers do not suffice.
template <class Arch>
struct part_sum;

/// For the same architectures: blocks of rows as a view has them, low_first or half_split, times one token. The dot
/// products of eight rows, to which sum() adds `before`, come out as the lanes of a register. tokens() brings 32 codes
/// into the order in which a row's block is decoded.
template <class Arch>
struct row_dots;

/// The compiler forgets what it knows of memory: what was stored before is loaded again after it. `at` counts as
/// memory that others know of.
template <class T>
MXFP4_INLINE void stay_in_memory(T*& at) noexcept {
  asm volatile("" : "+r"(at) : : "memory");
}

/// Are there just enough registers for 16 rows times four tokens, if little else is kept in them?
template <class Arch>
inline constexpr bool holds_tile = has_avx2<Arch> && !has_avx512bw<Arch>;

/// Scale bytes as int32 lanes; reads rows_per_register bytes.
template <class Arch>
[[nodiscard]] MXFP4_INLINE int_lanes<Arch> widen_bytes(const std::uint8_t* bytes) noexcept {
  return simd::bitwise_cast<std::int32_t>(detail::load_words<Arch>(bytes));
}

/// Products of two tokens and two rows, eight elements at a time: what an architecture with has_mmla can do besides.
template <class Arch>
struct mmla;

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd
