// mxfp4/cuda/gemm_mxfp8.cuh -- Y = X W^T for any number of tokens in MXFP8, weights as a checkpoint has them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "mxfp4/cuda/device/gemm_mxfp8_tile.cuh"
#include "mxfp4/cuda/device/product.cuh"
#include "mxfp4/cuda/gemv.cuh"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

namespace kernel {

template <class Y, int Groups, class Target>
struct gemm_mxfp8 {
  static constexpr bool compiled = device::multiplies_mxfp8<Target>;
  static constexpr int threads = gemm_threads;
  static constexpr int blocks_per_processor = 3;  // 168 registers
  static constexpr int shared_bytes = device::gemm_mxfp8_shared_bytes<Groups>();
  struct arguments {
    const_mx_view<> w;
    const_mxfp8_view x;
    dense_view<Y> y;
    int row_tiles;
  };
  static MXFP4_DEVICE void run(const arguments& a) {
    const int row_tile = device::block_x() % a.row_tiles;
    const int first_token = device::block_x() / a.row_tiles * (8 * Groups);
    const int left = static_cast<int>(a.x.rows) - first_token;
    device::gemm_mxfp8_tile<Groups, Target>(device::weight_rows{a.w, 0, static_cast<int>(a.w.rows)},
                                            row_tile * gemm_rows, a.x,
                                            {first_token, left < 8 * Groups ? left : 8 * Groups}, a.y);
  }
};

template <int Groups, class Target, class Y>
[[nodiscard]] cudaError_t launch_gemm_mxfp8(const const_mx_view<>& w, const const_mxfp8_view& x, const dense_view<Y>& y,
                                            cudaStream_t stream) {
  using body = gemm_mxfp8<Y, Groups, Target>;
  const std::int64_t row_tiles = (w.rows + gemm_rows - 1) / gemm_rows;
  const std::int64_t token_tiles = (x.rows + 8 * Groups - 1) / (8 * Groups);
  return launch<body>({row_tiles * token_tiles}, body::shared_bytes, stream, {w, x, y, static_cast<int>(row_tiles)});
}

}  // namespace kernel

/// For preload.
template <result_type Y>
using gemm_mxfp8_kernels =
    kernel_set<kernel::gemm_mxfp8<Y, 1, device::target>, kernel::gemm_mxfp8<Y, 8, device::target>>;

/// Can Y = X W^T run with these? As check_product for a dense x; x.elements, x.element_stride not a multiple of 16 and
/// x.scales not of 4 bytes are refused.
template <result_type Y>
[[nodiscard]] status check_product(const const_mx_view<>& w, const const_mxfp8_view& x, const dense_view<Y>& y,
                                   std::int64_t max_tokens = detail::max_lines) noexcept {
  if (const status s = detail::check_weights(w); !s.ok()) return s;
  if (const status s = detail::check_operands(mxfp4::detail::operand_of(w, "w"), x, detail::copy_bytes, y, max_tokens);
      !s.ok())
    return s;
  return detail::check_alignment(x.scales, detail::word_bytes, "scales", "x");
}

/// Y[m][n] = sum over k of X[m][k] * W[n][k] for any number of tokens in MXFP8 (W4A8): compute capability 8.9 and 12.
///
/// @param w  N x K weights as gemv's: K a multiple of 32, low_first nibbles, rows as a checkpoint has them; codes
///           16-byte aligned with a stride that is a multiple of 16, scales 4-byte aligned with any stride.
/// @param x  M x K, e4m3 elements and E8M0 scales, as quantize_mxfp8 writes them: elements 16-byte aligned with a
///           stride that is a multiple of 16, scales 4-byte aligned with any stride.
/// @param y  M x N, overwritten: float, bf16 or f16 (rounded once, to nearest even); must not overlap w or x.
/// @return   cudaSuccess, or why there is no launch: cudaErrorNotSupported where what this program holds for the device
///           is compiled for neither 8.9 nor 12; cudaErrorInvalidValue for what check_product(w, x, y) names;
///           cudaErrorInvalidConfiguration for 2^31 tiles or more. y is not written then.
/// Accuracy: a weight or activation is value * 2^(byte - 127), never infinite; its 2 + 4 bits make products exact, and
///           the tensor core or the factor 2^(w + x - 254) of a block keeps them so. What is lost is lost in sums,
///           S = sum |w*x|, u = 2^-24. Tensor cores of compute capability 8.9 are measured to keep 13 bits behind the
///           point of the largest product or sum. Those of 12 are not measured yet, e4m3 or block-scaled: until
///           they are, they are held to no more. In a block 32 products, the sum that they are added to, the one
///           between two halves of them and both results then lose less than 2^-13 each, 36 * 2^-13 in all. While
///           partial results are finite,
///           - mma of e4m3 (8.9, and 12 compiled without a or f): blocks are added up in f32, each has lost less than
///             36 * 2^-13 < 2^-7 of its own S: |Y - exact| <= (2^-7 + gamma(3 K + 8)) * S + K * 2^-140;
///           - block-scaled mma (12a, 12f): all of K is added up in the tensor core, and each of the K / 32 sums may
///             lose as much of S: |Y - exact| <= (K * 2^-12 + gamma(3 K + 8)) * S + K * 2^-140. If these tensor cores
///             keep f32's bits, gemv's bound holds instead: gpu_test prints the error that it finds.
///           An e4m3 element is itself rounded by 2^-4.
/// Special:  scale byte 255 on either side and e4m3's NaN make the results concerned NaN.
/// Same bits for any M up to 8 and for any M from 9 on, on one architecture.
/// Source:   OCP MX v1.0, dot product of MX vectors; PTX ISA, mma .kind::mxf8f6f4 and .e4m3; J. Zhang and others,
///           SageAttention2, 2024: 13 bits on 8.9.
/// Target:   what the kernel is made for; only an emulator asks for another.
template <result_type Y, class Target = device::target>
[[nodiscard]] cudaError_t gemm(const const_mx_view<>& w, const const_mxfp8_view& x, const dense_view<Y>& y,
                               cudaStream_t stream) {
  if (const status s = check_product(w, x, y); !s.ok()) return detail::error_of(s);
  if (x.rows <= gemv_tokens) return kernel::launch_gemm_mxfp8<1, Target>(w, x, y, stream);
  return kernel::launch_gemm_mxfp8<8, Target>(w, x, y, stream);
}

}  // namespace mxfp4::cuda
