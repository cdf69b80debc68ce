// tests/calibrate.rounding.test.cpp -- calibrated rounding against oracles written out here: plain rounding, a row
// rounded by hand, a greedy and an exhaustive search over the codes of two columns, and the objective in double.
//
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <vector>

#include "calibrate/rounding.hpp"
#include "mxfp4/block.hpp"
#include "mxfp4/executor/tbb.hpp"
#include "mxfp4/quantize.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::calibrate;
using mxfp4::test::splitmix;

struct encoded {
  std::int64_t rows, cols;
  std::vector<std::uint8_t> codes, scales;

  encoded(std::int64_t n, std::int64_t k, std::uint8_t byte = 127)
      : rows(n), cols(k), codes(std::size_t(n * k / 2)), scales(std::size_t(n * k / 32), byte) {}
  [[nodiscard]] mx_view<> view() { return {codes.data(), scales.data(), rows, cols, cols / 2, cols / 32}; }
  [[nodiscard]] double at(std::int64_t r, std::int64_t c) const {
    const std::size_t i = std::size_t(r * cols + c);
    const unsigned code = i % 2 == 0 ? codes[i / 2] & 15u : codes[i / 2] >> 4;
    return test::weight(code, scales[i / 32]);
  }
  friend bool operator==(const encoded&, const encoded&) = default;
};

dense_view<const float> view_of(const std::vector<float>& w, std::int64_t cols) {
  return {w.data(), std::ssize(w) / cols, cols, cols};
}

/// Uniform in [-1, 1).
double uniform(splitmix& random) { return static_cast<double>(random.next() >> 11) * 0x1p-52 - 1; }

std::vector<float> random_weights(splitmix& random, std::int64_t count, double size = 1) {
  std::vector<float> w;
  for (std::int64_t i = 0; i < count; ++i)
    w.push_back(static_cast<float>(size * (uniform(random) + uniform(random) + uniform(random))));
  return w;
}

/// Sums over inputs that go together: x[i] = noise + what its neighbour has.
std::vector<float> random_hessian(splitmix& random, std::int64_t cols, std::int64_t tokens) {
  std::vector<double> h(std::size_t(cols * cols)), x(std::size_t(cols), 0.0);
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t i = 0; i < cols; ++i)
      x[std::size_t(i)] = uniform(random) * (1 + double(i % 5)) + (i > 0 ? 0.7 * x[std::size_t(i - 1)] : 0);
    for (std::int64_t i = 0; i < cols; ++i)
      for (std::int64_t j = 0; j < cols; ++j) h[std::size_t(i * cols + j)] += x[std::size_t(i)] * x[std::size_t(j)];
  }
  return {h.begin(), h.end()};
}

std::vector<float> identity(std::int64_t cols) {
  std::vector<float> h(std::size_t(cols * cols));
  for (std::int64_t i = 0; i < cols; ++i) h[std::size_t(i * cols + i)] = 1;
  return h;
}

/// e H e^T with the damping that a rounder adds, in double.
double objective(const std::vector<float>& w, const encoded& q, std::int64_t row, const std::vector<float>& h,
                 double damping) {
  const std::int64_t k = q.cols;
  double mean = 0, sum = 0;
  for (std::int64_t i = 0; i < k; ++i) mean += double(h[std::size_t(i * k + i)]) / double(k);
  std::vector<double> e;
  for (std::int64_t c = 0; c < k; ++c) e.push_back(double(w[std::size_t(row * k + c)]) - q.at(row, c));
  for (std::int64_t i = 0; i < k; ++i) {
    for (std::int64_t j = 0; j < k; ++j)
      sum += e[std::size_t(i)] * double(h[std::size_t(i * k + j)]) * e[std::size_t(j)];
    sum += damping * mean * e[std::size_t(i)] * e[std::size_t(i)];
  }
  return sum;
}

encoded plain(const std::vector<float>& w, std::int64_t cols) {
  encoded q(std::ssize(w) / cols, cols);
  REQUIRE(quantize(recipe_id::compressed_tensors, view_of(w, cols), q.view()).ok());
  return q;
}

/// Two columns that go together, and 30 that nothing depends on.
std::vector<float> two_columns(double a, double b, double ab) {
  std::vector<float> h = identity(32);
  h[0] = float(a);
  h[33] = float(b);
  h[1] = h[32] = float(ab);
  return h;
}

}  // namespace

TEST_CASE("calibrated rounding: with fixed scales and an identity it is plain rounding, bit for bit", "[calibrate]") {
  splitmix random(1);
  std::vector<float> w = random_weights(random, 40 * 96);
  for (std::size_t i = 0; i < w.size(); i += 7) w[i] = std::ldexp(float(random.in(-12, 12)) / 4, -2);  // ties, zeros
  w[3] = -0.0f;
  w[5] = -0x1p-20f;
  for (const column_order order : {column_order::natural, column_order::falling_diagonal})
    for (const int passes : {1, 4}) {
      const encoded expected = plain(w, 96);
      encoded q = expected;
      for (std::uint8_t& code : q.codes) code = 0x33;  // whatever was there is worse
      const rounder r(identity(96), 96, {.order = order, .keep_scales = true, .passes = passes});
      const rounding_result result = r.round(view_of(w, 96), q.view(), serial);
      CHECK(q == expected);
      CHECK(result.kept == 0);
    }
}

TEST_CASE("calibrated rounding: a rank-one matrix by hand", "[calibrate]") {
  // Inputs 0, 1 and 2 are always equal: what counts is the sum of their errors. Column 1 takes over half of column 0's,
  // since column 2 can take as much as itself; column 2 takes over what both leave.
  std::vector<float> h(32 * 32);
  for (const std::size_t i : {0u, 1u, 2u})
    for (const std::size_t j : {0u, 1u, 2u}) h[i * 32 + j] = 1;
  std::vector<float> w(32);
  w[0] = 1.125f;  // -> 1, error 0.125
  w[1] = 1.2f;    // 1.2 + 0.0625 -> 1.5, error -0.3; by itself it is 1
  w[2] = 2.6f;    // 2.6 + 0.125 - 0.3 = 2.425 -> 2; by itself it is 3
  encoded q(1, 32);
  const rounder r(h, 32, {.order = column_order::natural, .keep_scales = true, .passes = 1, .damping = 1e-6});
  static_cast<void>(r.round(view_of(w, 32), q.view(), serial));
  CHECK(q.at(0, 0) == 1);
  CHECK(q.at(0, 1) == 1.5);
  CHECK(q.at(0, 2) == 2);
  for (int c = 3; c < 32; ++c) CHECK(q.at(0, c) == 0);
}

TEST_CASE("calibrated rounding: two columns are those of a greedy search, and then of all pairs", "[calibrate]") {
  constexpr double values[] = {-6, -4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 6};
  const auto nearest = [&](double x) {
    double best = 0;
    for (const double v : values) best = std::fabs(v - x) < std::fabs(best - x) ? v : best;
    return best;
  };
  splitmix random(2);
  int improved = 0;
  for (int i = 0; i < 3000; ++i) {
    const double a = 1 + uniform(random) * 0.9, b = 1 + uniform(random) * 0.9;
    const double ab = 0.95 * uniform(random) * std::sqrt(a * b);
    std::vector<float> w(32);
    w[0] = float(7 * uniform(random));
    w[1] = float(7 * uniform(random));
    const std::vector<float> h = two_columns(a, b, ab);
    const auto cost = [&](double q0, double q1) {
      const double e0 = double(w[0]) - q0, e1 = double(w[1]) - q1;
      return double(h[0]) * e0 * e0 + 2 * double(h[1]) * e0 * e1 + double(h[33]) * e1 * e1;
    };
    const auto round = [&](int passes) {
      encoded q(1, 32);
      const rounder r(h, 32, {.order = column_order::natural, .keep_scales = true, .passes = passes, .damping = 1e-9});
      static_cast<void>(r.round(view_of(w, 32), q.view(), serial));
      return cost(q.at(0, 0), q.at(0, 1));
    };
    const double q0 = nearest(double(w[0]));
    const double greedy = cost(q0, nearest(double(w[1]) + double(h[1]) / double(h[33]) * (double(w[0]) - q0)));
    double least = greedy;
    for (const double v0 : values)
      for (const double v1 : values) least = std::fmin(least, cost(v0, v1));
    CAPTURE(i, a, b, ab, w[0], w[1]);
    const double first = std::fmin(greedy, cost(0, 0));  // what was there stays where it is better
    CHECK(std::fabs(round(1) - first) <= 1e-5 * (1 + first));
    CHECK(std::fabs(round(3) - least) <= 1e-5 * (1 + least));
    improved += least < greedy * (1 - 1e-6) ? 1 : 0;
  }
  CHECK(improved > 100);
}

TEST_CASE("calibrated rounding: no row is worse than plain rounding, all together are far better", "[calibrate]") {
  splitmix random(3);
  constexpr std::int64_t rows = 70, cols = 128;
  for (const std::int64_t tokens : {2000, 20}) {  // the second matrix is singular
    const std::vector<float> w = random_weights(random, rows * cols, 0.1), h = random_hessian(random, cols, tokens);
    const encoded before = plain(w, cols);
    double last = INFINITY;
    for (const int passes : {1, 3}) {
      encoded q = before;
      const rounder r(h, cols, {.passes = passes});
      const rounding_result result = r.round(view_of(w, cols), q.view(), serial);
      double was = 0, is = 0;
      for (std::int64_t row = 0; row < rows; ++row) {
        const double x = objective(w, before, row, h, r.damping()), y = objective(w, q, row, h, r.damping());
        CHECK(y <= x * (1 + 1e-5));
        was += x;
        is += y;
      }
      CHECK(std::fabs(result.before - was) <= 1e-4 * was);
      CHECK(std::fabs(result.after - is) <= 1e-4 * was);
      CHECK(is < 0.7 * was);
      CHECK(is < last);
      last = is;
    }
  }
}

TEST_CASE("calibrated rounding: scales, orders and threads", "[calibrate]") {
  splitmix random(4);
  constexpr std::int64_t rows = 100, cols = 96;
  const std::vector<float> w = random_weights(random, rows * cols), h = random_hessian(random, cols, 500);
  const encoded before = plain(w, cols);
  for (const column_order order : {column_order::natural, column_order::falling_diagonal}) {
    encoded kept = before, free = before;
    const rounder fixed(h, cols, {.order = order, .keep_scales = true}), any(h, cols, {.order = order});
    static_cast<void>(fixed.round(view_of(w, cols), kept.view(), serial));
    CHECK(kept.scales == before.scales);
    static_cast<void>(any.round(view_of(w, cols), free.view(), serial));
    CHECK(free.scales != before.scales);
    tbb_executor threads(3);
    encoded again = before;
    static_cast<void>(any.round(view_of(w, cols), again.view(), threads));
    CHECK(again == free);
    // A row by itself is what it is among others.
    encoded alone(1, cols);
    const std::vector<float> one(w.begin() + 37 * cols, w.begin() + 38 * cols);
    alone = plain(one, cols);
    static_cast<void>(any.round(view_of(one, cols), alone.view(), serial));
    for (std::int64_t c = 0; c < cols; ++c) CHECK(alone.at(0, c) == free.at(37, c));
  }
}

TEST_CASE("calibrated rounding: what cannot be taken apart is said", "[calibrate]") {
  std::vector<float> h = identity(32);
  h[5] = NAN;
  CHECK_THROWS_AS(rounder(h, 32, {}), std::domain_error);
  h[5] = INFINITY;
  CHECK_THROWS_AS(rounder(h, 32, {}), std::domain_error);
  CHECK(rounder(std::vector<float>(32 * 32), 32, {}).damping() == 0.01);  // nothing was seen: plain rounding
  h = identity(32);
  h[0] = -0.5f;  // no sum of squares
  CHECK(rounder(h, 32, {}).damping() > 0.5);
}

TEST_CASE("calibrated rounding: solve", "[calibrate]") {
  splitmix random(5);
  constexpr std::int64_t cols = 64;
  const std::vector<float> h = random_hessian(random, cols, 300);
  const rounder r(h, cols, {.damping = 0.1});
  std::vector<float> x = random_weights(random, 3 * cols), b(x.size());
  double mean = 0;
  for (std::int64_t i = 0; i < cols; ++i) mean += double(h[std::size_t(i * cols + i)]) / double(cols);
  for (std::int64_t row = 0; row < 3; ++row)
    for (std::int64_t j = 0; j < cols; ++j) {
      double sum = 0.1 * mean * double(x[std::size_t(row * cols + j)]);
      for (std::int64_t i = 0; i < cols; ++i)
        sum += double(x[std::size_t(row * cols + i)]) * double(h[std::size_t(i * cols + j)]);
      b[std::size_t(row * cols + j)] = float(sum);
    }
  r.solve({b.data(), 3, cols, cols});
  for (std::size_t i = 0; i < x.size(); ++i) CHECK(std::fabs(b[i] - x[i]) < 1e-4f);
}
