// tests/cuda/gpu_bench.cu -- on a GPU: how fast, next to a copy and to the vendor's dense bf16. 77 where there is none.
// SPDX-License-Identifier: Apache-2.0
//
// Bytes are what a kernel must move: 17 for 32 weights, and the numbers on the other side; for a copy, read and
// written. Products go through several matrices in turn, more than 200 MB of them, so that none is found in a cache.
// Before it is timed, a result is compared with sums in double: a wrong kernel has no time, and the program ends with
// 1.
#if defined(MXFP4_WITH_CUBLAS)
#include <cublas_v2.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cuda/gpu.support.cuh"
#include "mxfp4/cuda/dequantize.cuh"
#include "mxfp4/cuda/gemm.cuh"
#include "mxfp4/cuda/gemm_mxfp8.cuh"
#include "mxfp4/cuda/moe.cuh"
#include "mxfp4/cuda/quantize.cuh"
#include "mxfp4/cuda/quantize_mxfp8.cuh"
#include "mxfp4/format/block.hpp"
#include "support/random.hpp"

namespace {

using namespace mxfp4;
using cuda::test::buffer;
using cuda::test::require;

int failures = 0;
double copy_gbps = 0;

/// Median seconds of one call, over rounds of several calls; call(i) gets the number of the call.
double seconds(const std::function<void(int)>& call, int calls) {
  cudaEvent_t begin, end;
  require(cudaEventCreate(&begin), "cudaEventCreate");
  require(cudaEventCreate(&end), "cudaEventCreate");
  std::vector<double> rounds;
  for (int round = 0; round < 12; ++round) {
    require(cudaEventRecord(begin), "cudaEventRecord");
    for (int i = 0; i < calls; ++i) call(round * calls + i);
    require(cudaEventRecord(end), "cudaEventRecord");
    require(cudaEventSynchronize(end), "a kernel");
    float milliseconds = 0;
    require(cudaEventElapsedTime(&milliseconds, begin, end), "cudaEventElapsedTime");
    if (round >= 2) rounds.push_back(1e-3 * static_cast<double>(milliseconds) / calls);  // the first two warm up
  }
  std::sort(rounds.begin(), rounds.end());
  return rounds[rounds.size() / 2];
}

void report_bytes(const std::string& what, double bytes, double s) {
  const double gbps = 1e-9 * bytes / s;
  std::printf("| %-44s | %10.1f us | %8.0f GB/s   | %5.1f %% of the copy |\n", what.c_str(), 1e6 * s, gbps,
              100 * gbps / (copy_gbps > 0 ? copy_gbps : gbps));
}
void report_flops(const std::string& what, double flops, double s) {
  std::printf("| %-44s | %10.1f us | %8.1f TFLOP/s | |\n", what.c_str(), 1e6 * s, 1e-12 * flops / s);
}
void report_wrong(const std::string& what) {
  std::printf("| %-44s | WRONG | | |\n", what.c_str());
  ++failures;
}

/// Weights with random codes and scales near one.
struct weights {
  std::int64_t rows, cols;
  std::vector<std::uint8_t> host_codes, host_scales;
  buffer<std::uint8_t> codes, scales;

  weights(std::int64_t n, std::int64_t k, std::uint64_t seed)
      : rows(n),
        cols(k),
        host_codes(random(n * k / 2, seed, 0, 255)),
        host_scales(random(n * k / 32, seed + 1, 118, 126)),
        codes(host_codes),
        scales(host_scales) {}
  [[nodiscard]] const_mx_view<> view() const { return {codes.data(), scales.data(), rows, cols, cols / 2, cols / 32}; }
  [[nodiscard]] double bytes() const { return static_cast<double>(codes.bytes() + scales.bytes()); }
  [[nodiscard]] double at(std::int64_t n, std::int64_t k) const {
    const auto i = static_cast<std::size_t>(n * cols + k);
    return static_cast<double>(decode_weight(static_cast<e2m1>(host_codes[i / 2] >> (i % 2 * 4) & 15u),
                                             static_cast<e8m0>(host_scales[i / 32])));
  }
  static std::vector<std::uint8_t> random(std::int64_t n, std::uint64_t seed, int low, int high) {
    mxfp4::test::splitmix random(seed);
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(n));
    for (auto& b : bytes) b = static_cast<std::uint8_t>(random.in(low, high));
    return bytes;
  }
};

/// More than 200 MB of weights of one shape, to be gone through in turn.
struct rotating_weights {
  std::vector<std::unique_ptr<weights>> all;

  rotating_weights(std::int64_t n, std::int64_t k) {
    for (double bytes = 0; bytes < 250e6; bytes += all.back()->bytes())
      all.push_back(std::make_unique<weights>(n, k, 1 + 100 * all.size()));
  }
  [[nodiscard]] const weights& first() const { return *all[0]; }
  [[nodiscard]] const_mx_view<> view(int call) const {
    return all[static_cast<std::size_t>(call) % all.size()]->view();
  }
};

std::vector<bf16> activations(std::int64_t n) {
  mxfp4::test::splitmix random(5);
  std::vector<bf16> x(static_cast<std::size_t>(n));
  for (auto& v : x) v = encode_bf16(static_cast<float>(random.in(-100, 100)) / 64.0f);
  return x;
}

/// Some results against their definition; x(i) is element i of the activations, row_of(m) the row of w that result
/// column 0 of m belongs to.
bool is_right(
    const weights& w, const std::function<float(std::size_t)>& x, const std::vector<float>& y, std::int64_t tokens,
    std::int64_t columns, const std::function<std::int64_t(std::int64_t)>& row_of = [](std::int64_t) { return 0; }) {
  mxfp4::test::splitmix random(6);
  for (int sample = 0; sample < 64; ++sample) {
    const std::int64_t m = random.between(0, tokens - 1), n = random.between(0, columns - 1);
    double sum = 0, magnitude = 0;
    for (std::int64_t k = 0; k < w.cols; ++k) {
      const double p = w.at(row_of(m) + n, k) * static_cast<double>(x(static_cast<std::size_t>(m * w.cols + k)));
      sum += p;
      magnitude += std::fabs(p);
    }
    const double got = static_cast<double>(y[static_cast<std::size_t>(m * columns + n)]);
    if (!(std::fabs(got - sum) <= 1e-3 * magnitude)) return false;
  }
  return true;
}

void bench_copy() {
  const buffer<std::uint8_t> from(std::size_t{1} << 30), to(std::size_t{1} << 30);
  const double s = seconds(
      [&](int) { require(cudaMemcpyAsync(to.data(), from.data(), to.bytes(), cudaMemcpyDeviceToDevice), "copy"); }, 5);
  report_bytes("copy, 1 GiB", 2.0 * static_cast<double>(to.bytes()), s);
  copy_gbps = 2e-9 * static_cast<double>(to.bytes()) / s;
}

void bench_conversion() {
  const std::int64_t rows = 65536, cols = 8192;
  const buffer<bf16> dense(static_cast<std::size_t>(rows * cols));
  const buffer<std::uint8_t> codes(static_cast<std::size_t>(rows * cols / 2)),
      scales(static_cast<std::size_t>(rows * cols / 32));
  require(cudaMemset(codes.data(), 0x35, codes.bytes()), "cudaMemset");
  require(cudaMemset(scales.data(), 127, scales.bytes()), "cudaMemset");
  const mx_view<> mx{codes.data(), scales.data(), rows, cols, cols / 2, cols / 32};
  const dense_view<bf16> numbers{dense.data(), rows, cols, cols};
  const double bytes = static_cast<double>(dense.bytes() + codes.bytes() + scales.bytes());
  report_bytes("dequantize to bf16, 65536 x 8192", bytes,
               seconds([&](int) { require(cuda::dequantize(mx, numbers, nullptr), "dequantize"); }, 3));
  report_bytes("quantize ocp from bf16, 65536 x 8192", bytes,
               seconds([&](int) { require(cuda::quantize(numbers, mx, nullptr), "quantize"); }, 3));
  report_bytes(
      "quantize compressed_tensors from bf16", bytes,
      seconds([&](int) { require(cuda::quantize<recipe::compressed_tensors>(numbers, mx, nullptr), "quantize"); }, 3));
}

/// The vendor's dense bf16, the same shape; nothing where this was built without it.
void bench_dense([[maybe_unused]] std::int64_t m, [[maybe_unused]] std::int64_t n, [[maybe_unused]] std::int64_t k) {
#if defined(MXFP4_WITH_CUBLAS)
  const buffer<bf16> w(static_cast<std::size_t>(n * k)), x(static_cast<std::size_t>(m * k));
  const buffer<float> y(static_cast<std::size_t>(m * n));
  require(cudaMemset(w.data(), 0, w.bytes()), "cudaMemset");
  require(cudaMemset(x.data(), 0, x.bytes()), "cudaMemset");
  cublasHandle_t blas = nullptr;
  if (cublasCreate(&blas) != CUBLAS_STATUS_SUCCESS) return;
  const float one = 1.0f, zero = 0.0f;
  bool ok = true;
  const double s = seconds(
      [&](int) {
        ok &= cublasGemmEx(blas, CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(n), static_cast<int>(m),
                           static_cast<int>(k), &one, w.data(), CUDA_R_16BF, static_cast<int>(k), x.data(), CUDA_R_16BF,
                           static_cast<int>(k), &zero, y.data(), CUDA_R_32F, static_cast<int>(n), CUBLAS_COMPUTE_32F,
                           CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS;
      },
      5);
  cublasDestroy(blas);
  const std::string what = "  dense bf16 by cuBLAS";
  if (!ok) return report_wrong(what);
  if (m == 1) report_bytes(what, static_cast<double>(w.bytes()), s);
  else report_flops(what, 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k), s);
#endif
}

std::string name_of(const char* kind, std::int64_t m, std::int64_t n, std::int64_t k) {
  return (m == 1 ? "gemv " : "gemm ") + std::string(kind) + std::to_string(n) + " x " + std::to_string(k) +
         (m == 1 ? "" : ", M = " + std::to_string(m));
}

/// Times one product after another; multiply(call) starts it.
void report_product(const std::string& what, const weights& w, std::int64_t m,
                    const std::function<cudaError_t(int)>& multiply) {
  const double s = seconds([&](int call) { require(multiply(call), what.c_str()); }, m == 1 ? 50 : 5);
  if (m == 1) report_bytes(what, w.bytes(), s);
  else report_flops(what, 2.0 * static_cast<double>(m) * static_cast<double>(w.rows) * static_cast<double>(w.cols), s);
}

void bench_product(std::int64_t m, std::int64_t n, std::int64_t k) {
  const std::string what = name_of("", m, n, k);
  const rotating_weights w(n, k);
  const std::vector<bf16> host_x = activations(m * k);
  const buffer<bf16> x(host_x);
  const buffer<float> y(static_cast<std::size_t>(m * n));
  const dense_view<const bf16> from{x.data(), m, k, k};
  const dense_view<float> to{y.data(), m, n, n};
  const auto multiply = [&](int call) { return cuda::gemm(w.view(call), from, to, nullptr); };
  require(multiply(0), what.c_str());
  if (!is_right(
          w.first(), [&](std::size_t i) { return decode(host_x[i]); }, y.host(), m, n))
    return report_wrong(what);
  report_product(what, w.first(), m, multiply);
  bench_dense(m, n, k);
}

/// mma.sync and wgmma side by side, for the place where gemm changes from one to the other; nothing without wgmma.
void bench_both(std::int64_t m, std::int64_t n, std::int64_t k) {
  using by_wgmma = cuda::kernel::gemm_wgmma<bf16, float>;
  bool there = false, chosen = false;
  require(cuda::has_kernel<by_wgmma>(there), "has_kernel");
  if (!there) return;
  require(cuda::kernel::choose_wgmma<bf16, float>(n, m, chosen), "choose_wgmma");
  const weights w(n, k, 1);
  const std::vector<bf16> host_x = activations(m * k);
  const buffer<bf16> x(host_x);
  const buffer<float> y(static_cast<std::size_t>(m * n));
  const dense_view<const bf16> from{x.data(), m, k, k};
  const dense_view<float> to{y.data(), m, n, n};
  const auto run = [&](const std::string& way, bool is_chosen, auto&& launch) {
    const std::string what = way + (is_chosen ? " (chosen)" : "") + ", " + std::to_string(n) + " x " +
                             std::to_string(k) + ", M = " + std::to_string(m);
    require(launch(), what.c_str());
    if (!is_right(
            w, [&](std::size_t i) { return decode(host_x[i]); }, y.host(), m, n))
      return report_wrong(what);
    report_flops(what, 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k),
                 seconds([&](int) { require(launch(), what.c_str()); }, 5));
  };
  run("gemm by mma", !chosen,
      [&] { return cuda::kernel::launch_gemm<cuda::kernel::gemm<bf16, float>>(w.view(), from, to, nullptr); });
  run("gemm by wgmma", chosen, [&] { return cuda::kernel::launch_gemm<by_wgmma>(w.view(), from, to, nullptr); });
}

/// The same with activations in MXFP8, where the device multiplies those.
void bench_mxfp8_product(std::int64_t m, std::int64_t n, std::int64_t k) {
  const std::string what = name_of("MXFP8 ", m, n, k);
  const rotating_weights w(n, k);
  const buffer<bf16> dense(activations(m * k));
  const buffer<std::uint8_t> elements(dense.size()), scales(dense.size() / block_size);
  const buffer<float> y(static_cast<std::size_t>(m * n));
  const mxfp8_view x{elements.data(), scales.data(), m, k, k, k / block_size};
  require(cuda::quantize_mxfp8(dense_view<const bf16>{dense.data(), m, k, k}, x, mxfp8_scaling::rceil, nullptr),
          "quantize_mxfp8");
  const auto multiply = [&](int call) {
    return cuda::gemm(w.view(call), const_mxfp8_view(x), dense_view<float>{y.data(), m, n, n}, nullptr);
  };
  const cudaError_t error = multiply(0);
  if (error == cudaErrorNotSupported) return void(std::printf("| %-44s | not supported | | |\n", what.c_str()));
  require(error, what.c_str());
  const std::vector<std::uint8_t> e = elements.host(), s = scales.host();
  const auto value = [&](std::size_t i) {
    return decode(static_cast<e4m3>(e[i]), static_cast<e8m0>(s[i / block_size]));
  };
  if (!is_right(w.first(), value, y.host(), m, n)) return report_wrong(what);
  report_product(what, w.first(), m, multiply);
}

/// Decode of one layer: each token has 8 of 256 experts, none twice.
void bench_moe(std::int64_t tokens) {
  const std::int64_t experts = 256, top_k = 8, n = 3072, k = 3072;
  const std::string what = "moe, 256 experts top-8, 3072 x 3072, M = " + std::to_string(tokens);
  const weights w(experts * n, k, 3);
  std::vector<std::int32_t> indices;
  for (std::int64_t m = 0; m < tokens; ++m)
    for (std::int64_t slot = 0; slot < top_k; ++slot)
      indices.push_back(static_cast<std::int32_t>((m * 37 + slot * 29) % experts));
  std::vector<bool> used(static_cast<std::size_t>(experts));
  for (const std::int32_t e : indices) used[static_cast<std::size_t>(e)] = true;
  const auto in_use = static_cast<double>(std::count(used.begin(), used.end(), true));

  const cuda::routing_shape shape{tokens, top_k, experts};
  const buffer<std::int32_t> device_indices(indices);
  const std::int64_t bytes = cuda::moe_workspace_bytes(shape);
  const buffer<std::uint8_t> workspace(static_cast<std::size_t>(bytes));
  const std::vector<bf16> host_x = activations(tokens * top_k * k);
  const buffer<bf16> x(host_x);
  const buffer<float> y(static_cast<std::size_t>(tokens * top_k * n));
  const auto run = [&](int) {
    require(cuda::moe_route(shape, {device_indices.data(), tokens, top_k, top_k}, workspace.data(), bytes, nullptr),
            "route");
    require(cuda::moe_gemm(shape, w.view(), dense_view<const bf16>{x.data(), tokens * top_k, k, k},
                           dense_view<float>{y.data(), tokens * top_k, n, n}, workspace.data(), bytes, nullptr),
            what.c_str());
  };
  run(0);
  const bool right = is_right(
      w, [&](std::size_t i) { return decode(host_x[i]); }, y.host(), tokens * top_k, n,
      [&](std::int64_t slot) { return std::int64_t{indices[static_cast<std::size_t>(slot)]} * n; });
  if (!right) return report_wrong(what);
  report_bytes(what, w.bytes() * in_use / static_cast<double>(experts), seconds(run, 20));
}

}  // namespace

int main() {
  cudaDeviceProp device{};
  if (!cuda::test::find_device(device)) return cuda::test::skipped;
  bench_copy();
  bench_conversion();
  bench_product(1, 8192, 8192);
  bench_product(1, 28672, 8192);
  bench_product(4096, 8192, 8192);
  for (const std::int64_t m : {64, 128, 256, 512, 4096}) bench_both(m, 8192, 8192);
  bench_mxfp8_product(1, 8192, 8192);
  bench_mxfp8_product(4096, 8192, 8192);
  bench_moe(1);
  bench_moe(8);
  bench_moe(512);  // tiles of 64 token slots
  return failures == 0 ? 0 : 1;
}
