// mxfp4/cuda/device/gemm_tile.cuh -- 64 tokens times 128 rows of weights: a block's work in gemm and moe.
// SPDX-License-Identifier: Apache-2.0
//
//                tokens                 four warps, 32 rows each: a weight is decoded once for all tokens of the tile
//             +----------+
//   128 rows  |  warp 0  |              a stage of the ring, 64 k: codes [row][32 bytes], scales [row][2 words],
//             |  warp 1  |              activations [token][128 bytes]
//             |  warp 2  |
//             |  warp 3  |              swizzled by 16 bytes: eight lanes never meet in a bank
//             +----------+
#pragma once

#include <cstddef>
#include <cstdint>

#include "mxfp4/cuda/device/fragment.cuh"
#include "mxfp4/cuda/device/tile.cuh"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

inline constexpr int gemm_rows = 128;  ///< of a block
inline constexpr int gemm_threads = 128;
inline constexpr int gemm_stages = 4;

namespace device {

/// The weights' part of a stage, which begins with the codes; in bytes.
struct gemm_weight_stage {
  static constexpr int blocks = 2;  ///< of 32 k
  static constexpr int code_row = 16 * blocks;
  static constexpr int scale_row = 8;  ///< two scales that may begin inside a word touch two
  static constexpr int scales_at = gemm_rows * code_row;
  static constexpr int tokens_at = scales_at + gemm_rows * scale_row;
};
/// A whole stage. Groups: how many times eight tokens.
template <int Groups>
struct gemm_stage : gemm_weight_stage {
  static constexpr int token_row = 2 * 32 * blocks;
  static constexpr int bytes = tokens_at + 8 * Groups * token_row;
};

/// The sums of a block: two tiles of 16 rows for each warp.
template <int Groups>
using gemm_sums = float[2][static_cast<std::size_t>(Groups)][4];

/// Floats from one token's sums to the next in shared memory: the four tokens of a lane group lie in different banks.
inline constexpr int gemm_sum_pitch = gemm_rows + 4;

/// The ring, the rows of x and of y of each token, and the tile's end.
template <int Groups>
[[nodiscard]] MXFP4_HD constexpr int gemm_shared_bytes() {
  static_assert(8 * Groups * gemm_sum_pitch * 4 <= gemm_stages * gemm_stage<Groups>::bytes);
  return gemm_stages * gemm_stage<Groups>::bytes + 2 * 8 * Groups * 4 + static_cast<int>(sizeof(tile_end));
}

/// Copies the weights of 128 rows, from `first_row` on, into the stages.
struct gemm_weights {
  using stage = gemm_weight_stage;

  const_mx_view<> w;
  row_scales scales;  ///< of the row whose scales this thread copies
  int first_row;
  int end_row;

  MXFP4_DEVICE gemm_weights(const weight_rows& rows, int row)
      : w(rows.w),
        scales(row_scales::of(rows.w, std::int64_t{row} + thread_index(), thread_index() < rows.end - row)),
        first_row(row),
        end_row(rows.end) {}

  /// Starts the copies of k = 64 step .. 64 step + 63. Rows, blocks and scales that do not exist arrive as zeros.
  MXFP4_DEVICE void load(int step, std::uint8_t* to) const {
    const int thread = thread_index(), first_block = step * stage::blocks, blocks = static_cast<int>(w.blocks());
    const int half = thread % 2;
    const std::uint8_t* from =
        w.codes + (std::int64_t{first_row} + thread / 2) * w.code_stride + (first_block + half) * 16;
    MXFP4_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int line = thread / 2 + gemm_threads / 2 * i;
      const bool exists = line < end_row - first_row && first_block + half < blocks;
      copy_async<16>(to + line * stage::code_row + ((half ^ (line >> 2 & 1)) << 4), from, exists);
      from += gemm_threads / 2 * w.code_stride;
    }
    const int word = (row_scales::first_byte(w, std::int64_t{first_row} + thread) + first_block) & ~3;
    scales.copy(to + stage::scales_at + thread * stage::scale_row, word);
    scales.copy(to + stage::scales_at + thread * stage::scale_row + 4, word + 4);
  }
  /// Where in a stage the words of this lane's row of each of four 8 x 8 matrices are: rows 0-7, 8-15, 16-23, 24-31 of
  /// its warp.
  [[nodiscard]] MXFP4_DEVICE static const std::uint8_t* codes(const std::uint8_t* from, int block) {
    return from + thread_index() * stage::code_row + ((block ^ (thread_index() >> 2 & 1)) << 4);
  }
  /// Where the scale of the first of the stage's blocks is, for row lane / 4 of this warp: for the rows 8, 16 and 24
  /// further down, as many scale_row on.
  [[nodiscard]] MXFP4_DEVICE const std::uint8_t* lane_scales(const std::uint8_t* from, int step) const {
    const int line = 32 * warp_index() + lane_index() / 4;
    return from + stage::scales_at + line * stage::scale_row +
           ((row_scales::first_byte(w, std::int64_t{first_row} + line) + step * stage::blocks) & 3);
  }
  /// The two words of the row whose scales this thread copies: together a warp has all that it needs.
  [[nodiscard]] MXFP4_DEVICE static word2 scale_words(const std::uint8_t* from) {
    return load_shared(reinterpret_cast<const word2*>(from + stage::scales_at + thread_index() * stage::scale_row));
  }
};

/// Writes the rows of x, then of y, of each token of a tile; 0 for those of Most that there are not. By a block of at
/// least Most threads.
template <int Most, class Tokens>
MXFP4_DEVICE void store_token_rows(std::int32_t* table, const Tokens& which) {
  const int i = thread_index();
  if (i >= Most) return;
  store_shared(table + i, i < which.count ? which.x_row(i) : 0);
  store_shared(table + Most + i, i < which.count ? which.y_row(i) : 0);
}

template <class X, int Groups, class Tokens>
struct gemm_stream {
  using stage = gemm_stage<Groups>;
  static constexpr int copies = 8 * Groups * 8 / gemm_threads;  ///< of activations, 16 bytes each, by a thread

  gemm_weights weights;
  dense_view<const X> x;
  int tokens;
  std::int32_t* rows;  ///< of x, then of y, in shared memory
  gemm_sums<Groups> sum;

  MXFP4_DEVICE gemm_stream(const weight_rows& w, int row, const dense_view<const X>& activations, const Tokens& which,
                           std::int32_t* table)
      : weights(w, row), x(activations), tokens(which.count), rows(table) {
    static_assert(8 * Groups <= gemm_threads);
    store_token_rows<8 * Groups>(table, which);
    block_barrier();
    clear(sum);
  }

  /// Starts the copies of a step; tokens that do not exist arrive as zeros, too.
  MXFP4_DEVICE void load(int step, std::uint8_t* to) const {
    weights.load(step, to);
    const int thread = thread_index(), first_block = step * stage::blocks;
    const int blocks = static_cast<int>(weights.w.blocks());
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
    const word2 words = gemm_weights::scale_words(from);
    return ballot(is_wide(words.x | words.y)) != 0;
  }

  /// The weights of one of the stage's blocks.
  template <bool Wide>
  MXFP4_DEVICE void decode_block(block_weights<X> (&tiles)[2], int step, int block, const std::uint32_t (&words)[4],
                                 const std::uint8_t* scales) const {
    const bool exists = !Wide || step * stage::blocks + block < static_cast<int>(weights.w.blocks());
    MXFP4_UNROLL
    for (int tile = 0; tile < 2; ++tile)
      tiles[tile] = make_weights<X, Wide>(words[2 * tile], words[2 * tile + 1],
                                          load_scale(scales + 16 * tile * stage::scale_row + block, exists),
                                          load_scale(scales + (16 * tile + 8) * stage::scale_row + block, exists));
  }

  /// Adds the stage of `step` to the sums.
  MXFP4_DEVICE void add(int step, const std::uint8_t* from) {
    const int lane = lane_index(), group = lane / 4, t = lane % 4;
    const bool any_wide = wide(from);
    const std::uint8_t* const scales = weights.lane_scales(from, step);
    MXFP4_ROLLED  // both at once spill
        for (int block = 0; block < stage::blocks; ++block) {
      std::uint32_t words[4];
      ldmatrix_x4(words, gemm_weights::codes(from, block));
      block_weights<X> tiles[2];
      if (any_wide) {
        warp_barrier();  // keeps the compiler from doing both and selecting
        decode_block<true>(tiles, step, block, words, scales);
      } else {
        decode_block<false>(tiles, step, block, words, scales);
      }
      const std::uint8_t* const activations =
          from + stage::tokens_at + group * stage::token_row + (((4 * block + t) ^ ((group & 1) << 2)) << 4);
      MXFP4_UNROLL
      for (int i = 0; i < Groups; ++i) {
        const word4 eight = load_shared(reinterpret_cast<const word4*>(activations + i * 8 * stage::token_row));
        add_block(sum[0][i], tiles[0], eight);
        add_block(sum[1][i], tiles[1], eight);
      }
    }
  }
};

/// Runs all steps of `stream`: one stage of the ring is multiplied while the others are being copied.
template <int Stages, class Stream>
MXFP4_DEVICE void run_ring(Stream& stream, int steps, std::uint8_t* ring) {
  constexpr int bytes = Stream::stage::bytes;
  for (int i = 0; i < Stages - 1; ++i) {
    if (i < steps) stream.load(i, ring + i * bytes);
    copy_async_commit();
  }
  int slot = 0;
  for (int step = 0; step < steps; ++step) {
    copy_async_wait<Stages - 2>();
    block_barrier();  // the copies of the other threads are in; the slot that is filled next has been read
    const int free = slot == 0 ? Stages - 1 : slot - 1;
    if (step + Stages - 1 < steps) stream.load(step + Stages - 1, ring + free * bytes);
    copy_async_commit();
    stream.add(step, ring + slot * bytes);
    slot = slot == Stages - 1 ? 0 : slot + 1;
  }
}

/// Stores the sums of a tile that are in shared memory, [token][row], by a block of Threads. y_row(token): the row of y
/// of each of `tokens` tokens; X: what finish() has to know.
template <class X, int Threads, class Y, class RowOf>
MXFP4_DEVICE void store_sums(const float* sums, const dense_view<Y>& y, int column, int columns, int tokens,
                             RowOf&& y_row) {
  for (int token = warp_index(); token < tokens; token += Threads / warp_size) {
    Y* const to = y.row(y_row(token)) + column;
    for (int line = lane_index(); line < gemm_rows && line < columns; line += warp_size)
      store(to + line, encode<Y>(finish<X>(load_shared(sums + token * gemm_sum_pitch + line))));
  }
}

/// Stores the sums through shared memory, which takes them in the order in which they are stored: [token][row].
template <class X, class Y, std::size_t Groups, class RowOf>
MXFP4_DEVICE void store_gemm(const float (&sum)[2][Groups][4], std::uint8_t* ring, const dense_view<Y>& y, int column,
                             int columns, int tokens, RowOf&& y_row) {
  block_barrier();  // all are done with the ring
  auto* const sums = reinterpret_cast<float*>(ring);
  constexpr int pitch = gemm_sum_pitch;
  const int lane = lane_index(), warp = warp_index();
  MXFP4_UNROLL
  for (int tile = 0; tile < 2; ++tile) {
    MXFP4_UNROLL
    for (int group = 0; group < static_cast<int>(Groups); ++group) {
      MXFP4_UNROLL
      for (int i = 0; i < 4; ++i)
        store_shared(
            sums + (8 * group + 2 * (lane % 4) + (i & 1)) * pitch + 32 * warp + 16 * tile + lane / 4 + 8 * (i >> 1),
            sum[tile][group][i]);
    }
  }
  block_barrier();
  store_sums<X, gemm_threads>(sums, y, column, columns, tokens, y_row);
}

/// y[token][row - begin] for the rows of w from `first_row` on and the tokens of `which`, by a block of gemm_threads.
template <int Groups, class X, class Y, class Tokens>
MXFP4_DEVICE void gemm_tile(const weight_rows& w, int first_row, const dense_view<const X>& x, const Tokens& which,
                            const dense_view<Y>& y) {
  using stage = gemm_stage<Groups>;
  std::uint8_t* const ring = shared_memory();
  auto* const rows = reinterpret_cast<std::int32_t*>(ring + gemm_stages * stage::bytes);
  auto* const end = reinterpret_cast<tile_end*>(rows + 2 * 8 * Groups);
  store_end(end, w, first_row, which);
  gemm_stream<X, Groups, Tokens> stream(w, first_row, x, which, rows);
  run_ring<gemm_stages>(stream, static_cast<int>((w.w.blocks() + stage::blocks - 1) / stage::blocks), ring);
  const auto [tokens, column, columns] = load_end(end);
  store_gemm<X>(stream.sum, ring, y, column, columns, tokens,
                [&](int token) { return load_shared(rows + 8 * Groups + token); });
}

}  // namespace device
}  // namespace mxfp4::cuda
