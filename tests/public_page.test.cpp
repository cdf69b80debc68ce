// tests/public_page.test.cpp -- the plain names: the kernels where there are any, with the plain loops' bytes.
// SPDX-License-Identifier: Apache-2.0
//
// Compiled twice: linked to mxfp4::mxfp4, and to mxfp4::format alone, where the same calls are the plain loops.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "mxfp4/mxfp4.hpp"
#include "support/backward_executor.hpp"
#include "support/product.hpp"
#include "support/random.hpp"
#if MXFP4_KERNELS
#include "support/moe.hpp"
#endif

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

TEST_CASE("public page: one version, for CMake, the preprocessor and the program", "[public_page]") {
#if MXFP4_VERSION < 0 || MXFP4_VERSION != MXFP4_VERSION_MAJOR * 10000 + MXFP4_VERSION_MINOR * 100 + MXFP4_VERSION_PATCH
#error "MXFP4_VERSION is no number that the preprocessor can compare"
#endif
  STATIC_CHECK(MXFP4_VERSION == version_major * 10000 + version_minor * 100 + version_patch);
  CHECK(std::to_string(version_major) + "." + std::to_string(version_minor) + "." + std::to_string(version_patch) ==
        MXFP4_PROJECT_VERSION);
}

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
  std::uint8_t codes[48], scales[3];
  CHECK(encode_row(recipe_id::mlx, w.data(), 65, codes, scales).ok());
  CHECK(encode_row<recipe::mlx>(w.data(), 65, codes, scales).ok());
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

    test::mx_memory<Layout> c(rows, cols);
    error_statistics on_executor;
    REQUIRE(quantize_fp8_measured<recipe::mlx>(fp8, factors, c.view(), on_executor,
                                               {.nonfinite = on_nonfinite::refuse, .executor = backward})
                .ok());
    CHECK(bytes(c) == bytes(a));
    CHECK((on_executor.squared_error == lost_too.squared_error && on_executor.scales == lost.scales));
    test::mx_memory<separate> apart(rows, cols);
    REQUIRE(convert(a.view(), apart.view(), {.executor = backward}).ok());
    CHECK(bytes(apart) == bytes(a));
  };
  same(static_cast<layout::ggml*>(nullptr));
  same(static_cast<layout::mlx*>(nullptr));
  same(static_cast<layout::swizzled_128x4*>(nullptr));
}

TEST_CASE("products take a dialect as a template argument and as a dialect_id", "[public]") {
  // Every third row has a block of 0.5 under scale byte 255: NaN, infinity, or 2^127 by the dialect.
  test::splitmix random(8);
  test::mx_memory<separate> w(rows, cols);
  test::fill(w, rows, cols, test::byte_range(110, 140), random);
  const auto mark = [](auto& m, std::int64_t r) {
    m.scale(r, 1) = 255;
    for (std::int64_t k = 32; k < 64; ++k) m.set_code(r, k, 1);
  };
  for (std::int64_t r = 0; r < rows; r += 3) mark(w, r);
  test::tokens x(3, cols);
  x.fill([&](auto, auto) { return std::abs(random.with_exponent(100, 110)); });
  std::vector<std::vector<double>> oracle;
  for (const dialect_id id : {dialect_id::ocp, dialect_id::inf_at_255, dialect_id::ggml}) {
    std::vector<double> typed(3 * rows), by_id(3 * rows);
    visit_dialect(id, [&]<class D>() {
      REQUIRE(reference::gemm<D>(w.view(), x.view(), dense_view<double>{typed.data(), 3, rows, rows}).ok());
    });
    REQUIRE(reference::gemm(id, w.view(), x.view(), dense_view<double>{by_id.data(), 3, rows, rows}).ok());
    CHECK(test::same_bits(by_id, typed));
    std::vector<double> token(rows);
    REQUIRE(reference::gemv(id, w.view(), std::span(x.data).first(cols), token).ok());
    CHECK(test::same_bits(token, std::vector<double>(typed.begin(), typed.begin() + rows)));
    for (const std::vector<double>& other : oracle) CHECK_FALSE(test::same_bits(typed, other));
    oracle.push_back(typed);
  }
  const auto unknown = static_cast<dialect_id>(9);
  std::vector<double> exact(3 * rows);
  CHECK(reference::gemm(unknown, w.view(), x.view(), dense_view<double>{exact.data(), 3, rows, rows}).code ==
        errc::unknown_dialect);

#if MXFP4_KERNELS
  const result<packed_matrix> packed = pack(w.view());
  const result<mxfp8_activations> x8 = quantize_activations(x.view(), mxfp8_scaling::floor);
  REQUIRE((packed && x8));
  test::expert_memory<> experts(4, 96, 64, random);
  for (auto& e : experts.experts) mark(e.up, 3);
  const test::routing routes(3, 2, 4, random);
  moe_workspace workspace = *moe_workspace::create(experts.shape(3, 2));
  const auto views = experts.views();
  const auto to = [](std::vector<float>& y, std::int64_t n) { return dense_view<float>{y.data(), 3, n, n}; };
  test::backward_executor backward;
  const gemm_options options{.executor = backward};
  std::vector<std::vector<float>> seen[5];  // of each product: what the dialects before gave
  for (const dialect_id id : {dialect_id::ocp, dialect_id::inf_at_255, dialect_id::ggml}) {
    CAPTURE(static_cast<int>(id));
    std::size_t product = 0;
    const auto check = [&](std::int64_t n, auto typed, auto by_id) {
      std::vector<float> expected(static_cast<std::size_t>(3 * n)), got(expected.size());
      visit_dialect(id, [&]<class D>() { REQUIRE(typed.template operator()<D>(expected).ok()); });
      REQUIRE(by_id(got).ok());
      CHECK(test::same_bits(got, expected));
      for (const std::vector<float>& other : seen[product]) CHECK_FALSE(test::same_bits(got, other));
      seen[product++].push_back(got);
    };
    const std::span<const float> token = std::span(x.data).first(cols);
    check(
        rows, [&]<class D>(auto& y) { return gemm<D>(w.view(), x.view(), to(y, rows)); },
        [&](auto& y) { return gemm(id, w.view(), x.view(), to(y, rows), options); });
    check(
        rows, [&]<class D>(auto& y) { return gemm<D>(*packed, x.view(), to(y, rows)); },
        [&](auto& y) { return gemm(id, *packed, x.view(), to(y, rows), options); });
    check(
        rows, [&]<class D>(auto& y) { return gemm<D>(packed->view(), *x8, to(y, rows)); },
        [&](auto& y) { return gemm(id, packed->view(), *x8, to(y, rows), options); });
    check(
        rows, [&]<class D>(auto& y) { return gemv<D>(w.view(), token, std::span(y).first(rows)); },
        [&](auto& y) { return gemv(id, w.view(), token, std::span(y).first(rows), options); });
    check(
        96,
        [&]<class D>(auto& y) {
          return moe<D>(views, x.view(), routes.expert_view(), routes.weight_view(), to(y, 96), workspace);
        },
        [&](auto& y) {
          return moe(id, views, x.view(), routes.expert_view(), routes.weight_view(), to(y, 96), workspace,
                     {.executor = options.executor});
        });
  }
  std::vector<float> y(3 * rows, 7.0f);
  CHECK(gemm(unknown, w.view(), x.view(), to(y, rows)).code == errc::unknown_dialect);
  CHECK(gemv(unknown, *packed, std::span(x.data).first(cols), std::span(y).first(rows)).code == errc::unknown_dialect);
  CHECK(moe(unknown, views, x.view(), routes.expert_view(), routes.weight_view(), to(y, 96), workspace).code ==
        errc::unknown_dialect);
  CHECK(y == std::vector<float>(3 * rows, 7.0f));
#endif
}
