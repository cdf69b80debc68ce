// tests/cuda/gpu.support.cuh -- device memory, checks and times for the programs that need a GPU.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::test {

inline constexpr int skipped = 77;  ///< what ctest takes for "not run here"

/// Ends the program: a failed call makes every later result meaningless.
inline void require(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

/// Whether there is a device; says which, or why not.
inline bool find_device(cudaDeviceProp& device) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    std::printf("skipped: no CUDA device (%s)\n", error == cudaSuccess ? "none is visible" : cudaGetErrorString(error));
    return false;
  }
  require(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
  std::printf("device 0: %s, compute capability %d.%d\n", device.name, device.major, device.minor);
  return true;
}

/// gpu_test.launch.cu, gpu_test.products.cu: how many of the checks failed.
int check_launches();
int check_products(const cudaDeviceProp& device);

template <class T>
class buffer {
 public:
  explicit buffer(std::size_t n) : size_(n) {
    require(cudaMalloc(reinterpret_cast<void**>(&data_), bytes()), "cudaMalloc");
    require(cudaMemset(data_, 0xCD, bytes()), "cudaMemset");
  }
  explicit buffer(const std::vector<T>& host) : buffer(host.size()) {
    require(cudaMemcpy(data_, host.data(), bytes(), cudaMemcpyHostToDevice), "copy to the device");
  }
  buffer(const buffer&) = delete;
  buffer& operator=(const buffer&) = delete;
  ~buffer() { cudaFree(data_); }

  [[nodiscard]] T* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::size_t bytes() const { return size_ * sizeof(T); }
  [[nodiscard]] std::vector<T> host() const {
    std::vector<T> copy(size_);
    require(cudaMemcpy(copy.data(), data_, bytes(), cudaMemcpyDeviceToHost), "copy from the device");
    return copy;
  }

 private:
  T* data_ = nullptr;
  std::size_t size_;
};

}  // namespace mxfp4::cuda::test
