// tests/linalg_f32.accuracy.test.cpp -- gemv and gemm with float activations: exact sums, error bounds, special values.
// SPDX-License-Identifier: Apache-2.0
//
// Expectations come from reference::gemm in double, from integers, and, for gemm, from a plain chain of FMAs.
#include <bit>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "mxfp4/linalg/f32.hpp"
#include "support/product.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;
constexpr float infinity = std::numeric_limits<float>::infinity();
const float not_a_number = std::numeric_limits<float>::quiet_NaN();

struct shape {
  std::int64_t m, n, k, gap;
};
/// Every edge: one row, less than a register tile, a tile and a bit, several tasks; one pass over k and several.
constexpr shape shapes[] = {{1, 1, 32, 0},    {1, 17, 96, 0},  {1, 130, 160, 3}, {1, 35, 8224, 0},
                            {2, 1, 32, 0},    {3, 5, 96, 1},   {7, 33, 128, 0},  {8, 48, 160, 5},
                            {9, 100, 288, 0}, {13, 49, 64, 2}, {131, 97, 96, 0}};

/// Y from a view and from packed weights; what the first holds is kept as `filler` in the gaps.
template <class Dialect = dialect::ocp, class Layout, class T>
std::vector<float> product_of_view(mx_memory<Layout>& w, std::int64_t rows, const dense_view<const T>& x,
                                   std::int64_t gap = 0, gemm_options options = {}, float filler = 77.0f) {
  std::vector<float> y(static_cast<std::size_t>(x.rows * (rows + gap)), filler);
  REQUIRE(gemm<Dialect>(w.view(), x, dense_view<float>{y.data(), x.rows, rows, rows + gap}, options).ok());
  return y;
}
template <class Dialect = dialect::ocp, class T>
std::vector<float> product_of_tiles(const tiles_of& w, const dense_view<const T>& x, std::int64_t gap = 0,
                                    gemm_options options = {}, float filler = 77.0f) {
  const std::int64_t rows = w.view().rows;
  std::vector<float> y(static_cast<std::size_t>(x.rows * (rows + gap)), filler);
  REQUIRE(gemm<Dialect>(w.view(), x, dense_view<float>{y.data(), x.rows, rows, rows + gap}, options).ok());
  return y;
}

/// How many outputs lie outside |y - exact| <= gamma(K) * sum |w x| + K * 2^-149; the largest error in parts of that.
struct verdict {
  std::int64_t outside = 0;
  std::int64_t inexact = 0;
};
verdict compare(const std::vector<float>& y, const exact_product& exact, std::int64_t cols) {
  const double k = static_cast<double>(cols), u = 0x1p-24, gamma = k * u / (1.0 - k * u);
  verdict v;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double error = std::fabs(static_cast<double>(y[i]) - exact.sum[i]);
    v.outside += !(error <= gamma * exact.magnitudes[i] + k * 0x1p-149);
    v.inexact += error != 0.0;
  }
  return v;
}

template <class Layout>
void check_bound(const std::vector<std::uint8_t>& bytes, int lowest_exponent, int highest_exponent,
                 std::uint64_t seed) {
  splitmix random(seed);
  for (const auto& [m, n, k, gap] : shapes) {
    CAPTURE(m, n, k, lowest_exponent, highest_exponent, static_cast<int>(bytes.front()));
    mx_memory<Layout> w(n, k, gap, 1);
    fill(w, n, k, bytes, random);
    tokens x(m, k, gap);
    x.fill([&](auto, auto) {
      const auto integer = static_cast<float>(random.between(-(1 << 24), 1 << 24));
      return std::ldexp(integer, static_cast<int>(random.between(lowest_exponent, highest_exponent)) - 24);
    });
    const exact_product exact(w, n, x);
    REQUIRE(exact.ok);
    CHECK(compare(product_of_view(w, n, x.view()), exact, k).outside == 0);
    CHECK(compare(product_of_tiles(tiles_of(w, n, k), x.view()), exact, k).outside == 0);
  }
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("gemv, gemm: sums that fit a float come out exactly", "[linalg][property]", layouts) {
  splitmix random(1);
  for (const auto& [m, n, k, gap] : shapes) {
    if (k > 1000) continue;
    CAPTURE(m, n, k, gap);
    mx_memory<TestType> w(n, k, gap, 1);
    fill(w, n, k, byte_range(120, 134), random);
    tokens x(m, k, gap);
    x.fill([&](auto, auto) { return static_cast<float>(random.between(-2, 2)); });
    const exact_product exact(w, n, x);
    for (const double magnitude : exact.magnitudes) REQUIRE(magnitude < 0x1p16);  // units of 2^-8: 24 bits
    const std::vector<float> y = product_of_view(w, n, x.view(), gap),
                             packed = product_of_tiles(tiles_of(w, n, k), x.view(), gap);
    std::int64_t wrong = 0;
    for (std::int64_t r = 0; r < m; ++r)
      for (std::int64_t c = 0; c < n + gap; ++c) {
        const auto expected = c < n ? static_cast<float>(exact.sum[static_cast<std::size_t>(r * n + c)]) : 77.0f;
        const auto at = static_cast<std::size_t>(r * (n + gap) + c);
        wrong += y[at] != expected || packed[at] != expected;
      }
    CHECK(wrong == 0);
  }
}

TEMPLATE_LIST_TEST_CASE("gemv, gemm: within gamma(K) sum |w x| + K 2^-149", "[linalg][accuracy]", layouts) {
  check_bound<TestType>(byte_range(100, 154), -10, 10, 2);
}

TEST_CASE("gemv, gemm: the bound at both ends of the range", "[linalg][accuracy]") {
  using ct = layout::compressed_tensors;
  check_bound<ct>({0, 1, 2, 3}, -4, 4, 3);          // subnormal weights, subnormal results
  check_bound<ct>({0, 1, 2, 120}, 60, 100, 4);      // subnormal weights count
  check_bound<ct>({200, 240, 249}, -149, -130, 5);  // subnormal x under large scales
  check_bound<ct>({1, 2, 60, 120}, 118, 126, 6);    // x so large that 12 x 32 of them pass 2^128
  check_bound<ct>({250, 251, 252}, -40, -20, 7);    // the largest weights that are all finite
  check_bound<ct>({0, 127, 200}, -60, 0, 8);        // mixed scales in one row
  check_bound<ct>({127}, -149, -148, 9);            // nothing but the smallest subnormals
}

TEST_CASE("gemv, gemm: sums that cancel", "[linalg][accuracy]") {
  splitmix random(10);
  for (const std::int64_t m : {1, 6}) {
    mx_memory<layout::compressed_tensors> w(40, 1024);
    fill(w, 40, 1024, byte_range(117, 137), random);
    for (std::int64_t n = 0; n < 40; ++n)  // the second half of a row is the first, negated, except for one place
      for (std::int64_t k = 0; k < 512; ++k) {
        w.set_code(n, 512 + k, w.code(n, k) ^ (k == 5 ? 0u : 8u));
        w.scale(n, 16 + k / 32) = w.scale(n, k / 32);
      }
    tokens x(m, 1024);
    x.fill([&](auto, auto) { return static_cast<float>(random.between(-9999999, 9999999)) * 0x1.7p-9f; });
    x.fill([&](std::int64_t r, std::int64_t k) { return x.at(r, k % 512); });
    const exact_product exact(w, 40, x);
    const verdict view = compare(product_of_view(w, 40, x.view()), exact, 1024);
    const verdict packed = compare(product_of_tiles(tiles_of(w, 40, 1024), x.view()), exact, 1024);
    CHECK((view.outside == 0 && packed.outside == 0));
    CHECK((view.inexact > 20 && packed.inexact > 20));  // else the bound was never asked for
  }
}

TEMPLATE_LIST_TEST_CASE("gemm: one chain of FMAs in ascending k, from a view and packed", "[linalg][equal]", layouts) {
  splitmix random(11);
  for (const bool accumulate : {false, true})
    for (const auto& [m, n, k, gap] : shapes) {
      if (m == 1) continue;
      CAPTURE(m, n, k, gap, accumulate);
      mx_memory<TestType> w(n, k, gap, 1);
      fill(w, n, k, {0, 1, 2, 100, 110, 127, 130, 252, 253, 254}, random);
      tokens x(m, k, gap);
      x.fill([&](auto, auto) { return static_cast<float>(random.between(-9999999, 9999999)) * 0x1.3p-20f; });
      std::vector<float> expected(static_cast<std::size_t>(m * (n + gap)), 77.0f);
      for (std::int64_t r = 0; r < m; ++r)
        for (std::int64_t c = 0; c < n; ++c) {
          volatile float sum = accumulate ? 77.0f : 0.0f;  // volatile: no contraction by the compiler
          for (std::int64_t i = 0; i < k; ++i) {
            const float weight = decode_weight(static_cast<e2m1>(w.code(c, i)), static_cast<e8m0>(w.scale(c, i / 32)));
            if (simd::fuses<simd::native_arch>) {
              sum = std::fma(weight, x.at(r, i), sum);
            } else {
              volatile const float term = weight * x.at(r, i);
              sum = sum + term;
            }
          }
          expected[static_cast<std::size_t>(r * (n + gap) + c)] = sum;
        }
      const gemm_options options{accumulate, {}};
      CHECK(same_bits(product_of_view(w, n, x.view(), gap, options), expected));
      CHECK(same_bits(product_of_tiles(tiles_of(w, n, k), x.view(), gap, options), expected));
    }
}

TEST_CASE("gemv: accumulate adds to what is there", "[linalg][property]") {
  splitmix random(12);
  for (const std::int64_t k : {64, 8256}) {
    mx_memory<layout::compressed_tensors> w(37, k);
    fill(w, 37, k, {126, 127, 128}, random);
    tokens x(1, k);
    x.fill([&](auto, std::int64_t i) { return i % 129 == 0 ? static_cast<float>(random.between(-3, 3)) : 0.0f; });
    const std::vector<float> plain = product_of_view(w, 37, x.view());
    const std::vector<float> view = product_of_view(w, 37, x.view(), 0, {true, {}}, 1000.0f);
    const std::vector<float> packed = product_of_tiles(tiles_of(w, 37, k), x.view(), 0, {true, {}}, 1000.0f);
    for (std::size_t n = 0; n < 37; ++n) CHECK((view[n] == plain[n] + 1000.0f && packed[n] == view[n]));
  }
}

TEMPLATE_TEST_CASE("gemv, gemm: other activations are widened exactly", "[linalg][equal]", bf16, f16, e4m3) {
  splitmix random(13);
  for (const std::int64_t m : {1, 5}) {
    mx_memory<layout::ggml> w(50, 224);
    fill(w, 50, 224, byte_range(110, 140), random);
    std::vector<TestType> small(static_cast<std::size_t>(m * 224));
    tokens x(m, 224);
    for (std::size_t i = 0; i < small.size(); ++i) {
      do small[i] = from_bits<TestType>(random.next());
      while (!std::isfinite(decode(small[i])) || std::fabs(decode(small[i])) > 0x1p80f);
      x.data[i] = decode(small[i]);
    }
    const dense_view<const TestType> view{small.data(), m, 224, 224};
    CHECK(same_bits(product_of_view(w, 50, view), product_of_view(w, 50, x.view())));
    CHECK(same_bits(product_of_tiles(tiles_of(w, 50, 224), view), product_of_tiles(tiles_of(w, 50, 224), x.view())));
  }
}

namespace {

enum class kind { finite, positive_infinity, negative_infinity, nan };
kind kind_of(double y) {
  if (std::isnan(y)) return kind::nan;
  if (std::isinf(y)) return y > 0 ? kind::positive_infinity : kind::negative_infinity;
  return kind::finite;
}

/// One odd value in an otherwise ordinary product: every output must be of the reference's kind.
template <class Dialect, class Change>
std::int64_t wrong_kinds(std::int64_t m, Change&& change) {
  using ct = layout::compressed_tensors;
  splitmix random(14);
  mx_memory<ct> w(35, 192);
  fill(w, 35, 192, byte_range(100, 120), random);
  tokens x(m, 192);
  x.fill([&](auto, auto) { return static_cast<float>(random.between(1, 1000)); });
  change(w, x);
  std::vector<double> exact(static_cast<std::size_t>(m * 35));
  REQUIRE(reference::gemm<Dialect>(w.view(), x.view(), dense_view<double>{exact.data(), m, 35, 35}).ok());
  const std::vector<float> view = product_of_view<Dialect>(w, 35, x.view());
  const std::vector<float> packed = product_of_tiles<Dialect>(tiles_of(w, 35, 192), x.view());
  std::int64_t wrong = 0;
  for (std::size_t i = 0; i < exact.size(); ++i)
    wrong += kind_of(view[i]) != kind_of(exact[i]) || kind_of(packed[i]) != kind_of(exact[i]);
  return wrong;
}

}  // namespace

TEMPLATE_TEST_CASE("gemv, gemm: NaN, infinity and finite as the reference has them", "[linalg][special]", dialect::ocp,
                   dialect::inf_at_255, dialect::ggml) {
  using memory = mx_memory<layout::compressed_tensors>;
  for (const std::int64_t m : {1, 4}) {
    CAPTURE(m);
    for (const float odd : {infinity, -infinity, not_a_number, 0x1p127f, 0x1p118f})
      for (const unsigned code : {0u, 1u, 8u, 15u}) {
        CAPTURE(odd, code);
        CHECK(wrong_kinds<TestType>(m, [&](memory& w, tokens& x) {
                w.set_code(3, 70, code);
                x.at(m - 1, 70) = odd;
              }) == 0);
      }
    for (const std::uint8_t byte : {std::uint8_t{253}, std::uint8_t{254}, std::uint8_t{255}})
      for (const unsigned code : {0u, 3u, 4u, 5u, 6u, 7u, 8u, 12u, 15u})
        for (const float factor : {0.0f, 0x1p-30f, -0x1p-30f}) {
          CAPTURE(static_cast<int>(byte), code, factor);
          CHECK(wrong_kinds<TestType>(m, [&](memory& w, tokens& x) {
                  w.scale(20, 2) = byte;
                  for (std::int64_t k = 64; k < 96; ++k) w.set_code(20, k, k == 70 ? code : 1);
                  for (std::int64_t r = 0; r < m; ++r)
                    for (std::int64_t k = 64; k < 96; ++k) x.at(r, k) = k == 70 ? factor : 0x1p-30f;
                }) == 0);
        }
    CHECK(wrong_kinds<TestType>(m, [](memory& w, tokens& x) {  // two infinities of either sign
            w.set_code(0, 0, 2);
            w.set_code(0, 33, 10);
            x.at(0, 0) = x.at(0, 33) = infinity;
          }) == 0);
  }
}

TEST_CASE("gemv, gemm: large x meets small scales", "[linalg][special]") {
  // 32 x 12 x 2^125 is past the floats, yet the sum under scale 2^-100 is not
  mx_memory<layout::compressed_tensors> w(16, 32);
  for (std::int64_t n = 0; n < 16; ++n) {
    w.scale(n, 0) = 27;
    for (std::int64_t k = 0; k < 32; ++k) w.set_code(n, k, 7);
  }
  tokens x(2, 32);
  x.fill([](auto, auto) { return 0x1p125f; });
  for (const float y : product_of_view(w, 16, x.view())) CHECK(y == 192.0f * 0x1p25f);
  for (const float y : product_of_tiles(tiles_of(w, 16, 32), x.view())) CHECK(y == 192.0f * 0x1p25f);
  const dense_view<const float> one{x.data.data(), 1, 32, 32};
  for (const float y : product_of_view(w, 16, one)) CHECK(y == 192.0f * 0x1p25f);
  for (const float y : product_of_tiles(tiles_of(w, 16, 32), one)) CHECK(y == 192.0f * 0x1p25f);
}
