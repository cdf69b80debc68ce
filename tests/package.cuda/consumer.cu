// tests/package.cuda/consumer.cu -- includes the device headers as a user would; asks for no GPU.
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "mxfp4/cuda/convert.cuh"
#include "mxfp4/cuda/dequantize.cuh"
#include "mxfp4/cuda/gemm.cuh"
#include "mxfp4/cuda/mma16.cuh"
#include "mxfp4/cuda/quantize.cuh"
#include "mxfp4/cuda/quantize_mxfp8.cuh"

int main() {
  const mxfp4::dense_view<const mxfp4::bf16> nothing{nullptr, 1, 32, 32};
  const cudaError_t error = mxfp4::cuda::quantize(nothing, mxfp4::mx_view<>{}, nullptr);
  std::printf("%s\n", mxfp4::message(mxfp4::cuda::check_quantize(nothing, mxfp4::mx_view<>{})).c_str());
  return error == cudaErrorInvalidValue ? 0 : 1;
}
