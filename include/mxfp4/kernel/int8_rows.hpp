// mxfp4/kernel/int8_rows.hpp -- all 16 rows of a tile times up to four tokens, with 16 registers of 32 bytes.
// SPDX-License-Identifier: Apache-2.0
//
// Two registers of rows times four tokens are eight sums, which leaves eight registers for all the rest: so a block is
// added up in parts (simd::part_sum), what a part leaves for the next lies in memory on purpose, in int32, and so do
// the float sums. A quad of activations is broadcast once for both registers of rows. Of several passes over a tile the
// first leaves the decoded weights behind for the others.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mxfp4/kernel/int8_operands.hpp"
#include "mxfp4/simd/simd.hpp"
#include "mxfp4/tensor/activation.hpp"
#include "mxfp4/tensor/packed_matrix.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::kernel {
inline namespace MXFP4_ISA_NS {

/// A decoded block: its quads 0..7, each [row][4], bytes as decode_quads makes them.
inline constexpr int decoded_quad_bytes = 4 * tile_rows, decoded_block_bytes = block_quads * decoded_quad_bytes;

/// Where a pass takes the weights from.
enum class weights_from : std::uint8_t { codes, codes_and_keep, decoded };

inline constexpr int tokens_of_pass = 4;

/// What a pass has in memory rather than in registers.
struct alignas(64) pass_memory {
  std::int32_t carried[tokens_of_pass * tile_rows];  ///< a block's sums from one part to the next: [token][row]
  std::int32_t smallest_byte;
};

/// Register `v` of rows, of quad `quad` of a block; left at `keep` too for codes_and_keep.
template <class Arch, weights_from From>
[[nodiscard]] MXFP4_INLINE simd::byte_lanes<Arch> int8_weights(const std::uint8_t* block, int quad, int v,
                                                               std::uint8_t* keep) noexcept {
  constexpr int bytes = simd::byte_lanes<Arch>::size;
  if constexpr (From == weights_from::decoded) {
    return simd::byte_lanes<Arch>::load_aligned(block + quad * decoded_quad_bytes + v * bytes);
  } else {
    const std::uint8_t* const line = block + quad % tile_lines * tile_line_bytes + v * bytes;
    const auto weights =
        quad < tile_lines ? simd::nibble_weights<Arch>::low(line) : simd::nibble_weights<Arch>::high(line);
    if constexpr (From == weights_from::codes_and_keep)
      weights.store_aligned(keep + quad * decoded_quad_bytes + v * bytes);
    return weights;
  }
}

/// -12 * (sum of the token's codes), for each token and register of rows.
template <int Registers, int Width, int Tokens, class Ints>
MXFP4_INLINE void start_int8_sums(const std::uint8_t* x,
                                  Ints (&dot)[static_cast<std::size_t>(Registers * Tokens)]) noexcept {
  MXFP4_UNROLL
  for (int t = 0; t < Tokens; ++t) {
    const Ints initial_sum(simd::load_quad(x + 4 * (block_quads * Width + t)));
    MXFP4_UNROLL
    for (int v = 0; v < Registers; ++v) dot[t * Registers + v] = initial_sum;
  }
}

/// All blocks for `Tokens` tokens. x and sums are those of the first token; `block` points at codes or at decoded
/// weights, `keep` (for codes_and_keep) at memory for these.
template <class Arch, bool MultiplyScales, int Width, int Tokens, weights_from From>
MXFP4_NOINLINE void multiply_int8_rows(const std::uint8_t* block, const std::uint8_t* scales, const std::uint8_t* x,
                                       std::int64_t blocks, float* sums, pass_memory* memory,
                                       std::uint8_t* keep) noexcept {
  using ints = simd::int_lanes<Arch>;
  using floats = simd::float_lanes<Arch>;
  using part_sum = simd::part_sum<Arch>;
  constexpr int lanes = simd::rows_per_register<Arch>, registers = tile_rows / lanes;
  constexpr int parts = part_sum::parts_per_block, lines = tile_lines / parts;
  constexpr int token_scales = (block_quads + 1) * Width;
  constexpr bool carries_in_memory = parts > 1 && Tokens > 1, sums_in_memory = Tokens > 1;
  constexpr auto all = static_cast<std::size_t>(registers * Tokens);
  const auto word = [](const std::uint8_t* group, int index) { return ints(simd::load_quad(group + 4 * index)); };
  const auto sum_at = [&sums](int t, int v) { return sums + t * tile_rows + v * lanes; };
  floats acc[sums_in_memory ? 1 : all];
  if constexpr (!sums_in_memory) {
    MXFP4_UNROLL
    for (int v = 0; v < registers; ++v) acc[v] = floats::load_aligned(sum_at(0, v));
  }
  for (; blocks > 0; --blocks) {
    if constexpr (From != weights_from::decoded && Width <= prefetch_width) prefetch_block(block);
    ints dot[all];  // of the parts so far
    decltype(ints::data) sum[all];
    MXFP4_UNROLL
    for (int part = 0; part < parts; ++part) {
      if constexpr (parts > 1) {
        if (part > 0) {
          if (part == 1) start_int8_sums<registers, Width, Tokens>(x, dot);
          MXFP4_UNROLL
          for (int i = 0; i < registers * Tokens; ++i) {
            dot[i] = ints(part_sum::sum(sum[i], dot[i]));
            if constexpr (carries_in_memory) dot[i].store_aligned(memory->carried + i * lanes);
          }
          if constexpr (carries_in_memory) simd::stay_in_memory(memory);
        }
      } else {
        start_int8_sums<registers, Width, Tokens>(x, dot);
      }
      MXFP4_UNROLL
      for (int i = 0; i < 2 * lines; ++i) {  // of each line the low nibbles, then the high ones
        const int quad = part * lines + i / 2 + i % 2 * tile_lines;
        simd::byte_lanes<Arch> weights[static_cast<std::size_t>(registers)];
        MXFP4_UNROLL
        for (int v = 0; v < registers; ++v) weights[v] = int8_weights<Arch, From>(block, quad, v, keep);
        MXFP4_UNROLL
        for (int t = 0; t < Tokens; ++t) {
          const ints codes = word(x, quad * Width + t);
          MXFP4_UNROLL
          for (int v = 0; v < registers; ++v) {
            auto& s = sum[t * registers + v];
            s = i == 0 ? part_sum::first(weights[v], codes, dot[t * registers + v])
                       : part_sum::add(s, weights[v], codes);
          }
          MXFP4_UNROLL
          for (int v = 0; v < registers; ++v) part_sum::hold(sum[t * registers + v]);
        }
      }
    }
    const ints least(memory->smallest_byte);
    ints row_scale[static_cast<std::size_t>(registers)];
    MXFP4_UNROLL
    for (int v = 0; v < registers; ++v)
      row_scale[v] = simd::max(simd::widen_bytes<Arch>(scales + v * lanes), least) << mxfp4::detail::f32_mantissa_bits;
    MXFP4_UNROLL
    for (int t = 0; t < Tokens; ++t) {
      const ints scale = word(x, token_scales + t);
      MXFP4_UNROLL
      for (int v = 0; v < registers; ++v) {
        const int i = t * registers + v;
        if constexpr (carries_in_memory) dot[i] = ints::load_aligned(memory->carried + i * lanes);
        const floats product = simd::to_float(ints(part_sum::sum(sum[i], dot[i])));
        const floats f = factor<Arch, MultiplyScales>(row_scale[v], scale);
        if constexpr (sums_in_memory)
          simd::fma(product, f, floats::load_aligned(sum_at(t, v))).store_aligned(sum_at(t, v));
        else acc[v] = simd::fma(product, f, acc[v]);
      }
      if constexpr (sums_in_memory) simd::stay_in_memory(sums);
    }
    block += From == weights_from::decoded ? decoded_block_bytes : tile_block_bytes;
    if constexpr (From == weights_from::codes_and_keep) keep += decoded_block_bytes;
    scales += tile_rows;
    x += int8_activations::block_bytes_at(Width);
  }
  if constexpr (!sums_in_memory) {
    MXFP4_UNROLL
    for (int v = 0; v < registers; ++v) acc[v].store_aligned(sum_at(0, v));
  }
}

/// A group in passes of up to four tokens.
template <class Arch, bool MultiplyScales, int Width>
MXFP4_INLINE void multiply_int8_all_rows(tile_ref& w, const group_ref& x, std::int64_t blocks,
                                         group_sums& sums) noexcept {
  constexpr int tokens = Width < tokens_of_pass ? Width : tokens_of_pass;
  pass_memory memory;
  memory.smallest_byte = smallest_byte(x.scale_exponents);
  for (int token = 0; token < Width; token += tokens) {
    const auto pass = [&]<weights_from From>(const std::uint8_t* block) {
      multiply_int8_rows<Arch, MultiplyScales, Width, tokens, From>(block, w.scales, x.blocks + 4 * token, blocks,
                                                                    sums.at[token], &memory, w.decoded);
    };
    if (w.decoded == nullptr) {
      pass.template operator()<weights_from::codes>(w.codes);
    } else if (w.is_decoded) {
      pass.template operator()<weights_from::decoded>(w.decoded);
    } else {
      pass.template operator()<weights_from::codes_and_keep>(w.codes);
      w.is_decoded = true;
    }
  }
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
