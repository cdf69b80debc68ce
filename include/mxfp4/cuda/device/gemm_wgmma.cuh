// mxfp4/cuda/device/gemm_wgmma.cuh -- tokens times 128 rows of weights by wgmma: a block's work on sm_90a.
// SPDX-License-Identifier: Apache-2.0
//
//                  tokens (wgmma's N)       two warp groups, 64 rows each (wgmma's M): a weight is decoded once for all
//             +--------------------+        tokens of the tile, into registers (wgmma's A)
//    64 rows  |    warps 0 .. 3    |
//             +--------------------+        a stage of the ring, 64 k: activations [token][128 bytes], swizzled as
//    64 rows  |    warps 4 .. 7    |        wgmma reads them (B); codes [row][32 bytes]; scales [row][2 words]
//             +--------------------+
//
// The weights of a block of 32 k are decoded while the wgmma of the block before run. A step:
//
//   start 0 | decode 1 | start 1 | copies of the next stage, barrier, refill of the last | decode 0 of the next stage
//
// wgmma takes k in its natural order: the lane (g, t) holds k = 2t, 2t + 1 of each eight, which is byte t of each of
// the four words of a row's block. So a lane reads its rows' blocks whole (four lanes the same bytes) and gathers.
//
//   bf16   sums of all of K in the accumulators of wgmma
//   f16    has no room for the scale in the weights: a block's sum is waited for, scaled, and added in f32
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "mxfp4/cuda/device/gemm_tile.cuh"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

inline constexpr int gemm_wgmma_threads = 256;

namespace device {

/// The parts of a stage, in bytes. Groups: of eight tokens.
template <int Groups>
struct gemm_wgmma_stage {
  static constexpr int blocks = 2;  ///< of 32 k
  static constexpr int token_row = 2 * 32 * blocks;
  static constexpr int code_row = 16 * blocks;
  static constexpr int scale_row = 8;  ///< two scales that may begin inside a word touch two
  static constexpr int codes_at = 8 * Groups * token_row;
  static constexpr int scales_at = codes_at + gemm_rows * code_row;
  static constexpr int bytes = scales_at + gemm_rows * scale_row;
  static_assert(token_row == 128 && bytes % 1024 == 0, "the swizzle's pattern is eight rows of 128 bytes");
};

template <int Groups>
[[nodiscard]] MXFP4_HD constexpr int gemm_wgmma_shared_bytes() {
  return gemm_stages * gemm_wgmma_stage<Groups>::bytes + 2 * 8 * Groups * 4;
}

template <bool Accumulate, std::size_t Registers>
MXFP4_DEVICE void wgmma(bf16, float (&d)[Registers], const std::uint32_t (&a)[4], shared_operand b) {
  wgmma_bf16<Accumulate>(d, a, b);
}
template <bool Accumulate, std::size_t Registers>
MXFP4_DEVICE void wgmma(f16, float (&d)[Registers], const std::uint32_t (&a)[4], shared_operand b) {
  wgmma_f16<Accumulate>(d, a, b);
}

template <class X, int Groups, class Tokens>
struct gemm_wgmma_stream {
  using stage = gemm_wgmma_stage<Groups>;
  static constexpr bool is_f16 = std::same_as<X, f16>;
  static constexpr std::size_t registers = 4 * static_cast<std::size_t>(Groups);
  static constexpr int copies = 8 * Groups * 8 / gemm_wgmma_threads;  ///< of activations, 16 bytes each, by a thread

  weight_rows w;
  dense_view<const X> x;
  row_scales scales;  ///< of the row of which this thread copies a word
  int first_row;
  int tokens;
  bool any_wide;
  std::int32_t* rows;                   ///< of x, then of y, in shared memory
  block_weights<X> weights[2];          ///< of even blocks and of odd ones: one set is multiplied, one decoded
  float sum[registers];                 ///< of wgmma's D
  float block[is_f16 ? registers : 1];  ///< likewise, of the block under way

  MXFP4_DEVICE gemm_wgmma_stream(const weight_rows& from, int row, const dense_view<const X>& activations,
                                 const Tokens& which, std::int32_t* table)
      : w(from),
        x(activations),
        scales(row_scales::of(from.w, std::int64_t{row} + thread_index() / 2, thread_index() / 2 < from.end - row)),
        first_row(row),
        tokens(which.count),
        rows(table) {
    static_assert(8 * Groups <= gemm_wgmma_threads);
    store_token_rows<8 * Groups>(table, which);
    block_barrier();
    clear(sum);
    if constexpr (!is_f16) wgmma_fence(sum);
  }

  /// Starts the copies of k = 64 step .. 64 step + 63. Rows, tokens, blocks and scales that do not exist arrive as
  /// zeros.
  MXFP4_DEVICE void load(int step, std::uint8_t* to) const {
    const int thread = thread_index(), first_block = step * stage::blocks, blocks = static_cast<int>(w.w.blocks());
    const int line = thread / 2, half = thread % 2;
    copy_async<16>(to + stage::codes_at + line * stage::code_row + half * 16,
                   w.w.codes + (std::int64_t{first_row} + line) * w.w.code_stride + (first_block + half) * 16,
                   line < w.end - first_row && first_block + half < blocks);
    const int word = (row_scales::first_byte(w.w, std::int64_t{first_row} + line) + first_block) & ~3;
    scales.copy(to + stage::scales_at + line * stage::scale_row + 4 * half, word + 4 * half);
    const int piece = thread % 8;
    MXFP4_ROLLED
    for (int i = 0; i < copies; ++i) {
      const int token = thread / 8 + gemm_wgmma_threads / 8 * i;
      copy_async<16>(to + token * stage::token_row + ((piece ^ (token & 7)) << 4),
                     x.row(load_shared(rows + token)) + first_block * 32 + piece * 8,
                     token < tokens && first_block + piece / 4 < blocks);
    }
  }

  /// Whether one of this warp's scales needs the wide decoding: the same answer in every lane.
  [[nodiscard]] MXFP4_DEVICE bool wide(const std::uint8_t* from) const {
    const int line = 16 * warp_index() + lane_index() % 16;
    const auto words = load_shared(reinterpret_cast<const word2*>(from + stage::scales_at + line * stage::scale_row));
    return ballot(is_wide(words.x | words.y)) != 0;
  }

  /// Decodes a block of the stage of `step`, 0 or 1, whose set of registers is free.
  template <int Block>
  MXFP4_DEVICE void decode(int step, const std::uint8_t* from) {
    if (Block == 0) any_wide = wide(from);
    if (any_wide) {
      warp_barrier();  // keeps the compiler from doing both and selecting
      weights[Block] = decode_block<true>(step, Block, from);
    } else {
      weights[Block] = decode_block<false>(step, Block, from);
    }
  }

  /// Starts to multiply the block that decode<Block> left. bf16: ends the one before, whose registers are then free.
  template <int Block>
  MXFP4_DEVICE void start(const std::uint8_t* from) {
    block_weights<X>& now = weights[Block];
    const shared_operand k_0 =
        shared_operand::at(shared_address(from), operand_order::swizzled_128, 8 * stage::token_row)
            .advanced(64 * Block);
    if constexpr (is_f16) {
      wgmma_fence(now.a, block);
      wgmma<false>(X{}, block, now.a[0], k_0);
      wgmma<true>(X{}, block, now.a[1], k_0.advanced(32));
      wgmma_commit();
    } else {
      wgmma_fence(now.a);
      wgmma<true>(X{}, sum, now.a[0], k_0);
      wgmma<true>(X{}, sum, now.a[1], k_0.advanced(32));
      wgmma_commit();
      wgmma_wait<1>();
    }
  }

  /// f16: ends the block that start<Block> began, and adds it.
  template <int Block>
  MXFP4_DEVICE void finish_block() {
    if constexpr (is_f16) {
      wgmma_wait<0>(block);
      MXFP4_UNROLL
      for (int i = 0; i < 4 * Groups; ++i)
        sum[i] = fused_multiply_add(block[i], weights[Block].scale[i >> 1 & 1], sum[i]);
    }
  }

  /// The sums are complete.
  MXFP4_DEVICE void finish_all() {
    if constexpr (!is_f16) wgmma_wait<0>(sum);
  }

 private:
  template <bool Wide>
  [[nodiscard]] MXFP4_DEVICE block_weights<X> decode_block(int step, int number, const std::uint8_t* from) const {
    const int line = 16 * warp_index() + lane_index() / 4;
    const bool exists = !Wide || step * stage::blocks + number < static_cast<int>(w.w.blocks());
    const int first = (row_scales::first_byte(w.w, std::int64_t{first_row} + line) + step * stage::blocks) & 3;
    std::uint32_t codes[2], byte[2];
    MXFP4_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int row = line + 8 * i;
      codes[i] = gather(
          load_shared(reinterpret_cast<const word4*>(from + stage::codes_at + row * stage::code_row + 16 * number)));
      byte[i] = load_scale(from + stage::scales_at + row * stage::scale_row + first + number, exists);
    }
    return make_weights<X, Wide>(codes[0], codes[1], byte[0], byte[1]);
  }

  /// Byte t of each word: codes 2j and 2j + 1 of the result are k = 8j + 2t and 8j + 2t + 1 of the block.
  [[nodiscard]] MXFP4_DEVICE static std::uint32_t gather(const word4& row) {
    const std::uint32_t t = static_cast<std::uint32_t>(lane_index()) % 4, both = t | (4 + t) << 4;
    return permute_bytes(permute_bytes(row.x, row.y, both), permute_bytes(row.z, row.w, both), 0x5410);
  }
};

/// y[token][row - begin] for the rows of w from `first_row` on and the tokens of `which`, at most 8 Groups, by a block
/// of gemm_wgmma_threads. Groups: 8 or 16.
template <int Groups, class X, class Y, class Tokens>
MXFP4_DEVICE void gemm_wgmma_tile(const weight_rows& w, int first_row, const dense_view<const X>& x,
                                  const Tokens& which, const dense_view<Y>& y) {
  using stage = gemm_wgmma_stage<Groups>;
  static_assert(gemm_stages >= 3);
  std::uint8_t* const ring = shared_memory();
  auto* const rows = reinterpret_cast<std::int32_t*>(ring + gemm_stages * stage::bytes);
  gemm_wgmma_stream<X, Groups, Tokens> stream(w, first_row, x, which, rows);
  const int steps = static_cast<int>((w.w.blocks() + stage::blocks - 1) / stage::blocks);
  for (int i = 0; i < gemm_stages - 1; ++i) {
    if (i < steps) stream.load(i, ring + i * stage::bytes);
    copy_async_commit();
  }
  copy_async_wait<gemm_stages - 2>();
  async_proxy_fence();
  block_barrier();  // the copies of the other threads are in
  stream.template decode<0>(0, ring);
  const std::uint8_t* from = ring;
  int slot = 0;
  for (int step = 0; step < steps; ++step) {
    stream.template start<0>(from);
    stream.template decode<1>(step, from);
    stream.template finish_block<0>();
    stream.template start<1>(from);
    copy_async_wait<gemm_stages - 3>();
    async_proxy_fence();
    block_barrier();  // the next stage is in; the one before this has been multiplied, by all
    const int free = slot == 0 ? gemm_stages - 1 : slot - 1;
    if (step + gemm_stages - 1 < steps) stream.load(step + gemm_stages - 1, ring + free * stage::bytes);
    copy_async_commit();
    slot = slot == gemm_stages - 1 ? 0 : slot + 1;
    from = ring + slot * stage::bytes;
    if (step + 1 < steps) stream.template decode<0>(step + 1, from);
    stream.template finish_block<1>();
  }
  stream.finish_all();
  block_barrier();  // all are done with the ring, which now takes the sums: [token][row], the order they are stored in
  auto* const sums = reinterpret_cast<float*>(ring);
  static_assert(8 * Groups * gemm_sum_pitch * 4 <= gemm_stages * stage::bytes);
  const int lane = lane_index();
  MXFP4_UNROLL
  for (int i = 0; i < 4 * Groups; ++i)
    store_shared(sums + (8 * (i / 4) + 2 * (lane % 4) + (i & 1)) * gemm_sum_pitch + 16 * warp_index() + lane / 4 +
                     8 * (i >> 1 & 1),
                 stream.sum[i]);
  block_barrier();
  store_sums<X, gemm_wgmma_threads>(sums, y, first_row - w.begin, w.end - first_row, stream.tokens,
                                    [&](int token) { return load_shared(rows + 8 * Groups + token); });
}

}  // namespace device
}  // namespace mxfp4::cuda
