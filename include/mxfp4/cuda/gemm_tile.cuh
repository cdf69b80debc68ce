// mxfp4/cuda/gemm_tile.cuh -- side: 64 tokens times 128 rows of weights: a block's work in gemm and moe.
// SPDX-License-Identifier: Apache-2.0
//
//                tokens                 four warps, 32 rows each: a weight is decoded once for all tokens of the tile
//             +----------+
//   128 rows  |  warp 0  |              a stage of the ring, 64 k: codes [row][32 bytes], scales [row][2 words],
//             |  warp 1  |              activations [token][128 bytes]
//             |  warp 2  |
//             |  warp 3  |              swizzled by 16 bytes: eight lanes never meet in a bank
//             +----------+
//
// Reads: fragment.cuh, tile.cuh.  Read by: gemm.cuh, moe.cuh.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mxfp4/cuda/fragment.cuh"
#include "mxfp4/cuda/tile.cuh"

namespace mxfp4::cuda {

inline constexpr int gemm_rows = 128;  ///< of a block
inline constexpr int gemm_threads = 128;
inline constexpr int gemm_stages = 4;

namespace device {

/// The parts of a stage, in bytes. Groups: of eight tokens.
template <int Groups>
struct gemm_stage {
  static constexpr int blocks = 2;  ///< of 32 k
  static constexpr int code_row = 16 * blocks;
  static constexpr int scale_row = 8;  ///< two scales that may begin inside a word touch two
  static constexpr int token_row = 2 * 32 * blocks;
  static constexpr int scales_at = gemm_rows * code_row;
  static constexpr int tokens_at = scales_at + gemm_rows * scale_row;
  static constexpr int bytes = tokens_at + 8 * Groups * token_row;
};

/// The ring, and the rows of x and of y of each token: registers are for the sums.
template <int Groups>
[[nodiscard]] MXFP4_HD constexpr int gemm_shared_bytes() {
  return gemm_stages * gemm_stage<Groups>::bytes + 2 * 8 * Groups * 4;
}

template <class X, int Groups, class Tokens>
struct gemm_stream {
  using stage = gemm_stage<Groups>;
  static constexpr int copies = 8 * Groups * 8 / gemm_threads;  ///< of activations, 16 bytes each, by a thread

  weight_rows w;
  dense_view<const X> x;
  row_scales scales;  ///< of the row whose scales this thread copies
  int first_row;
  int tokens;
  std::int32_t* rows;  ///< of x, then of y, in shared memory
  float sum[2][static_cast<std::size_t>(Groups)][4];

  MXFP4_DEVICE gemm_stream(const weight_rows& weights, int row, const dense_view<const X>& activations,
                           const Tokens& which, std::int32_t* table)
      : w(weights),
        x(activations),
        scales(row_scales::of(weights.w, std::int64_t{row} + thread_index(), thread_index() < weights.end - row)),
        first_row(row),
        tokens(which.count),
        rows(table) {
    static_assert(8 * Groups <= gemm_threads);
    if (thread_index() < 8 * Groups) {
      store_shared(rows + thread_index(), thread_index() < tokens ? which.x_row(thread_index()) : 0);
      store_shared(rows + 8 * Groups + thread_index(), thread_index() < tokens ? which.y_row(thread_index()) : 0);
    }
    block_barrier();
    MXFP4_UNROLL
    for (int tile = 0; tile < 2; ++tile) {
      MXFP4_UNROLL
      for (int group = 0; group < Groups; ++group) {
        MXFP4_UNROLL
        for (int i = 0; i < 4; ++i) sum[tile][group][i] = 0.0f;
      }
    }
  }

  /// Starts the copies of k = 64 step .. 64 step + 63. Rows, tokens, blocks and scales that do not exist arrive as
  /// zeros.
  MXFP4_DEVICE void load(int step, std::uint8_t* to) const {
    const int thread = thread_index(), first_block = step * stage::blocks, blocks = static_cast<int>(w.w.blocks());
    const int half = thread % 2;
    const std::uint8_t* codes =
        w.w.codes + (std::int64_t{first_row} + thread / 2) * w.w.code_stride + (first_block + half) * 16;
    MXFP4_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int line = thread / 2 + gemm_threads / 2 * i;
      const bool exists = line < w.end - first_row && first_block + half < blocks;
      copy_async<16>(to + line * stage::code_row + ((half ^ (line >> 2 & 1)) << 4), codes, exists);
      codes += gemm_threads / 2 * w.w.code_stride;
    }
    const int word = (row_scales::first_byte(w.w, std::int64_t{first_row} + thread) + first_block) & ~3;
    scales.copy(to + stage::scales_at + thread * stage::scale_row, word);
    scales.copy(to + stage::scales_at + thread * stage::scale_row + 4, word + 4);
    MXFP4_ROLLED
    for (int i = 0; i < copies; ++i) {
      const int token = thread / 8 + gemm_threads / 8 * i, chunk = thread % 8;
      const bool exists = token < tokens && first_block + chunk / 4 < blocks;
      copy_async<16>(to + stage::tokens_at + token * stage::token_row + ((chunk ^ ((token & 1) << 2)) << 4),
                     x.row(load_shared(rows + token)) + first_block * 32 + chunk * 8, exists);
    }
  }

  /// Whether one of this warp's scales needs the wide decoding: the same answer in every lane.
  [[nodiscard]] MXFP4_DEVICE bool wide(const std::uint8_t* from) const {
    const auto words =
        load_shared(reinterpret_cast<const word2*>(from + stage::scales_at + thread_index() * stage::scale_row));
    return ballot(is_wide(words.x | words.y)) != 0;
  }

  /// The weights of one of the stage's blocks.
  template <bool Wide>
  MXFP4_DEVICE void decode_block(block_weights<X> (&weights)[2], int step, int block, const std::uint32_t (&words)[4],
                                 const std::uint8_t* const (&scale_of)[4]) const {
    const bool exists = !Wide || step * stage::blocks + block < static_cast<int>(w.w.blocks());
    MXFP4_UNROLL
    for (int tile = 0; tile < 2; ++tile)
      weights[tile] =
          make_weights<X, Wide>(words[2 * tile], words[2 * tile + 1], load_scale(scale_of[2 * tile] + block, exists),
                                load_scale(scale_of[2 * tile + 1] + block, exists));
  }

  /// Adds the stage of `step` to the sums.
  MXFP4_DEVICE void add(int step, const std::uint8_t* from) {
    const int lane = lane_index(), first_line = 32 * warp_index(), group = lane / 4, t = lane % 4;
    const bool any_wide = wide(from);
    const std::uint8_t* const codes = from + (first_line + lane) * stage::code_row;
    const std::uint8_t* scale_of[4];  // of rows group, group + 8, .. + 16, .. + 24
    MXFP4_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int line = first_line + 8 * i + group;
      scale_of[i] = from + stage::scales_at + line * stage::scale_row +
                    ((row_scales::first_byte(w.w, std::int64_t{first_row} + line) + step * stage::blocks) & 3);
    }
    MXFP4_ROLLED  // both at once spill
        for (int block = 0; block < stage::blocks; ++block) {
      std::uint32_t words[4];  // of rows 0-7, 8-15, 16-23, 24-31
      ldmatrix_x4(words, codes + ((block ^ (lane >> 2 & 1)) << 4));
      block_weights<X> weights[2];
      if (any_wide) {
        warp_barrier();  // keeps the compiler from doing both and selecting
        decode_block<true>(weights, step, block, words, scale_of);
      } else {
        decode_block<false>(weights, step, block, words, scale_of);
      }
      const std::uint8_t* const activations =
          from + stage::tokens_at + group * stage::token_row + (((4 * block + t) ^ ((group & 1) << 2)) << 4);
      MXFP4_UNROLL
      for (int i = 0; i < Groups; ++i) {
        const word4 eight = load_shared(reinterpret_cast<const word4*>(activations + i * 8 * stage::token_row));
        add_block(sum[0][i], weights[0], eight);
        add_block(sum[1][i], weights[1], eight);
      }
    }
  }
};

/// y[token][row - begin] for the rows of w from `first_row` on and the tokens of `which`, by a block of gemm_threads.
template <int Groups, class X, class Y, class Tokens>
MXFP4_DEVICE void gemm_tile(const weight_rows& w, int first_row, const dense_view<const X>& x, const Tokens& which,
                            const dense_view<Y>& y) {
  using stage = gemm_stage<Groups>;
  std::uint8_t* const ring = shared_memory();
  gemm_stream<X, Groups, Tokens> stream(w, first_row, x, which,
                                        reinterpret_cast<std::int32_t*>(ring + gemm_stages * stage::bytes));
  const int steps = static_cast<int>((w.w.blocks() + stage::blocks - 1) / stage::blocks);
  for (int i = 0; i < gemm_stages - 1; ++i) {
    if (i < steps) stream.load(i, ring + i * stage::bytes);
    copy_async_commit();
  }
  int slot = 0;
  for (int step = 0; step < steps; ++step) {
    copy_async_wait<gemm_stages - 2>();
    block_barrier();  // the copies of the other threads are in; the slot that is filled next has been read
    const int free = slot == 0 ? gemm_stages - 1 : slot - 1;
    if (step + gemm_stages - 1 < steps) stream.load(step + gemm_stages - 1, ring + free * stage::bytes);
    copy_async_commit();
    const std::uint8_t* const from = ring + slot * stage::bytes;
    stream.add(step, from);
    slot = slot == gemm_stages - 1 ? 0 : slot + 1;
  }
  block_barrier();  // all are done with the ring, which now takes the sums: [token][row], the order they are stored in
  auto* const sums = reinterpret_cast<float*>(ring);
  constexpr int pitch = gemm_rows + 4;  // a lane group's four tokens in different banks
  static_assert(8 * Groups * pitch * 4 <= gemm_stages * stage::bytes);
  const int lane = lane_index(), warp = warp_index();
  MXFP4_UNROLL
  for (int tile = 0; tile < 2; ++tile) {
    MXFP4_UNROLL
    for (int group = 0; group < Groups; ++group) {
      MXFP4_UNROLL
      for (int i = 0; i < 4; ++i)
        store_shared(
            sums + (8 * group + 2 * (lane % 4) + (i & 1)) * pitch + 32 * warp + 16 * tile + lane / 4 + 8 * (i >> 1),
            stream.sum[tile][group][i]);
    }
  }
  block_barrier();
  for (int token = warp; token < stream.tokens; token += gemm_threads / warp_size) {
    Y* const to = y.row(load_shared(stream.rows + 8 * Groups + token)) + (first_row - w.begin);
    for (int line = lane; line < gemm_rows && line < w.end - first_row; line += warp_size)
      store(to + line, encode<Y>(finish<X>(load_shared(sums + token * pitch + line))));
  }
}

}  // namespace device
}  // namespace mxfp4::cuda
