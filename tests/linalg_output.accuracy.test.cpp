// tests/linalg_output.accuracy.test.cpp -- products with a bias and with outputs in bf16 and f16.
// SPDX-License-Identifier: Apache-2.0
//
// Float sums are what other tests are about. Here: what becomes of them, rounded by a definition of our own in double,
// and how far that is from the product in double.
#include <bit>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "mxfp4/linalg.hpp"
#include "mxfp4/reference/int8.hpp"
#include "support/backward_executor.hpp"
#include "support/product.hpp"
#include "support/threads.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;
using ct = layout::compressed_tensors;
constexpr float infinity = std::numeric_limits<float>::infinity();

template <class T>
struct format;
template <>
struct format<bf16> {
  static constexpr int digits = 8, lowest = -133;  // of the significand; exponent of the smallest number
  static constexpr double past = 0x1.FFp127;       // rounds to infinity
};
template <>
struct format<f16> {
  static constexpr int digits = 11, lowest = -24;
  static constexpr double past = 65520;
};

/// The value of x in T: nearest, ties to even.
template <class T>
double rounded(float x) {
  if constexpr (std::is_same_v<T, float>) return x;
  else {
    const double v = x;
    if (!std::isfinite(v)) return v;
    if (std::fabs(v) >= format<T>::past) return std::copysign(HUGE_VAL, v);
    if (v == 0) return v;
    const int unit = std::max(std::ilogb(v) - format<T>::digits + 1, format<T>::lowest);
    return std::ldexp(std::nearbyint(std::ldexp(v, -unit)), unit);
  }
}
template <class T>
unsigned bits_of(T x) {
  if constexpr (std::is_same_v<T, float>) return std::bit_cast<std::uint32_t>(x);
  else return static_cast<unsigned>(x);
}
template <class T>
constexpr unsigned nan_bits = std::is_same_v<T, float>  ? 0x7FC00000u
                              : std::is_same_v<T, bf16> ? 0x7FC0u
                                                        : 0x7E00u;

/// Is `y` the rounded value, or the one NaN?
template <class T>
bool is_rounded(T y, float sum) {
  if (std::isnan(sum)) return bits_of(y) == nan_bits<T>;
  return decode(y) == rounded<T>(sum) && std::signbit(decode(y)) == std::signbit(sum);
}

/// M x N outputs, `gap` between rows, all 1.5 at first.
template <class T>
struct results {
  results(std::int64_t m, std::int64_t n, std::int64_t gap)
      : rows(m), cols(n), stride(n + gap), data(static_cast<std::size_t>(m * (n + gap)), encode<T>(1.5f)) {}
  dense_view<T> view() { return {data.data(), rows, cols, stride}; }
  T at(std::int64_t m, std::int64_t n) const { return data[static_cast<std::size_t>(m * stride + n)]; }
  std::int64_t rows, cols, stride;
  std::vector<T> data;
};

/// product(y, options) for float without a bias, then with and without, in float, bf16 and f16: wrong outputs.
template <class Product>
std::int64_t wrong_outputs(std::int64_t m, std::int64_t n, Product&& product) {
  constexpr std::int64_t gap = 3;
  std::vector<float> bias(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = static_cast<float>(i % 17) * 0.37f - 3.0f;
  std::int64_t wrong = 0;
  backward_executor backward;
  const threads several{3};
  for (const bool accumulate : {false, true}) {
    results<float> sums(m, n, gap);
    REQUIRE(product(sums.view(), gemm_options{.accumulate = accumulate}).ok());
    const auto check = [&]<class T>(T) {
      for (const bool biased : {false, true})
        for (const executor_ref executor : {executor_ref(serial), executor_ref(backward), executor_ref(several)}) {
          results<T> y(m, n, gap);
          gemm_options options{.accumulate = accumulate, .executor = executor};
          if (biased) options.bias = bias;
          REQUIRE(product(y.view(), options).ok());
          for (std::int64_t r = 0; r < m; ++r)
            for (std::int64_t c = 0; c < n + gap; ++c) {
              const float add = biased && c < n ? bias[static_cast<std::size_t>(c)] : 0.0f;
              const float sum = c >= n ? 1.5f : biased ? sums.at(r, c) + add : sums.at(r, c);
              const bool any_nan = std::is_same_v<T, float> && !biased;  // the float product's own
              wrong += !(any_nan && std::isnan(sum) ? std::isnan(decode(y.at(r, c))) : is_rounded(y.at(r, c), sum));
            }
        }
    };
    check(float{});
    check(bf16{});
    check(f16{});
  }
  return wrong;
}

struct shape {
  std::int64_t m, n, k;
};
/// One token in one pass and in two; few tokens; more, in parts of 64 tokens and of 256 rows.
constexpr shape shapes[] = {{1, 1, 32},    {1, 37, 8224}, {2, 300, 64},   {8, 33, 96},    {9, 17, 64},
                            {64, 256, 32}, {65, 270, 32}, {130, 20, 320}, {1, 16500, 32}, {8, 2305, 32}};

}  // namespace

TEST_CASE("products: rounding situations in bf16 and f16", "[linalg][golden]") {
  struct row {
    float x, bias;
    unsigned bf16_bits, f16_bits;
    const char* why;
  };
  const float nan = std::nanf("");
  const row rows[] = {
      {1.0f, 0x1p-8f, 0x3F80, 0x3C04, "midpoint of bf16: 1 is even"},
      {1.0f, 0x1.8p-7f, 0x3F82, 0x3C0C, "midpoint of bf16: 1 + 2^-6 is even"},
      {1.0f, 0x1.000002p-8f, 0x3F80, 0x3C04, "the bias is added in float, which loses what is past the midpoint"},
      {1.0f, 0x1.0004p-8f, 0x3F81, 0x3C04, "an ulp of float above the midpoint"},
      {1.0f, 0x1p-11f, 0x3F80, 0x3C00, "midpoint of f16: 1 is even"},
      {1.0f, 0x1.8p-10f, 0x3F80, 0x3C02, "midpoint of f16: 1 + 2^-9 is even"},
      {65504.0f, 15.9921875f, 0x4780, 0x7BFF, "the last float below 65520"},
      {65504.0f, 16.0f, 0x4780, 0x7C00, "f16 overflows from 65520 on"},
      {-65504.0f, -16.0f, 0xC780, 0xFC00, "and below"},
      {0x1p-25f, 0.0f, 0x3300, 0x0000, "midpoint of 0 and f16's smallest"},
      {0x1.8p-25f, 0.0f, 0x3340, 0x0001, "above it"},
      {-0x1.8p-24f, 0.0f, 0xB3C0, 0x8002, "midpoint of f16's smallest and the next, which is even"},
      {0x1.FEp127f, 0x1p119f, 0x7F80, 0x7C00, "bf16 overflows from 2^128 - 2^119 on"},
      {infinity, 1.0f, 0x7F80, 0x7C00, "infinity"},
      {infinity, -infinity, 0x7FC0, 0x7E00, "NaN is the canonical one"},
      {-nan, 1.0f, 0x7FC0, 0x7E00, "whichever comes in"},
      {1.0f, -nan, 0x7FC0, 0x7E00, "as x or as a bias"},
  };
  mx_memory<ct> w(1, 32);  // 1 and 31 zeros
  w.scale(0, 0) = 127;
  for (std::int64_t k = 0; k < 32; ++k) w.set_code(0, k, k == 0 ? 2 : 0);
  const packed_matrix packed = *pack(w.view());
  for (const row& r : rows)
    for (const std::int64_t m : {1, 2, 9}) {
      CAPTURE(r.x, r.bias, r.why, m);
      tokens x(m, 32);
      x.fill([&](auto, std::int64_t k) { return k == 0 ? r.x : 0.0f; });
      std::vector<bf16> b(static_cast<std::size_t>(m));
      std::vector<f16> h(b.size());
      std::vector<float> f(b.size());
      const auto check = [&](const auto& weights) {
        const gemm_options options{.bias = {&r.bias, 1}};
        REQUIRE(gemm(weights, x.view(), dense_view<bf16>{b.data(), m, 1, 1}, options).ok());
        REQUIRE(gemm(weights, x.view(), dense_view<f16>{h.data(), m, 1, 1}, options).ok());
        REQUIRE(gemm(weights, x.view(), dense_view<float>{f.data(), m, 1, 1}, options).ok());
        for (std::size_t i = 0; i < b.size(); ++i) {
          CHECK(bits_of(b[i]) == r.bf16_bits);
          CHECK(bits_of(h[i]) == r.f16_bits);
          if (std::isnan(r.x + r.bias)) CHECK(bits_of(f[i]) == nan_bits<float>);
          else CHECK(f[i] == r.x + r.bias);
        }
      };
      check(w.view());
      check(packed);
    }
}

TEMPLATE_LIST_TEST_CASE("products in f32: the float sums, a bias, one rounding", "[linalg][equal]", layouts) {
  splitmix random(31);
  for (const auto& [m, n, k] : shapes) {
    if (!std::is_same_v<TestType, ct> && m > 65) continue;
    CAPTURE(m, n, k);
    mx_memory<TestType> w(n, k, 2, 1);
    fill(w, n, k, byte_range(118, 124), random);
    tokens x(m, k, 1);
    x.fill([&](auto, auto) { return random.with_exponent(122, 131); });
    const packed_matrix packed = *pack(w.view());
    CHECK(wrong_outputs(m, n, [&](auto y, const auto& o) { return gemm(w.view(), x.view(), y, o); }) == 0);
    CHECK(wrong_outputs(m, n, [&](auto y, const auto& o) { return gemm(packed, x.view(), y, o); }) == 0);
  }
}

TEST_CASE("products: every kind of activations, dialects, one row", "[linalg][equal]") {
  splitmix random(32);
  constexpr std::int64_t n = 70, k = 96;
  mx_memory<ct> w(n, k);
  fill(w, n, k, {0, 118, 121, 124, 255}, random);
  const packed_matrix packed = *pack(w.view());
  for (const std::int64_t m : {1, 3, 10}) {
    CAPTURE(m);
    const tokens x = tokens(m, k, 1).fill([&](auto, auto) { return random.with_exponent(122, 131); });
    const auto check_type = [&]<class T>(T) {
      std::vector<T> narrow(static_cast<std::size_t>(m * k));
      for (std::int64_t i = 0; i < m * k; ++i)
        narrow[static_cast<std::size_t>(i)] = encode<T>(x.view().row(i / k)[i % k]);
      const dense_view<T> v{narrow.data(), m, k, k};
      CHECK(wrong_outputs(m, n, [&](auto y, const auto& o) { return gemm(packed.view(), v, y, o); }) == 0);
    };
    check_type(bf16{});
    check_type(f16{});
    check_type(e4m3{});
    const mxfp8_activations q = *quantize_activations(x.view(), mxfp8_scaling::floor);
    CHECK(wrong_outputs(m, n, [&](auto y, const auto& o) { return gemm(w.view(), q, y, o); }) == 0);
    CHECK(wrong_outputs(m, n, [&](auto y, const auto& o) { return gemm(packed, q.view(), y, o); }) == 0);
    CHECK(wrong_outputs(m, n, [&](auto y, const auto& o) {
            return gemm(dialect_id::inf_at_255, w.view(), x.view(), y, o);
          }) == 0);
  }
  const tokens x = tokens(1, k).fill([&](auto, auto) { return random.with_exponent(122, 131); });
  const mxfp8_activations q = *quantize_activations(x.view(), mxfp8_scaling::floor);
  const int8_activations i = *quantize_activations(x.view(), int8_scaling::e8m0);
  const auto rows = [](auto& y) { return std::span(y.row(0), static_cast<std::size_t>(y.cols)); };
  CHECK(wrong_outputs(1, n, [&](auto y, const auto& o) { return gemv(packed, x.data, rows(y), o); }) == 0);
  CHECK(wrong_outputs(1, n, [&](auto y, const auto& o) { return gemv(w.view(), x.data, rows(y), o); }) == 0);
  CHECK(wrong_outputs(1, n, [&](auto y, const auto& o) { return gemv(packed, q, rows(y), o); }) == 0);
  CHECK(wrong_outputs(1, n, [&](auto y, const auto& o) { return gemv(w.view(), i, rows(y), o); }) == 0);
  CHECK(wrong_outputs(1, n,
                      [&](auto y, const auto& o) { return gemv(dialect_id::ggml, packed, x.data, rows(y), o); }) == 0);
}

TEST_CASE("int8 products: the definition's sums, a bias, one rounding", "[linalg][int8][equal]") {
  splitmix random(33);
  for (const int8_scaling scaling :
       {int8_scaling::e8m0, int8_scaling::f32, int8_scaling::row, int8_scaling::residual2, int8_scaling::residual3})
    for (const auto& [m, n, k] : {shape{1, 37, 96}, {3, 50, 64}, {20, 33, 64}}) {
      CAPTURE(m, n, k, static_cast<int>(scaling));
      mx_memory<ct> w(n, k);
      fill(w, n, k, {118, 121, 124, 255}, random);
      tokens x = tokens(m, k).fill([&](auto, auto) { return random.with_exponent(122, 131); });
      x.at(m - 1, 5) = infinity;
      const int8_activations a = *quantize_activations(x.view(), scaling);
      const packed_matrix packed = *pack(w.view());
      const auto by = [&](const auto& weights) {
        return [&](auto y, const gemm_options& o) -> status {
          if constexpr (std::is_same_v<decltype(y), dense_view<float>>)
            if (o.bias.empty() && (simd::fuses<simd::native_arch> || scaling == int8_scaling::e8m0))
              return reference::gemm(w.view(), a, y, o.accumulate);
          return gemm(weights, a, y, o);
        };
      };
      CHECK(wrong_outputs(m, n, by(packed)) == 0);
      CHECK(wrong_outputs(m, n, by(w.view())) == 0);
    }
}

TEMPLATE_TEST_CASE("products: within the documented bound of the product in double", "[linalg][accuracy]", float, bf16,
                   f16) {
  splitmix random(34);
  for (const auto& [m, n, k] : shapes) {
    CAPTURE(m, n, k);
    mx_memory<ct> w(n, k);
    fill(w, n, k, byte_range(116, 122), random);
    tokens x = tokens(m, k).fill([&](auto, auto) { return random.with_exponent(122, 128); });
    std::vector<float> bias(static_cast<std::size_t>(n));
    for (float& v : bias) v = random.with_exponent(124, 130);
    const exact_product exact(w, n, x);
    REQUIRE(exact.ok);
    results<TestType> y(m, n, 0);
    REQUIRE(gemm(*pack(w.view()), x.view(), y.view(), {.bias = bias}).ok());
    const double u = 0x1p-24, gamma = static_cast<double>(k) * u / (1.0 - static_cast<double>(k) * u);
    std::int64_t outside = 0;
    for (std::int64_t r = 0; r < m; ++r)
      for (std::int64_t c = 0; c < n; ++c) {
        const auto at = static_cast<std::size_t>(r * n + c);
        const double sum = exact.sum[at] + static_cast<double>(bias[static_cast<std::size_t>(c)]);
        double bound = gamma * exact.magnitudes[at];
        bound += u * (std::fabs(sum) + bound);
        if constexpr (!std::is_same_v<TestType, float>)
          bound += std::ldexp(std::fabs(sum) + bound, -format<TestType>::digits) +
                   std::ldexp(1.0, format<TestType>::lowest - 1);
        outside += !(std::fabs(static_cast<double>(decode(y.at(r, c))) - sum) <= bound);
      }
    CHECK(outside == 0);
  }
}

TEST_CASE("products with a bias: no columns, no rows", "[linalg][property]") {
  const std::vector<float> bias{1.0f, -2.0f, 0x1p-8f + 1.0f};
  for (const std::int64_t m : {1, 2, 9}) {
    std::vector<bf16> y(static_cast<std::size_t>(m * 3), bf16{0x4000});
    const mx_view<> w{nullptr, nullptr, 3, 0, 0, 0};
    const dense_view<const float> x{nullptr, m, 0, 0};
    REQUIRE(gemm(w, x, dense_view<bf16>{y.data(), m, 3, 3}, {.bias = bias}).ok());
    for (std::size_t i = 0; i < y.size(); ++i)
      CHECK(bits_of(y[i]) == (i % 3 == 0 ? 0x3F80u : i % 3 == 1 ? 0xC000u : 0x3F80u));
    REQUIRE(gemm(*pack(w), x, dense_view<bf16>{y.data(), m, 3, 3}, {.accumulate = true, .bias = bias}).ok());
    for (std::size_t i = 0; i < y.size(); ++i)
      CHECK(bits_of(y[i]) == (i % 3 == 0 ? 0x4000u : i % 3 == 1 ? 0xC080u : 0x4000u));
  }
  const mx_view<> none{nullptr, nullptr, 0, 32, 16, 1};
  const std::vector<float> token(32, 1.0f);
  CHECK(gemm(none, dense_view<const float>{token.data(), 1, 32, 32}, dense_view<f16>{nullptr, 1, 0, 0}).ok());
}

TEST_CASE("products: bad outputs and biases", "[linalg][bad_input]") {
  constexpr std::int64_t m = 2, n = 16, k = 32;
  mx_memory<ct> w(n, k);
  splitmix random(35);
  fill(w, n, k, {127}, random);
  const tokens x = tokens(m, k).fill([](auto, auto) { return 1.0f; });
  const int8_activations a = *quantize_activations(x.view(), int8_scaling::row);
  std::vector<f16> memory(m * n, f16{0x1234});
  std::vector<float> bias(n, 1.0f), sums(m * n, 5.0f);
  const auto say = [](const status& s) { return std::string(message(s).view()); };
  const auto check = [&](const dense_view<f16>& y, std::span<const float> add, const char* sentence) {
    const gemm_options options{.bias = add};
    CHECK(say(gemm(w.view(), x.view(), y, options)) == sentence);
    CHECK(say(gemm(*pack(w.view()), x.view(), y, options)) == sentence);
    CHECK(say(gemm(w.view(), a, y, options)) == sentence);
    CHECK(say(gemm(*pack(w.view()), a, y, options)) == sentence);
    for (const f16 v : memory) CHECK(v == f16{0x1234});
  };
  const dense_view<f16> y{memory.data(), m, n, n};
  check(y, std::span(bias).first(n - 1), "bias.size is 15, expected 16");
  check({memory.data(), m, n - 1, n}, {}, "y.cols is 15, expected 16");
  check({memory.data(), 1, n, n}, {}, "y.rows is 1, expected 2");
  check({memory.data(), m, n, n - 1}, {}, "y.stride is 15, expected at least 16, the length of a row");
  check({nullptr, m, n, n}, {}, "y.data is null, expected memory for 32 elements");
  check({reinterpret_cast<f16*>(reinterpret_cast<char*>(memory.data()) + 1), m, n, n}, {},
        "y.data is 1 bytes past a multiple of 2: align it");
  const auto overlapping = [&](const void* where) {
    return dense_view<f16>{reinterpret_cast<f16*>(const_cast<void*>(where)), m, n, n};
  };
  const auto refused = [&](const status& s) { return say(s) == "y overlaps an input: pass separate memory"; };
  CHECK(refused(gemm(w.view(), x.view(), overlapping(x.data.data()))));
  CHECK(refused(gemm(w.view(), x.view(), overlapping(bias.data()), {.bias = bias})));
  CHECK(refused(gemm(w.view(), a, overlapping(bias.data()), {.bias = bias})));
  CHECK(refused(gemm(w.view(), x.view(), dense_view<float>{bias.data() - n, m, n, n}, {.bias = bias})));
  CHECK(say(gemm(w.view(), x.view(), dense_view<float>{sums.data(), m, n, n}, {.bias = {bias.data(), 3}})) ==
        "bias.size is 3, expected 16");
  CHECK(say(gemm(w.view(), a, dense_view<float>{sums.data(), m, n, n}, {.bias = {bias.data(), 3}})) ==
        "bias.size is 3, expected 16");
  CHECK(sums == std::vector<float>(m * n, 5.0f));
  CHECK(say(gemm(static_cast<dialect_id>(9), w.view(), x.view(), y)) ==
        "dialect is 9, expected one of the dialect_id enumerators");
}
