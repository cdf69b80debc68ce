// tests/cuda/kernels/products.cu -- kernels to be looked at in machine code: gemv, gemm and moe.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/cuda/gemm.cuh"
#include "mxfp4/cuda/gemv_mma16.cuh"
#include "mxfp4/cuda/moe.cuh"
#include "mxfp4/cuda/moe_activate.cuh"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

template cudaError_t gemm(const const_mx_view<>&, const dense_view<const bf16>&, const dense_view<float>&,
                          cudaStream_t);
template cudaError_t gemm(const const_mx_view<>&, const dense_view<const f16>&, const dense_view<f16>&, cudaStream_t);
template cudaError_t gemv(const const_mma16_view&, const dense_view<const bf16>&, const dense_view<float>&,
                          cudaStream_t);
template cudaError_t gemv(const const_mma16_view&, const dense_view<const f16>&, const dense_view<f16>&, cudaStream_t);
template cudaError_t moe_gemm(const routing_shape&, const const_mx_view<>&, const dense_view<const bf16>&,
                              const dense_view<bf16>&, const void*, std::int64_t, cudaStream_t);
template cudaError_t moe_gemm(const routing_shape&, const const_mx_view<>&, const dense_view<const f16>&,
                              const dense_view<float>&, const void*, std::int64_t, cudaStream_t);
template cudaError_t moe_activate(const routing_shape&, const dense_view<const std::int32_t>&,
                                  const dense_view<const float>&, const dense_view<const float>&,
                                  const dense_view<bf16>&, const moe_activation&, cudaStream_t);
template cudaError_t moe_combine(const routing_shape&, const dense_view<const std::int32_t>&,
                                 const dense_view<const float>&, const dense_view<const f16>&,
                                 const dense_view<const float>&, const dense_view<bf16>&, cudaStream_t, bool);
template cudaError_t add_bias(const dense_view<const float>&, const float*, const dense_view<f16>&, cudaStream_t);

/// No templates: called, they leave their kernels here.
cudaError_t route(const routing_shape& shape, const dense_view<const std::int32_t>& indices, void* workspace,
                  std::int64_t bytes, moe_report& report, cudaStream_t stream) {
  const cudaError_t error = moe_route(shape, indices, workspace, bytes, stream);
  return error == cudaSuccess ? moe_status(shape, workspace, stream, report) : error;
}

}  // namespace mxfp4::cuda
