// tests/cuda/gpu_test.products.cu -- part of gpu_test: every product against reference::gemm, within its stated bound.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "cuda/gpu.support.cuh"
#include "mxfp4/cuda/gemm.cuh"
#include "mxfp4/cuda/gemm_mxfp8.cuh"
#include "mxfp4/cuda/gemv_mma16.cuh"
#include "mxfp4/cuda/gemv_mxfp8.cuh"
#include "mxfp4/cuda/moe.cuh"
#include "mxfp4/reference/gemm.hpp"
#include "support/random.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::test {

namespace {

int failures = 0;

std::vector<std::uint8_t> random_bytes(std::int64_t n, int low, int high, std::uint64_t seed) {
  mxfp4::test::splitmix random(seed);
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(n));
  for (auto& b : bytes) b = static_cast<std::uint8_t>(random.in(low, high));
  return bytes;
}

/// N x K weights on both sides: scales of both decodings, with a row of subnormal weights and one under a NaN scale.
struct weights {
  std::int64_t rows, cols;
  std::vector<std::uint8_t> codes, scales;
  buffer<std::uint8_t> device_codes, device_scales;

  weights(std::int64_t n, std::int64_t k)
      : rows(n),
        cols(k),
        codes(random_bytes(n * k / 2, 0, 255, 21)),
        scales(with_rare(random_bytes(n * k / 32, 110, 129, 22), n, k)),
        device_codes(codes),
        device_scales(scales) {}
  [[nodiscard]] const_mx_view<> host() const { return {codes.data(), scales.data(), rows, cols, cols / 2, cols / 32}; }
  [[nodiscard]] const_mx_view<> device() const {
    return {device_codes.data(), device_scales.data(), rows, cols, cols / 2, cols / 32};
  }

 private:
  static std::vector<std::uint8_t> with_rare(std::vector<std::uint8_t> scales, std::int64_t n, std::int64_t k) {
    for (std::int64_t b = 0; b < k / 32; ++b)
      if (n > 3) scales[static_cast<std::size_t>(2 * (k / 32) + b)] = 0;
    if (n > 4) scales[static_cast<std::size_t>(4 * (k / 32))] = 255;
    return scales;
  }
};

/// What is to come out: sums in double, and sums of magnitudes; tokens as floats, which hold their values exactly.
struct expectation {
  std::vector<double> sum, magnitude;

  expectation() = default;
  expectation(const const_mx_view<>& w, const std::vector<float>& x, std::int64_t m)
      : sum(static_cast<std::size_t>(m * w.rows)), magnitude(sum.size()) {
    std::vector<float> positive = x;
    for (float& v : positive) v = std::fabs(v);
    std::vector<std::uint8_t> codes(w.codes, w.codes + w.rows * w.code_stride);
    for (auto& c : codes) c &= 0x77;  // the signs
    const_mx_view<> magnitudes = w;
    magnitudes.codes = codes.data();
    if (!reference::gemm(w, dense_view<const float>{x.data(), m, w.cols, w.cols},
                         dense_view<double>{sum.data(), m, w.rows, w.rows})
             .ok() ||
        !reference::gemm(magnitudes, dense_view<const float>{positive.data(), m, w.cols, w.cols},
                         dense_view<double>{magnitude.data(), m, w.rows, w.rows})
             .ok())
      ++failures;
  }
};

/// |y - sum| <= (gamma(3 K + 8) + more) * magnitude + K * 2^-140, and NaN where the sum is NaN.
void check_close(const std::string& what, const std::vector<float>& y, const expectation& expected, std::int64_t cols,
                 double more = 0) {
  const double terms = 3.0 * static_cast<double>(cols) + 8.0, u = 0x1p-24, gamma = terms * u / (1.0 - terms * u);
  std::size_t outside = 0, first = 0;
  double worst = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double sum = expected.sum[i], error = std::fabs(static_cast<double>(y[i]) - sum);
    const double allowed = (gamma + more) * expected.magnitude[i] + static_cast<double>(cols) * 0x1p-140;
    const bool fits = std::isnan(sum) ? std::isnan(y[i]) : error <= allowed;
    if (!std::isnan(sum) && expected.magnitude[i] > 0) worst = std::max(worst, error / expected.magnitude[i]);
    if (!fits && outside++ == 0) first = i;
  }
  std::printf("%-44s %s, largest error %.1e of sum |w x|\n", what.c_str(), outside == 0 ? "ok" : "WRONG", worst);
  if (outside != 0)
    std::printf("  %zu of %zu outside the bound; the first at %zu: %g, expected %g\n", outside, y.size(), first,
                static_cast<double>(y[first]), expected.sum[first]);
  failures += outside != 0 ? 1 : 0;
}

template <class X>
std::vector<X> random_tokens(std::int64_t n) {
  mxfp4::test::splitmix random(23);
  std::vector<X> x(static_cast<std::size_t>(n));
  for (auto& v : x) v = encode<X>(std::ldexp(static_cast<float>(random.in(-255, 255)), random.in(-10, 0)));
  return x;
}
template <class X>
std::vector<float> decoded(const std::vector<X>& x) {
  std::vector<float> values;
  for (const X v : x) values.push_back(decode(v));
  return values;
}

/// The weights in the order of mma16, packed on the device.
struct tiles {
  explicit tiles(const const_mx_view<>& w)
      : codes(static_cast<std::size_t>((*mma16_bytes_needed(w.rows, w.cols)).codes)),
        scales(static_cast<std::size_t>((*mma16_bytes_needed(w.rows, w.cols)).scales)),
        view{codes.data(), scales.data(), w.rows, w.cols} {
    require(pack_mma16(w, view, nullptr), "pack_mma16");
  }
  buffer<std::uint8_t> codes, scales;
  mma16_view view;
};

template <class X>
void check_dense(const char* type, std::int64_t m, std::int64_t n, std::int64_t k) {
  const std::string shape =
      std::string(type) + ", " + std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k);
  const weights w(n, k);
  const std::vector<X> host_x = random_tokens<X>(m * k);
  const expectation expected(w.host(), decoded(host_x), m);
  const buffer<X> x(host_x);
  const dense_view<const X> from{x.data(), m, k, k};
  {
    const buffer<float> y(expected.sum.size());
    require(gemm(w.device(), from, dense_view<float>{y.data(), m, n, n}, nullptr), "gemm");
    check_close("gemm " + shape, y.host(), expected, k);
  }
  if (m > gemv_tokens) return;
  const tiles packed(w.device());
  const buffer<float> y(expected.sum.size()), y16(expected.sum.size());
  require(gemv(w.device(), from, dense_view<float>{y.data(), m, n, n}, nullptr), "gemv");
  check_close("gemv " + shape, y.host(), expected, k);
  require(gemv(const_mma16_view(packed.view), from, dense_view<float>{y16.data(), m, n, n}, nullptr), "gemv mma16");
  check_close("gemv mma16 " + shape, y16.host(), expected, k);
}

/// `more`: what tensor cores for e4m3 lose beyond f32's rounding.
void check_mxfp8_product(std::int64_t m, std::int64_t n, std::int64_t k, double more) {
  const std::string shape = std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k);
  const weights w(n, k);
  std::vector<std::uint8_t> elements = random_bytes(m * k, 0, 255, 24), scales = random_bytes(m * k / 32, 110, 135, 25);
  for (auto& e : elements)
    if ((e & 0x7F) == 0x7F) e = 0x7E;
  if (m > 1) scales[static_cast<std::size_t>(k / 32)] = 255;
  std::vector<float> values;
  for (std::size_t i = 0; i < elements.size(); ++i)
    values.push_back(decode(static_cast<e4m3>(elements[i]), static_cast<e8m0>(scales[i / 32])));
  const expectation expected(w.host(), values, m);
  const buffer<std::uint8_t> device_elements(elements), device_scales(scales);
  const const_mxfp8_view x{device_elements.data(), device_scales.data(), m, k, k, k / 32};
  const auto run = [&](const std::string& what, auto&& product) {
    const buffer<float> y(expected.sum.size());
    const cudaError_t error = product(dense_view<float>{y.data(), m, n, n});
    if (error == cudaErrorNotSupported) return void(std::printf("%-44s not supported here\n", what.c_str()));
    require(error, what.c_str());
    check_close(what, y.host(), expected, k, more);
  };
  run("gemm MXFP8, " + shape, [&](const auto& y) { return gemm(w.device(), x, y, nullptr); });
  if (m > gemv_tokens) return;
  const tiles packed(w.device());
  run("gemv mma16 MXFP8, " + shape, [&](const auto& y) { return gemv(const_mma16_view(packed.view), x, y, nullptr); });
}

/// Token slots on random experts, one of them on none.
template <class X>
void check_moe(const char* type, const routing_shape& shape, std::int64_t n, std::int64_t k) {
  const std::string what = std::string("moe_gemm ") + type + ", " + std::to_string(shape.tokens) + " tokens, top-" +
                           std::to_string(shape.top_k) + " of " + std::to_string(shape.experts);
  const std::int64_t slots = shape.token_slots(), bad = slots / 2;
  const weights w(shape.experts * n, k);
  const std::vector<X> host_x = random_tokens<X>(shape.tokens * k);
  mxfp4::test::splitmix random(26);
  std::vector<std::int32_t> indices;
  for (std::int64_t p = 0; p < slots; ++p)
    indices.push_back(p == bad ? -1 : random.in(0, static_cast<int>(shape.experts) - 1));
  const buffer<X> x(host_x);
  const buffer<std::int32_t> device_indices(indices);
  const std::int64_t bytes = moe_workspace_bytes(shape);
  const buffer<std::uint8_t> workspace(static_cast<std::size_t>(bytes));
  const buffer<float> y(static_cast<std::size_t>(slots * n));
  require(moe_route(shape, {device_indices.data(), shape.tokens, shape.top_k, shape.top_k}, workspace.data(), bytes,
                    nullptr),
          "moe_route");
  require(moe_gemm(shape, w.device(), dense_view<const X>{x.data(), shape.tokens, k, k},
                   dense_view<float>{y.data(), slots, n, n}, workspace.data(), bytes, nullptr),
          "moe_gemm");
  moe_report report;
  require(moe_status(shape, workspace.data(), nullptr, report), "moe_status");
  if (report.bad_token_slots != 1 || report.first_bad != bad) {
    std::printf("moe_status: %lld bad token slots, the first %lld; expected 1, %lld\n",
                static_cast<long long>(report.bad_token_slots), static_cast<long long>(report.first_bad),
                static_cast<long long>(bad));
    ++failures;
  }
  const std::vector<float> values = decoded(host_x);
  expectation expected;
  for (std::int64_t p = 0; p < slots; ++p) {
    const std::int64_t token = p / shape.top_k, expert = indices[static_cast<std::size_t>(p)];
    const_mx_view<> one = w.host();
    one.rows = n;
    one.codes += std::max<std::int64_t>(expert, 0) * n * one.code_stride;
    one.scales += std::max<std::int64_t>(expert, 0) * n * one.scale_stride;
    expectation of_pair(one, {values.begin() + token * k, values.begin() + (token + 1) * k}, 1);
    if (expert < 0) std::fill(of_pair.sum.begin(), of_pair.sum.end(), std::nan(""));
    expected.sum.insert(expected.sum.end(), of_pair.sum.begin(), of_pair.sum.end());
    expected.magnitude.insert(expected.magnitude.end(), of_pair.magnitude.begin(), of_pair.magnitude.end());
  }
  check_close(what, y.host(), expected, k);
}

}  // namespace

int check_products(const cudaDeviceProp& device) {
  struct shape {
    std::int64_t m, n, k;
  };
  const bool in_tensor_core = device.major == 12;  // block-scaled mma adds up all of K: see gemm_mxfp8.cuh
  for (const auto& [m, n, k] : {shape{1, 17, 288}, shape{2, 200, 4096}, shape{8, 100, 1312}, shape{9, 130, 96},
                                shape{64, 128, 2048}, shape{130, 300, 2080}}) {
    check_dense<bf16>("bf16", m, n, k);
    check_dense<f16>("f16", m, n, k);
    check_mxfp8_product(m, n, k, in_tensor_core ? static_cast<double>(k) * 0x1p-12 : 0x1p-7);
  }
  for (const auto& shape : {routing_shape{3, 2, 32}, routing_shape{20, 4, 16}, routing_shape{150, 2, 4}}) {
    check_moe<bf16>("bf16", shape, 90, 352);
    check_moe<f16>("f16", shape, 90, 352);
  }
  return failures;
}

}  // namespace mxfp4::cuda::test
