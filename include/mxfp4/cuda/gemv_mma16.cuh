// mxfp4/cuda/gemv_mma16.cuh -- Y = X W^T for up to eight tokens, from weights in the order of the tensor cores.
// SPDX-License-Identifier: Apache-2.0
//
// gemv without shared memory for the weights: a lane loads its sixteen bytes of a tile's step (512 for a warp, side by
// side) into registers and decodes them there. Two or four steps are loaded at a time; the warps of a block share K.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mxfp4/cuda/gemv.cuh"
#include "mxfp4/cuda/mma16.cuh"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

namespace device {

/// The lane's words and scales of `Ahead` steps of `Tiles` tiles: loaded before the first of them is used.
template <int Ahead, int Tiles>
struct mma16_words {
  static constexpr auto ahead = static_cast<std::size_t>(Ahead), tiles = static_cast<std::size_t>(Tiles);
  word4 codes[ahead][tiles];
  std::uint32_t scales[ahead][tiles];

  /// From step `step` on, of tiles Tiles * group ..; codes 0 where there is no such step before `end`, or no such tile.
  MXFP4_DEVICE void load(const const_mma16_view& w, int group, int step, int end) {
    const std::int64_t steps = mma16::steps(w.cols);
    MXFP4_UNROLL
    for (int i = 0; i < Ahead; ++i) {
      MXFP4_UNROLL
      for (int j = 0; j < Tiles; ++j) {
        const std::int64_t tile = group * std::int64_t{Tiles} + j;
        codes[i][j] = {0, 0, 0, 0};
        scales[i][j] = mma16::padding_scales;
        if (step + i >= end || tile >= mma16::tiles(w.rows)) continue;
        const std::int64_t place = tile * steps + step + i;
        const int lane = lane_index();
        codes[i][j] = load_streaming(reinterpret_cast<const word4*>(w.codes + place * mma16::code_bytes) + lane);
        scales[i][j] =
            load_streaming(reinterpret_cast<const std::uint32_t*>(w.scales + place * mma16::scale_bytes) + lane / 4);
      }
    }
  }
  /// Whether one of this warp's scales needs the wide decoding: the same answer in every lane.
  [[nodiscard]] MXFP4_DEVICE bool wide() const {
    std::uint32_t any = 0;
    MXFP4_UNROLL
    for (const auto& of_step : scales) {
      MXFP4_UNROLL
      for (const std::uint32_t bytes : of_step) any |= bytes;
    }
    return ballot(is_wide(any)) != 0;
  }
};

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
  static constexpr int ahead = Tiles == 1 ? 4 : 2;
  static constexpr int shared_bytes = gemv_warps * 16 * Tiles * gemv_tokens * 4;
  struct arguments {
    const_mma16_view w;
    dense_view<const X> x;
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
      if (words.wide()) add<true>(a, step, end, words, sum);
      else add<false>(a, step, end, words, sum);
    }
    store_sums<X, Y>(sum, a.y, block_x() * 16 * Tiles, static_cast<int>(a.w.rows), static_cast<int>(a.x.rows));
  }

 private:
  template <bool Wide>
  static MXFP4_DEVICE void add(const arguments& a, int step, int end, const device::mma16_words<ahead, Tiles>& words,
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
          const word4& c = words.codes[i][tile];
          const std::uint32_t bytes = words.scales[i][tile] >> (16 * next);
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

/// For preload.
template <half_type X, result_type Y>
using gemv_mma16_kernels = kernel_set<kernel::gemv_mma16<X, Y, 1>, kernel::gemv_mma16<X, Y, 2>>;

/// Can Y = X W^T run on the device with weights in this order? As check_product, w as check(w) has it.
template <half_type X, result_type Y>
[[nodiscard]] status check_product(const const_mma16_view& w, const dense_view<const X>& x, const dense_view<Y>& y,
                                   std::int64_t max_tokens = detail::max_lines) noexcept {
  if (const status s = check(w, "w"); !s.ok()) return s;
  return detail::check_operands(detail::operand_of(w), x, detail::copy_bytes, y, max_tokens);
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
