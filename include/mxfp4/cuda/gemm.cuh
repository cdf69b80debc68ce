// mxfp4/cuda/gemm.cuh -- side: Y = X W^T for any number of tokens, weights decoded into tensor cores.
// SPDX-License-Identifier: Apache-2.0
//
// Reads: gemm_tile.cuh, gemv.cuh.  Read by: engines.
#pragma once

#include <cstdint>

#include "mxfp4/cuda/gemm_tile.cuh"
#include "mxfp4/cuda/gemv.cuh"
#include "mxfp4/cuda/product.cuh"

namespace mxfp4::cuda {

namespace kernel {

template <class X, class Y, int Groups>
struct gemm {
  static constexpr int threads = gemm_threads;
  static constexpr int blocks_per_processor = 3;
  struct arguments {
    const_mx_view<> w;
    dense_view<const X> x;
    dense_view<Y> y;
    std::int64_t row_tiles;
  };
  static MXFP4_DEVICE void run(const arguments& a) {
    const auto row_tile = device::block_x() % static_cast<int>(a.row_tiles);
    const auto first_token = device::block_x() / static_cast<int>(a.row_tiles) * (8 * Groups);
    const int left = static_cast<int>(a.x.rows) - first_token;
    const device::dense_tokens tokens{first_token, left < 8 * Groups ? left : 8 * Groups};
    device::gemm_tile<Groups>(device::weight_rows{a.w, 0, static_cast<int>(a.w.rows)}, row_tile * gemm_rows, a.x,
                              tokens, a.y);
  }
};

template <int Groups, class X, class Y>
[[nodiscard]] cudaError_t launch_gemm(const const_mx_view<>& w, const dense_view<const X>& x, const dense_view<Y>& y,
                                      cudaStream_t stream) {
  const std::int64_t row_tiles = (w.rows + gemm_rows - 1) / gemm_rows;
  const std::int64_t token_tiles = (x.rows + 8 * Groups - 1) / (8 * Groups);
  return launch<gemm<X, Y, Groups>>({row_tiles * token_tiles}, device::gemm_shared_bytes<Groups>(), stream,
                                    {w, x, y, row_tiles});
}

}  // namespace kernel

/// Y[m][n] = sum over k of X[m][k] * decode(W)[n][k], for any number of tokens: gemv's work for up to 8, else tiles of
/// 128 rows x 64 tokens whose weights are decoded once for all their tokens.
///
/// @param w, x, y  as gemv's, M from 1 on.
/// @return   cudaSuccess, or why there is no launch, as gemv; cudaErrorInvalidConfiguration where there would be 2^31
///           or more tiles. y is not written then.
/// Accuracy, special values, source: as gemv.
/// Same bits for any M up to 8, and for any M from 9 on.
template <half_type X, result_type Y>
[[nodiscard]] cudaError_t gemm(const const_mx_view<>& w, const dense_view<const X>& x, const dense_view<Y>& y,
                               cudaStream_t stream) {
  if (const status s = check_product(w, x, y); !s.ok()) return detail::error_of(s);
  if (x.rows <= gemv_tokens) return gemv(w, x, y, stream);
  return kernel::launch_gemm<8>(w, x, y, stream);
}

}  // namespace mxfp4::cuda
