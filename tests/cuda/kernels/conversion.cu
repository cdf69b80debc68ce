// tests/cuda/kernels/conversion.cu -- kernels to be looked at in machine code: quantise and dequantise.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/cuda/convert.cuh"
#include "mxfp4/cuda/dequantize.cuh"
#include "mxfp4/cuda/mma16.cuh"
#include "mxfp4/cuda/quantize.cuh"
#include "mxfp4/cuda/quantize_mxfp8.cuh"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

template cudaError_t quantize<recipe::ocp>(const dense_view<const bf16>&, const mx_view<>&, cudaStream_t);
template cudaError_t quantize<recipe::ocp>(const dense_view<const float>&, const mx_view<>&, cudaStream_t);
template cudaError_t quantize<recipe::compressed_tensors>(const dense_view<const bf16>&, const mx_view<>&,
                                                          cudaStream_t);
template cudaError_t quantize<recipe::compressed_tensors>(const dense_view<const f16>&, const mx_view<>&, cudaStream_t);
template cudaError_t quantize<recipe::ggml>(const dense_view<const float>&, const mx_view<>&, cudaStream_t);
template cudaError_t quantize<recipe::min_mse>(const dense_view<const bf16>&, const mx_view<>&, cudaStream_t);
template cudaError_t quantize<recipe::ocp>(const dense_view<const bf16>&, const mx_view<layout::swizzled_128x4>&,
                                           cudaStream_t);

template cudaError_t quantize_mxfp8(const dense_view<const bf16>&, const mxfp8_view&, mxfp8_scaling, cudaStream_t);

template cudaError_t dequantize<dialect::ocp>(const const_mx_view<>&, const dense_view<float>&, cudaStream_t);
template cudaError_t dequantize<dialect::ocp>(const const_mx_view<>&, const dense_view<bf16>&, cudaStream_t);
template cudaError_t dequantize<dialect::ggml>(const const_mx_view<>&, const dense_view<f16>&, cudaStream_t);

template cudaError_t convert(const const_mx_view<>&, const mx_view<layout::ggml>&, cudaStream_t);
template cudaError_t convert(const const_mx_view<layout::ggml>&, const mx_view<layout::swizzled_128x4>&, cudaStream_t);

/// pack_mma16 and unpack_mma16 are no templates: called, they leave their kernels here.
cudaError_t there_and_back(const const_mx_view<>& w, const mma16_view& tiles, const mx_view<>& out,
                           cudaStream_t stream) {
  const cudaError_t error = pack_mma16(w, tiles, stream);
  return error == cudaSuccess ? unpack_mma16(tiles, out, stream) : error;
}

}  // namespace mxfp4::cuda
