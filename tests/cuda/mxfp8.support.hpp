// tests/cuda/mxfp8.support.hpp -- tokens in MXFP8 in the emulator's device memory, and what their products are held to.
// SPDX-License-Identifier: Apache-2.0
//
// Expectations are sums in double of values from support/oracle.hpp.
#pragma once

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "cuda/product.support.hpp"
#include "mxfp4/tensor/mxfp8_view.hpp"

namespace mxfp4::test {

/// M x K activations on the host and the device, `gap` bytes between rows of elements, `scale_gap` between rows of
/// scales: NaN and byte 255.
struct mxfp8_tokens {
  template <class Element, class Scale>
  mxfp8_tokens(std::int64_t m, std::int64_t k, std::int64_t gap, std::int64_t scale_gap, Element&& element,
               Scale&& scale)
      : stride(k + gap), scale_stride(k / 32 + scale_gap) {
    elements.assign(static_cast<std::size_t>((m - 1) * stride + k), 0x7F);
    scales.assign(static_cast<std::size_t>((m - 1) * scale_stride + k / 32), 255);
    for (std::int64_t r = 0; r < m; ++r) {
      for (std::int64_t i = 0; i < k; ++i) elements[static_cast<std::size_t>(r * stride + i)] = element(r, i);
      for (std::int64_t b = 0; b < k / 32; ++b) scales[static_cast<std::size_t>(r * scale_stride + b)] = scale(r, b);
    }
    device_elements = std::make_unique<device_array<std::uint8_t>>(elements, "x.elements");
    device_scales = std::make_unique<device_array<std::uint8_t>>(scales, "x.scales");
    view = {device_elements->data(), device_scales->data(), m, k, stride, scale_stride};
  }
  /// The first `m` tokens.
  const_mxfp8_view first(std::int64_t m) const {
    const_mxfp8_view fewer = view;
    fewer.rows = m;
    return fewer;
  }
  double at(std::int64_t r, std::int64_t k) const {
    const unsigned code = elements[static_cast<std::size_t>(r * stride + k)];
    const int byte = scales[static_cast<std::size_t>(r * scale_stride + k / 32)];
    if ((code & 0x7Fu) == 0x7Fu || byte == 255) return std::nan("");
    const double magnitude = std::ldexp(values[code & 0x7Fu], byte - 127);
    return (code & 0x80u) != 0 ? -magnitude : magnitude;
  }

  std::int64_t stride, scale_stride;
  std::vector<std::uint8_t> elements, scales;
  std::unique_ptr<device_array<std::uint8_t>> device_elements, device_scales;
  const_mxfp8_view view;

 private:
  std::vector<double> values = e4m3_values();
};

/// The product in double, and the same of magnitudes.
struct exact_mxfp8_product {
  exact_mxfp8_product(device_weights& w, std::int64_t n, const mxfp8_tokens& x) {
    const std::int64_t k = x.view.cols;
    std::vector<double> decoded;
    for (std::int64_t row = 0; row < n; ++row)
      for (std::int64_t i = 0; i < k; ++i) {
        const int byte = w.host.scale(row, i / 32);
        decoded.push_back(byte == 255 ? std::nan("") : weight(w.host.code(row, i), byte));
      }
    for (std::int64_t r = 0; r < x.view.rows; ++r) {
      std::vector<double> token;
      for (std::int64_t i = 0; i < k; ++i) token.push_back(x.at(r, i));
      for (std::int64_t row = 0; row < n; ++row) {
        double total = 0, magnitude = 0;
        for (std::int64_t i = 0; i < k; ++i) {
          const double product = decoded[static_cast<std::size_t>(row * k + i)] * token[static_cast<std::size_t>(i)];
          total += product;
          magnitude += std::fabs(product);
        }
        sum.push_back(total);
        magnitudes.push_back(magnitude);
      }
    }
  }
  std::vector<double> sum, magnitudes;
};

/// How many outputs are not the floats nearest to the exact sums; NaN is wanted where the sum is NaN.
inline std::int64_t not_nearest(const std::vector<float>& y, const std::vector<double>& exact) {
  std::int64_t wrong = 0;
  for (std::size_t i = 0; i < y.size(); ++i)
    wrong += std::isnan(exact[i]) ? !std::isnan(y[i]) : y[i] != static_cast<float>(exact[i]);
  return wrong;
}

// product(w, n, x) computes Y = X W^T, M x N.

/// Sums that fit a float come out exactly, in any order of the threads. Gaps between rows of elements are multiples of
/// 16 bytes.
template <std::size_t N, class Product>
void check_exact_mxfp8_sums(const product_shape (&shapes)[N], Product&& product) {
  constexpr std::uint8_t small_integers[] = {0x00, 0x38, 0xB8, 0x40, 0xC0, 0x44, 0x80};  // 0 1 -1 2 -2 3 -0
  splitmix random(1);
  for (const auto& [m, n, k, gap] : shapes) {
    CAPTURE(m, n, k, gap);
    ++device_settings.seed;
    device_weights w(n, k, 16 * gap, gap);
    fill(w.host, n, k, byte_range(120, 130), random);
    const mxfp8_tokens x(
        m, k, 16 * gap, gap, [&](auto, auto) { return small_integers[random.between(0, 6)]; },
        [&](auto, auto) { return static_cast<std::uint8_t>(random.between(126, 128)); });
    const exact_mxfp8_product exact(w, n, x);
    for (const double magnitude : exact.magnitudes) REQUIRE(magnitude < 0x1p15);  // units of 2^-9
    CHECK(not_nearest(product(w, n, x), exact.sum) == 0);
  }
}

/// Every scale byte of the weights under each of `x_bytes`, a token's: products of scales beyond the range of f32 on
/// either side, NaN on one or both.
template <class Product>
void check_every_mxfp8_scale(const std::vector<std::uint8_t>& x_bytes, Product&& product) {
  const auto m = static_cast<std::int64_t>(x_bytes.size());
  for (unsigned code = 1; code < 16; code += 3) {
    CAPTURE(code);
    device_weights w(256, 64);
    fill_with_every_scale(w, code);
    const mxfp8_tokens x(
        m, 64, 0, 0, [](auto, std::int64_t k) { return static_cast<std::uint8_t>(k == 45 ? 0x39 : 0x00); },  // 1.125
        [&](std::int64_t r, std::int64_t b) {
          return b == 0 ? std::uint8_t{127} : x_bytes[static_cast<std::size_t>(r)];
        });
    const exact_mxfp8_product exact(w, 256, x);
    std::int64_t special = 0;
    for (const double sum : exact.sum) special += !std::isfinite(static_cast<float>(sum));
    CHECK(special > 100);
    CHECK(not_nearest(product(w, 256, x), exact.sum) == 0);
  }
}

inline constexpr std::int64_t mxfp8_bound_cols = 800;
/// Any elements, saturated ones among them, under scales within `bytes`; one NaN in the last token but one. `more`:
/// what the bound has beside f32's rounding. Returns the largest error in units of sum |w x|.
template <class Product>
double check_mxfp8_bound(std::int64_t m, const std::vector<std::uint8_t>& bytes, Product&& product, double more = 0) {
  splitmix random(2);
  const std::int64_t n = 40, k = mxfp8_bound_cols;
  device_weights w(n, k);
  fill(w.host, n, k, bytes, random);
  const mxfp8_tokens x(
      m, k, 0, 0,
      [&](std::int64_t r, std::int64_t i) {
        const std::uint8_t byte = random.byte();
        if (r == m - 2 && i == 700) return std::uint8_t{0x7F};
        return (byte & 0x7F) == 0x7F || i % 50 == 0 ? static_cast<std::uint8_t>((byte & 0x80) | 0x7E) : byte;
      },
      [&](auto, auto) { return static_cast<std::uint8_t>(random.between(110, 140)); });
  const exact_mxfp8_product exact(w, n, x);
  const std::vector<float> y = product(w, n, x);
  std::int64_t outside = 0;
  double worst = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (static_cast<std::int64_t>(i) / n == m - 2) {
      outside += !std::isnan(y[i]);
    } else {
      outside += !within_bound(y[i], exact.sum[i], exact.magnitudes[i], k, more);
      worst = std::fmax(worst, std::fabs(static_cast<double>(y[i]) - exact.sum[i]) / exact.magnitudes[i]);
    }
  }
  CHECK(outside == 0);
  return worst;
}

}  // namespace mxfp4::test
