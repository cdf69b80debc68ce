// tests/linalg_f32.equal.test.cpp -- gemv and gemm with float activations on every architecture that the flags allow,
// plain C++ among them: the same sums, kinds and bits.
//
// SPDX-License-Identifier: Apache-2.0
#include <bit>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "mxfp4/linalg/f32.hpp"
#include "support/arches.hpp"
#include "support/product.hpp"
#include "support/threads.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;
using ct = layout::compressed_tensors;

struct shape {
  std::int64_t m, n, k;
};
/// One token and several; less than a register tile, more than a task, more than a pass over k.
constexpr shape shapes[] = {{1, 1, 32}, {1, 130, 160}, {1, 19, 8224}, {2, 5, 96}, {7, 33, 288}, {19, 100, 64}};

template <class Arch, class W, class T>
std::vector<float> product(const W& w, const dense_view<const T>& x, gemm_options options = {}) {
  std::vector<float> y(static_cast<std::size_t>(x.rows * w.rows), 3.0f);
  REQUIRE(gemm<dialect::ocp, Arch>(w, x, dense_view<float>{y.data(), x.rows, w.rows, w.rows}, options).ok());
  return y;
}

/// sum += weight * x with the roundings of Arch; volatile: no contraction by the compiler.
template <class Arch>
float add_term(float sum, float weight, float x) {
  if (fuses<Arch>) return std::fma(weight, x, sum);
  volatile const float term = weight * x;
  volatile const float next = sum + term;
  return next;
}

float some_float(splitmix& random) { return static_cast<float>(random.between(-9999999, 9999999)) * 0x1.3p-20f; }

}  // namespace

TEMPLATE_LIST_TEST_CASE("gemm: one chain in ascending k, the same for all that fuse", "[linalg][equal]", arches) {
  splitmix random(31);
  for (const auto& [m, n, k] : shapes)
    for (const bool accumulate : {false, true}) {
      if (m == 1) continue;
      CAPTURE(m, n, k, accumulate);
      mx_memory<ct> w(n, k, 3, 1);
      fill(w, n, k, {0, 1, 2, 100, 110, 127, 130, 252, 253, 254}, random);
      tokens x(m, k, 5);
      x.fill([&](auto, auto) { return some_float(random); });
      std::vector<float> expected;
      for (std::int64_t r = 0; r < m; ++r)
        for (std::int64_t c = 0; c < n; ++c) {
          float sum = accumulate ? 3.0f : 0.0f;
          for (std::int64_t i = 0; i < k; ++i) {
            const double weight = test::weight(w.code(c, i), w.scale(c, i / 32));
            sum = add_term<TestType>(sum, static_cast<float>(weight), x.at(r, i));
          }
          expected.push_back(sum);
        }
      CHECK(same_bits(product<TestType>(w.view(), x.view(), {accumulate, {}}), expected));
      CHECK(same_bits(product<TestType>(tiles_of(w, n, k).view(), x.view(), {accumulate, {}}), expected));
    }
}

namespace {
/// Numbers for a few tokens on either side of what kernel/f32_lines.hpp multiplies without a panel: bytes 64 .. 128,
/// |x| in [2^-62, 2^20) or 0, |y| < 2^60.
struct few_tokens {
  std::vector<std::uint8_t> bytes;
  int lowest, highest;  ///< powers of two in x
  float odd, y;         ///< one number of x; what is added to
  int zeros = 16;       ///< of 256 numbers in x
};
const few_tokens few_tokens_cases[] = {
    {{110, 118, 121}, -10, 3, 0.0f, 0.0f},
    {{64, 65, 128}, -62, 19, 0x1p-62f, -0.0f},
    {{64, 66}, -62, -59, 0.0f, 0x1p-149f},  // sums below the normal floats
    {{60, 63}, -62, -61, 0.0f, -0.0f, 253},
    {{64, 66}, -80, -63, 0x1p-149f, 0.0f},
    {{126, 128}, 10, 19, 0x1.fffffep19f, -0x1.fffffep59f},
    {{64, 129}, 0, 19, 0x1p126f, 0.0f},
    {{64, 120}, 0, 19, 1.0f, 0x1p70f},
    {{128}, 15, 19, 1.0f, 0x1p127f},  // to infinity
    {{1, 2, 100}, -140, -120, 0x1p-149f, -0.0f},
};
}  // namespace

TEMPLATE_LIST_TEST_CASE("gemm: a few tokens have the chain's bits, whatever the numbers", "[linalg][equal]", arches) {
  splitmix random(37);
  constexpr std::int64_t n = 133, k = 1056;  // tasks, tiles together, a part of one; runs of blocks, and one left
  for (const few_tokens& f : few_tokens_cases)
    for (const std::int64_t m : {2 + (&f - few_tokens_cases) % 3, (&f - few_tokens_cases) % 5 == 1 ? 11L : 4L}) {
      CAPTURE(&f - few_tokens_cases, m);
      mx_memory<ct> w(n, k);
      fill(w, n, k, f.bytes, random);
      tokens x(m, k);
      x.fill([&](auto, auto) {
        const auto sign = random.between(0, 1) != 0 ? 1.0f : -1.0f;
        const auto fraction = sign * static_cast<float>(random.between(1 << 23, (1 << 24) - 1)) * 0x1p-23f;
        return random.between(0, 255) < f.zeros
                   ? 0.0f
                   : std::ldexp(fraction, static_cast<int>(random.between(f.lowest, f.highest)));
      });
      x.at(m - 1, 700) = f.odd;
      std::vector<float> expected(static_cast<std::size_t>(m * n), f.y);
      for (std::int64_t c = 0; c < n; ++c)
        for (std::int64_t i = 0; i < k; ++i) {
          const auto weight = static_cast<float>(test::weight(w.code(c, i), w.scale(c, i / 32)));
          for (std::int64_t r = 0; r < m; ++r) {
            float& sum = expected[static_cast<std::size_t>(r * n + c)];
            sum = add_term<TestType>(sum, weight, x.at(r, i));
          }
        }
      const auto sums = [&](const auto& weights) {
        std::vector<float> y(expected.size(), f.y);
        REQUIRE(gemm<dialect::ocp, TestType>(weights, x.view(), dense_view<float>{y.data(), m, n, n}, {true, {}}).ok());
        return y;
      };
      CHECK(same_bits(sums(w.view()), expected));
      CHECK(same_bits(sums(tiles_of(w, n, k).view()), expected));
    }
}

TEMPLATE_LIST_TEST_CASE("gemv, gemm: exact where a float holds every sum", "[linalg][property]", arches) {
  splitmix random(32);
  for (const auto& [m, n, k] : shapes) {
    CAPTURE(m, n, k);
    mx_memory<ct> w(n, k);
    fill(w, n, k, byte_range(k > 1000 ? 126 : 120, k > 1000 ? 128 : 134), random);
    tokens x(m, k);
    x.fill([&](auto, auto) { return static_cast<float>(random.between(-2, 2)); });
    const exact_product exact(w, n, x);
    REQUIRE(exact.ok);
    const std::vector<float> expected(exact.sum.begin(), exact.sum.end());
    CHECK(same_numbers(product<TestType>(w.view(), x.view()), expected));
    CHECK(same_numbers(product<TestType>(tiles_of(w, n, k).view(), x.view()), expected));
  }
}

TEMPLATE_LIST_TEST_CASE("gemv: within gamma(K) sum |w x| + K 2^-149", "[linalg][accuracy]", arches) {
  struct range {
    std::vector<std::uint8_t> bytes;
    int lowest, highest;
  };
  splitmix random(33);
  for (const range& r : {range{byte_range(100, 154), -10, 10}, range{{0, 1, 2, 120}, 60, 100},
                         range{{200, 249}, -149, -130}, range{{1, 60, 120}, 118, 126}}) {
    CAPTURE(r.lowest, r.highest);
    for (const auto& [m, n, k] : shapes) {
      if (m != 1) continue;
      mx_memory<ct> w(n, k);
      fill(w, n, k, r.bytes, random);
      tokens x(m, k);
      x.fill([&](auto, auto) {
        const auto integer = static_cast<float>(random.between(-(1 << 24), 1 << 24));
        return std::ldexp(integer, static_cast<int>(random.between(r.lowest, r.highest)) - 24);
      });
      const exact_product exact(w, n, x);
      REQUIRE(exact.ok);
      const double terms = static_cast<double>(k), gamma = terms * 0x1p-24 / (1.0 - terms * 0x1p-24);
      const std::vector<float> view = product<TestType>(w.view(), x.view()),
                               packed = product<TestType>(tiles_of(w, n, k).view(), x.view());
      std::int64_t outside = 0;
      for (std::size_t i = 0; i < view.size(); ++i) {
        const double bound = gamma * exact.magnitudes[i] + terms * 0x1p-149;
        outside += !(std::fabs(static_cast<double>(view[i]) - exact.sum[i]) <= bound);
        outside += !(std::fabs(static_cast<double>(packed[i]) - exact.sum[i]) <= bound);
      }
      CHECK(outside == 0);
    }
  }
}

namespace {
/// Weights but zero are one ulp too large: 16 bits, which some paths look up, cannot hold them.
struct one_ulp_up {
  static constexpr const char* name = "one_ulp_up";
  static constexpr std::uint32_t weight(e2m1 code, e8m0 scale) noexcept {
    return detail::weight_bits(code, scale) + (static_cast<unsigned>(code) % 8 != 0 ? 1u : 0u);
  }
};
}  // namespace

TEMPLATE_LIST_TEST_CASE("gemv: a view's weights in a dialect of the user's own", "[linalg][dialect]", arches) {
  splitmix random(36);
  mx_memory<ct> w(16, 32);
  fill(w, 16, 32, byte_range(0, 252), random);
  for (std::int64_t k = 0; k < 32; ++k) {
    std::vector<float> x(32), y(16);
    x[static_cast<std::size_t>(k)] = 1.0f;
    REQUIRE(gemv<one_ulp_up, TestType>(w.view(), x, y).ok());
    for (std::int64_t n = 0; n < 16; ++n)
      CHECK(y[static_cast<std::size_t>(n)] == std::bit_cast<float>(one_ulp_up::weight(
                                                  static_cast<e2m1>(w.code(n, k)), static_cast<e8m0>(w.scale(n, 0)))));
  }
}

TEMPLATE_LIST_TEST_CASE("gemv, gemm: a NaN or infinite token, a NaN block, and nobody else", "[linalg][special]",
                        arches) {
  splitmix random(34);
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (const std::int64_t m : {1, 4})
    for (const float odd : {infinity, -infinity, std::numeric_limits<float>::quiet_NaN()}) {
      CAPTURE(m, odd);
      mx_memory<ct> w(35, 96);
      fill(w, 35, 96, byte_range(100, 120), random);
      for (std::int64_t n = 0; n < 35; ++n) w.set_code(n, 40, n % 2 == 0 ? 0 : 2);  // 0 * infinity is NaN
      w.scale(7, 2) = 255;
      tokens x(m, 96);
      x.fill([&](auto, auto) { return static_cast<float>(random.between(1, 1000)); });
      x.at(m - 1, 40) = odd;
      for (const auto& y :
           {product<TestType>(w.view(), x.view()), product<TestType>(tiles_of(w, 35, 96).view(), x.view())})
        for (std::int64_t r = 0; r < m; ++r)
          for (std::int64_t n = 0; n < 35; ++n) {
            const float value = y[static_cast<std::size_t>(r * 35 + n)];
            const bool nan = n == 7 || (r == m - 1 && (n % 2 == 0 || std::isnan(odd)));
            const bool infinite = !nan && r == m - 1;
            if (std::isnan(value) != nan || std::isinf(value) != infinite || (infinite && value != odd))
              FAIL("token " << r << ", row " << n << ": " << value);
          }
    }
}

TEMPLATE_LIST_TEST_CASE("gemv, gemm: the same bits for 1 to 4 threads", "[linalg][determinism]", arches) {
  splitmix random(35);
  for (const std::int64_t m : {1, 3}) {
    mx_memory<ct> w(200, 288);
    fill(w, 200, 288, byte_range(110, 140), random);
    tokens x(m, 288);
    x.fill([&](auto, auto) { return some_float(random); });
    const tiles_of tiles(w, 200, 288);
    const std::vector<float> view = product<TestType>(w.view(), x.view()),
                             packed = product<TestType>(tiles.view(), x.view());
    for (const std::size_t count : {1u, 2u, 3u, 4u}) {
      const threads team{count};
      CHECK(same_bits(product<TestType>(w.view(), x.view(), {false, team}), view));
      CHECK(same_bits(product<TestType>(tiles.view(), x.view(), {false, team}), packed));
    }
  }
}
