// tests/cuda/launch.emulated.test.cpp -- how kernels are launched: from several threads, beside errors of others, into
// a capture, on devices that lack them.
//
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <memory>
#include <semaphore>
#include <thread>
#include <vector>

#include "cuda/product.support.hpp"
#include "mxfp4/cuda/gemm.cuh"
#include "mxfp4/cuda/moe.cuh"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;
using cuda::emulator::function;
using cuda::emulator::runtime;

/// Each test has a device of its own, of which no kernel is known yet.
struct fresh_device {
  explicit fresh_device(int number = ++latest) { device_settings.device = number; }
  fresh_device(const fresh_device&) = delete;
  fresh_device& operator=(const fresh_device&) = delete;
  ~fresh_device() {
    device_settings = {};
    runtime.before_launch = nullptr;
    (void)cudaGetLastError();
  }
  static inline int latest = 10;
};

/// Y = X W^T of `m` tokens, all weights and activations 1: each result is 64.
struct ones {
  explicit ones(std::int64_t m) : w(40, 64), y(m, 40), x(activations(m), 0) {
    splitmix random(1);
    fill(w.host, 40, 64, {127}, random);
    for (std::int64_t n = 0; n < 40; ++n)
      for (std::int64_t k = 0; k < 64; ++k) w.host.set_code(n, k, 2u);
    (void)w.view();
  }
  cudaError_t run(cudaStream_t stream = nullptr) { return cuda::gemm(w.view(), x.view(), y.view(), stream); }
  bool right() const {
    for (const float v : y.values())
      if (v != 64.0f) return false;
    return true;
  }

  device_weights w;
  device_results<float> y;
  device_tokens<bf16> x;

 private:
  static tokens activations(std::int64_t m) {
    tokens t(m, 64);
    t.fill([](auto, auto) { return 1.0f; });
    return t;
  }
};

using gemv_of_many = cuda::kernel::gemv<bf16, float, 2, 2>;
using by_wgmma = cuda::kernel::gemm_wgmma<bf16, float>;

const function& known(const void* entry) { return *static_cast<const function*>(entry); }

cudaStream_t stream(std::uintptr_t number) { return reinterpret_cast<cudaStream_t>(number << 4); }

}  // namespace

TEST_CASE("emulator: a launch with more shared memory than the function's attribute allows", "[cuda][launch]") {
  const fresh_device device;
  ones p(8);
  const void* const entry = cuda::detail::function_of<gemv_of_many>();
  gemv_of_many::arguments arguments{p.w.view(), p.x.view(), p.y.view()};
  void* parameters[] = {&arguments};
  const auto launch = [&](std::size_t shared) {
    return cudaLaunchKernel(entry, dim3(2), dim3(gemv_of_many::threads), parameters, shared, nullptr);
  };
  const auto allow = [&](int bytes) {
    return cudaFuncSetAttribute(entry, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  };
  CHECK(launch(48 * 1024 + 1) == cudaErrorInvalidValue);
  CHECK(allow(gemv_of_many::shared_bytes - 4) == cudaSuccess);
  CHECK(launch(gemv_of_many::shared_bytes) == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  CHECK(p.y.untouched());
  CHECK(allow(100 * 1024) == cudaErrorInvalidValue);  // more than the device has
  CHECK(allow(gemv_of_many::shared_bytes) == cudaSuccess);
  CHECK(launch(gemv_of_many::shared_bytes) == cudaSuccess);
  CHECK(p.right());
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);  // success clears nothing
  CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE("cuda::launch: two threads with 4 and 8 tokens, one between the other's attribute and launch",
          "[cuda][launch]") {
  const fresh_device device;
  ones eight(8), four(4);
  std::binary_semaphore at_launch(0), other_is_done(0);
  runtime.before_launch = [&, first = std::this_thread::get_id()] {
    if (std::this_thread::get_id() == first) return;
    at_launch.release();
    other_is_done.acquire();
  };
  cudaError_t of_eight = cudaErrorInvalidDevice;
  std::thread thread([&] { of_eight = eight.run(stream(1)); });
  at_launch.acquire();
  const cudaError_t of_four = four.run(stream(2));
  other_is_done.release();
  thread.join();
  CHECK(of_four == cudaSuccess);
  CHECK(of_eight == cudaSuccess);
  CHECK(four.right());
  CHECK(eight.right());
}

TEST_CASE("cuda::launch: threads and streams at once, the kernels unknown at first", "[cuda][launch]") {
  const fresh_device device;
  std::vector<std::unique_ptr<ones>> products;
  for (std::int64_t m = 1; m <= 10; ++m) products.push_back(std::make_unique<ones>(m));
  std::vector<cudaError_t> errors(products.size(), cudaErrorInvalidDevice);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < products.size(); ++i)
    threads.emplace_back([&, i] { errors[i] = products[i]->run(stream(i)); });
  for (std::thread& t : threads) t.join();
  for (std::size_t i = 0; i < products.size(); ++i) {
    CHECK(errors[i] == cudaSuccess);
    CHECK(products[i]->right());
  }
}

TEST_CASE("cuda::launch: an error of the application's own is neither returned nor cleared", "[cuda][launch]") {
  const fresh_device device;
  ones p(3);
  for (const cudaError_t stale : {cudaErrorInvalidDevice, cudaErrorInvalidConfiguration}) {
    cuda::emulator::failed(stale);
    CHECK(p.run() == cudaSuccess);
    CHECK(p.right());
    CHECK(cudaGetLastError() == stale);
  }
}

TEST_CASE("cuda::launch: what the launch itself says is returned", "[cuda][launch][bad_input]") {
  const fresh_device device;
  ones p(8);
  device_settings.max_shared_bytes = 64 * 1024;
  CHECK(p.run() == cudaErrorInvalidValue);  // the attribute: the kernel takes 68,672
  device_settings.max_shared_bytes = 99 * 1024;
  using none = cuda::kernel::gemv<bf16, float, 1, 4>;
  const gemv_of_many::arguments arguments{p.w.view(), p.x.view(), p.y.view()};
  CHECK(cuda::launch<gemv_of_many>({2}, gemv_of_many::shared_bytes + 16, nullptr, arguments) == cudaErrorInvalidValue);
  for (const cuda::grid& g : {cuda::grid{0}, {-1}, {std::int64_t{1} << 31}, {1, 65536}, {1, 1, 0}})
    CHECK(cuda::launch<none>(g, 0, nullptr, {p.w.view(), p.x.view(), p.y.view()}) == cudaErrorInvalidConfiguration);
  CHECK(p.y.untouched());
  CHECK(p.run() == cudaSuccess);  // what failed was not remembered as done
  CHECK(p.right());
}

TEST_CASE("cuda::launch: a kernel is asked about once on each device", "[cuda][launch]") {
  const auto calls_of = [](auto&& f) {
    const int before = runtime.attribute_calls;
    f();
    return runtime.attribute_calls - before;
  };
  ones p(8), few(2);
  for (int i = 0; i < 2; ++i) {
    const fresh_device device;
    CHECK(calls_of([&] { CHECK(p.run() == cudaSuccess); }) == 2);    // is it there; its shared memory
    CHECK(calls_of([&] { CHECK(few.run() == cudaSuccess); }) == 2);  // another kernel
    CHECK(calls_of([&] { CHECK((p.run() == cudaSuccess && few.run() == cudaSuccess)); }) == 0);
    bool has = true;
    CHECK(calls_of([&] { CHECK(cuda::has_kernel<by_wgmma>(has) == cudaSuccess); }) == 1);
    CHECK_FALSE(has);
    has = true;
    CHECK(calls_of([&] { CHECK(cuda::has_kernel<by_wgmma>(has) == cudaSuccess); }) == 0);
    CHECK_FALSE(has);
    // what another translation unit found out about its own function of the kernel
    cuda::detail::state_of<gemv_of_many>.ready[device_settings.device] = &p;
    CHECK(calls_of([&] { CHECK(p.run() == cudaSuccess); }) == 2);
  }
  for (const int beyond : {cuda::detail::kernel_state::devices, cuda::detail::kernel_state::devices + 1}) {
    const fresh_device device(beyond);  // those are not remembered
    for (int i = 0; i < 2; ++i) CHECK(calls_of([&] { CHECK(p.run() == cudaSuccess); }) == 2);
    CHECK(p.right());
  }
}

TEST_CASE("cuda::launch: a device whose code lacks the kernel", "[cuda][launch][bad_input]") {
  ones p(8);
  const by_wgmma::arguments arguments{p.w.view(), p.x.view(), p.y.view(), 1};
  const fresh_device device;
  device_settings.max_shared_bytes = 227 * 1024;
  for (int i = 0; i < 2; ++i)
    CHECK(cuda::launch<by_wgmma>({1}, by_wgmma::shared_bytes, nullptr, arguments) == cudaErrorNotSupported);
  CHECK(p.y.untouched());
  CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE("cuda::preload: everything that a set may launch, again where it was forgotten", "[cuda][launch]") {
  using sets = cuda::moe_kernels<bf16, float>;
  const auto forget = [] {
    const_cast<function&>(known(cuda::detail::function_of<gemv_of_many>())).shared_bytes.clear();
  };
  const fresh_device device;
  REQUIRE(cuda::preload<cuda::gemm_kernels<bf16, float>, sets>() == cudaSuccess);
  const int calls = runtime.attribute_calls;
  ones few(1), some(8), many(9);
  CHECK(few.run() == cudaSuccess);
  CHECK(some.run() == cudaSuccess);
  CHECK(many.run() == cudaSuccess);
  const cuda::routing_shape shapes[] = {{1, 2, 8}, {4, 2, 3}, {40, 2, 3}};
  for (const auto& shape : shapes) {
    device_weights w(shape.experts * 8, 64);
    splitmix random(3);
    fill(w.host, shape.experts * 8, 64, {127}, random);
    tokens x(shape.tokens, 64);
    x.fill([](auto, auto) { return 1.0f; });
    const device_tokens<bf16> dx(x, 0);
    device_results<float> y(shape.token_slots(), 8);
    const std::int64_t bytes = cuda::moe_workspace_bytes(shape);
    device_array<std::uint8_t> workspace(static_cast<std::size_t>(bytes));
    const device_array<std::int32_t> indices(std::vector<std::int32_t>(static_cast<std::size_t>(shape.token_slots())));
    CHECK(cuda::moe_route(shape, {indices.data(), shape.tokens, shape.top_k, shape.top_k}, workspace.data(), bytes,
                          nullptr) == cudaSuccess);
    CHECK(cuda::moe_gemm(shape, w.view(), dx.view(), y.view(), workspace.data(), bytes, nullptr) == cudaSuccess);
  }
  CHECK(runtime.attribute_calls == calls);
  CHECK(known(cuda::detail::function_of<gemv_of_many>()).allowed() == gemv_of_many::shared_bytes);
  forget();  // cudaDeviceReset
  CHECK(some.run() == cudaErrorInvalidValue);
  REQUIRE(cuda::preload<cuda::gemv_kernels<bf16, float>>() == cudaSuccess);
  CHECK(some.run() == cudaSuccess);
  device_settings.device = ++fresh_device::latest;
  device_settings.max_shared_bytes = 50 * 1024;
  CHECK(cuda::preload<cuda::gemv_kernels<bf16, float>>() == cudaErrorInvalidValue);
}

TEST_CASE("cuda: a graph captured on first use, and run twice", "[cuda][launch]") {
  const fresh_device device;
  ones p(8), tokens_of_many(20);
  const cudaStream_t s = stream(5);
  cuda::emulator::begin_capture(s);
  CHECK(p.run(s) == cudaSuccess);
  CHECK(tokens_of_many.run(s) == cudaSuccess);
  CHECK(p.y.untouched());
  const auto graph = cuda::emulator::end_capture(s);
  for (int i = 0; i < 2; ++i) {
    graph();
    CHECK(p.right());
    CHECK(tokens_of_many.right());
  }
}

TEST_CASE("cuda::moe_status: refused in a capture, which goes on", "[cuda][launch][bad_input]") {
  const fresh_device device;
  const cuda::routing_shape shape{2, 2, 4};
  const std::int64_t bytes = cuda::moe_workspace_bytes(shape);
  device_array<std::uint8_t> workspace(static_cast<std::size_t>(bytes));
  const device_array<std::int32_t> indices(std::vector<std::int32_t>{3, 3, 9, 1});
  const cudaStream_t s = stream(6);
  cuda::emulator::begin_capture(s);
  CHECK(cuda::moe_route(shape, {indices.data(), 2, 2, 2}, workspace.data(), bytes, s) == cudaSuccess);
  cuda::moe_report report{true, 7, 8};
  CHECK(cuda::moe_status(shape, workspace.data(), s, report) == cudaErrorStreamCaptureUnsupported);
  CHECK((report.routed && report.bad_token_slots == 7 && report.first_bad == 8));
  CHECK(cudaGetLastError() == cudaSuccess);
  const auto graph = cuda::emulator::end_capture(s);
  CHECK(workspace.untouched());
  graph();
  CHECK(cuda::moe_status(shape, workspace.data(), s, report) == cudaSuccess);
  CHECK((report.routed && report.bad_token_slots == 1 && report.first_bad == 2));
}
