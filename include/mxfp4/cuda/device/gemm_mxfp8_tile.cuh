// mxfp4/cuda/device/gemm_mxfp8_tile.cuh -- tokens in MXFP8 times 128 rows of weights: a block's work.
// SPDX-License-Identifier: Apache-2.0
//
// gemm_tile.cuh's tile, ring and epilogue with other tokens in a stage: elements [token][64 bytes], scales
// [token][2 words]. A lane brings k = 8t .. 8t + 7 of its rows, the word that ldmatrix gives it, and of its token: two
// permutations put the decoded codes back in order, so that a token's eight elements are one load and stay as they are.
#pragma once

#include <cstdint>

#include "mxfp4/cuda/device/fragment_mxfp8.cuh"
#include "mxfp4/cuda/device/gemm_tile.cuh"
#include "mxfp4/tensor/mxfp8_view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::device {

template <int Groups>
struct gemm_mxfp8_stage : gemm_weight_stage {
  static constexpr int token_row = 32 * blocks;
  static constexpr int token_scales_at = tokens_at + 8 * Groups * token_row;
  static constexpr int bytes = token_scales_at + 8 * Groups * scale_row;
};

/// The ring, which takes the sums at the end.
template <int Groups>
[[nodiscard]] MXFP4_HD constexpr int gemm_mxfp8_shared_bytes() {
  static_assert(8 * Groups * gemm_sum_pitch * 4 <= gemm_stages * gemm_mxfp8_stage<Groups>::bytes);
  return gemm_stages * gemm_mxfp8_stage<Groups>::bytes;
}

template <int Groups, class Target>
struct gemm_mxfp8_stream {
  using stage = gemm_mxfp8_stage<Groups>;
  static constexpr int most_tokens = 8 * Groups;
  static constexpr int chunks = stage::token_row / 16;          ///< of a token, copied by a thread each
  static constexpr int tokens_at_once = gemm_threads / chunks;  ///< whose elements are copied

  gemm_weights weights;
  const_mxfp8_view x;
  row_scales x_scales;  ///< of the token whose scales this thread copies
  int first_token;
  int tokens;
  gemm_sums<Groups> sum;

  MXFP4_DEVICE gemm_mxfp8_stream(const weight_rows& w, int row, const const_mxfp8_view& activations,
                                 const dense_tokens& which)
      : weights(w, row),
        x(activations),
        x_scales(row_scales::of(activations, std::int64_t{which.first} + thread_index(), thread_index() < which.count)),
        first_token(which.first),
        tokens(which.count) {
    clear(sum);
  }

  /// Starts the copies of k = 64 step .. 64 step + 63. What does not exist arrives as zeros.
  MXFP4_DEVICE void load(int step, std::uint8_t* to) const {
    weights.load(step, to);
    const int thread = thread_index(), first_block = step * stage::blocks, blocks = static_cast<int>(x.blocks());
    const int chunk = thread % chunks;
    const std::uint8_t* elements =
        x.elements + (std::int64_t{first_token} + thread / chunks) * x.element_stride + first_block * 32 + chunk * 16;
    MXFP4_ROLLED  // both at once spill
        for (int i = 0; i < (most_tokens + tokens_at_once - 1) / tokens_at_once; ++i) {
      const int token = thread / chunks + tokens_at_once * i;
      if (most_tokens < tokens_at_once && token >= most_tokens) break;
      copy_async<16>(to + stage::tokens_at + token * stage::token_row + ((chunk ^ (token & 2)) << 4), elements,
                     token < tokens && first_block + chunk / 2 < blocks);
      elements += tokens_at_once * x.element_stride;
    }
    if (thread < most_tokens) {
      const int word = (row_scales::first_byte(x, std::int64_t{first_token} + thread) + first_block) & ~3;
      std::uint8_t* const scales = to + stage::token_scales_at + thread * stage::scale_row;
      x_scales.copy(scales, word);
      x_scales.copy(scales + 4, word + 4);
    }
  }

  /// Adds the stage of `step` to the sums.
  MXFP4_DEVICE void add(int step, const std::uint8_t* from) {
    const int left = static_cast<int>(x.blocks()) - step * stage::blocks;  // codes under no scale are not multiplied
    const int blocks = left < stage::blocks ? left : stage::blocks;
    const place at = lane_place(step, from);
    if constexpr (Target::block_scaled_mma) {
      MXFP4_ROLLED
      for (int block = 0; block < blocks; ++block) add_block_scaled(at, block);
    } else if (wide(from)) {
      MXFP4_ROLLED
      for (int block = 0; block < blocks; ++block) add_e4m3<true>(at, block);
    } else {
      MXFP4_ROLLED
      for (int block = 0; block < blocks; ++block) add_e4m3<false>(at, block);
    }
  }

 private:
  /// Where in a stage this lane reads; rows and tokens eight further on are as many lines further on.
  struct place {
    const std::uint8_t* stage;
    const std::uint8_t* elements;     ///< of token lane / 4
    const std::uint8_t* scales;       ///< of row lane / 4
    const std::uint8_t* x_scales[2];  ///< of tokens 2t and 2t + 1; block-scaled: of token lane / 4
  };
  [[nodiscard]] MXFP4_DEVICE place lane_place(int step, const std::uint8_t* from) const {
    const int group = lane_index() / 4, t = lane_index() % 4;
    const auto x_scales_of = [&](int token) {
      return from + stage::token_scales_at + token * stage::scale_row +
             ((row_scales::first_byte(x, std::int64_t{first_token} + token) + step * stage::blocks) & 3);
    };
    place at;
    at.stage = from;
    at.elements = from + stage::tokens_at + group * stage::token_row + (t & 1) * 8;
    at.scales = weights.lane_scales(from, step);
    at.x_scales[0] = x_scales_of(Target::block_scaled_mma ? group : 2 * t);
    at.x_scales[1] = x_scales_of(Target::block_scaled_mma ? group : 2 * t + 1);
    return at;
  }
  /// Whether one of the scales of the warp's rows or of the tokens needs the wide sum: the same answer in every lane.
  [[nodiscard]] MXFP4_DEVICE bool wide(const std::uint8_t* from) const {
    const word2 of_row = gemm_weights::scale_words(from);
    bool any = is_wide(of_row.x | of_row.y);
    MXFP4_UNROLL
    for (int token = 0; token < most_tokens; token += warp_size) {
      if (token + lane_index() >= most_tokens) break;
      const word2 words = load_shared(
          reinterpret_cast<const word2*>(from + stage::token_scales_at + (token + lane_index()) * stage::scale_row));
      any |= is_wide_mxfp8(words.x) || is_wide_mxfp8(words.y);
    }
    return ballot(any) != 0;
  }

  /// The warp's two tiles of a block.
  static MXFP4_DEVICE void load_weights(const place& at, int block, std::uint32_t (&a)[2][4]) {
    std::uint32_t words[4];
    ldmatrix_x4(words, gemm_weights::codes(at.stage, block));
    MXFP4_UNROLL
    for (int tile = 0; tile < 2; ++tile) {
      MXFP4_UNROLL
      for (int half = 0; half < 2; ++half) {
        std::uint32_t even, odd;
        mxfp8_weight_bytes<Target>(words[2 * tile + half], even, odd);
        a[tile][half] = permute_bytes(even, odd, 0x5140);
        a[tile][half + 2] = permute_bytes(even, odd, 0x7362);
      }
    }
  }
  /// The lane's eight elements of a token of a group.
  static MXFP4_DEVICE word2 load_elements(const place& at, int group, int block) {
    const int lane = lane_index(), chunk = (2 * block + (lane % 4 >> 1)) ^ (lane / 4 & 2);
    return load_shared(reinterpret_cast<const word2*>(at.elements + group * 8 * stage::token_row + (chunk << 4)));
  }

  MXFP4_DEVICE void add_block_scaled(const place& at, int block) {
    std::uint32_t a[2][4], scales[2];
    load_weights(at, block, a);
    MXFP4_UNROLL
    for (int tile = 0; tile < 2; ++tile)  // lane t = 1: of row g + 8
      scales[tile] = load_shared(at.scales + (16 * tile + 8 * (lane_index() & 1)) * stage::scale_row + block);
    MXFP4_UNROLL
    for (int group = 0; group < Groups; ++group) {
      const word2 eight = load_elements(at, group, block);
      const std::uint32_t b[2] = {eight.x, eight.y};
      const std::uint32_t x_scale = load_shared(at.x_scales[0] + group * 8 * stage::scale_row + block);
      mma_e2m1_e4m3<0, 0>(sum[0][group], a[0], b, scales[0], x_scale);
      mma_e2m1_e4m3<0, 0>(sum[1][group], a[1], b, scales[1], x_scale);
    }
  }

  template <bool Wide>
  MXFP4_DEVICE void add_e4m3(const place& at, int block) {
    std::uint32_t a[2][4], scales[2][2];
    load_weights(at, block, a);
    MXFP4_UNROLL
    for (int i = 0; i < 4; ++i) scales[i / 2][i % 2] = load_shared(at.scales + 8 * i * stage::scale_row + block);
    MXFP4_UNROLL
    for (int group = 0; group < Groups; ++group) {
      const word2 eight = load_elements(at, group, block);
      const std::uint32_t b[2] = {eight.x, eight.y};
      std::uint32_t x_scale[2];
      for (int i = 0; i < 2; ++i) x_scale[i] = load_shared(at.x_scales[i] + group * 8 * stage::scale_row + block);
      MXFP4_UNROLL
      for (int tile = 0; tile < 2; ++tile) add_e4m3_block<Wide>(sum[tile][group], a[tile], b, scales[tile], x_scale);
    }
  }
};

/// y[token][row - begin] for the rows of w from `first_row` on and the tokens of `which`, by a block of gemm_threads.
template <int Groups, class Target, class Y>
MXFP4_DEVICE void gemm_mxfp8_tile(const weight_rows& w, int first_row, const const_mxfp8_view& x,
                                  const dense_tokens& which, const dense_view<Y>& y) {
  gemm_mxfp8_stream<Groups, Target> stream(w, first_row, x, which);
  constexpr int blocks = gemm_weight_stage::blocks;
  run_ring<gemm_stages>(stream, static_cast<int>((x.blocks() + blocks - 1) / blocks), shared_memory());
  store_gemm<e4m3>(stream.sum, shared_memory(), y, first_row - w.begin, w.end - first_row, which.count,
                   [&](int token) { return which.y_row(token); });
}

}  // namespace mxfp4::cuda::device
