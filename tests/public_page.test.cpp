// tests/public_page.test.cpp -- the plain names: the kernels where there are any, with the plain loops' bytes.
// SPDX-License-Identifier: Apache-2.0
//
// Compiled twice: linked to mxfp4::mxfp4, and to mxfp4::format alone, where the same calls are the plain loops.
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <vector>

#include "mxfp4/mxfp4.hpp"
#include "support/backward_executor.hpp"
#include "support/product.hpp"
#include "support/random.hpp"

using namespace mxfp4;

namespace {

constexpr std::int64_t rows = 70, cols = 96;
using separate = layout::compressed_tensors;

/// Which of two functions a name means: equal addresses are the same function.
using quantize_function = status (*)(const dense_view<const float>&, const mx_view<separate>&, const quantize_options&);

/// Every code and scale byte, in one order for all layouts.
template <class Layout>
std::vector<std::uint8_t> bytes(test::mx_memory<Layout>& m) {
  std::vector<std::uint8_t> all;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t k = 0; k < cols; ++k) all.push_back(static_cast<std::uint8_t>(m.code(r, k)));
    for (std::int64_t b = 0; b < cols / 32; ++b) all.push_back(m.scale(r, b));
  }
  return all;
}

std::vector<float> numbers() {
  test::splitmix random(3);
  std::vector<float> w(rows * cols);
  for (float& v : w) v = random.with_exponent(110, 140);
  return w;
}

}  // namespace

TEST_CASE("mxfp4::quantize is the kernel where there is one", "[public]") {
  const auto plain = static_cast<quantize_function>(&reference::quantize<recipe::ggml, const float, separate>);
#if MXFP4_KERNELS
  const auto fast =
      static_cast<quantize_function>(&kernel::quantize<recipe::ggml, simd::native_arch, const float, separate>);
  const auto name =
      static_cast<quantize_function>(&mxfp4::quantize<recipe::ggml, simd::native_arch, const float, separate>);
  CHECK(name == fast);
  CHECK(name != plain);
#else
  CHECK(static_cast<quantize_function>(&mxfp4::quantize<recipe::ggml, const float, separate>) == plain);
#endif
}

TEST_CASE("the plain names give the plain loops' bytes, by recipe and by recipe_id, on any executor", "[public]") {
  const std::vector<float> w = numbers();
  const dense_view<const float> x{w.data(), rows, cols, cols};
  test::backward_executor backward;
  for (int id = 0; id < recipe_count; ++id) {
    const auto recipe = static_cast<recipe_id>(id);
    CAPTURE(recipe_name(recipe));
    test::mx_memory<separate> expected(rows, cols), got(rows, cols);
    REQUIRE(reference::quantize(recipe, x, expected.view()).ok());
    REQUIRE(quantize(recipe, x, got.view(), {.nonfinite = on_nonfinite::refuse, .executor = backward}).ok());
    CHECK(bytes(got) == bytes(expected));
    test::mx_memory<separate> typed(rows, cols);
    visit_recipe(recipe, [&]<class R>() { REQUIRE(quantize<R>(x, typed.view()).ok()); });
    CHECK(bytes(typed) == bytes(expected));
  }
  CHECK(quantize(static_cast<recipe_id>(77), x, mx_view<>{}).code == errc::unknown_recipe);
}

TEST_CASE("dequantize, widen_fp8, quantize_fp8, measure_error: the same forms and results", "[public]") {
  const std::vector<float> w = numbers();
  test::mx_memory<layout::swizzled_128x4> blocks(rows, cols);
  REQUIRE(quantize(dense_view<const float>{w.data(), rows, cols, cols}, blocks.view()).ok());
  test::backward_executor backward;
  for (const dialect_id id :
       {dialect_id::ocp, dialect_id::inf_at_255, dialect_id::ggml, dialect_id::gpt_oss, dialect_id::openvino}) {
    std::vector<float> expected(w.size()), got(w.size());
    REQUIRE(reference::dequantize(id, blocks.view(), dense_view<float>{expected.data(), rows, cols, cols}).ok());
    REQUIRE(
        dequantize(id, blocks.view(), dense_view<float>{got.data(), rows, cols, cols}, {.executor = backward}).ok());
    CHECK(test::same_bits(got, expected));
  }
  std::vector<float> ignored(w.size());
  const dense_view<float> out{ignored.data(), rows, cols, cols};
  CHECK(dequantize(static_cast<dialect_id>(9), blocks.view(), out).code == errc::unknown_dialect);

  std::vector<e4m3> narrow(w.size());
  for (std::size_t i = 0; i < narrow.size(); ++i) narrow[i] = static_cast<e4m3>(i % 0x7F);
  const float factor[1] = {0.37f};
  const dense_view<const e4m3> fp8{narrow.data(), rows, cols, cols};
  const dense_view<const float> factors{factor, 1, 1, 1};
  std::vector<bf16> expected(w.size()), got(w.size());
  REQUIRE(reference::widen_fp8(fp8, factors, dense_view<bf16>{expected.data(), rows, cols, cols}).ok());
  REQUIRE(widen_fp8(fp8, factors, dense_view<bf16>{got.data(), rows, cols, cols}, {.executor = backward}).ok());
  CHECK(got == expected);

  // Every layout and type that the plain loop takes, the plain name takes too: ggml's blocks go through it.
  const auto same = [&]<class Layout>(Layout*) {
    CAPTURE(Layout::name);
    test::mx_memory<Layout> a(rows, cols), b(rows, cols);
    error_statistics lost, lost_too, again;
    REQUIRE(reference::quantize_fp8_measured(recipe_id::mlx, fp8, factors, a.view(), lost).ok());
    REQUIRE(quantize_fp8_measured(recipe_id::mlx, fp8, factors, b.view(), lost_too).ok());
    CHECK(bytes(a) == bytes(b));
    CHECK(lost.scales == lost_too.scales);
    CHECK((lost.zeroed == lost_too.zeroed && lost.saturated == lost_too.saturated && lost.weights == rows * cols));
    REQUIRE(measure_error(fp8, b.view(), again).ok());
    CHECK(again.scales == lost.scales);
  };
  same(static_cast<layout::ggml*>(nullptr));
  same(static_cast<layout::mlx*>(nullptr));
  same(static_cast<layout::swizzled_128x4*>(nullptr));
}
