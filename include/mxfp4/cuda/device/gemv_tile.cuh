// mxfp4/cuda/device/gemv_tile.cuh -- up to 8 tokens times 16 or 32 rows of weights: a block's work in gemv and moe.
// SPDX-License-Identifier: Apache-2.0
//
//   weights   N x K, row-major codes as a checkpoint has them
//             +--------------------------------------+
//   16 Tiles  | warp 0 | warp 1 | warp 2 | warp 3    |   each warp sums its part of K, 256 at a time, through a ring of
//   rows      +--------------------------------------+   its own in shared memory; the four sums meet at the end
//
//   a stage of the ring: codes [row][128 bytes], scales [row][3 words], activations [token][512 bytes]
//
// Reasons: in the time in which a GPU reads 8 weights, a thread executes about 33 instructions, so a small product is
// limited by instructions rather than by memory. Tensor cores multiply eight tokens in the time of one, ldmatrix gives
// a lane the eight codes that it decodes, and asynchronous copies take no instruction per weight. From three tokens on,
// two tiles share the loads of activations; for fewer, more and smaller blocks fill the device better.
// Codes and activations are swizzled by 16 bytes, so that eight lanes never meet in a bank.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mxfp4/cuda/device/fragment.cuh"
#include "mxfp4/cuda/device/tile.cuh"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

inline constexpr int gemv_tokens = 8;  ///< at the most, in one product
inline constexpr int gemv_warps = 4;   ///< of a block
inline constexpr int gemv_threads = 32 * gemv_warps;

namespace device {

/// The parts of a stage, in bytes.
template <int Tiles>
struct gemv_stage {
  static constexpr int rows = 16 * Tiles;
  static constexpr int blocks = 8;  ///< of 32 k
  static constexpr int code_row = 16 * blocks;
  static constexpr int scale_row = 12;  ///< eight scales that may begin inside a word touch three
  static constexpr int token_row = 2 * 32 * blocks;
  static constexpr int scales_at = rows * code_row;
  static constexpr int tokens_at = scales_at + rows * scale_row;

  [[nodiscard]] MXFP4_HD static constexpr int bytes(int tokens) { return tokens_at + tokens * token_row; }
};

/// The shared memory before the rings: the row of y of each token, and the tile's end.
struct gemv_result {
  std::int32_t row[gemv_tokens];
  tile_end end;
};
inline constexpr int gemv_result_bytes = 64;
static_assert(sizeof(gemv_result) <= gemv_result_bytes);

/// Shared memory of a block; the sums of the warps fit into their rings.
template <int Tiles, int Stages>
[[nodiscard]] MXFP4_HD constexpr int gemv_shared_bytes(int tokens) {
  static_assert(gemv_stage<Tiles>::rows * gemv_tokens * 4 <= gemv_stage<Tiles>::bytes(0));
  return gemv_result_bytes + gemv_warps * Stages * gemv_stage<Tiles>::bytes(tokens);
}

/// One warp's work: its part of K.
template <class X, int Tiles, class Tokens>
struct gemv_stream {
  using stage = gemv_stage<Tiles>;
  static constexpr auto tiles = static_cast<std::size_t>(Tiles);
  static constexpr int words_at_once = warp_size / stage::rows;  ///< of a row's scales

  const_mx_view<> w;
  dense_view<const X> x;
  row_scales my_scales;  ///< of the row whose scales this lane copies
  int first_row;
  int end_row;
  int tokens;
  int my_row;  ///< lane i: the row of x of token i
  std::uint8_t* ring;
  int stage_bytes;
  float sum[tiles][4];

  MXFP4_DEVICE gemv_stream(const weight_rows& weights, int row, const dense_view<const X>& activations,
                           const Tokens& which, std::uint8_t* memory)
      : w(weights.w),
        x(activations),
        my_scales(row_scales::of(weights.w, std::int64_t{row} + lane_index() % stage::rows,
                                 lane_index() % stage::rows < weights.end - row)),
        first_row(row),
        end_row(weights.end),
        tokens(which.count),
        my_row(which.x_row(lane_index() < which.count ? lane_index() : 0)),
        ring(memory),
        stage_bytes(stage::bytes(which.count)) {
    clear(sum);
  }

  /// Starts the copies of k = 256 step .. 256 step + 255. Rows, blocks and scales that do not exist arrive as zeros.
  MXFP4_DEVICE void load(int step, int slot) const {
    std::uint8_t* const to = ring + slot * stage_bytes;
    const int lane = lane_index(), first_block = step * stage::blocks, blocks = static_cast<int>(w.blocks());
    const int chunk = lane % 8;
    const std::uint8_t* codes =
        w.codes + (std::int64_t{first_row} + lane / 8) * w.code_stride + (first_block + chunk) * 16;
    MXFP4_UNROLL
    for (int i = 0; i < stage::rows / 4; ++i) {
      const int line = lane / 8 + 4 * i;
      const bool exists = line < end_row - first_row && first_block + chunk < blocks;
      copy_async<16>(to + line * stage::code_row + ((chunk ^ (line & 7)) << 4), codes, exists);
      codes += 4 * w.code_stride;
    }
    MXFP4_UNROLL
    for (int i = 0; i < 3; i += words_at_once) {
      const int word = i + lane / stage::rows;
      if (word < 3)
        my_scales.copy(to + stage::scales_at + lane % stage::rows * stage::scale_row + 4 * word,
                       first_block + 4 * word);
    }
    const int block = first_block + lane / 4;
    for (int i = 0; i < tokens; ++i) {
      const std::int64_t row = shuffle(my_row, i);
      copy_async<16>(to + stage::tokens_at + i * stage::token_row + ((lane ^ ((i & 1) << 2)) << 4),
                     x.row(row) + first_block * 32 + lane * 8, block < blocks);
    }
  }

  /// Whether one of the stage's scales needs the wide decoding: the same answer in every lane.
  [[nodiscard]] MXFP4_DEVICE bool wide(const std::uint8_t* from) const {
    bool any = false;
    const auto* const words = reinterpret_cast<const std::uint32_t*>(from + stage::scales_at);
    MXFP4_UNROLL
    for (int i = 0; i < stage::rows * 3; i += warp_size)
      if (i + lane_index() < stage::rows * 3) any |= is_wide(load_shared(words + i + lane_index()));
    return ballot(any) != 0;
  }

  /// Adds the stage of `step` to the sums.
  template <bool Wide>
  MXFP4_DEVICE void add(int step, const std::uint8_t* from) {
    const int lane = lane_index(), group = lane / 4;
    const int token = group < tokens ? group : tokens - 1;  // the columns past the last token are not stored
    place at;
    at.codes = from + (lane % 16) * stage::code_row;
    at.activations = from + stage::tokens_at + token * stage::token_row;
    at.swizzle = (token & 1) << 2;
    MXFP4_UNROLL
    for (int i = 0; i < 2 * Tiles; ++i) {
      const int line = 8 * i + group;
      at.scales[i] =
          from + stage::scales_at + line * stage::scale_row + row_scales::first_byte(w, std::int64_t{first_row} + line);
    }
    if constexpr (Wide) {
      MXFP4_ROLLED
      for (int block = 0; block < stage::blocks; block += 2)  // rare: let it be small
        add_two<true>(at, block, static_cast<int>(w.blocks()) - step * stage::blocks);
    } else {
      constexpr int at_once = Tiles == 1 ? 4 : 2;  // blocks; more of them spill
      MXFP4_ROLLED
      for (int block = 0; block < stage::blocks; block += at_once) {
        add_two<false>(at, block, stage::blocks);
        if constexpr (at_once == 4) add_two<false>(at, block + 2, stage::blocks);
      }
    }
  }

 private:
  /// Where in a stage this lane reads.
  struct place {
    const std::uint8_t* codes;
    const std::uint8_t* activations;
    const std::uint8_t* scales[2 * tiles];  ///< of rows group, group + 8, ...
    int swizzle;
  };

  /// Adds blocks `block` and `block` + 1, of which those from `blocks` on do not exist.
  template <bool Wide>
  MXFP4_DEVICE void add_two(const place& at, int block, int blocks) {
    const int lane = lane_index();
    std::uint32_t words[tiles][4];  // rows 0-7 and 8-15 of this block, then of the next
    MXFP4_UNROLL
    for (int tile = 0; tile < Tiles; ++tile)
      ldmatrix_x4(words[tile], at.codes + tile * 16 * stage::code_row + (((block + lane / 16) ^ (lane & 7)) << 4));
    MXFP4_UNROLL
    for (int next = 0; next < 2; ++next) {
      const int chunk = (4 * (block + next) + lane % 4) ^ at.swizzle;
      const word4 eight = load_shared(reinterpret_cast<const word4*>(at.activations + (chunk << 4)));
      const bool exists = block + next < blocks;
      MXFP4_UNROLL
      for (int tile = 0; tile < Tiles; ++tile) {
        const std::uint32_t low = load_scale(at.scales[2 * tile] + block + next, exists);
        const std::uint32_t high = load_scale(at.scales[2 * tile + 1] + block + next, exists);
        add_block(sum[tile], make_weights<X, Wide>(words[tile][2 * next], words[tile][2 * next + 1], low, high), eight);
      }
    }
  }
};

/// y[token][row - begin] for the rows of w from `first_row` on and the tokens of `which`, by a block of gemv_threads.
template <int Tiles, int Stages, class X, class Y, class Tokens>
MXFP4_DEVICE void gemv_tile(const weight_rows& w, int first_row, const dense_view<const X>& x, const Tokens& which,
                            const dense_view<Y>& y) {
  using stage = gemv_stage<Tiles>;
  auto* const result = reinterpret_cast<gemv_result*>(shared_memory());
  if (thread_index() < which.count) store_shared(result->row + thread_index(), which.y_row(thread_index()));
  store_end(&result->end, w, first_row, which);
  std::uint8_t* const rings = shared_memory() + gemv_result_bytes;
  const int ring_bytes = Stages * stage::bytes(which.count), warp = warp_index(), lane = lane_index();
  gemv_stream<X, Tiles, Tokens> stream(w, first_row, x, which, rings + warp * ring_bytes);
  const int steps = static_cast<int>((w.w.blocks() + stage::blocks - 1) / stage::blocks);
  const auto [begin, end] = warp_share(steps, gemv_warps);
  for (int i = 0; i < Stages - 1; ++i) {
    if (begin + i < end) stream.load(begin + i, i);
    copy_async_commit();
  }
  int slot = 0;
  for (int step = begin; step < end; ++step) {
    copy_async_wait<Stages - 2>();
    warp_barrier();  // the copies of the other lanes are in; the slot that is filled next has been read
    const int free = slot == 0 ? Stages - 1 : slot - 1;
    if (step + Stages - 1 < end) stream.load(step + Stages - 1, free);
    copy_async_commit();
    const std::uint8_t* const from = stream.ring + slot * stream.stage_bytes;
    if (stream.wide(from)) stream.template add<true>(step, from);
    else stream.template add<false>(step, from);
    slot = slot == Stages - 1 ? 0 : slot + 1;
  }
  warp_barrier();  // all lanes are done with the ring, which now takes the sums: [token][row]
  auto* const sums = reinterpret_cast<float*>(stream.ring);
  MXFP4_UNROLL
  for (int tile = 0; tile < Tiles; ++tile) {
    MXFP4_UNROLL
    for (int i = 0; i < 4; ++i)
      store_shared(sums + (2 * (lane % 4) + (i & 1)) * stage::rows + 16 * tile + lane / 4 + 8 * (i >> 1),
                   stream.sum[tile][i]);
  }
  block_barrier();
  const auto [tokens, column, columns] = load_end(&result->end);
  for (int i = thread_index(); i < stage::rows * tokens; i += gemv_threads) {
    const int token = i / stage::rows, line = i % stage::rows;
    if (line >= columns) continue;
    float total = 0.0f;
    MXFP4_UNROLL
    for (int part = 0; part < gemv_warps; ++part)
      total += load_shared(reinterpret_cast<const float*>(rings + part * ring_bytes) + i);
    store(y.row(load_shared(result->row + token)) + column + line, encode<Y>(finish<X>(total)));
  }
}

}  // namespace device
}  // namespace mxfp4::cuda
