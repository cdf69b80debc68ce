// mxfp4/kernel/int8.hpp -- a tile of 16 rows of weights times a group of up to 16 tokens, in int8.
// SPDX-License-Identifier: Apache-2.0
//
//   for each block, ascending:
//     dot              = initial_sum[token] + sum over k of (2 weight + 12)[row][k] * code[token][k]         in int32
//     sums[token][row] = fma(float(dot), 2^(byte[row] - 127) * scale[token], sums[token][row])
//
// 2 weight + 12 is unsigned, as x86's int8 dot product asks; initial_sum, -12 * (sum of the codes), takes the 12 off
// again. Lanes are rows, and each token has a register of sums: a quad of activations is broadcast from memory, a quad
// of weights is decoded once for all tokens of the group. The sums may be stored after any block and loaded again,
// which is how a row is multiplied piece by piece.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mxfp4/kernel/int8_operands.hpp"
#include "mxfp4/kernel/int8_rows.hpp"
#include "mxfp4/reference/int8.hpp"
#include "mxfp4/simd/simd.hpp"
#include "mxfp4/tensor/activation.hpp"
#include "mxfp4/tensor/packed_matrix.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {
namespace kernel {
inline namespace MXFP4_ISA_NS {

/// A block of as many rows as a register has lanes: quad q of each row, as 2 weight + 12 (tensor/activation.hpp,
/// zero_point).
template <class Arch>
struct int8_block_weights {
  simd::byte_lanes<Arch> quad[block_quads];
};

/// `codes` points at the first of the rows in line 0 of the block.
template <class Arch>
[[nodiscard]] MXFP4_INLINE int8_block_weights<Arch> decode_int8_block(const std::uint8_t* codes) noexcept {
  int8_block_weights<Arch> weights;
  MXFP4_UNROLL
  for (int g = 0; g < tile_lines; ++g)
    simd::decode_quads<Arch>(codes + g * tile_line_bytes, weights.quad[g], weights.quad[g + tile_lines]);
  return weights;
}

/// Tokens of a group that are multiplied in one pass over the weights, each with a register of sums.
template <class Arch, int Width>
inline constexpr int tokens_at_once = simd::has_avx512bw<Arch> || Width < 4 ? Width : 4;

/// Of these, how many have their dot products interleaved, to hide the latency of one chain.
inline constexpr int interleaved_tokens = 4;

/// One block of one register of rows into the sums of `Tokens` tokens; x points at the first of them in quad 0.
template <class Arch, bool MultiplyScales, int Width, int Tokens>
MXFP4_INLINE void add_int8_block(const int8_block_weights<Arch>& weights, const simd::int_lanes<Arch>& weight_scale,
                                 const std::uint8_t* x,
                                 simd::float_lanes<Arch> (&sums)[static_cast<std::size_t>(Tokens)]) noexcept {
  constexpr int step = Tokens < interleaved_tokens ? Tokens : interleaved_tokens;
  constexpr int initial_sums = block_quads * Width, scales = initial_sums + Width;
  const auto word = [x](int index) { return simd::load_quad(x + 4 * index); };
  MXFP4_UNROLL
  for (int t = 0; t < Tokens; t += step) {
    simd::block_sum<Arch> dot[static_cast<std::size_t>(step)];
    MXFP4_UNROLL
    for (int i = 0; i < step; ++i) dot[i].start(word(initial_sums + t + i));
    MXFP4_UNROLL
    for (int q = 0; q < block_quads; ++q)
      simd::add_quads<Arch>(dot, q / tile_lines, weights.quad[q], x + 4 * (q * Width + t));
    MXFP4_UNROLL
    for (int i = 0; i < step; ++i)
      sums[t + i] = simd::fma(simd::to_float(dot[i].sum()),
                              factor<Arch, MultiplyScales>(weight_scale, simd::int_lanes<Arch>(word(scales + t + i))),
                              sums[t + i]);
  }
}

/// All blocks, for `Registers` registers of rows and `Tokens` tokens. The pointers are those of the first row and
/// token.
template <class Arch, bool MultiplyScales, int Width, int Tokens, int Registers>
void multiply_int8_part(const std::uint8_t* codes, const std::uint8_t* scales, int smallest, const std::uint8_t* x,
                        std::int64_t blocks, float* sums) noexcept {
  constexpr int lanes = simd::rows_per_register<Arch>;
  simd::float_lanes<Arch> acc[static_cast<std::size_t>(Registers)][static_cast<std::size_t>(Tokens)];
  MXFP4_UNROLL
  for (int v = 0; v < Registers; ++v) {
    MXFP4_UNROLL
    for (int t = 0; t < Tokens; ++t)
      acc[v][t] = simd::float_lanes<Arch>::load_aligned(sums + t * tile_rows + v * lanes);
  }
  const simd::int_lanes<Arch> least(smallest);
  for (; blocks > 0; --blocks) {
    if constexpr (Width <= prefetch_width) prefetch_block(codes);
    MXFP4_UNROLL
    for (int v = 0; v < Registers; ++v) {
      const auto weights = decode_int8_block<Arch>(codes + 4 * v * lanes);
      const simd::int_lanes<Arch> byte = simd::max(simd::widen_bytes<Arch>(scales + v * lanes), least);
      add_int8_block<Arch, MultiplyScales, Width, Tokens>(weights, byte << mxfp4::detail::f32_mantissa_bits, x, acc[v]);
    }
    codes += tile_block_bytes;
    scales += tile_rows;
    x += int8_activations::block_bytes_at(Width);
  }
  MXFP4_UNROLL
  for (int v = 0; v < Registers; ++v) {
    MXFP4_UNROLL
    for (int t = 0; t < Tokens; ++t) acc[v][t].store_aligned(sums + t * tile_rows + v * lanes);
  }
}

/// Registers of sums in multiply_int8_pairs_mmla.
inline constexpr int mmla_sums = 8;

/// The same with smmla, which multiplies two tokens with two rows (simd/neon_i8mm.hpp). Of 32 registers, eight hold
/// sums and eight the dot products of a block, for any number of tokens.
template <class Arch, bool MultiplyScales, int Width, int Tokens>
void multiply_int8_pairs_mmla(const std::uint8_t* codes, const std::uint8_t* scales, int smallest,
                              const std::uint8_t* x, std::int64_t blocks, float* sums) noexcept {
  using mmla = simd::mmla<Arch>;
  using ints = simd::int_lanes<Arch>;
  constexpr int token_pairs = Tokens / 2, row_pairs = mmla_sums / token_pairs;
  const auto at = [sums](int p, int t) { return sums + 2 * t * tile_rows + 2 * p; };
  simd::float_lanes<Arch> acc[static_cast<std::size_t>(row_pairs)][static_cast<std::size_t>(token_pairs)];
  MXFP4_UNROLL
  for (int p = 0; p < row_pairs; ++p) {
    MXFP4_UNROLL
    for (int t = 0; t < token_pairs; ++t) acc[p][t] = mmla::load_sums(at(p, t), tile_rows);
  }
  const ints least(smallest);
  for (; blocks > 0; --blocks) {
    if constexpr (Width <= prefetch_width) prefetch_block(codes);
    typename mmla::products dot[static_cast<std::size_t>(row_pairs)][static_cast<std::size_t>(token_pairs)]{};
    MXFP4_UNROLL
    for (int g = 0; g < tile_lines; g += 2) {
      typename mmla::bytes rows[2][static_cast<std::size_t>(row_pairs)];
      MXFP4_UNROLL
      for (int p = 0; p < row_pairs; p += 2)
        mmla::load_rows(codes + g * tile_line_bytes + 8 * p, rows[0] + p, rows[1] + p);
      MXFP4_UNROLL
      for (int half = 0; half < 2; ++half) {
        typename mmla::bytes tokens[static_cast<std::size_t>(token_pairs)];
        mmla::template load_tokens<Width>(x + 4 * Width * (half * tile_lines + g), tokens);
        MXFP4_UNROLL
        for (int p = 0; p < row_pairs; ++p) {
          MXFP4_UNROLL
          for (int t = 0; t < token_pairs; ++t) mmla::add(dot[p][t], tokens[t], rows[half][p]);
        }
      }
    }
    ints row_scale[static_cast<std::size_t>(row_pairs)], token_scale[static_cast<std::size_t>(token_pairs)];
    MXFP4_UNROLL
    for (int p = 0; p < row_pairs; p += 2)
      mmla::spread_rows(simd::max(simd::widen_bytes<Arch>(scales + 2 * p), least) << mxfp4::detail::f32_mantissa_bits,
                        row_scale + p);
    MXFP4_UNROLL
    for (int t = 0; t < token_pairs; ++t)
      token_scale[t] = mmla::spread_tokens(x + 4 * ((block_quads + 1) * Width + 2 * t));
    MXFP4_UNROLL
    for (int p = 0; p < row_pairs; ++p) {
      MXFP4_UNROLL
      for (int t = 0; t < token_pairs; ++t)
        acc[p][t] = simd::fma(simd::to_float(ints(dot[p][t])),
                              factor<Arch, MultiplyScales>(row_scale[p], token_scale[t]), acc[p][t]);
    }
    codes += tile_block_bytes;
    scales += tile_rows;
    x += int8_activations::block_bytes_at(Width);
  }
  MXFP4_UNROLL
  for (int p = 0; p < row_pairs; ++p) {
    MXFP4_UNROLL
    for (int t = 0; t < token_pairs; ++t) mmla::store_sums(acc[p][t], at(p, t), tile_rows);
  }
}

/// A single token is multiplied with all 16 rows in one pass, so that memory is read in order; more tokens with one
/// register of rows at a time, or with as many pairs of rows as there are registers for.
template <class Arch, bool MultiplyScales, int Width>
void multiply_int8_group(tile_ref& w, const group_ref& x, std::int64_t blocks, group_sums& sums) noexcept {
  if constexpr (simd::has_mmla<Arch> && Width > 1) {
    constexpr int tokens = Width % 8 == 0 ? 8 : Width % 4 == 0 ? 4 : 2, rows = 2 * mmla_sums / (tokens / 2);
    for (int row = 0; row < tile_rows; row += rows)
      for (int token = 0; token < Width; token += tokens)
        multiply_int8_pairs_mmla<Arch, MultiplyScales, Width, tokens>(
            w.codes + 4 * row, w.scales + row, smallest_byte(x.scale_exponents), x.blocks + 4 * token, blocks,
            &sums.at[token][row]);
  } else if constexpr (simd::holds_tile<Arch>) {
    multiply_int8_all_rows<Arch, MultiplyScales, Width>(w, x, blocks, sums);
  } else {
    constexpr int lanes = simd::rows_per_register<Arch>, registers = Width == 1 ? tile_rows / lanes : 1;
    constexpr int tokens = tokens_at_once<Arch, Width>;
    for (int row = 0; row < tile_rows; row += registers * lanes)
      for (int token = 0; token < Width; token += tokens)
        multiply_int8_part<Arch, MultiplyScales, Width, tokens, registers>(
            w.codes + 4 * row, w.scales + row, smallest_byte(x.scale_exponents), x.blocks + 4 * token, blocks,
            &sums.at[token][row]);
  }
}

/// Where is_regular. A block of zeros may have a scale byte below smallest_byte: it is raised to that, and the sum
/// stays 0.
template <class Arch>
void multiply_int8_regular(tile_ref& w, const group_ref& x, std::int64_t blocks, group_sums& sums) noexcept {
  const auto run = [&]<int Width>() {
    if (x.multiply_scales) multiply_int8_group<Arch, true, Width>(w, x, blocks, sums);
    else multiply_int8_group<Arch, false, Width>(w, x, blocks, sums);
  };
  switch (x.width) {
    case 1:
      return run.template operator()<1>();
    case 2:
      return run.template operator()<2>();
    case 4:
      return run.template operator()<4>();
    case 8:
      return run.template operator()<8>();
    case 12:
      return run.template operator()<12>();
    default:
      return run.template operator()<16>();
  }
}

/// For any scale bytes: int8_step, which defines the product, for each row, token and block.
inline void multiply_int8_irregular(const tile_ref& w, const group_ref& x, std::int64_t blocks,
                                    group_sums& sums) noexcept {
  using namespace mxfp4::detail;
  for (std::int64_t b = 0; b < blocks; ++b) {
    const std::uint8_t* const codes = w.codes + b * tile_block_bytes;
    const std::uint8_t* const group = x.blocks + b * int8_activations::block_bytes_at(x.width);
    for (int t = 0; t < x.width; ++t) {
      const std::int32_t word = simd::load_quad(group + 4 * (block_quads * x.width + x.width + t));
      const auto scale_field = static_cast<int>(word >> f32_mantissa_bits);
      const double scale =
          x.multiply_scales ? 2.0 * static_cast<double>(bit_cast<float>(word)) : std::ldexp(1.0, scale_field + 1);
      for (int r = 0; r < tile_rows; ++r)
        sums.at[t][r] = int8_step(
            sums.at[t][r],
            [codes, r](int i) {
              const unsigned byte = codes[tile_offset(r, i % block_code_bytes / 4) + i % 4];
              return static_cast<e2m1>(i < block_code_bytes ? byte & 15u : byte >> 4);
            },
            w.scales[b * tile_rows + r],
            [group, &x, t](int i) { return int{static_cast<std::int8_t>(group[4 * (i / 4 * x.width + t) + i % 4])}; },
            x.multiply_scales ? scale_field - f32_bias : scale_field, scale);
    }
  }
}

/// Some blocks of a tile times those of a group.
template <class Arch>
void multiply_int8(tile_ref& w, const group_ref& x, std::int64_t blocks, group_sums& sums) noexcept {
  if (is_regular(w.range, x.scale_exponents)) multiply_int8_regular<Arch>(w, x, blocks, sums);
  else multiply_int8_irregular(w, x, blocks, sums);
}

}  // namespace MXFP4_ISA_NS
}  // namespace kernel
}  // namespace mxfp4
