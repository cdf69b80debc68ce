// tests/cuda/gemv_mxfp8.emulated.test.cpp -- products with MXFP8 activations on block-scaled tensor cores, emulated.
// SPDX-License-Identifier: Apache-2.0
//
// Expectations: mxfp8.support.hpp. The emulator checks every access and barrier.
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <vector>

#include "cuda/mxfp8.support.hpp"
#include "mxfp4/cuda/gemv_mxfp8.cuh"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;
using cuda::device::sm_120a, cuda::device::sm_89;

template <class Target>
std::vector<float> product(device_weights& w, std::int64_t n, const mxfp8_tokens& x) {
  const mx_bytes need = *cuda::mma16_bytes_needed(n, x.view.cols);
  device_array<std::uint8_t> codes(static_cast<std::size_t>(need.codes)), scales(static_cast<std::size_t>(need.scales));
  const cuda::mma16_view packed{codes.data(), scales.data(), n, x.view.cols};
  REQUIRE(cuda::pack_mma16(w.view(), packed, nullptr) == cudaSuccess);
  device_results<float> y(x.view.rows, n, 1);
  REQUIRE(cuda::gemv<float, Target>(cuda::const_mma16_view(packed), x.view, y.view(), nullptr) == cudaSuccess);
  return y.values();
}

}  // namespace

TEMPLATE_TEST_CASE("cuda::gemv MXFP8: sums that fit a float come out exactly", "[cuda][gemv][mxfp8]", sm_89, sm_120a) {
  constexpr product_shape shapes[] = {
      {1, 1, 32, 0}, {2, 33, 2080, 1}, {3, 16, 96, 0}, {5, 31, 608, 2}, {8, 49, 544, 0}};
  check_exact_mxfp8_sums(shapes, product<TestType>);
}

TEMPLATE_TEST_CASE("cuda::gemv MXFP8: every scale byte of the weights under bytes of the activations",
                   "[cuda][gemv][mxfp8]", sm_89, sm_120a) {
  check_every_mxfp8_scale({0, 1, 100, 127, 150, 180, 190, 191}, product<TestType>);
  check_every_mxfp8_scale({127, 191, 192, 253, 254, 255}, product<TestType>);
  check_every_mxfp8_scale({127, 254, 127, 127}, product<TestType>);  // an odd one alone
}

TEMPLATE_TEST_CASE("cuda::gemv MXFP8: within the bound; NaN stays with its token", "[cuda][gemv][mxfp8]", sm_89,
                   sm_120a) {
  check_mxfp8_bound(6, byte_range(100, 127), product<TestType>);
  check_mxfp8_bound(6, byte_range(100, 154), product<TestType>);  // wide
}

TEST_CASE("cuda::gemv MXFP8: what is refused, before anything is written", "[cuda][gemv][mxfp8][bad_input]") {
  const device_array<std::uint8_t> codes(std::vector<std::uint8_t>(512, 0)), scales(std::vector<std::uint8_t>(32, 127));
  const mxfp8_tokens tokens_of(
      8, 64, 0, 0, [](auto, auto) { return std::uint8_t{0x38}; }, [](auto, auto) { return std::uint8_t{127}; });
  device_results<float> out(8, 16);
  const auto refuses = [&](const char* sentence, auto&& change) {
    cuda::const_mma16_view w{codes.data(), scales.data(), 16, 64};
    const_mxfp8_view x = tokens_of.view;
    dense_view<float> y = out.view();
    change(w, x, y);
    CHECK(message(cuda::check_product(w, x, y, cuda::gemv_tokens)).view() == sentence);
    CHECK(cuda::gemv<float, sm_120a>(w, x, y, nullptr) != cudaSuccess);
    CHECK(out.untouched());
  };
  refuses("w.scales is 1 bytes past a multiple of 4: align it", [](auto& w, auto&, auto&) { w.scales += 1; });
  refuses("x.elements is 4 bytes past a multiple of 8: align it", [](auto&, auto& x, auto&) { x.elements += 4; });
  refuses("x.element_stride is 4 bytes past a multiple of 8: align it",
          [](auto&, auto& x, auto&) { x.element_stride += 4; });
  refuses("x.scales is null, expected memory for 16 elements", [](auto&, auto& x, auto&) { x.scales = nullptr; });
  refuses("x.rows is 9, expected at most 8", [](auto&, auto& x, auto&) { x.rows = 9; });
  refuses("x.cols is 32, expected 64", [](auto&, auto& x, auto&) { x.cols = 32; });
  refuses("y.cols is 15, expected 16", [](auto&, auto&, auto& y) { y.cols = 15; });
  const auto run = [&]<class Target>(Target) {
    return cuda::gemv<float, Target>(cuda::const_mma16_view{codes.data(), scales.data(), 16, 64}, tokens_of.view,
                                     out.view(), nullptr);
  };
  CHECK(run(cuda::device::sm_80{}) == cudaErrorNotSupported);  // no mma of e4m3 in hardware there
  CHECK(run(cuda::device::sm_90a{}) == cudaErrorNotSupported);
  CHECK(run(cuda::device::sm_100a{}) == cudaErrorNotSupported);
  CHECK(out.untouched());
}
