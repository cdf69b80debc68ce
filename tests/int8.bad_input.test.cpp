// tests/int8.bad_input.test.cpp -- the documented status for each wrong argument; no byte past the end of any buffer.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "mxfp4/linalg/int8.hpp"
#include "support/arches.hpp"
#include "support/matrix.hpp"

namespace {

using namespace mxfp4;
using mxfp4::test::mx_memory;
using mxfp4::test::page_end;

int8_activations ones(std::int64_t rows, std::int64_t cols) {
  const std::vector<float> x(static_cast<std::size_t>(rows * cols), 1.0f);
  return *quantize_activations(dense_view<const float>{x.data(), rows, cols, cols}, int8_scaling::e8m0);
}

}  // namespace

TEST_CASE("int8 gemm: bad input", "[int8][bad_input]") {
  mx_memory<layout::compressed_tensors> w(20, 64);
  for (std::int64_t n = 0; n < 20; ++n)
    for (std::int64_t b = 0; b < 2; ++b) w.scale(n, b) = 127;
  const result<packed_matrix> p = pack(w.view());
  const int8_activations x = ones(3, 64), narrow = ones(3, 32);
  std::vector<float> y(60, 7.0f);
  const auto expect = [&](const status& s, errc code, std::string_view what) {
    CHECK(s.code == code);
    const std::string argument(s.argument);
    CHECK((argument.empty() ? "" : argument + ".") + s.what == what);
  };
  const auto all = [&](const int8_activations& a, dense_view<float> out, errc code, std::string_view what) {
    expect(gemm(*p, a, out), code, what);
    expect(gemm(w.view(), a, out), code, what);
    expect(reference::gemm(w.view(), a, out), code, what);
  };
  all(narrow, {y.data(), 3, 20, 20}, errc::shape_mismatch, "x.cols");
  all(x, {y.data(), 2, 20, 20}, errc::shape_mismatch, "y.rows");
  all(x, {y.data(), 3, 19, 20}, errc::shape_mismatch, "y.cols");
  all(x, {y.data(), 3, 20, 19}, errc::stride_too_small, "y.stride");
  all(x, {nullptr, 3, 20, 20}, errc::null_pointer, "y.data");
  all(x, {y.data(), -3, 20, 20}, errc::negative_size, "y.rows");
  auto broken = w.view();
  broken.scales = nullptr;
  expect(gemm(broken, x, {y.data(), 3, 20, 20}), errc::null_pointer, "w.scales");
  auto* const in_p = reinterpret_cast<float*>(const_cast<std::uint8_t*>(p->bytes().data()));
  expect(gemm(*p, x, {in_p, 3, 20, 20}), errc::overlap, "y");
  auto* const in_x = reinterpret_cast<float*>(const_cast<void*>(x.bytes().begin));
  all(x, {in_x, 3, 20, 20}, errc::overlap, "y");
  auto* const in_w = reinterpret_cast<float*>((reinterpret_cast<std::uintptr_t>(w.view().codes) + 3) / 4 * 4);
  expect(gemm(w.view(), x, {in_w, 3, 20, 20}), errc::overlap, "y");
  expect(gemv(*p, x, y), errc::shape_mismatch, "y.rows");
  for (const float v : y) REQUIRE(v == 7.0f);
}

TEST_CASE("int8 gemm: empty shapes", "[int8][bad_input]") {
  std::vector<float> y(3, 7.0f);
  const int8_activations none = ones(0, 64), no_columns = ones(3, 0);
  CHECK(gemm(*pack(const_mx_view<>{nullptr, nullptr, 0, 64, 32, 2}), ones(3, 64), {nullptr, 3, 0, 0}).ok());
  CHECK(gemm(*pack(const_mx_view<>{nullptr, nullptr, 1, 0, 0, 0}), no_columns, {y.data(), 3, 1, 1}).ok());
  CHECK(y == std::vector<float>(3, 0.0f));
  mx_memory<layout::compressed_tensors> w(1, 64);
  CHECK(gemm(w.view(), none, {nullptr, 0, 1, 1}).ok());
}

TEST_CASE("int8 gemm: what an executor throws comes through", "[int8][bad_input]") {
  struct broken {
    void run(std::size_t, task_ref) const { throw std::runtime_error("no threads"); }
  } executor;
  mx_memory<layout::compressed_tensors> w(20, 64);
  std::vector<float> y(20);
  const result<packed_matrix> p = pack(w.view());
  const int8_activations x = ones(1, 64);
  CHECK_THROWS_AS(static_cast<void>(gemv(*p, x, y, {false, executor}).ok()), std::runtime_error);
}

TEST_CASE("int8 gemm: strides shorter than a row", "[int8][bad_input]") {
  mx_memory<layout::compressed_tensors> w(20, 64);
  std::vector<float> y(60, 7.0f);
  auto codes = w.view(), scales = w.view();
  codes.code_stride = 31;
  scales.scale_stride = 1;
  const dense_view<float> out{y.data(), 3, 20, 20};
  const int8_activations x = ones(3, 64);
  CHECK(message(gemm(codes, x, out)).view() == "w.code_stride is 31, expected at least 32, the length of a row");
  CHECK(message(gemm(scales, x, out)).view() == "w.scale_stride is 1, expected at least 2, the length of a row");
  CHECK(message(reference::gemm(codes, x, out)).view() ==
        "w.code_stride is 31, expected at least 32, the length of a row");
  CHECK(message(pack(codes).error()).view() == "w.code_stride is 31, expected at least 32, the length of a row");
  int8_activations again = ones(3, 64);
  CHECK(message(quantize_activations(dense_view<const float>{y.data(), 3, 64, 63}, again)).view() ==
        "x.stride is 63, expected at least 64, the length of a row");
  for (const float v : y) REQUIRE(v == 7.0f);
}

TEMPLATE_LIST_TEST_CASE("int8 gemm: NaN or infinity in X makes that token NaN, and no other", "[int8][special]",
                        mxfp4::test::arches) {
  constexpr std::int64_t n = 19, k = 96;
  for (const std::uint8_t byte : {std::uint8_t{127}, std::uint8_t{0}, std::uint8_t{254}}) {  // 0, 254: the slow path
    mx_memory<layout::compressed_tensors> w(n, k);
    for (std::int64_t r = 0; r < n; ++r)
      for (std::int64_t i = 0; i < k; ++i) {
        w.set_code(r, i, r == 4 ? 0 : 1);  // a row of zeros: 0 * NaN is NaN too
        w.scale(r, i / 32) = r == 7 ? byte : 127;
      }
    const result<packed_matrix> p = pack(w.view());
    for (const int8_scaling scaling :
         {int8_scaling::e8m0, int8_scaling::f32, int8_scaling::row, int8_scaling::residual2, int8_scaling::residual3})
      for (const float odd : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                              std::numeric_limits<float>::quiet_NaN()})
        for (const std::int64_t m : {1, 3, 16, 18})
          for (const std::int64_t at : {std::int64_t{0}, std::int64_t{40}, k - 1})
            for (const std::int64_t token : {std::int64_t{0}, m - 1}) {
              std::vector<float> x(static_cast<std::size_t>(m * k), 1.0f);
              x[static_cast<std::size_t>(token * k + at)] = odd;
              const result<int8_activations> a =
                  quantize_activations<TestType>(dense_view<const float>{x.data(), m, k, k}, scaling);
              REQUIRE(a);
              for (const bool accumulate : {false, true}) {
                std::vector<float> packed(static_cast<std::size_t>(m * n), 2.0f), view = packed, reference = packed;
                REQUIRE(gemm<TestType>(*p, *a, {packed.data(), m, n, n}, {accumulate, {}}).ok());
                REQUIRE(gemm<TestType>(w.view(), *a, {view.data(), m, n, n}, {accumulate, {}}).ok());
                REQUIRE(reference::gemm(w.view(), *a, {reference.data(), m, n, n}, accumulate).ok());
                for (std::int64_t i = 0; i < m * n; ++i) {
                  const auto place = static_cast<std::size_t>(i);
                  const bool nan = i / n == token;
                  if (std::isnan(packed[place]) != nan || std::isnan(view[place]) != nan ||
                      std::isnan(reference[place]) != nan)
                    FAIL("scaling " << static_cast<int>(scaling) << ", " << m << " tokens, " << odd << " in token "
                                    << token << " at " << at << ": output " << i << " is " << packed[place] << ", "
                                    << view[place] << ", " << reference[place]);
                }
              }
            }
  }
}

TEMPLATE_LIST_TEST_CASE("int8 gemm: no byte past the end", "[int8][guard_page]", mxfp4::test::arches) {
  for (const std::int64_t n : {1, 16, 17, 31})
    for (const std::int64_t k : {32, 96})
      for (const std::int64_t m : {1, 2, 3, 16, 17}) {
        const page_end<std::uint8_t> codes(n * k / 2), scales(n * k / 32);
        for (std::int64_t i = 0; i < n * k / 2; ++i) codes.data()[i] = 0x22;
        for (std::int64_t i = 0; i < n * k / 32; ++i) scales.data()[i] = 127;
        const page_end<float> x(m * k), y(m * n);
        for (std::int64_t i = 0; i < m * k; ++i) x.data()[i] = 1.0f;
        const const_mx_view<> w{codes.data(), scales.data(), n, k, k / 2, k / 32};
        const result<int8_activations> a =
            quantize_activations<TestType>(dense_view<const float>{x.data(), m, k, k}, int8_scaling::e8m0);
        REQUIRE(gemm<TestType>(w, *a, {y.data(), m, n, n}).ok());
        REQUIRE(y.data()[m * n - 1] == static_cast<float>(k));
        REQUIRE(gemm<TestType>(*pack(w), *a, {y.data(), m, n, n}, {true, {}}).ok());
        REQUIRE(y.data()[m * n - 1] == static_cast<float>(2 * k));
      }
}
