// tests/cuda/kernels/products_mxfp8.cu -- kernels to be looked at in machine code: products of MXFP8.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/cuda/gemm_mxfp8.cuh"
#include "mxfp4/cuda/gemv_mxfp8.cuh"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

template cudaError_t gemv(const const_mma16_view&, const const_mxfp8_view&, const dense_view<float>&, cudaStream_t);
template cudaError_t gemm(const const_mx_view<>&, const const_mxfp8_view&, const dense_view<bf16>&, cudaStream_t);

}  // namespace mxfp4::cuda
