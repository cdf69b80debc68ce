// mxfp4/cuda/gemv_mxfp8.cuh -- side: Y = X W^T for up to eight tokens in MXFP8, on sm_120's block-scaled tensor cores.
// SPDX-License-Identifier: Apache-2.0
//
// mma kind::mxf8f6f4 multiplies E2M1 codes by e4m3 and applies both scales itself: a lane's word takes four
// instructions instead of twenty. Weights in the order of mma16.cuh, read as gemv_mma16.cuh does.
//
//   word of mma16, nibbles 0 .. 7      codes 0 2 4 6 1 3 5 7 of k = 8t .. 8t + 7
//   even nibbles, one to a byte        codes 0 4 1 5     registers 0, 1 of A (rows g, g + 8); B register 0 likewise
//   odd nibbles                        codes 2 6 3 7     registers 2, 3 of A;                 B register 1
//
// Reads: mma16.cuh, product.cuh, mxfp8_view.hpp.  Read by: engines.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mxfp4/cuda/gemv_mma16.cuh"
#include "mxfp4/mxfp8_view.hpp"

namespace mxfp4::cuda {

namespace kernel {

template <class Y, int Tiles>
struct gemv_mxfp8 {
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
  static MXFP4_DEVICE void add(const arguments& a, int step, const device::word4 (&codes)[tiles],
                               const std::uint32_t (&scales)[tiles], float (&sum)[tiles][4]) {
    using namespace device;
    const int lane = lane_index(), group = lane / 4, t = lane % 4, blocks = static_cast<int>(a.w.cols / block_size);
    const std::int64_t token = group < a.x.rows ? group : a.x.rows - 1;  // the columns past the last are not stored
    word2 eight[2] = {{0, 0}, {0, 0}};
    std::uint32_t x_scales = 0x7F7Fu;  // 2^0 for a block that does not exist
    MXFP4_UNROLL
    for (int next = 0; next < 2; ++next) {
      const int block = 2 * step + next;
      if (block >= blocks) break;
      eight[next] =
          load_constant(reinterpret_cast<const word2*>(a.x.elements + token * a.x.element_stride + block * 32 + 8 * t));
      const std::uint32_t byte = load_constant(a.x.scales + token * a.x.scale_stride + block);
      x_scales = (x_scales & ~(0xFFu << (8 * next))) | byte << (8 * next);
    }
    const std::uint32_t first[2] = {permute_bytes(eight[0].x, eight[0].y, 0x5140),
                                    permute_bytes(eight[0].x, eight[0].y, 0x7362)};
    const std::uint32_t second[2] = {permute_bytes(eight[1].x, eight[1].y, 0x5140),
                                     permute_bytes(eight[1].x, eight[1].y, 0x7362)};
    MXFP4_UNROLL
    for (int tile = 0; tile < Tiles; ++tile) {
      const word4& c = codes[tile];
      const std::uint32_t w_scales = (t & 1) == 0 ? scales[tile] : scales[tile] >> 8;  // lane t = 1: of row g + 8
      std::uint32_t low[4], high[4];
      spread_e2m1x8(c.x, low[0], low[2]);
      spread_e2m1x8(c.y, low[1], low[3]);
      spread_e2m1x8(c.z, high[0], high[2]);
      spread_e2m1x8(c.w, high[1], high[3]);
      mma_e2m1_e4m3<0, 0>(sum[tile], low, first, w_scales, x_scales);
      mma_e2m1_e4m3<2, 1>(sum[tile], high, second, w_scales, x_scales);
    }
  }
};

}  // namespace kernel

/// Can Y = X W^T run with these? As check_product, x as check(x) has it, its elements 8-byte aligned with such a
/// stride.
template <result_type Y>
[[nodiscard]] status check_product(const const_mma16_view& w, const const_mxfp8_view& x, const dense_view<Y>& y,
                                   std::int64_t max_tokens = detail::max_lines) noexcept {
  if (const status s = check(w, "w"); !s.ok()) return s;
  return detail::check_operands(detail::operand_of(w), x, 8, y, max_tokens);
}

/// Y[m][n] = sum over k of X[m][k] * W[n][k] for 1 to 8 tokens in MXFP8 (W4A8), on sm_120 and its family.
///
/// @param w  N x K in tiles, as pack_mma16 wrote them.
/// @param x  M x K, M <= 8, e4m3 elements and E8M0 scales, as quantize_mxfp8 writes them: 8-byte aligned, the stride of
///           elements a multiple of 8; scales anywhere.
/// @param y  M x N, overwritten: float, bf16 or f16; must not overlap w or x.
/// @return   cudaSuccess, or why there is no launch: cudaErrorNotSupported off compute capability 12; else as gemv,
///           with what check_product(w, x, y, 8) names. Compiled for sm_120 without the suffix a or f, the kernel
///           traps.
/// Accuracy: products are exact (2 + 4 bits) and so are scales: an element is value * 2^(byte - 127), never infinite.
///           The sums as gemv's: |Y - exact| <= gamma(3 K + 8) * sum |w*x| + K * 2^-140, while partial results are
///           finite.
/// Special:  scale byte 255 on either side and e4m3's NaN make the result NaN.
/// Same bits for any M. Source: OCP MX v1.0; PTX ISA, mma .kind::mxf8f6f4.
template <result_type Y>
[[nodiscard]] cudaError_t gemv(const const_mma16_view& w, const const_mxfp8_view& x, const dense_view<Y>& y,
                               cudaStream_t stream) {
  if (const status s = check_product(w, x, y, gemv_tokens); !s.ok()) return detail::error_of(s);
  int number = 0;
  if (const cudaError_t error = architecture(number); error != cudaSuccess) return error;
  if (number < 1200 || number >= 1300) return cudaErrorNotSupported;
  constexpr int tiles = 2;
  using body = kernel::gemv_mxfp8<Y, tiles>;
  return launch<body>({(mma16::tiles(w.rows) + tiles - 1) / tiles}, body::shared_bytes, stream, {w, x, y});
}

}  // namespace mxfp4::cuda
