// examples/cuda_gemv.cu -- two tokens times a matrix of MXFP4 weights on a GPU, from a checkpoint's own bytes.
// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include <cmath>
#include <cstdio>
#include <mxfp4/cuda/gemv.cuh>
#include <mxfp4/quantize.hpp>
#include <mxfp4/reference.hpp>
#include <vector>
using namespace mxfp4;

template <class T>
T* to_device(const std::vector<T>& host) {  // never freed: the program ends
  void* p = nullptr;
  if (cudaMalloc(&p, host.size() * sizeof(T)) != cudaSuccess) return nullptr;
  cudaMemcpy(p, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice);
  return static_cast<T*>(p);
}

int main() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) return std::printf("skipped: no GPU\n"), 77;
  const std::int64_t tokens = 2, rows = 256, cols = 512;  // W is N x K, X is M x K, Y is M x N
  std::vector<float> weights(rows * cols), y(tokens * rows);
  std::vector<bf16> x(tokens * cols);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = 0.02f * std::sin(static_cast<float>(i * i));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = encode_bf16(std::cos(static_cast<float>(i)));
  std::vector<std::uint8_t> codes(rows * cols / 2), scales(rows * cols / block_size);
  const auto w = *make_view(std::span(codes), std::span(scales), rows, cols);
  status s = quantize<recipe::compressed_tensors>(*make_dense_view(std::span(weights), rows, cols), w);
  std::vector<double> exact(tokens * rows);
  const dense_view<const bf16> host_x{x.data(), tokens, cols, cols};
  if (s.ok()) s = reference_gemm(w, host_x, dense_view<double>{exact.data(), tokens, rows, rows});
  if (!s.ok()) return std::printf("%s\n", message(s).c_str()), 1;

  // The same views, over device memory. Nothing is repacked; the call does not wait.
  const const_mx_view<> device_w{to_device(codes), to_device(scales), rows, cols, w.code_stride, w.scale_stride};
  const dense_view<const bf16> device_x{to_device(x), tokens, cols, cols};
  const dense_view<float> device_y{to_device(y), tokens, rows, rows};
  cudaError_t error = cuda::gemv(device_w, device_x, device_y, nullptr);
  if (error != cudaSuccess) std::printf("%s\n", message(cuda::check_product(device_w, device_x, device_y)).c_str());
  if (error == cudaSuccess) error = cudaMemcpy(y.data(), device_y.data, y.size() * sizeof(float), cudaMemcpyDefault);
  if (error != cudaSuccess) return std::printf("%s\n", cudaGetErrorString(error)), 1;

  double largest = 0;
  for (std::size_t i = 0; i < y.size(); ++i) largest = std::fmax(largest, std::fabs(y[i] - exact[i]));
  std::printf("y[0] = %.6f; largest difference from the sum in double %.1e\n", y[0], largest);
  return largest < 1e-4 ? 0 : 1;
}
