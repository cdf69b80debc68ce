// mxfp4/cuda/gemv_mxfp8.cuh -- Y = X W^T for up to eight tokens in MXFP8, weights in the tensor cores' order.
// SPDX-License-Identifier: Apache-2.0
//
// mma of 8-bit floats: a lane's word takes four or seven instructions instead of twenty. Weights in the order of
// mma16.cuh, read as gemv_mma16.cuh does.
//
//   word of mma16, nibbles 0 .. 7      codes 0 2 4 6 1 3 5 7 of k = 8t .. 8t + 7
//   even nibbles, one to a byte        codes 0 4 1 5     registers 0, 1 of A (rows g, g + 8); B register 0 likewise
//   odd nibbles                        codes 2 6 3 7     registers 2, 3 of A;                 B register 1
#pragma once

#include <cstddef>
#include <cstdint>

#include "mxfp4/cuda/device/fragment_mxfp8.cuh"
#include "mxfp4/cuda/gemv_mma16.cuh"
#include "mxfp4/tensor/mxfp8_view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

namespace kernel {

template <class Y, int Tiles, class Target>
struct gemv_mxfp8 {
  static constexpr bool compiled = device::multiplies_mxfp8<Target>;
  static constexpr int threads = gemv_threads;
  static constexpr int blocks_per_processor = 6;  // 80 registers
  static constexpr auto tiles = static_cast<std::size_t>(Tiles);
  static constexpr int ahead = 2;
  static constexpr int shared_bytes = gemv_warps * 16 * Tiles * gemv_tokens * 4;
  struct arguments {
    const_mma16_view w;
    const_mxfp8_view x;
    dense_view<Y> y;
  };

  static MXFP4_DEVICE void run(const arguments& a) {
    using namespace device;
    const auto [begin, end] = warp_share(static_cast<int>(mma16::steps(a.w.cols)), gemv_warps);
    float sum[tiles][4];
    clear(sum);
    for (int step = begin; step < end; step += ahead) {
      mma16_words<ahead, Tiles> words;
      words.load(a.w, block_x(), step, end);
      MXFP4_UNROLL
      for (int i = 0; i < ahead; ++i)
        if (step + i < end) add(a, step + i, words.codes[i], words.scales[i], sum);
    }
    store_sums<e4m3, Y>(sum, a.y, block_x() * 16 * Tiles, static_cast<int>(a.w.rows), static_cast<int>(a.x.rows));
  }

 private:
  /// The token's row, or the last one for columns past it, whose results are not stored.
  static MXFP4_DEVICE std::int64_t existing(const arguments& a, int token) {
    return token < a.x.rows ? token : a.x.rows - 1;
  }
  /// The scales of the step's blocks for a token in the lowest two bytes; 2^0 for a block that does not exist.
  static MXFP4_DEVICE std::uint32_t load_scales(const arguments& a, int token, int step) {
    const std::uint8_t* const from = a.x.scales + existing(a, token) * a.x.scale_stride + 2 * step;
    const std::uint32_t first = device::load_constant(from);
    return first | (2 * step + 1 < a.x.blocks() ? device::load_constant(from + 1) : 0x7Fu) << 8;
  }

  static MXFP4_DEVICE void add(const arguments& a, int step, const device::word4 (&codes)[tiles],
                               const std::uint32_t (&scales)[tiles], float (&sum)[tiles][4]) {
    using namespace device;
    const int group = lane_index() / 4, t = lane_index() % 4;
    const std::uint8_t* const elements = a.x.elements + existing(a, group) * a.x.element_stride + step * 64 + 8 * t;
    std::uint32_t b[2][2] = {};
    MXFP4_UNROLL
    for (int next = 0; next < 2; ++next) {
      if (2 * step + next >= a.x.blocks()) break;
      const word2 eight = load_constant(reinterpret_cast<const word2*>(elements + next * 32));
      b[next][0] = permute_bytes(eight.x, eight.y, 0x5140);
      b[next][1] = permute_bytes(eight.x, eight.y, 0x7362);
    }
    if constexpr (Target::block_scaled_mma) {
      const std::uint32_t x_scales = load_scales(a, group, step);
      MXFP4_UNROLL
      for (int tile = 0; tile < Tiles; ++tile) {
        const std::uint32_t w_scales = (t & 1) == 0 ? scales[tile] : scales[tile] >> 8;  // lane t = 1: of row g + 8
        std::uint32_t weights[2][4];
        decode(codes[tile], weights);
        mma_e2m1_e4m3<0, 0>(sum[tile], weights[0], b[0], w_scales, x_scales);
        mma_e2m1_e4m3<2, 1>(sum[tile], weights[1], b[1], w_scales, x_scales);
      }
    } else {
      const std::uint32_t x_scales = load_scales(a, 2 * t, step) | load_scales(a, 2 * t + 1, step) << 16;
      bool any_wide = is_wide_mxfp8(x_scales);
      MXFP4_UNROLL
      for (const std::uint32_t of_tile : scales) any_wide |= is_wide(of_tile);
      if (ballot(any_wide) != 0) {
        warp_barrier();  // keeps the compiler from doing both and selecting
        add_e4m3<true>(codes, scales, b, x_scales, sum);
      } else {
        add_e4m3<false>(codes, scales, b, x_scales, sum);
      }
    }
  }

  /// The lane's part of a tile for the step's two blocks.
  static MXFP4_DEVICE void decode(const device::word4& codes, std::uint32_t (&weights)[2][4]) {
    device::mxfp8_weight_bytes<Target>(codes.x, weights[0][0], weights[0][2]);
    device::mxfp8_weight_bytes<Target>(codes.y, weights[0][1], weights[0][3]);
    device::mxfp8_weight_bytes<Target>(codes.z, weights[1][0], weights[1][2]);
    device::mxfp8_weight_bytes<Target>(codes.w, weights[1][1], weights[1][3]);
  }

  template <bool Wide>
  static MXFP4_DEVICE void add_e4m3(const device::word4 (&codes)[tiles], const std::uint32_t (&scales)[tiles],
                                    const std::uint32_t (&b)[2][2], std::uint32_t x_scales, float (&sum)[tiles][4]) {
    MXFP4_UNROLL
    for (int tile = 0; tile < Tiles; ++tile) {
      std::uint32_t weights[2][4];
      decode(codes[tile], weights);
      MXFP4_UNROLL
      for (int next = 0; next < 2; ++next) {
        const std::uint32_t w[2] = {scales[tile] >> (16 * next) & 0xFFu, scales[tile] >> (16 * next + 8) & 0xFFu};
        const std::uint32_t x[2] = {x_scales >> (8 * next) & 0xFFu, x_scales >> (8 * next + 16) & 0xFFu};
        device::add_e4m3_block<Wide>(sum[tile], weights[next], b[next], w, x);
      }
    }
  }
};

inline constexpr int gemv_mxfp8_tiles = 2;

}  // namespace kernel

/// For preload.
template <result_type Y>
using gemv_mxfp8_kernels = kernel_set<kernel::gemv_mxfp8<Y, kernel::gemv_mxfp8_tiles, device::target>>;

/// Can Y = X W^T run with these? As check_product, x as check(x) has it, its elements 8-byte aligned with such a
/// stride.
template <result_type Y>
[[nodiscard]] status check_product(const const_mma16_view& w, const const_mxfp8_view& x, const dense_view<Y>& y,
                                   std::int64_t max_tokens = detail::max_lines) noexcept {
  if (const status s = check(w, "w"); !s.ok()) return s;
  return detail::check_operands(detail::operand_of(w), x, 8, y, max_tokens);
}

/// Y[m][n] = sum over k of X[m][k] * W[n][k] for 1 to 8 tokens in MXFP8 (W4A8): compute capability 8.9 and 12.
///
/// @param w  N x K in tiles, as pack_mma16 wrote them.
/// @param x  M x K, M <= 8, e4m3 elements and E8M0 scales, as quantize_mxfp8 writes them: 8-byte aligned, the stride of
///           elements a multiple of 8; scales anywhere.
/// @param y  M x N, overwritten: float, bf16 or f16; must not overlap w or x.
/// @return   cudaSuccess, or why there is no launch: cudaErrorNotSupported where what this program holds for the device
///           is compiled for neither 8.9 nor 12; else as gemv, with what check_product(w, x, y, 8) names.
/// Accuracy, special values, source: as gemm of gemm_mxfp8.cuh. Same bits for any M, on one architecture.
/// Target:   what the kernel is made for; only an emulator asks for another.
template <result_type Y, class Target = device::target>
[[nodiscard]] cudaError_t gemv(const const_mma16_view& w, const const_mxfp8_view& x, const dense_view<Y>& y,
                               cudaStream_t stream) {
  if (const status s = check_product(w, x, y, gemv_tokens); !s.ok()) return detail::error_of(s);
  constexpr int tiles = kernel::gemv_mxfp8_tiles;
  using body = kernel::gemv_mxfp8<Y, tiles, Target>;
  return launch<body>({(mma16::tiles(w.rows) + tiles - 1) / tiles}, body::shared_bytes, stream, {w, x, y});
}

}  // namespace mxfp4::cuda
