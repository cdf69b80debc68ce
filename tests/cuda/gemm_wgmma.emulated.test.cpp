// tests/cuda/gemm_wgmma.emulated.test.cpp -- products by wgmma under the emulator, and when gemm takes that way.
// SPDX-License-Identifier: Apache-2.0
//
// Expectations come from reference::gemm in double and from integers. The emulator checks every access, barrier, fence
// and wait.
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <vector>

#include "cuda/product.support.hpp"
#include "mxfp4/cuda/gemm.cuh"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;

/// Every edge: one row, a row past a tile, one block, an odd number of them, fewer steps than stages and more, tokens
/// of one tile, of a part of one, of three.
constexpr product_shape shapes[] = {{9, 1, 32, 0},    {128, 128, 64, 0}, {129, 130, 96, 1},
                                    {20, 37, 544, 3}, {300, 40, 192, 2}, {64, 129, 320, 0}};

/// A device with room for the ring; `there`: and the program compiled for it.
struct hopper {
  explicit hopper(bool there = true) {
    device_settings.max_shared_bytes = 227 * 1024;
    device_settings.wgmma = there;
    device_settings.device = there ? 1 : 2;
  }
  hopper(const hopper&) = delete;
  hopper& operator=(const hopper&) = delete;
  ~hopper() { device_settings = {}; }
};

template <class X, class Y = float>
std::vector<float> product(device_weights& w, const tokens& x, std::int64_t n, std::int64_t gap = 0) {
  device_tokens<X> dx(x, 8 * gap);
  device_results<Y> y(x.rows, n, gap);
  REQUIRE(cuda::kernel::launch_gemm<cuda::kernel::gemm_wgmma<X, Y>>(w.view(), dx.view(), y.view(), nullptr) ==
          cudaSuccess);
  return y.values();
}

}  // namespace

TEMPLATE_TEST_CASE("cuda::gemm by wgmma: sums that fit a float come out exactly, in any order of the threads",
                   "[cuda][gemm][wgmma]", bf16, f16) {
  const hopper device;
  check_exact_sums(shapes, product<TestType>);
}

TEMPLATE_TEST_CASE("cuda::gemm by wgmma: every scale byte with every code", "[cuda][gemm][wgmma][special]", bf16, f16) {
  const hopper device;
  check_every_scale(9, product<TestType>);
}

TEMPLATE_TEST_CASE("cuda::gemm by wgmma: within the bound, and special values as the reference has them",
                   "[cuda][gemm][wgmma]", bf16, f16) {
  const hopper device;
  check_bound_and_specials(12, 140, product<TestType>);
}

TEST_CASE("cuda::gemm by wgmma: one wide scale among a warp's sixteen rows", "[cuda][gemm][wgmma][special]") {
  const hopper device;
  for (std::int64_t wide = 0; wide < 16; wide += 5) {
    device_weights w(128, 64);
    splitmix random(6);
    fill(w.host, 128, 64, {126}, random);
    for (std::int64_t r = wide; r < 128; r += 16) w.host.scale(r, r / 16 % 2) = 140;
    tokens x(9, 64);
    x.fill([&](auto, auto) { return static_cast<float>(random.between(-2, 2)); });
    const exact_product exact(w.host, 128, x);
    const std::vector<float> y = product<bf16>(w, x, 128);
    CHECK(unequal(y, exact.sum) == 0);
  }
}

TEST_CASE("cuda::gemm by wgmma: a NaN scale after a row's end does not count", "[cuda][gemm][wgmma][special]") {
  const hopper device;
  check_scales_past_a_row(10, 40, product<bf16>);
}

TEST_CASE("cuda::gemm by wgmma: same bits for any number of tokens; results in f16", "[cuda][gemm][wgmma]") {
  const hopper device;
  check_fewer_tokens(140, product<bf16>);
  check_results_in_f16(product<f16>, product<f16, f16>);
}

TEST_CASE("cuda::gemm: wgmma for more than 64 tokens and half the multiprocessors, where it is compiled",
          "[cuda][gemm][wgmma]") {
  device_weights w(257, 32);
  splitmix random(5);
  fill(w.host, 257, 32, {127}, random);
  const auto chosen = [&](std::int64_t m, int multiprocessors, bool compiled) {
    const hopper device(compiled);
    device_settings.multiprocessors = multiprocessors;
    tokens ones(m, 32);
    ones.fill([](auto, auto) { return 1.0f; });
    const device_tokens<bf16> x(ones, 0);
    device_results<float> y(m, 257);
    REQUIRE(cuda::gemm(w.view(), x.view(), y.view(), nullptr) == cudaSuccess);
    return cuda::emulator::launched_threads == cuda::gemm_wgmma_threads;
  };
  CHECK(chosen(65, 5, true));  // three tiles of rows
  CHECK_FALSE(chosen(64, 5, true));
  CHECK_FALSE(chosen(65, 6, true));
  CHECK(chosen(129, 11, true));
  CHECK_FALSE(chosen(129, 12, true));
  CHECK_FALSE(chosen(65, 5, false));

  const hopper device;  // and with the room it is right
  tokens x(65, 32);
  x.fill([&](auto, auto) { return static_cast<float>(random.between(-2, 2)); });
  const exact_product exact(w.host, 257, x);
  const device_tokens<f16> dx(x, 0);
  device_results<float> y(65, 257);
  REQUIRE(cuda::gemm(w.view(), dx.view(), y.view(), nullptr) == cudaSuccess);
  CHECK(unequal(y.values(), exact.sum) == 0);
}
