// mxfp4/cuda/moe.cuh -- each routed token times its expert's weights.
// SPDX-License-Identifier: Apache-2.0
//
//   moe_route    indices M x k         -->  workspace        once for a layer
//   moe_gemm     x, stacked weights    -->  y (M k) x N      for gate and up, then for down
//   moe_status   workspace             -->  host             whether an index was out of range; not in a capture
//
// The host does not learn the routing: it launches as many blocks as the worst one needs, and blocks without a tile
// return at once. So nothing waits, and a decode step can be captured in a graph.
#pragma once

#include <concepts>
#include <cstdint>

#include "mxfp4/cuda/device/gemm_tile.cuh"
#include "mxfp4/cuda/device/gemm_wgmma.cuh"
#include "mxfp4/cuda/device/gemv_tile.cuh"
#include "mxfp4/cuda/device/moe_route.cuh"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

namespace kernel {

/// A tile of token slots times some rows of its expert. TileSlots: 2 or 8, multiplied as in gemv, or 64, as in gemm, by
/// wgmma if ByWgmma. AtOnce: token slots that gemm multiplies at a time; 0: as many as the registers allow.
template <class X, class Y, int TileSlots, bool ByWgmma = false, int AtOnce = 0>
struct moe_gemm {
  static constexpr bool compiled = !ByWgmma || device::target::wgmma;
  static constexpr bool is_gemv = TileSlots <= gemv_tokens;
  static constexpr int tiles = TileSlots <= 2 ? 1 : 2, stages = TileSlots <= 2 ? 4 : 2;
  static constexpr int rows = is_gemv ? device::gemv_stage<tiles>::rows : gemm_rows;
  static constexpr int threads = is_gemv ? gemv_threads : ByWgmma ? gemm_wgmma_threads : gemm_threads;
  /// With f16 and 64 token slots, the compiler spills registers on sm_120.
  static constexpr int at_once = AtOnce != 0                                              ? AtOnce
                                 : std::same_as<X, f16> && device::target::family >= 1200 ? 32
                                                                                          : 64;
  static constexpr int blocks_per_processor = is_gemv ? 6 : ByWgmma ? 2 : 3;
  static constexpr int shared_bytes = is_gemv   ? device::gemv_shared_bytes<tiles, stages>(TileSlots)
                                      : ByWgmma ? device::gemm_wgmma_shared_bytes<TileSlots / 8>()
                                                : device::gemm_shared_bytes<TileSlots / 8>();
  struct arguments {
    const_mx_view<> w;
    dense_view<const X> x;
    dense_view<Y> y;
    const detail::moe_header* header;
    const device::word4* tiles;
    const std::int32_t* order;
    int row_tiles;
    int experts;
    int slots_per_row;
    int tokens;
    int top_k;
  };

  static MXFP4_DEVICE void run(const arguments& a) {
    using namespace device;
    const int number = block_x() / a.row_tiles;
    if (!cuda::detail::same_tag(load_constant(&a.header->tag), cuda::detail::moe_tag(a.tokens, a.top_k, a.experts)))
      return refuse(a, number);
    if (static_cast<std::uint32_t>(number) >= load_constant(&a.header->counts.z)) return;
    word4 tile = load_constant(a.tiles + number);                  // expert, first token slot, token slots
    if constexpr (target::arch >= 900) tile.z = warp_max(tile.z);  // same in all lanes: in a register of the warp
    const routed_tokens which{a.order, static_cast<int>(tile.y), static_cast<int>(tile.z), a.slots_per_row};
    const int expert = static_cast<int>(tile.x), per_expert = static_cast<int>(a.y.cols);
    const int first = block_x() % a.row_tiles * rows;
    if (expert == a.experts) return fill_with_nan(a.y, which, first);
    const weight_rows w{a.w, expert * per_expert, (expert + 1) * per_expert};
    if constexpr (is_gemv) gemv_tile<tiles, stages>(w, w.begin + first, a.x, which, a.y);
    else if constexpr (ByWgmma) gemm_wgmma_tile<TileSlots / 8>(w, w.begin + first, a.x, which, a.y);
    else if constexpr (at_once >= TileSlots) gemm_tile<TileSlots / 8>(w, w.begin + first, a.x, which, a.y);
    else multiply_in_parts(a, w, first, which);
  }

 private:
  static MXFP4_DEVICE void multiply_in_parts(const arguments& a, const device::weight_rows& w, int first,
                                             const device::routed_tokens& which) {
    for (int done = 0; done < which.count; done += at_once) {
      device::block_barrier();  // the last part's results have left the shared memory
      device::gemm_tile<at_once / 8>(w, w.begin + first, a.x, which.part(done, at_once), a.y);
    }
  }
  static MXFP4_DEVICE void fill_with_nan(const dense_view<Y>& y, const device::routed_tokens& which, int first) {
    for (int i = device::thread_index(); i < rows * which.count; i += threads)
      store_nan(y, which.y_row(i / rows), first, i % rows);
  }
  static MXFP4_DEVICE void store_nan(const dense_view<Y>& y, std::int64_t row, int first, int column) {
    if (column < static_cast<int>(y.cols) - first)
      device::store(y.row(row) + first + column, encode<Y>(mxfp4::detail::float_from_bits(mxfp4::detail::f32_nan)));
  }
  /// NaN for all token slots, shared among the blocks: nothing in the workspace says which would be whose.
  static MXFP4_DEVICE void refuse(const arguments& a, int number) {
    const int first = device::block_x() % a.row_tiles * rows, step = device::grid_x() / a.row_tiles;
    for (std::int64_t slot = number; slot < a.y.rows; slot += step)
      for (int i = device::thread_index(); i < rows; i += threads) store_nan(a.y, slot, first, i);
  }
};

template <int TileSlots, bool ByWgmma = false, int AtOnce = 0, class X, class Y>
[[nodiscard]] cudaError_t launch_moe_gemm(const routing_shape& shape, const const_mx_view<>& w,
                                          const dense_view<const X>& x, const dense_view<Y>& y, const void* workspace,
                                          cudaStream_t stream) {
  using kernel = moe_gemm<X, Y, TileSlots, ByWgmma, AtOnce>;
  const detail::moe_workspace_parts parts(shape);
  const auto* const bytes = static_cast<const std::uint8_t*>(workspace);
  const std::int64_t row_tiles = (y.cols + kernel::rows - 1) / kernel::rows;
  return launch<kernel>({row_tiles * parts.most_tiles}, kernel::shared_bytes, stream,
                        {w, x, y, reinterpret_cast<const detail::moe_header*>(bytes),
                         reinterpret_cast<const device::word4*>(bytes + parts.header_bytes),
                         reinterpret_cast<const std::int32_t*>(bytes + parts.order_at), static_cast<int>(row_tiles),
                         static_cast<int>(shape.experts), static_cast<int>(shape.token_slots() / x.rows),
                         static_cast<int>(shape.tokens), static_cast<int>(shape.top_k)});
}

}  // namespace kernel

/// For preload: moe_route and moe_gemm.
template <half_type X, result_type Y>
using moe_kernels =
    kernel_set<kernel::moe_route, kernel::moe_count, kernel::moe_scan, kernel::moe_place, kernel::moe_gemm<X, Y, 2>,
               kernel::moe_gemm<X, Y, 8>, kernel::moe_gemm<X, Y, 64>, kernel::moe_gemm<X, Y, 64, true>>;

/// Is this a product that moe_gemm takes?
/// @return ok, or what is wrong first: with the shape, with w, x or y as check_product has it, x.rows neither M
///         nor M top_k, y.rows not M top_k, w.rows not E y.cols, K that differs, the workspace, y sharing bytes with w,
///         x or the workspace.
template <half_type X, result_type Y>
[[nodiscard]] status check_moe_gemm(const routing_shape& shape, const const_mx_view<>& w, const dense_view<const X>& x,
                                    const dense_view<Y>& y, const void* workspace,
                                    std::int64_t workspace_bytes) noexcept {
  if (const status s = detail::check_moe(shape); !s.ok()) return s;
  if (const status s = detail::check_weights(w); !s.ok()) return s;
  if (const status s = detail::check_aligned(x, detail::copy_bytes, "x"); !s.ok()) return s;
  if (const status s = detail::check_aligned(y, static_cast<std::int64_t>(sizeof(Y)), "y"); !s.ok()) return s;
  if (x.cols != w.cols) return {errc::shape_mismatch, "cols", x.cols, w.cols, "x"};
  if (x.rows != shape.tokens && x.rows != shape.token_slots())
    return {errc::shape_mismatch, "rows", x.rows, shape.tokens, "x"};
  if (y.rows != shape.token_slots()) return {errc::shape_mismatch, "rows", y.rows, shape.token_slots(), "y"};
  if (w.rows % shape.experts != 0 || w.rows / shape.experts != y.cols)
    return {errc::shape_mismatch, "rows / experts", w.rows / shape.experts, y.cols, "w"};
  if (const status s = detail::check_workspace(shape, workspace, workspace_bytes); !s.ok()) return s;
  using mxfp4::detail::codes_of, mxfp4::detail::data_of, mxfp4::detail::overlap, mxfp4::detail::scales_of;
  for (const auto& in : {codes_of(w), scales_of(w), data_of(x), detail::workspace_of(shape, workspace)})
    if (overlap(in, data_of(y))) return {errc::overlap, "y"};
  return {};
}

/// Y[p][n] = sum over k of X[row of p][k] * decode(W)[e N + n][k] for each token slot p = m * top_k + slot,
/// e = indices[m][slot] of the last moe_route into the workspace.
///
/// @param w  (E N) x K: the experts' N x K matrices one below the other, otherwise as gemv's. E N < 2^31.
/// @param x  M x K, of which token slot p takes row p / top_k; or the (M top_k) x K results of an earlier moe_gemm, of
///           which it takes row p.
/// @param y  (M top_k) x N, overwritten, row p for token slot p. NaN where the index names no expert. All of it NaN
///           where the latest moe_route into the workspace was for another shape, or there was none: no more of the
///           workspace is then read, and moe_status says so.
/// @return   cudaSuccess, or why there is no launch, as check_moe_gemm names it (cudaErrorInvalidConfiguration: 2^31 or
///           more tiles); y is not written then.
/// With more than eight token slots for an expert on average, tiles have 64 of them; by wgmma where compiled for
/// sm_90a. An expert without tokens is not read. Accuracy and special values as gemv; same bits for any routing of the
/// others.
template <half_type X, result_type Y>
[[nodiscard]] cudaError_t moe_gemm(const routing_shape& shape, const const_mx_view<>& w, const dense_view<const X>& x,
                                   const dense_view<Y>& y, const void* workspace, std::int64_t workspace_bytes,
                                   cudaStream_t stream) {
  if (const status s = check_moe_gemm(shape, w, x, y, workspace, workspace_bytes); !s.ok()) return detail::error_of(s);
  switch (detail::moe_tile_tokens(shape)) {
    case 2:
      return kernel::launch_moe_gemm<2>(shape, w, x, y, workspace, stream);
    case 8:
      return kernel::launch_moe_gemm<8>(shape, w, x, y, workspace, stream);
    default:
      break;
  }
  bool wgmma = false;  // at 64 tokens the weights are decoded as often as for mma, and multiplied faster
  if (const cudaError_t error = has_kernel<kernel::moe_gemm<X, Y, 64, true>>(wgmma); error != cudaSuccess) return error;
  return wgmma ? kernel::launch_moe_gemm<64, true>(shape, w, x, y, workspace, stream)
               : kernel::launch_moe_gemm<64>(shape, w, x, y, workspace, stream);
}

}  // namespace mxfp4::cuda
