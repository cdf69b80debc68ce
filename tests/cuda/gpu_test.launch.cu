// tests/cuda/gpu_test.launch.cu -- part of gpu_test, and the first: kernels that are not loaded yet are captured in a
// graph, and launched by two threads into two streams; errors of others; workspaces without a routing.
//
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdio>
#include <thread>
#include <vector>

#include "cuda/gpu.support.cuh"
#include "mxfp4/cuda/gemm.cuh"
#include "mxfp4/cuda/moe.cuh"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::test {

namespace {

int failures = 0;

void expect(const char* what, bool right) {
  std::printf("%-72s %s\n", what, right ? "ok" : "WRONG");
  failures += right ? 0 : 1;
}

/// Y = X W^T of `m` tokens, all weights and activations 1: each result is K.
template <class X, class Y>
struct ones {
  static constexpr std::int64_t n = 200, k = 4096;

  explicit ones(std::int64_t tokens)
      : m(tokens),
        codes(std::vector<std::uint8_t>(static_cast<std::size_t>(n * k / 2), 0x22)),
        scales(std::vector<std::uint8_t>(static_cast<std::size_t>(n * k / 32), 127)),
        x(std::vector<X>(static_cast<std::size_t>(m * k), encode<X>(1.0f))),
        y(static_cast<std::size_t>(m * n)) {}

  [[nodiscard]] const_mx_view<> weights() const { return {codes.data(), scales.data(), n, k, k / 2, k / 32}; }
  [[nodiscard]] cudaError_t run(cudaStream_t stream) const {
    return gemm(weights(), dense_view<const X>{x.data(), m, k, k}, dense_view<Y>{y.data(), m, n, n}, stream);
  }
  void clear() const { require(cudaMemset(y.data(), 0, y.bytes()), "cudaMemset"); }
  [[nodiscard]] bool right() const {
    require(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    for (const Y v : y.host())
      if (decode(v) != static_cast<float>(k)) return false;
    return true;
  }

  std::int64_t m;
  buffer<std::uint8_t> codes, scales;
  buffer<X> x;
  buffer<Y> y;
};

struct stream {
  stream() { require(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"); }
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;
  ~stream() { cudaStreamDestroy(handle); }
  cudaStream_t handle = nullptr;
};

/// Nothing has been launched yet: the capture is what loads the kernels.
void check_capture() {
  const ones<bf16, float> few(1), some(8), many(9);
  const stream s;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t run = nullptr;
  require(cudaStreamBeginCapture(s.handle, cudaStreamCaptureModeGlobal), "cudaStreamBeginCapture");
  for (const auto* p : {&few, &some, &many}) require(p->run(s.handle), "gemm in a capture");
  const routing_shape shape{4, 2, 3};
  const buffer<std::uint8_t> workspace(static_cast<std::size_t>(moe_workspace_bytes(shape)));
  moe_report report;
  expect("moe_status is refused in a capture, which goes on",
         moe_status(shape, workspace.data(), s.handle, report) == cudaErrorStreamCaptureUnsupported);
  require(cudaStreamEndCapture(s.handle, &graph), "cudaStreamEndCapture");
  require(cudaGraphInstantiate(&run, graph, 0), "cudaGraphInstantiate");
  for (int i = 0; i < 2; ++i) {
    for (const auto* p : {&few, &some, &many}) p->clear();
    require(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    require(cudaGraphLaunch(run, s.handle), "cudaGraphLaunch");
    expect("a graph captured on first use", few.right() && some.right() && many.right());
  }
  require(cudaGraphExecDestroy(run), "cudaGraphExecDestroy");
  require(cudaGraphDestroy(graph), "cudaGraphDestroy");
}

/// One kernel, whose shared memory depends on the number of tokens; unknown when the threads begin.
void check_threads() {
  const ones<f16, bf16> four(4), eight(8);
  constexpr int times = 2000;
  cudaError_t errors[2] = {cudaSuccess, cudaSuccess};
  const auto repeat = [&](int i, const ones<f16, bf16>& p) {
    const stream s;
    for (int j = 0; j < times && errors[i] == cudaSuccess; ++j) errors[i] = p.run(s.handle);
    if (errors[i] == cudaSuccess) errors[i] = cudaStreamSynchronize(s.handle);
  };
  std::thread other([&] { repeat(1, eight); });
  repeat(0, four);
  other.join();
  expect("two threads, two streams, 4 and 8 tokens: no launch fails",
         errors[0] == cudaSuccess && errors[1] == cudaSuccess);
  expect("two threads, two streams, 4 and 8 tokens: results", four.right() && eight.right());
}

void check_errors() {
  const ones<bf16, float> p(8);
  const cudaError_t stale = cudaSetDevice(1 << 20);
  p.clear();
  expect("an error of the application's own is not returned", stale != cudaSuccess && p.run(nullptr) == cudaSuccess);
  expect("nor cleared, and the result is there", cudaGetLastError() == stale && p.right());
  auto w = p.weights();
  w.codes += 8;
  expect("misaligned weights: cudaErrorInvalidValue",
         gemm(w, dense_view<const bf16>{p.x.data(), 8, p.k, p.k}, dense_view<float>{p.y.data(), 8, p.n, p.n},
              nullptr) == cudaErrorInvalidValue);
  expect("and the context is sound", p.run(nullptr) == cudaSuccess && p.right());
}

void check_workspace() {
  const ones<bf16, float> p(4);
  const routing_shape shape{4, 2, 2}, other{3, 2, 2};
  const buffer<std::uint8_t> workspace(static_cast<std::size_t>(moe_workspace_bytes(shape)));
  const buffer<std::int32_t> indices(std::vector<std::int32_t>(6, 1));
  const buffer<float> y(8 * 100);
  const auto bytes = static_cast<std::int64_t>(workspace.size());
  for (const bool of_another_shape : {false, true}) {
    if (of_another_shape)
      require(moe_route(other, {indices.data(), 3, 2, 2}, workspace.data(), bytes, nullptr), "moe_route");
    require(cudaMemset(y.data(), 0, y.bytes()), "cudaMemset");
    require(moe_gemm(shape, p.weights(), dense_view<const bf16>{p.x.data(), 4, p.k, p.k},
                     dense_view<float>{y.data(), 8, 100, 100}, workspace.data(), bytes, nullptr),
            "moe_gemm");
    bool all_nan = true;
    for (const float v : y.host()) all_nan = all_nan && std::isnan(v);
    moe_report report;
    require(moe_status(shape, workspace.data(), nullptr, report), "moe_status");
    expect("moe_gemm without the routing of its shape: NaN, and moe_status says so", all_nan && !report.routed);
  }
}

}  // namespace

int check_launches() {
  check_capture();
  check_threads();
  check_errors();
  check_workspace();
  expect("preload", preload<gemm_kernels<bf16, float>, moe_kernels<f16, f16>>() == cudaSuccess);
  return failures;
}

}  // namespace mxfp4::cuda::test
