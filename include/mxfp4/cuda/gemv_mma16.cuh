// mxfp4/cuda/gemv_mma16.cuh -- side: Y = X W^T for up to eight tokens, from weights in the order of the tensor cores.
// SPDX-License-Identifier: Apache-2.0
//
// gemv's work without shared memory on the way: a lane reads its sixteen bytes of a tile's step, 512 for a warp, as
// they lie, and decodes them where they are. Two or four steps are under way at a time; the warps of a block share K.
//
// Reads: gemv.cuh, mma16.cuh.  Read by: engines.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mxfp4/cuda/gemv.cuh"
#include "mxfp4/cuda/mma16.cuh"

namespace mxfp4::cuda {

namespace device {

/// The lane's words and scales of a step of a tile; codes 0 where there is no such step (-1) or tile.
MXFP4_DEVICE void load_mma16(const const_mma16_view& w, std::int64_t tile, int step, int steps, word4& codes,
                             std::uint32_t& scales) {
  codes = {0, 0, 0, 0};
  scales = mma16::padding_scales;
  if (step < 0 || tile >= mma16::tiles(w.rows)) return;
  const std::int64_t place = tile * steps + step;
  const int lane = lane_index();
  codes = load_streaming(reinterpret_cast<const word4*>(w.codes + place * mma16::code_bytes) + lane);
  scales = load_streaming(reinterpret_cast<const std::uint32_t*>(w.scales + place * mma16::scale_bytes) + lane / 4);
}

/// Adds up what the warps of a block have and stores it. X: what finish() has to know.
template <class X, class Y, std::size_t Tiles>
MXFP4_DEVICE void store_sums(const float (&sum)[Tiles][4], const dense_view<Y>& y, int first_row, int rows,
                             int tokens) {
  constexpr int lines = 16 * static_cast<int>(Tiles), of_warp = lines * gemv_tokens;
  const int lane = lane_index();
  auto* const all = reinterpret_cast<float*>(shared_memory());  // [warp][token][row]
  MXFP4_UNROLL
  for (int tile = 0; tile < static_cast<int>(Tiles); ++tile) {
    MXFP4_UNROLL
    for (int i = 0; i < 4; ++i)
      store_shared(
          all + warp_index() * of_warp + (2 * (lane % 4) + (i & 1)) * lines + 16 * tile + lane / 4 + 8 * (i >> 1),
          sum[tile][i]);
  }
  block_barrier();
  for (int i = thread_index(); i < lines * tokens; i += gemv_threads) {
    const int token = i / lines, line = i % lines;
    if (line >= rows - first_row) continue;
    float total = 0.0f;
    MXFP4_UNROLL
    for (int part = 0; part < gemv_warps; ++part) total += load_shared(all + part * of_warp + i);
    store(y.row(token) + first_row + line, encode<Y>(finish<X>(total)));
  }
}

}  // namespace device

namespace detail {
[[nodiscard]] inline mxfp4::detail::operand operand_of(const const_mma16_view& w) noexcept {
  const mx_bytes bytes = *mma16_bytes_needed(w.rows, w.cols);
  return {{}, w.rows, w.cols, {{w.codes, bytes.codes}, {w.scales, bytes.scales}}};
}
}  // namespace detail

namespace kernel {

template <class X, class Y, int Tiles>
struct gemv_mma16 {
  static constexpr int threads = gemv_threads;
  static constexpr int blocks_per_processor = 6;  // 80 registers
  static constexpr auto tiles = static_cast<std::size_t>(Tiles);
  static constexpr int ahead = Tiles == 1 ? 4 : 2;  ///< steps whose weights are loaded before the first is used
  static constexpr int shared_bytes = gemv_warps * 16 * Tiles * gemv_tokens * 4;
  struct arguments {
    const_mma16_view w;
    dense_view<const X> x;
    dense_view<Y> y;
  };

  static MXFP4_DEVICE void run(const arguments& a) {
    using namespace device;
    const int steps = static_cast<int>(mma16::steps(a.w.cols)), warp = warp_index();
    const int begin = static_cast<int>(std::int64_t{steps} * warp / gemv_warps);
    const int end = static_cast<int>(std::int64_t{steps} * (warp + 1) / gemv_warps);
    float sum[tiles][4];
    MXFP4_UNROLL
    for (int tile = 0; tile < Tiles; ++tile) {
      MXFP4_UNROLL
      for (int i = 0; i < 4; ++i) sum[tile][i] = 0.0f;
    }
    for (int step = begin; step < end; step += ahead) {
      word4 codes[static_cast<std::size_t>(ahead)][tiles];
      std::uint32_t scales[static_cast<std::size_t>(ahead)][tiles];
      std::uint32_t all_scales = 0;
      MXFP4_UNROLL
      for (int i = 0; i < ahead; ++i) {
        MXFP4_UNROLL
        for (int tile = 0; tile < Tiles; ++tile) {
          load_mma16(a.w, block_x() * std::int64_t{Tiles} + tile, step + i < end ? step + i : -1, steps, codes[i][tile],
                     scales[i][tile]);
          all_scales |= scales[i][tile];
        }
      }
      if (ballot(is_wide(all_scales)) != 0) add<true>(a, step, end, codes, scales, sum);
      else add<false>(a, step, end, codes, scales, sum);
    }
    store_sums<X, Y>(sum, a.y, block_x() * 16 * Tiles, static_cast<int>(a.w.rows), static_cast<int>(a.x.rows));
  }

 private:
  template <bool Wide>
  static MXFP4_DEVICE void add(const arguments& a, int step, int end,
                               const device::word4 (&codes)[static_cast<std::size_t>(ahead)][tiles],
                               const std::uint32_t (&scales)[static_cast<std::size_t>(ahead)][tiles],
                               float (&sum)[tiles][4]) {
    using namespace device;
    const int lane = lane_index(), group = lane / 4, tokens = static_cast<int>(a.x.rows);
    const int blocks = static_cast<int>(a.w.cols / block_size);
    const X* const x = a.x.row(group < tokens ? group : tokens - 1) + 8 * (lane % 4);
    MXFP4_UNROLL
    for (int i = 0; i < ahead; ++i) {
      if (step + i >= end) break;
      MXFP4_UNROLL
      for (int next = 0; next < 2; ++next) {
        const int block = 2 * (step + i) + next;
        word4 eight{0, 0, 0, 0};
        if (block < blocks) eight = load_constant(reinterpret_cast<const word4*>(x + block * block_size));
        MXFP4_UNROLL
        for (int tile = 0; tile < Tiles; ++tile) {
          const word4& c = codes[i][tile];
          const std::uint32_t bytes = scales[i][tile] >> (16 * next);
          add_block(sum[tile],
                    make_weights<X, Wide, nibbles::even_first>(next == 0 ? c.x : c.z, next == 0 ? c.y : c.w,
                                                               bytes & 0xFFu, bytes >> 8 & 0xFFu),
                    eight);
        }
      }
    }
  }
};

template <int Tiles, class X, class Y>
[[nodiscard]] cudaError_t launch_gemv_mma16(const const_mma16_view& w, const dense_view<const X>& x,
                                            const dense_view<Y>& y, cudaStream_t stream) {
  using body = gemv_mma16<X, Y, Tiles>;
  return launch<body>({(mma16::tiles(w.rows) + Tiles - 1) / Tiles}, body::shared_bytes, stream, {w, x, y});
}

}  // namespace kernel

/// Can Y = X W^T run on the device with weights in this order? As check_product, w as check(w) has it.
template <half_type X, result_type Y>
[[nodiscard]] status check_product(const const_mma16_view& w, const dense_view<const X>& x, const dense_view<Y>& y,
                                   std::int64_t max_tokens = detail::max_lines) noexcept {
  if (const status s = check(w, "w"); !s.ok()) return s;
  return detail::check_operands(detail::operand_of(w), x, y, max_tokens);
}

/// gemv with weights in the order of mma16.cuh: pack_mma16 makes it once, each product then takes fewer instructions.
///
/// @param w        N x K in tiles, as pack_mma16 wrote them.
/// @param x, y     as gemv's: 1 to 8 tokens.
/// @return         as gemv, with what check_product(w, x, y, 8) names.
/// Accuracy, special values, source: as gemv. Same bits for any M; not always gemv's, whose warps share K
/// in other parts.
template <half_type X, result_type Y>
[[nodiscard]] cudaError_t gemv(const const_mma16_view& w, const dense_view<const X>& x, const dense_view<Y>& y,
                               cudaStream_t stream) {
  if (const status s = check_product(w, x, y, gemv_tokens); !s.ok()) return detail::error_of(s);
  if (x.rows <= 2) return kernel::launch_gemv_mma16<1>(w, x, y, stream);
  return kernel::launch_gemv_mma16<2>(w, x, y, stream);
}

}  // namespace mxfp4::cuda
