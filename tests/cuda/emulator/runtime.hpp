// tests/cuda/emulator/runtime.hpp -- the few calls of the CUDA runtime that the launch functions make.
// SPDX-License-Identifier: Apache-2.0
//
// Numbers of the errors: CUDA Runtime API, cudaError_t. Streams run at once, so a stream is never waited for.
#pragma once

#include <cstddef>
#include <cstring>

#include "cuda/emulator/block.hpp"

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidDevice = 101,
  cudaErrorMisalignedAddress = 716,
  cudaErrorNotSupported = 801
};
using cudaStream_t = struct CUstream_st*;
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };

inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  using namespace mxfp4::cuda::emulator;
  if (kind == cudaMemcpyDeviceToHost && device_memory.first_unwritten(from, bytes) >= 0)
    throw fault("cudaMemcpyAsync reads device memory that was never written");
  if (kind == cudaMemcpyHostToDevice) device_memory.written_by_host(to, bytes);
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t) {
  mxfp4::cuda::emulator::device_memory.written_by_host(to, bytes);
  std::memset(to, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
