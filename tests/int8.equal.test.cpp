// tests/int8.equal.test.cpp -- the W4A8 kernels: bit-equal to the scalar reference on every ISA, for every shape,
// source, executor and scale byte.
//
// SPDX-License-Identifier: Apache-2.0
//
// Without FMA (sse2) the float scales of int8_scaling::f32 are multiplied and added: there the bound is checked. The
// reference itself and every scale byte are checked against a second definition, which shares no code with it.
#include <algorithm>
#include <bit>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <tuple>
#include <vector>

#include "mxfp4/linalg/int8.hpp"
#include "support/arches.hpp"
#include "support/backward_executor.hpp"
#include "support/matrix.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"
#include "support/threads.hpp"

namespace {

using namespace mxfp4;
using mxfp4::test::mx_memory;
using mxfp4::test::splitmix;
using mxfp4::test::threads;
constexpr int8_scaling scalings[] = {int8_scaling::e8m0, int8_scaling::f32, int8_scaling::row, int8_scaling::residual2,
                                     int8_scaling::residual3};

/// Is every scale a power of two, in steps of a block?
constexpr bool has_powers(int8_scaling s) { return s != int8_scaling::f32 && s != int8_scaling::row; }

std::vector<float> random_floats(std::int64_t count, int low, int high, std::uint64_t seed) {
  test::splitmix random(seed);
  std::vector<float> x(static_cast<std::size_t>(count));
  for (float& v : x) v = random.with_exponent(low, high);
  return x;
}

int8_activations activations(const std::vector<float>& x, std::int64_t rows, int8_scaling scaling) {
  const auto cols = static_cast<std::int64_t>(x.size()) / rows;
  return *quantize_activations(dense_view<const float>{x.data(), rows, cols, cols}, scaling);
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::ranges::equal(
      a, b, [](float x, float y) { return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y); });
}
bool is_close(const std::vector<float>& a, const std::vector<float>& b) {
  return std::ranges::equal(a, b, [](float x, float y) {
    return (std::isnan(x) && std::isnan(y)) || x == y || std::fabs(x - y) <= 1e-3f * std::max(std::fabs(x), 1.0f);
  });
}

/// Y of the reference and, on each architecture of the list, of gemm from packed and from view, each with a gap of 3
/// floats between rows. The reference, a plain loop, is what takes the time: it is computed once for all of them.
template <class Arches, class Layout>
void check_product(Arches arches, mx_memory<Layout>& w, const int8_activations& x, bool accumulate, bool exact = true) {
  const std::int64_t m = x.rows(), n = w.view().rows, stride = n + 3;
  const std::vector<float> start = random_floats(m * stride, 120, 130, 9);
  std::vector<float> reference = start;
  const auto y = [&](std::vector<float>& v) { return dense_view<float>{v.data(), m, n, stride}; };
  const result<packed_matrix> p = pack(w.view());
  REQUIRE(reference::gemm(w.view(), x, y(reference), accumulate).ok());
  const bool fused = has_powers(x.scaling()) || (x.scaling() == int8_scaling::row && !accumulate);
  const threads team{3};
  test::for_each_of(arches, [&]<class A>(const char* name) {
    CAPTURE(name);
    std::vector<float> packed = start, view = start, split = start;
    REQUIRE(gemm<A>(*p, x, y(packed), {accumulate, {}}).ok());
    REQUIRE(gemm<A>(w.view(), x, y(view), {accumulate, {}}).ok());
    REQUIRE(gemm<A>(*p, x, y(split), {accumulate, team}).ok());
    REQUIRE(same_bits(packed, view));
    REQUIRE(same_bits(packed, split));
    if (exact && (fused || mxfp4::test::fuses<A>)) REQUIRE(same_bits(packed, reference));
    else REQUIRE(is_close(packed, reference));
  });
}
template <class Arch, class Layout>
void check_product(mx_memory<Layout>& w, const int8_activations& x, bool accumulate, bool exact = true) {
  check_product(std::tuple<Arch>{}, w, x, accumulate, exact);
}

// ---- the product a second time: from what reference/int8.hpp and tensor/activation.hpp say, not from their code ----

constexpr int twice_the_weight[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/// a + product rounded to float once, as an FMA does: the sum in double, rounded to odd, loses nothing that a float
/// could show.
float add_once(float a, double product) {
  const double b = static_cast<double>(a), sum = b + product;
  if (!std::isfinite(sum)) return static_cast<float>(sum);
  const double part = sum - b, rest = (b - (sum - part)) + (product - part);
  const bool odd = (std::bit_cast<std::uint64_t>(sum) & 1u) != 0;
  constexpr double infinity = std::numeric_limits<double>::infinity();
  return static_cast<float>(rest == 0.0 || odd ? sum : std::nextafter(sum, rest > 0.0 ? infinity : -infinity));
}

/// Codes of tokens and what they are multiplied with, known without encoding anything: each element is made of a code.
struct known_tokens {
  std::int64_t rows, cols;
  int8_scaling scaling;
  std::vector<int> codes[3];      ///< of each term
  std::vector<double> scales[3];  ///< by block; scaling row: the same for both of a row
  std::vector<float> x;

  /// Two blocks a token. Codes of every kind, each block with one of magnitude 127; e: exponent field of the largest.
  /// What the first term leaves is at most 127/256 of a code, and so on: then the next scale is 2^-8 of the one before.
  /// Small scales, of which there is none so much smaller, leave nothing.
  known_tokens(std::int64_t m, int8_scaling s, splitmix& random) : rows(m), cols(64), scaling(s) {
    constexpr int fields[] = {1, 2, 3, 9, 64, 100, 126, 127, 128, 133, 150, 192, 240, 251, 252, 253, 254};
    for (std::int64_t row = 0; row < m; ++row)
      for (std::int64_t b = 0; b < 2; ++b) {
        const auto at = static_cast<std::size_t>((row + (s == int8_scaling::row ? 0 : 5 * b)) % 17);
        const bool power = has_powers(s);
        const int field = power || fields[at] > 9 ? fields[at] : 10;  // amax / 127 is for 2^-118 and more
        const double amax = power ? std::ldexp(127.0, field - 133)    // 127 * 2^-6 * 2^(field - 127)
                                  : std::ldexp(1.0 + static_cast<double>(at) * 0x1.23456p-5, field - 127);
        const double largest = static_cast<double>(static_cast<float>(amax));
        const double scale =
            power ? std::ldexp(1.0, field - 133) : static_cast<double>(static_cast<float>(largest / 127));
        for (int term = 0; term < 3; ++term) scales[term].push_back(std::ldexp(scale, -8 * term));
        for (int i = 0; i < 32; ++i) {
          const int kind = static_cast<int>((row + b) % 4);
          const int q = i == 7 || kind == 0 ? 127
                        : kind == 1         ? -127
                        : kind == 2         ? random.in(-1, 1)
                                            : random.in(-127, 127);
          codes[0].push_back(q);
          double value = power ? q * scale : q == 127 ? largest : q * largest / 127;
          for (int term = 1; term < 3; ++term) {
            codes[term].push_back(term < terms_of(s) && field > 40 ? random.in(-127, 127) : 0);
            value += codes[term].back() * scales[term].back();
          }
          x.push_back(static_cast<float>(value));
        }
      }
  }
};

/// acc + a block. fused: the product with the factor and the sum are rounded together.
float add_block(float acc, const int* weights, int byte, const int* codes, double scale, bool fused) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (byte == 255) return std::numeric_limits<float>::quiet_NaN();
  std::int64_t sum = 0;
  double overflowed = 0.0;
  for (int i = 0; i < 32; ++i) {
    const double weight = test::weight(static_cast<unsigned>(weights[i]), byte);
    if (std::fabs(weight) >= 0x1p128) overflowed += std::copysign(infinity, weight) * codes[i];
    sum += std::int64_t{twice_the_weight[weights[i]]} * codes[i];
  }
  if (overflowed != 0.0) return acc + static_cast<float>(overflowed);  // NaN too
  const double factor = std::ldexp(scale, byte - 128), product = static_cast<double>(sum) * factor;
  if (fused && factor >= 0x1p-126 && factor * 0x1p16 < 0x1p128) return add_once(acc, product);
  return acc + static_cast<float>(product);
}

bool each_is_one_of(const std::vector<float>& y, const std::vector<float>& a, const std::vector<float>& b) {
  for (std::size_t i = 0; i < y.size(); ++i)
    if (test::as_bits(y[i]) != test::as_bits(a[i]) && test::as_bits(y[i]) != test::as_bits(b[i])) return false;
  return true;
}

template <class Layout>
std::vector<float> second_definition(mx_memory<Layout>& w, std::int64_t n, const known_tokens& x,
                                     const std::vector<float>& start, bool accumulate, bool fused) {
  std::vector<float> y = start;
  for (std::int64_t row = 0; row < x.rows; ++row)
    for (std::int64_t r = 0; r < n; ++r) {
      float& out = y[static_cast<std::size_t>(row * n + r)];
      const bool per_row = x.scaling == int8_scaling::row;
      const int terms = terms_of(x.scaling);
      float sums[3] = {accumulate && !per_row ? out : 0.0f, 0.0f, 0.0f};
      for (int term = 0; term < terms; ++term)
        for (std::int64_t b = 0; b < 2; ++b) {
          const auto block = static_cast<std::size_t>(2 * row + b);
          int weights[32];
          for (int i = 0; i < 32; ++i) weights[i] = static_cast<int>(w.code(r, 32 * b + i));
          sums[term] = add_block(sums[term], weights, w.scale(r, b), &x.codes[term][32 * block],
                                 per_row ? 1.0 : x.scales[term][block], fused);
        }
      float acc = terms == 1 ? sums[0] : terms == 2 ? sums[0] + sums[1] : sums[0] + (sums[1] + sums[2]);
      if (per_row) {
        const double product = static_cast<double>(acc) * x.scales[0][static_cast<std::size_t>(2 * row)];
        acc = !accumulate ? static_cast<float>(product)
              : fused     ? add_once(out, product)
                          : out + static_cast<float>(product);
      }
      out = std::isnan(acc) ? test::as_float(0x7FC00000u) : acc;
    }
  return y;
}

}  // namespace

TEST_CASE("int8 gemm: every scale byte against a second definition", "[int8][exhaustive]") {
  splitmix random(16);
  for (const int other : {-1, 120})        // the scale byte of the second block; -1: that of the first
    for (const int kind : {0, 1, 2, 3}) {  // of codes: any, all 6, 6 and -6 in turns, zeros but for one
      mx_memory<layout::compressed_tensors> w(256, 64);
      w.fill_randomly(random);
      for (std::int64_t n = 0; n < 256; ++n) {
        w.scale(n, 0) = static_cast<std::uint8_t>(n);
        w.scale(n, 1) = static_cast<std::uint8_t>(other < 0 ? n : other);
        for (std::int64_t k = 0; k < 64; ++k)
          if (kind == 1) w.set_code(n, k, 7);
          else if (kind == 2) w.set_code(n, k, k % 2 == 0 ? 7 : 15);
          else if (kind == 3) w.set_code(n, k, k % 32 == 7 ? 9 : k % 2 == 0 ? 0 : 8);
      }
      for (const int8_scaling scaling : scalings)
        for (const bool accumulate : {false, true}) {
          CAPTURE(other, kind, static_cast<int>(scaling), accumulate);
          const known_tokens tokens(17, scaling, random);
          const int8_activations x = activations(tokens.x, tokens.rows, scaling);
          std::vector<float> start(static_cast<std::size_t>(tokens.rows * 256));
          for (float& y : start) y = random.with_exponent(1, 250);
          std::vector<float> reference = start;
          const auto out = [&](std::vector<float>& y) { return dense_view<float>{y.data(), tokens.rows, 256, 256}; };
          REQUIRE(reference::gemm(w.view(), x, out(reference), accumulate).ok());
          const std::vector<float> fused = second_definition(w, 256, tokens, start, accumulate, true);
          const std::vector<float> unfused = second_definition(w, 256, tokens, start, accumulate, false);
          CHECK(same_bits(reference, fused));
          test::for_each_of(mxfp4::test::arches{}, [&]<class Arch>(const char* name) {
            CAPTURE(name);
            std::vector<float> packed = start, view = start;
            REQUIRE(gemm<Arch>(*pack(w.view()), x, out(packed), {accumulate, {}}).ok());
            REQUIRE(gemm<Arch>(w.view(), x, out(view), {accumulate, {}}).ok());
            CHECK(same_bits(packed, view));
            if (mxfp4::test::fuses<Arch>) CHECK(same_bits(packed, fused));
            else CHECK(each_is_one_of(packed, fused, unfused));  // tiles with a scale out of the ordinary are fused
          });
        }
    }
}

TEST_CASE("int8 gemm: every M and odd N, view and packed, accumulate", "[int8][equal]") {
  splitmix random(11);
  for (const std::int64_t n : {1, 15, 16, 37})
    for (const std::int64_t k : {32, 1120}) {
      mx_memory<layout::compressed_tensors> w(n, k, 3, 1);
      w.fill_randomly(random);
      for (std::int64_t r = 0; r < n; ++r)
        for (std::int64_t b = 0; b < k / 32; ++b) w.scale(r, b) = static_cast<std::uint8_t>(random.between(110, 130));
      for (const std::int64_t m : {1, 2, 3, 4, 5, 8, 9, 12, 13, 16, 17, 18, 35, 128, 131})
        for (const int8_scaling scaling : scalings) {
          if (m > 20 && n != 37) continue;
          CAPTURE(m, n, k, static_cast<int>(scaling));
          const int8_activations x =
              activations(random_floats(m * k, 115, 128, static_cast<std::uint64_t>(m)), m, scaling);
          check_product(mxfp4::test::arches{}, w, x, false);
          check_product(mxfp4::test::arches{}, w, x, true);
        }
    }
}

TEMPLATE_LIST_TEST_CASE("int8 gemm: other layouts", "[int8][equal]", mxfp4::test::arches) {
  splitmix random(12);
  const int8_activations x = activations(random_floats(5 * 160, 115, 128, 1), 5, int8_scaling::e8m0);
  mx_memory<layout::ggml> g(21, 160, 17);
  g.fill_randomly(random);
  mx_memory<layout::swizzled_128x4> s(21, 160);
  s.fill_randomly(random);
  check_product<TestType>(g, x, false);
  check_product<TestType>(s, x, true);
}

TEMPLATE_LIST_TEST_CASE("int8 gemm: all scale bytes with all activation exponents", "[int8][equal]",
                        mxfp4::test::arches) {
  splitmix random(13);
  // row n of W has only byte n: 253, 254 with overflowing weights and 255 among them; x runs through all magnitudes
  mx_memory<layout::compressed_tensors> w(256, 64);
  w.fill_randomly(random);
  for (std::int64_t n = 0; n < 256; ++n) w.scale(n, 0) = w.scale(n, 1) = static_cast<std::uint8_t>(n);
  for (const int8_scaling scaling : scalings)
    for (int exponent = 1; exponent <= 251; exponent += 25) {
      CAPTURE(static_cast<int>(scaling), exponent);
      const int8_activations x = activations(random_floats(3 * 64, exponent, exponent + 3, 2), 3, scaling);
      check_product<TestType>(w, x, false, has_powers(scaling) || mxfp4::test::fuses<TestType>);
    }
  // one odd block in an ordinary matrix: the rest of the tile must not change, nor must zero weights under byte 0
  for (const int odd : {0, 1, 2, 250, 252, 253, 254, 255})
    for (const bool zeros : {false, true}) {
      mx_memory<layout::compressed_tensors> o(20, 96);
      o.fill_randomly(random);
      for (std::int64_t n = 0; n < 20; ++n)
        for (std::int64_t b = 0; b < 3; ++b) o.scale(n, b) = static_cast<std::uint8_t>(120 + n % 4);
      o.scale(7, 1) = static_cast<std::uint8_t>(odd);
      for (std::int64_t i = 0; zeros && i < 32; ++i) o.set_code(7, 32 + i, i % 2 == 0 ? 0 : 8);
      for (const int8_scaling scaling : scalings) {
        CAPTURE(odd, zeros, static_cast<int>(scaling));
        check_product<TestType>(o, activations(random_floats(18 * 96, 110, 140, 3), 18, scaling), false);
      }
    }
}

TEMPLATE_LIST_TEST_CASE("int8 gemm: special values by name", "[int8][golden]", mxfp4::test::arches) {
  mx_memory<layout::compressed_tensors> w(6, 64);
  for (std::int64_t n = 0; n < 6; ++n)
    for (std::int64_t k = 0; k < 64; ++k) {
      w.set_code(n, k, 2);  // 1.0
      w.scale(n, k / 32) = 127;
    }
  w.scale(1, 1) = 255;  // NaN
  w.scale(2, 0) = 254;  // 1 * 2^127
  w.set_code(3, 3, 4);  // 2 * 2^127: infinity
  w.scale(3, 0) = 254;
  w.set_code(4, 3, 4);   // infinity and
  w.set_code(4, 4, 12);  // -infinity
  w.scale(4, 0) = 254;
  w.set_code(5, 3, 6);  // 4 * 2^126: infinity, though byte 253 alone is a number
  w.scale(5, 0) = 253;
  std::vector<float> x(4 * 64, 0.5f);
  x[64 + 40] = std::numeric_limits<float>::infinity();
  x[128 + 3] = 0.0f;
  for (std::size_t k = 192; k < 256; ++k) x[k] = 0.0f;
  for (const int8_scaling scaling : {int8_scaling::e8m0, int8_scaling::row, int8_scaling::residual2}) {
    std::vector<float> y(24);
    REQUIRE(gemm<TestType>(*pack(w.view()), activations(x, 4, scaling), {y.data(), 4, 6, 6}).ok());
    const auto bits = [&](std::size_t m, std::size_t n) { return std::bit_cast<std::uint32_t>(y[6 * m + n]); };
    if (scaling != int8_scaling::row) CHECK(y[0] == 32.0f);
    else CHECK(std::fabs(y[0] - 32.0f) < 1e-5f);
    CHECK(bits(0, 1) == 0x7FC00000u);
    CHECK(std::isinf(y[2]));                        // 16 * 2^127
    const bool all_terms = terms_of(scaling) == 1;  // the second one's codes are 0, and 0 * infinity is NaN
    if (all_terms) CHECK(y[3] == std::numeric_limits<float>::infinity());
    else CHECK(bits(0, 3) == 0x7FC00000u);
    CHECK(bits(0, 4) == 0x7FC00000u);
    if (all_terms) CHECK(y[5] == std::numeric_limits<float>::infinity());
    else CHECK(bits(0, 5) == 0x7FC00000u);
    for (std::size_t n = 0; n < 6; ++n) CHECK(bits(1, n) == 0x7FC00000u);
    CHECK(bits(2, 3) == 0x7FC00000u);  // infinity * 0
    CHECK(bits(2, 5) == 0x7FC00000u);
    CHECK(y[18] == 0.0f);
    CHECK(bits(3, 1) == 0x7FC00000u);
    CHECK(y[20] == 0.0f);
    CHECK(bits(3, 3) == 0x7FC00000u);
  }
}

TEMPLATE_LIST_TEST_CASE("int8: the same bits for 1 to 4 threads", "[int8][determinism]", mxfp4::test::arches) {
  splitmix random(15);
  mx_memory<layout::compressed_tensors> w(130, 2048);
  w.fill_randomly(random);
  for (std::int64_t n = 0; n < 130; ++n)
    for (std::int64_t b = 0; b < 64; ++b) w.scale(n, b) = static_cast<std::uint8_t>(random.between(115, 129));
  const result<packed_matrix> p = pack(w.view());
  for (const std::int64_t m : {4, 18})
    for (const int8_scaling scaling : scalings) {
      const std::vector<float> x = random_floats(m * 2048, 118, 129, 5);
      const dense_view<const float> tokens{x.data(), m, 2048, 2048};
      const int8_activations a = activations(x, m, scaling);
      std::vector<float> alone(static_cast<std::size_t>(m * 130));
      mxfp4::test::backward_executor counted;
      REQUIRE(gemm<TestType>(*p, a, {alone.data(), m, 130, 130}, {false, counted}).ok());
      CHECK(counted.tasks >= 2);
      for (const std::size_t count : {1u, 2u, 3u, 4u}) {
        const threads team{count};
        std::vector<float> packed(alone.size()), view(alone.size());
        const result<int8_activations> split = quantize_activations<TestType>(tokens, scaling, {.executor = team});
        REQUIRE(split);
        REQUIRE(gemm<TestType>(*p, *split, {packed.data(), m, 130, 130}, {false, team}).ok());
        REQUIRE(gemm<TestType>(w.view(), *split, {view.data(), m, 130, 130}, {false, team}).ok());
        CHECK(same_bits(packed, alone));
        CHECK(same_bits(view, alone));
      }
    }
}

TEMPLATE_LIST_TEST_CASE("int8: the same bits whatever M, and in two halves of K", "[int8][equal]",
                        mxfp4::test::arches) {
  splitmix random(14);
  mx_memory<layout::compressed_tensors> w(33, 256);
  w.fill_randomly(random);
  for (std::int64_t n = 0; n < 33; ++n)
    for (std::int64_t b = 0; b < 8; ++b) w.scale(n, b) = static_cast<std::uint8_t>(random.between(115, 129));
  const std::int64_t m = 21;
  const std::vector<float> x = random_floats(m * 256, 118, 129, 4);
  const result<packed_matrix> p = pack(w.view());
  for (const int8_scaling scaling : scalings) {
    std::vector<float> all(static_cast<std::size_t>(m * 33)), one(all.size()), halves(all.size());
    REQUIRE(gemm<TestType>(*p, activations(x, m, scaling), {all.data(), m, 33, 33}).ok());
    for (std::int64_t t = 0; t < m; ++t) {
      const std::vector<float> token(x.begin() + t * 256, x.begin() + (t + 1) * 256);
      REQUIRE(gemv<TestType>(*p, activations(token, 1, scaling),
                             std::span(one).subspan(static_cast<std::size_t>(t * 33), 33))
                  .ok());
    }
    REQUIRE(same_bits(all, one));
    if (scaling == int8_scaling::row) continue;  // its scale is the row's
    if (terms_of(scaling) > 1) continue;         // the first half's terms have been added up
    auto left = w.view(), right = w.view();
    left.cols = right.cols = 128;
    right.codes += 64;
    right.scales += 4;
    const auto half = [&](std::int64_t first) {
      return *quantize_activations(dense_view<const float>{x.data() + first, m, 128, 256}, scaling);
    };
    REQUIRE(gemm<TestType>(left, half(0), {halves.data(), m, 33, 33}).ok());
    REQUIRE(gemm<TestType>(right, half(128), {halves.data(), m, 33, 33}, {true, {}}).ok());
    REQUIRE(same_bits(all, halves));
  }
}
