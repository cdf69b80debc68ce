// mxfp4/cuda/gemv.cuh -- Y = X W^T for up to eight tokens, from the codes as a checkpoint has them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mxfp4/cuda/device/gemv_tile.cuh"
#include "mxfp4/cuda/device/product.cuh"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

namespace kernel {

template <class X, class Y, int Tiles, int Stages>
struct gemv {
  static constexpr int threads = gemv_threads;
  static constexpr int blocks_per_processor = 6;  // 80 registers
  static constexpr int max_tokens = Tiles == 1 ? 2 : gemv_tokens;
  static constexpr int shared_bytes = device::gemv_shared_bytes<Tiles, Stages>(max_tokens);
  struct arguments {
    const_mx_view<> w;
    dense_view<const X> x;
    dense_view<Y> y;
  };
  static MXFP4_DEVICE void run(const arguments& a) {
    const int first_row = device::block_x() * device::gemv_stage<Tiles>::rows;
    device::gemv_tile<Tiles, Stages>(device::weight_rows{a.w, 0, static_cast<int>(a.w.rows)}, first_row, a.x,
                                     device::dense_tokens{0, static_cast<int>(a.x.rows)}, a.y);
  }
};

template <int Tiles, int Stages, class X, class Y>
[[nodiscard]] cudaError_t launch_gemv(const const_mx_view<>& w, const dense_view<const X>& x, const dense_view<Y>& y,
                                      cudaStream_t stream) {
  constexpr int rows = device::gemv_stage<Tiles>::rows;
  const auto shared = device::gemv_shared_bytes<Tiles, Stages>(static_cast<int>(x.rows));
  return launch<gemv<X, Y, Tiles, Stages>>({(w.rows + rows - 1) / rows}, static_cast<std::size_t>(shared), stream,
                                           {w, x, y});
}

}  // namespace kernel

/// For preload.
template <half_type X, result_type Y>
using gemv_kernels = kernel_set<kernel::gemv<X, Y, 1, 4>, kernel::gemv<X, Y, 2, 2>>;

/// Y[m][n] = sum over k of X[m][k] * decode(W)[n][k], for 1 to 8 tokens, on tensor cores.
///
/// @param w  N x K weights, K a multiple of 32, low_first nibbles, rows as a checkpoint has them; codes 16-byte aligned
///           with a stride that is a multiple of 16, scales 4-byte aligned with any stride. A weight is its float
///           decode, dialect ocp: infinity where that overflows, NaN under scale byte 0xFF, 2^-127 units under byte 0.
/// @param x  M x K activations in data units, bf16 or f16, M <= 8; 16-byte aligned, stride a multiple of 8 elements.
/// @param y  M x N, overwritten: float, bf16 or f16 (rounded once, to nearest even); must not overlap w or x.
///           All three are device memory, no element of which needs an index below 2^31.
/// @return   cudaSuccess, or why there is no launch: cudaErrorInvalidValue for what check_product(w, x, y, 8) names;
///           then y is not written. Faults of the device come with a later call.
/// Accuracy: bf16 weights with their scale and f16 weights without are exact, and so is each product in f32. A tensor
///           core that aligns the 16 products and the sum to the largest and cuts off loses less than 2^-23 of it for
///           each and once more in the result: 18 * 2^-23 * S <= 36 u S for 16 of K, S = sum |w*x|, u = 2^-24. With
///           the sums of blocks (f16) and of the four warps: |Y - exact| <= gamma(3 K + 8) * S + K * 2^-140, with
///           gamma(n) = n u / (1 - n u), while every partial result is finite. Hardware that rounds does better.
/// Special:  NaN and infinity follow IEEE. PTX leaves subnormal operands of mma to the hardware, which keeps them on
///           all that are known: weights below 2^-126 with bf16, codes of 0.5 with f16.
/// Same bits for any M; the architecture decides the order within an mma.
/// Source:   OCP MX v1.0, dot product of MX vectors; PTX ISA, mma.m16n8k16; M. Fasi, N. J. Higham,
///           M. Mikaitis, S. Pranesh, Numerical behavior of NVIDIA tensor cores, 2021: sums cut off, subnormals kept.
template <half_type X, result_type Y>
[[nodiscard]] cudaError_t gemv(const const_mx_view<>& w, const dense_view<const X>& x, const dense_view<Y>& y,
                               cudaStream_t stream) {
  if (const status s = check_product(w, x, y, gemv_tokens); !s.ok()) return detail::error_of(s);
  if (x.rows <= 2) return kernel::launch_gemv<1, 4>(w, x, y, stream);
  return kernel::launch_gemv<2, 2>(w, x, y, stream);
}

}  // namespace mxfp4::cuda
