// mxfp4/cuda/gemm.cuh -- Y = X W^T for any number of tokens, weights decoded into tensor cores.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>

#include "mxfp4/cuda/device/gemm_tile.cuh"
#include "mxfp4/cuda/device/gemm_wgmma.cuh"
#include "mxfp4/cuda/device/product.cuh"
#include "mxfp4/cuda/gemv.cuh"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

namespace kernel {

template <class X, class Y>
struct gemm_arguments {
  const_mx_view<> w;
  dense_view<const X> x;
  dense_view<Y> y;
  std::int64_t row_tiles;

  [[nodiscard]] MXFP4_DEVICE device::weight_rows rows() const { return {w, 0, static_cast<int>(w.rows)}; }
  [[nodiscard]] MXFP4_DEVICE int first_row() const {
    return device::block_x() % static_cast<int>(row_tiles) * gemm_rows;
  }
  /// Those of this block, at most `most`.
  [[nodiscard]] MXFP4_DEVICE device::dense_tokens tokens(int most) const {
    const int first = device::block_x() / static_cast<int>(row_tiles) * most;
    const int left = static_cast<int>(x.rows) - first;
    return {first, left < most ? left : most};
  }
};

template <class X, class Y>
struct gemm {
  static constexpr int threads = gemm_threads;
  static constexpr int blocks_per_processor = 3;
  static constexpr int groups = 8, tokens = 8 * groups;
  static constexpr int shared_bytes = device::gemm_shared_bytes<groups>();
  using arguments = gemm_arguments<X, Y>;
  static MXFP4_DEVICE void run(const arguments& a) {
    device::gemm_tile<groups>(a.rows(), a.first_row(), a.x, a.tokens(tokens), a.y);
  }
};

/// gemm by wgmma.
template <class X, class Y>
struct gemm_wgmma {
  static constexpr bool compiled = device::target::wgmma;
  static constexpr int threads = gemm_wgmma_threads;
  static constexpr int blocks_per_processor = 2;
  static constexpr int groups = std::same_as<X, f16> ? 8 : 16;  // f16: sums of blocks take registers, too
  static constexpr int tokens = 8 * groups;
  static constexpr int shared_bytes = device::gemm_wgmma_shared_bytes<groups>();
  using arguments = gemm_arguments<X, Y>;
  static MXFP4_DEVICE void run(const arguments& a) {
    device::gemm_wgmma_tile<groups>(a.rows(), a.first_row(), a.x, a.tokens(tokens), a.y);
  }
};

[[nodiscard]] inline std::int64_t tiles_of(std::int64_t lines, std::int64_t tile) { return (lines + tile - 1) / tile; }

template <class Kernel, class X, class Y>
[[nodiscard]] cudaError_t launch_gemm(const const_mx_view<>& w, const dense_view<const X>& x, const dense_view<Y>& y,
                                      cudaStream_t stream) {
  const std::int64_t row_tiles = tiles_of(w.rows, gemm_rows);
  return launch<Kernel>({row_tiles * tiles_of(x.rows, Kernel::tokens)}, Kernel::shared_bytes, stream,
                        {w, x, y, row_tiles});
}

/// chosen: is wgmma the faster way for this product, and does the code that the device runs have it? For bf16 its tiles
/// have 128 tokens, mma.sync's 64. Up to 64 tokens, half of such a tile would be empty. And where there are no more
/// wgmma tiles than half the multiprocessors, mma.sync's tiles, twice as many, keep twice as many busy, each at no less
/// than half the rate. f16, whose two tiles have the same size, follows the same rule.
template <class X, class Y>
[[nodiscard]] cudaError_t choose_wgmma(std::int64_t rows, std::int64_t tokens, bool& chosen) {
  chosen = false;
  if (tokens <= gemm<X, Y>::tokens) return cudaSuccess;
  int processors = 0;
  if (const cudaError_t error = multiprocessors(processors); error != cudaSuccess) return error;
  const std::int64_t tiles = tiles_of(rows, gemm_rows) * tiles_of(tokens, gemm_wgmma<X, Y>::tokens);
  return 2 * tiles > processors ? has_kernel<gemm_wgmma<X, Y>>(chosen) : cudaSuccess;
}

}  // namespace kernel

/// For preload: with gemv's, which gemm calls for few tokens.
template <half_type X, result_type Y>
using gemm_kernels =
    kernel_set<kernel::gemv<X, Y, 1, 4>, kernel::gemv<X, Y, 2, 2>, kernel::gemm<X, Y>, kernel::gemm_wgmma<X, Y>>;

/// Y[m][n] = sum over k of X[m][k] * decode(W)[n][k], for any number of tokens: gemv's work for up to 8, else tiles of
/// 128 rows x 64 tokens whose weights are decoded once for all their tokens. Code for sm_90a multiplies by wgmma, in
/// tiles of 128 rows x 128 tokens (64 of f16), where there are more than 64 tokens and enough tiles for half the
/// multiprocessors; code for sm_90 does not.
///
/// @param w, x, y  as gemv's, M from 1 on.
/// @return   cudaSuccess, or why there is no launch, as gemv; cudaErrorInvalidConfiguration where there would be 2^31
///           or more tiles. y is not written then.
/// Accuracy, special values, source: as gemv; wgmma too adds at most 16 products to a sum at a time.
/// Same bits for any M up to 8, for any from 9 on by mma, and for any by wgmma: which one a product gets depends on the
/// device, N and M alone.
template <half_type X, result_type Y>
[[nodiscard]] cudaError_t gemm(const const_mx_view<>& w, const dense_view<const X>& x, const dense_view<Y>& y,
                               cudaStream_t stream) {
  if (const status s = check_product(w, x, y); !s.ok()) return detail::error_of(s);
  if (x.rows <= gemv_tokens) return gemv(w, x, y, stream);
  bool wgmma = false;
  if (const cudaError_t error = kernel::choose_wgmma<X, Y>(w.rows, x.rows, wgmma); error != cudaSuccess) return error;
  return wgmma ? kernel::launch_gemm<kernel::gemm_wgmma<X, Y>>(w, x, y, stream)
               : kernel::launch_gemm<kernel::gemm<X, Y>>(w, x, y, stream);
}

}  // namespace mxfp4::cuda
