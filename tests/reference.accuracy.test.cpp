// tests/reference.accuracy.test.cpp -- reference::gemm and reference::gemv against integer arithmetic.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/reference/gemm.hpp"

#include <bit>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "mxfp4/tensor/convert.hpp"
#include "support/matrix.hpp"

namespace {

using namespace mxfp4;
using mxfp4::test::layouts;
using mxfp4::test::mx_memory;
using mxfp4::test::splitmix;
__extension__ using int128 = __int128;

constexpr std::int64_t doubled[8] = {0, 1, 2, 3, 4, 6, 8, 12};  // 2 |v| of each code

/// 2 v of a code.
std::int64_t twice(unsigned code) { return code >= 8 ? -doubled[code & 7u] : doubled[code]; }

/// N x K weights whose scale bytes lie in lowest .. highest.
template <class Layout>
mx_memory<Layout> random_weights(std::int64_t rows, std::int64_t cols, int lowest, int highest, splitmix& random,
                                 std::int64_t gap = 0) {
  mx_memory<Layout> w(rows, cols, gap, 1);
  w.fill_randomly(random);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t b = 0; b < cols / 32; ++b)
      w.scale(r, b) = static_cast<std::uint8_t>(random.between(lowest, highest));
  return w;
}

bool same_bits(double a, double b) { return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b); }

/// One row of 32 weights with scale `byte` and the codes given, the rest 0; one token.
struct one_row {
  std::uint8_t codes[16]{};
  std::uint8_t byte;
  float x[32]{};
  one_row(std::uint8_t scale, std::uint8_t first_two_codes) : byte(scale) { codes[0] = first_two_codes; }
  template <class Dialect = dialect::ocp>
  double product() const {
    double y = 77.0;
    REQUIRE(reference::gemv<Dialect>(const_mx_view<>{codes, &byte, 1, 32, 16, 1}, x, std::span(&y, 1)).ok());
    return y;
  }
};

}  // namespace

TEMPLATE_LIST_TEST_CASE("reference::gemm: small integers come out exactly", "[reference][property]", layouts) {
  splitmix random(6);
  struct shape {
    std::int64_t m, n, k, gap;
  };
  for (const auto& [m_count, n_count, k_count, gap] : {shape{1, 1, 32, 0}, shape{3, 5, 96, 0}, shape{4, 130, 160, 3}}) {
    CAPTURE(m_count, n_count, k_count, gap);
    auto w = random_weights<TestType>(n_count, k_count, 120, 134, random, gap);
    const std::int64_t x_stride = k_count + gap, y_stride = n_count + 2 * gap;
    std::vector<float> x(static_cast<std::size_t>(m_count * x_stride), std::numeric_limits<float>::quiet_NaN());
    std::vector<double> y(static_cast<std::size_t>(m_count * y_stride), 77.0);
    for (std::int64_t m = 0; m < m_count; ++m)
      for (std::int64_t k = 0; k < k_count; ++k)
        x[static_cast<std::size_t>(m * x_stride + k)] = static_cast<float>(random.between(-8, 8));
    REQUIRE(reference::gemm(w.view(), dense_view<const float>{x.data(), m_count, k_count, x_stride},
                            dense_view<double>{y.data(), m_count, n_count, y_stride})
                .ok());
    std::int64_t wrong = 0;
    for (std::int64_t m = 0; m < m_count; ++m)
      for (std::int64_t n = 0; n < y_stride; ++n) {
        std::int64_t sum = 0;  // in units of 2^-8: half a unit of the scale 2^(120 - 127)
        for (std::int64_t k = 0; n < n_count && k < k_count; ++k)
          sum += (twice(w.code(n, k)) << (w.scale(n, k / 32) - 120)) *
                 static_cast<std::int64_t>(x[static_cast<std::size_t>(m * x_stride + k)]);
        const double expected = n < n_count ? static_cast<double>(sum) * 0x1p-8 : 77.0;  // gaps keep what they held
        wrong += !same_bits(y[static_cast<std::size_t>(m * y_stride + n)], expected);
      }
    CHECK(wrong == 0);
  }
}

TEST_CASE("reference::gemm: a literal product", "[reference][golden]") {
  // W = [6 -1.5 0.5 0 ...] under 2^1, [0 .. 0, -4 at k = 31] under 2^-2; X = [1 2 4 0 .. 0 8], [0.5 0 ...]
  std::uint8_t codes[32] = {0xB7, 0x01};
  codes[31] = 0xE0;
  const std::uint8_t scales[2] = {128, 125};
  float x[64] = {1.0f, 2.0f, 4.0f};
  x[31] = 8.0f;
  x[32] = 0.5f;
  double y[4];
  REQUIRE(reference::gemm(const_mx_view<>{codes, scales, 2, 32, 16, 1}, dense_view<const float>{x, 2, 32, 32},
                          dense_view<double>{y, 2, 2, 2})
              .ok());
  CHECK(y[0] == 10.0);  // 12 - 6 + 4
  CHECK(y[1] == -8.0);
  CHECK(y[2] == 6.0);
  CHECK(y[3] == 0.0);
}

TEST_CASE("reference::gemm: error within gamma(K) sum |w x|", "[reference][property]") {
  // X = integer * 2^-10 .. 2^10 and bytes 100 .. 154: every product is an integer number of units 2^-38, and
  // the exact sum fits 128 bits (24 + 20 bits of x, 4 + 54 of w, 12 for K).
  constexpr std::int64_t n_count = 40, k_count = 4096;
  splitmix random(7);
  auto w = random_weights<layout::compressed_tensors>(n_count, k_count, 100, 154, random);
  std::vector<float> x(k_count);
  std::vector<int128> x_units(k_count);
  for (std::size_t k = 0; k < k_count; ++k) {
    const std::int64_t integer = random.between(-(1 << 24), 1 << 24), power = random.between(0, 20);
    x[k] = std::ldexp(static_cast<float>(integer), static_cast<int>(power) - 10);
    x_units[k] = static_cast<int128>(integer) * (1 << power);
  }
  double y[n_count];
  REQUIRE(reference::gemv(w.view(), x, y).ok());
  constexpr double u = 0x1p-53, gamma = k_count * u / (1.0 - k_count * u);
  int inexact = 0;
  for (std::int64_t n = 0; n < n_count; ++n) {
    int128 exact = 0, magnitude = 0;
    for (std::int64_t k = 0; k < k_count; ++k) {
      const int128 product =
          twice(w.code(n, k)) * x_units[static_cast<std::size_t>(k)] * (int128{1} << (w.scale(n, k / 32) - 100));
      exact += product;
      magnitude += product < 0 ? -product : product;
    }
    const auto got =
        static_cast<int128>(std::ldexp(y[n], 38));  // exact: a sum of multiples of the unit, rounded, is one
    const int128 error = got < exact ? exact - got : got - exact;
    CAPTURE(n, static_cast<double>(error), static_cast<double>(magnitude));
    CHECK(static_cast<double>(error) <= gamma * static_cast<double>(magnitude));
    inexact += error != 0;
  }
  CHECK(inexact > n_count / 2);  // else the bound was never asked for
}

TEST_CASE("reference::gemm: k ascends, one rounding a term", "[reference][golden]") {
  one_row row(127, 0x22);  // 1 * 1e0 in two places
  row.codes[15] = 0x20;
  row.x[0] = 0x1p60f;
  row.x[1] = 1.0f;  // lost beside 2^60
  row.x[31] = -0x1p60f;
  CHECK(row.product() == 0.0);
  row.x[1] = -0x1p60f;
  row.x[31] = 1.0f;
  CHECK(row.product() == 1.0);
}

TEST_CASE("reference::gemm: every activation type is widened exactly", "[reference][golden]") {
  const std::uint8_t codes[16] = {0x42}, scale = 127;  // 1, 2
  const const_mx_view<> w{codes, &scale, 1, 32, 16, 1};
  double y = 0.0;
  const f16 half[32] = {f16{0x3C01}, f16{0x0001}};  // 1 + 2^-10, 2^-24
  REQUIRE(reference::gemv(w, half, std::span(&y, 1)).ok());
  CHECK(y == 1.0 + 0x1p-10 + 0x1p-23);
  const bf16 brain[32] = {bf16{0x3F81}, bf16{0x0001}};  // 1 + 2^-7, 2^-133
  REQUIRE(reference::gemv(w, brain, std::span(&y, 1)).ok());
  CHECK(y == 1.0 + 0x1p-7);
  const e4m3 fp8[32] = {e4m3{0x7E}, e4m3{0x01}};  // 448, 2^-9
  REQUIRE(reference::gemv(w, fp8, std::span(&y, 1)).ok());
  CHECK(y == 448.0 + 0x1p-8);
}

TEST_CASE("reference::gemm: NaN and infinity", "[reference][golden]") {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  SECTION("a NaN scale makes the output NaN, whatever the codes and x") {
    CHECK(std::isnan(one_row(255, 0x00).product()));
    CHECK(std::isnan(one_row(255, 0x77).product()));
  }
  SECTION("only the output of that row") {
    const std::uint8_t codes[32] = {0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02}, scales[2] = {255, 127};
    float x[32] = {3.0f};
    double y[2];
    REQUIRE(reference::gemv(const_mx_view<>{codes, scales, 2, 32, 16, 1}, x, y).ok());
    CHECK((std::isnan(y[0]) && y[1] == 3.0));
  }
  SECTION("byte 255 as the other dialects read it") {
    one_row row(255, 0x01);
    row.x[0] = 2.0f;
    CHECK(std::isnan(row.product<dialect::inf_at_255>()));  // its code 0 is NaN there
    CHECK(row.product<dialect::ggml>() == 0x1p128);         // 0.5 is 2^127
  }
  SECTION("a weight that overflows the float is an infinity") {
    one_row row(254, 0x04);  // 2 * 2^127
    row.x[0] = -1.0f;
    CHECK(row.product() == -std::numeric_limits<double>::infinity());
    row.x[0] = 0.0f;
    CHECK(std::isnan(row.product()));
    one_row finite(254, 0x03);  // 1.5 * 2^127
    finite.x[0] = 4.0f;
    CHECK(finite.product() == 0x1.8p129);  // the sum is a double
  }
  SECTION("x follows IEEE") {
    one_row row(127, 0xA2);  // 1, -1
    row.x[0] = inf;
    CHECK(row.product() == std::numeric_limits<double>::infinity());
    row.x[1] = inf;
    CHECK(std::isnan(row.product()));
    one_row zero(127, 0x00);
    zero.x[0] = inf;
    CHECK(std::isnan(zero.product()));
    one_row ordinary(127, 0x02);
    ordinary.x[5] = nan;
    CHECK(std::isnan(ordinary.product()));
  }
  SECTION("a subnormal weight counts") {
    one_row row(0, 0x01);  // 2^-128
    row.x[0] = 0x1p100f;
    CHECK(row.product() == 0x1p-28);
  }
}

TEST_CASE("reference::gemm: empty sums and empty outputs", "[reference]") {
  double y[6] = {77.0, 77.0, 77.0, 77.0, 77.0, 77.0};
  const float x[64] = {1.0f};
  const std::uint8_t codes[32] = {2}, scales[2] = {127, 127};
  SECTION("K = 0: y = 0, and the gaps stay") {
    REQUIRE(reference::gemm(const_mx_view<>{nullptr, nullptr, 2, 0, 0, 0}, dense_view<const float>{nullptr, 2, 0, 0},
                            dense_view<double>{y, 2, 2, 3})
                .ok());
    CHECK((y[0] == 0.0 && y[1] == 0.0 && y[2] == 77.0 && y[3] == 0.0 && y[4] == 0.0 && y[5] == 77.0));
    CHECK_FALSE(std::signbit(y[0]));
  }
  SECTION("M = 0") {
    REQUIRE(reference::gemm(const_mx_view<>{codes, scales, 2, 32, 16, 1}, dense_view<const float>{nullptr, 0, 32, 32},
                            dense_view<double>{y, 0, 2, 2})
                .ok());
    CHECK(y[0] == 77.0);
  }
  SECTION("N = 0") {
    REQUIRE(reference::gemm(const_mx_view<>{nullptr, nullptr, 0, 32, 16, 1}, dense_view<const float>{x, 2, 32, 32},
                            dense_view<double>{y, 2, 0, 0})
                .ok());
    CHECK(y[0] == 77.0);
  }
}

TEMPLATE_LIST_TEST_CASE("reference::gemm: the same bits from every layout", "[reference][property]", layouts) {
  splitmix random(8);
  auto w = random_weights<layout::compressed_tensors>(131, 160, 100, 150, random);
  mx_memory<TestType> other(131, 160, 5, 2);
  REQUIRE(convert(w.view(), other.view()).ok());
  std::vector<float> x(320);
  for (float& value : x) value = static_cast<float>(random.between(-1000000, 1000000)) * 0x1.1p-9f;
  std::vector<double> y(262), y_other(262);
  const dense_view<const float> tokens{x.data(), 2, 160, 160};
  REQUIRE(reference::gemm(w.view(), tokens, dense_view<double>{y.data(), 2, 131, 131}).ok());
  REQUIRE(reference::gemm(other.view(), tokens, dense_view<double>{y_other.data(), 2, 131, 131}).ok());
  CHECK(y == y_other);
  double y_row[131];
  REQUIRE(reference::gemv(other.view(), std::span(x).subspan(160), y_row).ok());
  for (std::size_t n = 0; n < 131; ++n) REQUIRE(same_bits(y_row[n], y[131 + n]));
}
