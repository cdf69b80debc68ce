// mxfp4/simd/encode.hpp -- 32 numbers -> words; words -> their largest magnitude; words -> 16 bytes of codes.
// SPDX-License-Identifier: Apache-2.0
//
// A block is 32 words of 16 bits (words.hpp): one register of AVX-512, two of AVX2. A half binade of the scaled
// magnitude holds one boundary at the most: a table with an entry for each replaces seven compares by a permutation and
// an addition.
//
//   half binade   < .25 | .25  .375 | .5  .75 | 1   1.5 | 2    3  | 4    6      sum = magnitude + entry
//   codes           0   | 0|1   1   |  1  1|2 | 2|3 3|4 | 4|5 5|6 | 6|7  7      code = sum / half binade
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mxfp4/simd/isa.hpp"
#include "mxfp4/simd/widen.hpp"
#include "mxfp4/simd/words.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::simd {

inline namespace MXFP4_ISA_NS {

/// How many blocks are encoded together: the reductions to the largest magnitude of eight take little longer than of
/// one.
template <class Arch>
inline constexpr std::size_t blocks_together = has_avx2<Arch> ? 8 : 1;

/// 32 numbers as words.
template <class Arch>
struct word_block {
  alignas(64) std::uint16_t lane[block_size];

  template <element_type T>
  MXFP4_INLINE void load(const T* x) noexcept {
    if constexpr (std::same_as<T, bf16>) {
      std::memcpy(lane, x, sizeof lane);
    } else {
      for (int i = 0; i < block_size; ++i) {
        const std::uint32_t bits = mxfp4::detail::float_bits(decode(x[i]));
        lane[i] = static_cast<std::uint16_t>(bits >> 16 | ((bits & 0xFFFFu) != 0 ? 1u : 0u));
      }
    }
  }
  MXFP4_INLINE void load(const e4m3* x, const fp8_words& table) noexcept {
    for (int i = 0; i < block_size; ++i) lane[i] = table.word[static_cast<unsigned>(x[i])];
  }

  /// The words as bf16; every NaN as decode_scaled has it.
  MXFP4_INLINE void store(bf16* to) const noexcept {
    alignas(64) std::uint16_t words[block_size];
    for (int i = 0; i < block_size; ++i) words[i] = (lane[i] & word_abs_mask) > word_inf ? word_nan : lane[i];
    std::memcpy(to, words, sizeof words);
  }

  /// The largest magnitude of each block, as a word.
  MXFP4_INLINE static void amax(const word_block (&block)[1], std::uint32_t (&out)[1]) noexcept {
    std::int16_t largest = 0;  // signed: SSE2 has no other maximum of words
    for (const std::uint16_t w : block[0].lane) {
      const auto magnitude = static_cast<std::int16_t>(w & word_abs_mask);
      largest = magnitude > largest ? magnitude : largest;
    }
    out[0] = static_cast<std::uint32_t>(largest);
  }

  /// Does a magnitude equal `magnitude`?
  [[nodiscard]] MXFP4_INLINE bool has(std::uint16_t magnitude) const noexcept {
    unsigned found = 0;
    for (const std::uint16_t w : lane) found |= (w & word_abs_mask) == magnitude ? 1u : 0u;
    return found != 0;
  }

  /// Codes of a recipe (static_words or recipe_words) under `scale`, packed in `Order`.
  template <nibble_order Order, class Words>
  MXFP4_INLINE void encode(const Words& recipe, const word_scale& scale, std::uint8_t* codes) const noexcept {
    const auto sign_boundary = static_cast<std::int16_t>(scale.negative & word_abs_mask);
    std::int16_t boundary[7];
    for (unsigned i = 0; i < 7; ++i)
      boundary[i] = static_cast<std::int16_t>(recipe.boundary_place(i) + static_cast<int>(scale.offset & 0xFFFFu));
    alignas(16) std::uint16_t code[block_size];
    for (int i = 0; i < block_size; ++i) {  // written so that compilers vectorise it for any -m flags
      const auto magnitude = static_cast<std::int16_t>(lane[i] & word_abs_mask);
      int count = 0;
      for (const std::int16_t c : boundary) count += magnitude >= c ? 1 : 0;
      int sign = magnitude >= sign_boundary ? lane[i] >> 12 & 8 : 0;
      if (recipe.zero_is_negative()) sign |= magnitude < sign_boundary ? 8 : 0;
      code[i] = static_cast<std::uint16_t>(count | sign);
    }
    for (int j = 0; j < block_code_bytes; ++j) {
      if constexpr (std::same_as<Order, half_split>) codes[j] = static_cast<std::uint8_t>(code[j] | code[j + 16] << 4);
      else if constexpr (std::same_as<Order, low_first>)
        codes[j] = static_cast<std::uint8_t>(code[2 * j] | code[2 * j + 1] << 4);
      else codes[j] = static_cast<std::uint8_t>(code[2 * j + 1] | code[2 * j] << 4);
    }
  }
};

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd
