// examples/cuda_gemv.cu -- two tokens times a matrix of MXFP4 weights on a GPU, from a checkpoint's own bytes.
// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include <cmath>
#include <cstdio>
#include <mxfp4/cuda/gemv.cuh>
#include <mxfp4/reference/gemm.hpp>
#include <mxfp4/reference/quantize.hpp>
#include <vector>
using namespace mxfp4;

template <class T>
T* both_see(std::int64_t count) {  // memory for host and GPU; never freed: the program ends
  void* p = nullptr;
  return cudaMallocManaged(&p, count * sizeof(T)) == cudaSuccess ? static_cast<T*>(p) : nullptr;
}

int main() {
  if (both_see<char>(1) == nullptr) return std::puts("skipped: no GPU"), 77;
  const std::int64_t tokens = 2, rows = 256, cols = 512;  // W is N x K, X is M x K, Y is M x N
  std::vector<float> weights(rows * cols);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = 0.02f * std::sin(static_cast<float>(i * i));
  const dense_view<bf16> x{both_see<bf16>(tokens * cols), tokens, cols, cols};
  for (int i = 0; i < tokens * cols; ++i) x.data[i] = encode_bf16(std::cos(static_cast<float>(i)));

  // W as a checkpoint has it: nothing is repacked for the GPU.
  std::uint8_t *const codes = both_see<std::uint8_t>(rows * cols / 2), *const scales =
                                                                           both_see<std::uint8_t>(rows * cols / 32);
  const mx_view<> w{codes, scales, rows, cols, cols / 2, cols / 32};
  const dense_view<float> y{both_see<float>(tokens * rows), tokens, rows, rows};
  status s = reference::quantize<recipe::compressed_tensors>(make_dense_view(weights, rows, cols).value_or_abort(), w);
  if (s.ok()) s = cuda::check_product<bf16, float>(w, x, y);
  if (!s.ok()) return std::puts(message(s).c_str()), 1;
  cudaError_t error = cuda::gemv<bf16, float>(w, x, y, nullptr);  // does not wait
  if (error == cudaSuccess) error = cudaDeviceSynchronize();

  std::vector<double> exact(tokens * rows);
  s = reference::gemm(w, x, dense_view<double>{exact.data(), tokens, rows, rows});
  double largest = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) largest = std::fmax(largest, std::fabs(y.data[i] - exact[i]));
  std::printf("%s; largest difference from the sum in double: %.1e\n", cudaGetErrorString(error), largest);
  return s.ok() && error == cudaSuccess && largest < 1e-4 ? 0 : 1;
}
