// tests/cuda/quantize.emulated.test.cpp -- the quantising kernels under the emulator: the host's bytes, and only those.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <vector>

#include "cuda/matrix.support.hpp"
#include "mxfp4/cuda/quantize.cuh"
#include "mxfp4/cuda/quantize_mxfp8.cuh"
#include "mxfp4/reference/quantize.hpp"

namespace {

using namespace mxfp4;
using cuda::emulator::device_array;
using cuda::emulator::device_settings;
using cuda::test::device_mx;
using cuda::test::host_mx;
using cuda::test::numbers;
namespace device = cuda::device;

/// Through the kernel itself, so that the target can be chosen; a grid of 2 x 2 blocks goes round in both directions.
template <class Recipe, class T, class Target, class Layout = layout::compressed_tensors>
void check_kernel(std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  CAPTURE(Recipe::name, sizeof(T), Target::e2m1_convert, rows, cols);
  const std::vector<T> x = numbers<T>(static_cast<std::size_t>(rows * cols / block_size), seed);
  host_mx<Layout> expected(rows, cols);
  REQUIRE(reference::quantize<Recipe>(dense_view<const T>{x.data(), rows, cols, cols}, expected.view).ok());

  const device_array<T> w(x, "w");
  device_mx<Layout> got(rows, cols);
  using kernel = cuda::kernel::quantize<Recipe, T, Layout, Target>;
  const typename kernel::arguments arguments{
      {w.data(), rows, cols, cols},
      got.view,
      mxfp4::detail::ceil_div(rows, Layout::rows_per_band) * Layout::rows_per_band,
      Layout::scale_band_bytes(cols / block_size) / Layout::rows_per_band};
  device_settings.seed = seed;
  cuda::emulator::launch({2, 2, 1}, kernel::threads, 0, [&] { kernel::run(arguments); });
  CHECK(got.codes.host() == expected.codes);
  CHECK(got.scales.host() == expected.scales);
}

}  // namespace

TEST_CASE("cuda::quantize: every recipe, float", "[cuda][quantize]") {
  for (unsigned id = 0; id < recipe_count; ++id)
    visit_recipe(static_cast<recipe_id>(id), []<class R>() { check_kernel<R, float, device::sm_80>(3, 9 * 320, 7); });
}

TEST_CASE("cuda::quantize: bf16 and f16, and recipes that compute in them", "[cuda][quantize]") {
  check_kernel<recipe::ocp, bf16, device::sm_80>(5, 32 * 40, 1);
  check_kernel<recipe::mlx, bf16, device::sm_80>(5, 32 * 40,
                                                 1);  // not in pairs: NaN is not a matter of the whole block
  check_kernel<recipe::compressed_tensors, bf16, device::sm_80>(5, 32 * 40, 2);
  check_kernel<recipe::compressed_tensors, f16, device::sm_80>(5, 32 * 40, 3);
  check_kernel<recipe::triton_up, f16, device::sm_80>(5, 32 * 40, 4);  // keeps the sign of NaN
  check_kernel<recipe::ggml, f16, device::sm_80>(1, 32, 4);
}

TEST_CASE("cuda::quantize: where the hardware converts", "[cuda][quantize]") {
  check_kernel<recipe::ocp, float, device::sm_100a>(7, 32 * 45, 5);
  check_kernel<recipe::cuda_rceil_satfinite, float, device::sm_100a>(7, 32 * 45, 6);
  check_kernel<recipe::torchao_even, bf16, device::sm_120a>(7, 32 * 45, 7);
  check_kernel<recipe::compressed_tensors, bf16, device::sm_120a>(7, 32 * 45,
                                                                  8);  // its sign of zero is not the hardware's
  check_kernel<recipe::microxcaling_nearest, float, device::sm_120a>(7, 32 * 45, 9);
}

TEST_CASE("cuda::quantize: swizzled scales, padding included", "[cuda][quantize]") {
  check_kernel<recipe::ocp, bf16, device::sm_80, layout::swizzled_128x4>(130, 32 * 5, 10);
  check_kernel<recipe::ocp, bf16, device::sm_80, layout::swizzled_128x4>(1, 32, 11);
}

TEST_CASE("cuda::quantize: one code is the host's, for every upper half of a float", "[cuda][quantize]") {
  const auto compare = []<class Round, class Zero>(Round, Zero) {
    for (const int byte : {0, 1, 2, 3, 64, 126, 127, 128, 129, 200, 251, 252, 253, 254}) {
      const auto scale = static_cast<e8m0>(byte);
      const element_boundaries host = make_boundaries<Round, Zero>(scale);
      const device::detail::block_rules rules{host.sign_boundary, host.stray,
                                              static_cast<int>(Round::reachable(byte - 127))};
      const float inverse = device::inverse_scale(byte);
      int wrong = 0;
      for (std::uint32_t high = 0; high < 0x10000; ++high)
        for (const std::uint32_t low : {0u, 1u, 0x8000u, 0xFFFFu}) {
          const std::uint32_t bits = high << 16 | low;
          if ((bits & 0x7FFFFFFFu) >= 0x7F800000u) continue;
          wrong += device::detail::encode_one<Round, Zero>(bits, inverse, rules) !=
                   static_cast<std::uint32_t>(encode_bits<Zero>(bits, host));
        }
      CAPTURE(Round::name, byte);
      CHECK(wrong == 0);
    }
  };
  compare(nearest_even{}, keep_sign{});
  compare(nearest_even{}, sign_of_quotient<bf16>{});
  compare(nearest_away{}, no_negative_zero{});
  compare(nearest_toward_zero{}, zero_is_code_8{});
  compare(nearest_finite{}, no_negative_zero{});
  compare(with_quarter_defect<nearest_even>{}, sign_of_quotient<float>{});
  compare(toward_zero{}, keep_sign{});  // no midpoints: seven compares
}

TEST_CASE("cuda::quantize: pairs of bf16, every number under many scales", "[cuda][quantize]") {
  const auto compare = []<class R>(R) {
    for (const unsigned exponent : {0u, 1u, 2u, 3u, 4u, 5u, 7u, 8u, 9u, 10u, 64u, 127u, 128u, 200u, 252u, 253u, 254u})
      for (const unsigned mantissa : {0u, 0x3Fu, 0x40u, 0x41u, 0x5Fu, 0x60u, 0x7Fu}) {
        const std::uint32_t amax = exponent << 7 | mantissa;
        std::size_t wrong = 0;
        for (std::uint32_t first = amax > 0x700 ? amax - 0x700 : 0; first <= amax;
             first += 31) {  // 14 binades and more
          std::uint32_t pairs[16]{}, bits[block_size];
          for (std::uint32_t i = 0; i < 32; ++i) {
            const std::uint32_t magnitude = i == 31 ? amax : first + i <= amax ? first + i : 0;
            const std::uint32_t x = magnitude | (i % 3 == 0 ? 0x8000u : 0u);
            pairs[i / 2] |= x << (i % 2 * 16);
            bits[i] = x << 16;
          }
          const block_codes expected = R::template for_input<bf16>::encode(bits);
          const device::encoded_block got = device::encode_pairs<R>(pairs);
          wrong += got.scale != static_cast<std::uint32_t>(expected.scale);
          for (unsigned i = 0; i < 32; ++i)
            wrong += (got.words[i / 8] >> (i % 8 * 4) & 15u) != static_cast<std::uint32_t>(expected.code[i]);
        }
        CAPTURE(R::name, exponent, mantissa);
        CHECK(wrong == 0);
      }
  };
  compare(recipe::ocp{});
  compare(recipe::compressed_tensors{});
  compare(recipe::microxcaling_even{});
  compare(recipe::torchao_rceil{});
}

TEST_CASE("cuda::quantize: rows apart, in any order of threads", "[cuda][quantize]") {
  const std::int64_t rows = 3, cols = 96, stride = 104, gap = 16;
  const std::vector<bf16> x = numbers<bf16>(static_cast<std::size_t>(rows * stride / 8), 12);
  host_mx<> expected(rows, cols);
  REQUIRE(reference::quantize(dense_view<const bf16>{x.data(), rows, cols, stride}, expected.view).ok());
  const device_array<bf16> w(x, "w");
  for (device_settings.seed = 1; device_settings.seed < 4; ++device_settings.seed) {
    device_mx<> got(rows, cols, gap);
    REQUIRE(cuda::quantize(dense_view<const bf16>{w.data(), rows, cols, stride}, got.view, nullptr) == cudaSuccess);
    CHECK(got.scales.host() == expected.scales);
    const std::vector<std::uint8_t> codes = got.codes.raw();
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t j = 0; j < cols / 2 + gap; ++j) {
        const auto written = static_cast<std::size_t>(r * (cols / 2 + gap) + j),
                   e = static_cast<std::size_t>(r * cols / 2 + j);
        REQUIRE(codes[written] == (j < cols / 2 ? expected.codes[e] : 0xCD));
      }
  }
}

TEST_CASE("cuda::quantize: offsets of more than 32 bits", "[cuda][quantize]") {
  const std::int64_t rows = 3, cols = 64, stride = (std::int64_t{1} << 31) + 8, code_stride = std::int64_t{3} << 30;
  const cuda::test::far_rows<bf16> w(rows, cols, stride, true);
  const cuda::test::far_rows<std::uint8_t> codes(rows, cols / 2, code_stride, false);
  device_array<std::uint8_t> scales(6, "scales");
  const std::vector<bf16> x = numbers<bf16>(6, 30);
  for (std::int64_t i = 0; i < rows * cols; ++i)
    w.data()[i / cols * stride + i % cols] = x[static_cast<std::size_t>(i)];
  REQUIRE(cuda::quantize(dense_view<const bf16>{w.data(), rows, cols, stride},
                         mx_view<>{codes.data(), scales.data(), rows, cols, code_stride, 2}, nullptr) == cudaSuccess);
  host_mx<> expected(rows, cols);
  REQUIRE(reference::quantize(dense_view<const bf16>{x.data(), rows, cols, cols}, expected.view).ok());
  std::size_t wrong = 0;
  for (std::int64_t i = 0; i < rows * cols / 2; ++i)
    wrong += codes.data()[i / (cols / 2) * code_stride + i % (cols / 2)] != expected.codes[static_cast<std::size_t>(i)];
  CHECK(wrong == 0);
  CHECK(scales.host() == expected.scales);
}

TEST_CASE("cuda::quantize: what it refuses, before a launch", "[cuda][quantize][bad_input]") {
  const device_array<float> w(std::vector<float>(4 * 64), "w");
  device_mx<> out(4, 64);
  const dense_view<const float> good{w.data(), 4, 64, 64};
  const auto refused = [&](dense_view<const float> x, mx_view<> y, const char* sentence) {
    CHECK(message(cuda::check_quantize(x, y)).view() == sentence);
    CHECK(cuda::quantize(x, y, nullptr) == cudaErrorInvalidValue);
    CHECK(out.codes.untouched());
    CHECK(out.scales.untouched());
  };
  const auto with = [](auto view, auto change) {
    change(view);
    return view;
  };
  refused(with(good, [](auto& v) { v.data = nullptr; }), out.view, "w.data is null, expected memory for 256 elements");
  refused(with(good, [](auto& v) { v.data += 1; }), out.view, "w.data is 4 bytes past a multiple of 16: align it");
  refused(with(good, [](auto& v) { v.stride = 66; }), out.view,
          "w.stride in bytes is 8 bytes past a multiple of 16: align it");
  refused(with(good, [](auto& v) { v.stride = 63; }), out.view,
          "w.stride is 63, expected at least 64, the length of a row");
  refused(with(good, [](auto& v) { v.rows = 0; }), out.view, "w.rows is 0, expected 1");
  refused(with(good, [](auto& v) { v.rows = -1; }), out.view, "w.rows is -1, expected 0 or more");
  refused(with(good, [](auto& v) { v.rows = std::int64_t{1} << 31; }), out.view,
          "w.rows is 2147483648, expected at most 2147483647");
  refused(with(good, [](auto& v) { v.rows = 3; }), out.view, "out.rows is 4, expected 3");
  refused(good, with(out.view, [](auto& v) { v.cols = 48; }),
          "out.cols is 48, expected a multiple of 32: pad the rows, or leave this tensor as it is");
  refused(good, with(out.view, [](auto& v) { v.codes += 8; }), "out.codes is 8 bytes past a multiple of 16: align it");
  refused(good, with(out.view, [](auto& v) { v.code_stride = 40; }),
          "out.code_stride is 8 bytes past a multiple of 16: align it");
  refused(good, with(out.view, [](auto& v) { v.scales = nullptr; }),
          "out.scales is null, expected memory for 8 elements");
  refused(good, with(out.view, [](auto& v) { v.scales = v.codes + 100; }),
          "out overlaps an input: pass separate memory");
  refused(good,
          with(out.view, [&](auto& v) { v.codes = reinterpret_cast<std::uint8_t*>(const_cast<float*>(w.data())); }),
          "out overlaps an input: pass separate memory");
}

TEST_CASE("cuda::quantize_mxfp8: the host's bytes", "[cuda][quantize]") {
  const auto check = []<class T, class Target>(T, Target, mxfp8_scaling scaling) {
    const std::int64_t rows = 3, cols = 32 * 139;
    const std::vector<T> x = numbers<T>(static_cast<std::size_t>(rows * cols / block_size), 20);
    const device_array<T> from(x, "x");
    device_array<std::uint8_t> elements(static_cast<std::size_t>(rows * cols), "elements");
    device_array<std::uint8_t> scales(static_cast<std::size_t>(rows * cols / block_size), "scales");
    using kernel = cuda::kernel::quantize_mxfp8<T, Target>;
    const typename kernel::arguments arguments{{from.data(), rows, cols, cols},
                                               {elements.data(), scales.data(), rows, cols, cols, cols / block_size},
                                               scaling};
    cuda::emulator::launch({1, 2, 1}, kernel::threads, 0, [&] { kernel::run(arguments); });
    const std::vector<std::uint8_t> e = elements.host(), s = scales.host();
    std::size_t wrong = 0;
    for (std::size_t b = 0; b < s.size(); ++b) {
      T block[block_size];
      for (std::size_t i = 0; i < block_size; ++i) block[i] = x[b * block_size + i];
      const mxfp8_block expected = encode_mxfp8(block, scaling);
      wrong += static_cast<e8m0>(s[b]) != expected.scale;
      for (std::size_t i = 0; i < block_size; ++i)
        wrong += static_cast<e4m3>(e[b * block_size + i]) != expected.element[i];
    }
    CAPTURE(sizeof(T), Target::e4m3_convert, static_cast<int>(scaling));
    CHECK(wrong == 0);
  };
  check(float{}, device::sm_80{}, mxfp8_scaling::floor);
  check(bf16{}, device::sm_89{}, mxfp8_scaling::rceil);
  check(f16{}, device::sm_89{}, mxfp8_scaling::floor);

  device_array<std::uint8_t> out(64, "out"), scales(2, "scales");
  const device_array<bf16> x(std::vector<bf16>(64), "x");
  const dense_view<const bf16> good{x.data(), 1, 64, 64};
  const mxfp8_view to{out.data(), scales.data(), 1, 64, 64, 2};
  CHECK(message(cuda::check_quantize_mxfp8(good, {out.data() + 4, scales.data(), 1, 32, 32, 1})).view() ==
        "out.elements is 4 bytes past a multiple of 16: align it");
  CHECK(cuda::quantize_mxfp8(good, {out.data(), out.data() + 8, 1, 64, 64, 2}, mxfp8_scaling::floor, nullptr) ==
        cudaErrorInvalidValue);
  CHECK(cuda::quantize_mxfp8(dense_view<const bf16>{x.data(), 1, 0, 64}, to, mxfp8_scaling::floor, nullptr) ==
        cudaErrorInvalidValue);
  CHECK(out.untouched());
  CHECK(cuda::quantize_mxfp8(good, to, mxfp8_scaling::floor, nullptr) == cudaSuccess);
  CHECK(out.host() == std::vector<std::uint8_t>(64, 0));
}
