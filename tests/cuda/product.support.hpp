// tests/cuda/product.support.hpp -- weights, tokens and results in the emulator's device memory, and what every product
// is held to.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "cuda/emulator/global_memory.hpp"
#include "mxfp4/cuda/device/launch.cuh"
#include "support/product.hpp"

namespace mxfp4::test {

using cuda::emulator::device_array;
using cuda::emulator::device_settings;

/// N x K weights on the host and, from the first view on, the same bytes on the device: not one byte more, so that
/// what a kernel reads past the end is found. Gaps between rows: `code_gap` bytes, a multiple of 16, and `scale_gap`.
class device_weights {
 public:
  using layout = layout::compressed_tensors;

  device_weights(std::int64_t rows, std::int64_t cols, std::int64_t code_gap = 0, std::int64_t scale_gap = 0)
      : host(rows, cols),
        code_stride_(cols / 2 + code_gap),
        scale_stride_(cols / 32 + scale_gap),
        rows_(rows),
        cols_(cols) {}

  const_mx_view<> view() {
    if (codes_.empty()) {
      const auto from = host.view();
      std::vector<std::uint8_t> codes(static_cast<std::size_t>((rows_ - 1) * code_stride_ + cols_ / 2), 0xFF);
      std::vector<std::uint8_t> scales(static_cast<std::size_t>((rows_ - 1) * scale_stride_ + cols_ / 32), 0xFF);
      for (std::int64_t r = 0; r < rows_; ++r) {
        std::copy_n(from.block_codes(r, 0), cols_ / 2, codes.begin() + r * code_stride_);
        std::copy_n(from.block_scale(r, 0), cols_ / 32, scales.begin() + r * scale_stride_);
      }
      codes_.emplace_back(std::make_unique<device_array<std::uint8_t>>(codes, "codes"));
      scales_.emplace_back(std::make_unique<device_array<std::uint8_t>>(scales, "scales"));
    }
    return {codes_[0]->data(), scales_[0]->data(), rows_, cols_, code_stride_, scale_stride_};
  }

  mx_memory<layout> host;

 private:
  std::int64_t code_stride_, scale_stride_, rows_, cols_;
  std::vector<std::unique_ptr<device_array<std::uint8_t>>> codes_, scales_;
};

/// M x K activations of X, with a gap of NaNs between the rows.
template <class X>
class device_tokens {
 public:
  device_tokens(const tokens& x, std::int64_t gap)
      : rows_(x.rows), cols_(x.cols), stride_(x.cols + gap), data_(make(x, gap)) {}
  dense_view<const X> view() const { return {data_.data(), rows_, cols_, stride_}; }

 private:
  static std::vector<X> make(const tokens& x, std::int64_t gap) {
    const std::int64_t stride = x.cols + gap;
    std::vector<X> data(static_cast<std::size_t>((x.rows - 1) * stride + x.cols), encode<X>(std::nanf("")));
    for (std::int64_t m = 0; m < x.rows; ++m)
      for (std::int64_t k = 0; k < x.cols; ++k)
        data[static_cast<std::size_t>(m * stride + k)] = encode<X>(x.data[static_cast<std::size_t>(m * x.stride + k)]);
    return data;
  }
  std::int64_t rows_, cols_, stride_;
  device_array<X> data_;
};

/// M x N results that no kernel has written yet; rows `gap` elements apart.
template <class Y>
class device_results {
 public:
  device_results(std::int64_t rows, std::int64_t cols, std::int64_t gap = 0)
      : rows_(rows),
        cols_(cols),
        stride_(cols + gap),
        data_(static_cast<std::size_t>((rows - 1) * (cols + gap) + cols)) {}
  dense_view<Y> view() { return {data_.data(), rows_, cols_, stride_}; }
  bool untouched() const { return data_.untouched(); }

  /// All M x N, without gaps, as floats. Throws if one of them was not written, or a gap was.
  std::vector<float> values() const {
    using namespace cuda::emulator;
    std::vector<float> all;
    for (std::int64_t m = 0; m < rows_; ++m) {
      const Y* const row = data_.data() + m * stride_;
      if (device_memory.first_unwritten(row, static_cast<std::size_t>(cols_) * sizeof(Y)) >= 0)
        throw fault("row " + std::to_string(m) + " of the result was not written in full");
      for (std::int64_t n = 0; n < cols_; ++n) all.push_back(decode(row[n]));
      for (std::int64_t n = cols_; n < stride_ && m + 1 < rows_; ++n)
        if (device_memory.first_unwritten(row + n, sizeof(Y)) < 0) throw fault("a gap of the result was written");
    }
    return all;
  }

 private:
  std::int64_t rows_, cols_, stride_;
  device_array<Y> data_;
};

/// |y - sum| <= (gamma(3 K + 8) + more) * magnitude + K * 2^-140, the bound of cuda/gemv.cuh; magnitude = sum |w x|.
inline bool within_bound(float y, double sum, double magnitude, std::int64_t cols, double more = 0) {
  const double n = 3.0 * static_cast<double>(cols) + 8.0, u = 0x1p-24, gamma = n * u / (1.0 - n * u);
  return std::fabs(static_cast<double>(y) - sum) <= (gamma + more) * magnitude + static_cast<double>(cols) * 0x1p-140;
}
/// How many outputs lie outside.
inline std::int64_t outside_bound(const std::vector<float>& y, const exact_product& exact, std::int64_t cols) {
  std::int64_t outside = 0;
  for (std::size_t i = 0; i < y.size(); ++i) outside += !within_bound(y[i], exact.sum[i], exact.magnitudes[i], cols);
  return outside;
}

enum class number_kind { finite, positive_infinity, negative_infinity, nan };
inline number_kind kind_of(double y) {
  if (std::isnan(y)) return number_kind::nan;
  if (std::isinf(y)) return y > 0 ? number_kind::positive_infinity : number_kind::negative_infinity;
  return number_kind::finite;
}

/// How many outputs are not the exact sums, which a float holds; where those are no numbers, the kind must agree.
inline std::int64_t unequal(const std::vector<float>& y, const std::vector<double>& exact) {
  std::int64_t wrong = 0;
  for (std::size_t i = 0; i < y.size(); ++i)
    wrong += kind_of(exact[i]) == number_kind::finite ? y[i] != static_cast<float>(exact[i])
                                                      : kind_of(y[i]) != kind_of(exact[i]);
  return wrong;
}

/// `gap`: between the rows of W, X and Y, in pieces of the alignment that each asks for.
struct product_shape {
  std::int64_t m, n, k, gap;
};

// product(w, x, n, gap) computes Y = X W^T, M x N, with rows of X and Y that are `gap` apart.

/// Sums that fit a float come out exactly, in any order of the threads, without and with wide scales.
template <std::size_t N, class Product>
void check_exact_sums(const product_shape (&shapes)[N], Product&& product) {
  splitmix random(1);
  for (const auto& bytes : {byte_range(120, 127), byte_range(120, 131)})
    for (const auto& [m, n, k, gap] : shapes) {
      CAPTURE(m, n, k, gap, bytes.size());
      ++device_settings.seed;
      device_weights w(n, k, 16 * gap, gap);
      fill(w.host, n, k, bytes, random);
      tokens x(m, k);
      x.fill([&](auto, auto) { return static_cast<float>(random.between(-2, 2)); });
      const exact_product exact(w.host, n, x);
      REQUIRE(exact.ok);
      for (const double magnitude : exact.magnitudes) REQUIRE(magnitude < 0x1p16);  // units of 2^-8: 24 bits
      CHECK(unequal(product(w, x, n, gap), exact.sum) == 0);
    }
}

/// 256 x 64 weights: row n has code 0 under byte 127, then 32 times `code` under scale byte n.
inline void fill_with_every_scale(device_weights& w, unsigned code) {
  for (std::int64_t n = 0; n < 256; ++n)
    for (std::int64_t b = 0; b < 2; ++b) {
      w.host.scale(n, b) = b == 0 ? std::uint8_t{127} : static_cast<std::uint8_t>(n);
      for (std::int64_t k = 0; k < 32; ++k) w.host.set_code(n, 32 * b + k, b == 0 ? 0u : code);
    }
}

/// Every scale byte with every code. Token 0 sees one weight of a row, token 1 all with small factors, token 2 has an
/// infinity; the others see one weight.
template <class Product>
void check_every_scale(std::int64_t m, Product&& product) {
  for (unsigned code = 0; code < 16; ++code) {
    CAPTURE(code);
    device_weights w(256, 64);
    fill_with_every_scale(w, code);
    tokens x(m, 64);
    x.fill([](std::int64_t r, std::int64_t k) { return r == 1 ? 0x1p-12f : k == 37 ? 1.0f : 0.0f; });
    x.at(2, 60) = std::numeric_limits<float>::infinity();
    const exact_product exact(w.host, 256, x);
    REQUIRE(exact.ok);
    CHECK(unequal(product(w, x, 256, 0), exact.sum) == 0);
  }
}

/// Results within the bound for scales of all sizes that keep the sums finite; where they do not, the kinds of numbers
/// that the reference has.
template <class Product>
void check_bound_and_specials(std::int64_t m, std::int64_t n, Product&& product) {
  splitmix random(2);
  for (const auto& bytes : {byte_range(80, 154), {0, 1, 2, 3}, {100, 127, 253, 254, 255}}) {
    CAPTURE(static_cast<int>(bytes.front()));
    constexpr std::int64_t k = 160;
    device_weights w(n, k, 0, 1);
    fill(w.host, n, k, bytes, random);
    tokens x(m, k);
    x.fill([&](auto, auto) { return std::ldexp(static_cast<float>(random.between(-255, 255)), random.in(-14, -12)); });
    const exact_product exact(w.host, n, x);
    REQUIRE(exact.ok);
    const std::vector<float> y = product(w, x, n, 0);
    if (bytes.back() < 253) {
      CHECK(outside_bound(y, exact, k) == 0);
    } else {
      std::int64_t wrong = 0, special = 0;
      for (std::size_t i = 0; i < y.size(); ++i) {
        if (std::fabs(exact.sum[i]) > 0x1p127 && std::isfinite(exact.sum[i])) continue;  // rounding decides
        wrong += kind_of(y[i]) != kind_of(exact.sum[i]);
        special += kind_of(y[i]) != number_kind::finite;
      }
      CHECK(wrong == 0);
      CHECK(special > 100);
    }
  }
}

/// 33 x 352 weights and tokens whose sums are rounded.
struct rounded_sums {
  device_weights w{33, 352};
  tokens x;

  explicit rounded_sums(std::int64_t m) : x(m, 352) {
    splitmix random(4);
    fill(w.host, 33, 352, byte_range(110, 130), random);
    x.fill([&](auto, auto) { return static_cast<float>(random.between(-9999, 9999)) * 0x1p-12f; });
  }
};

/// The first eleven of `m` tokens have the same results alone, bit for bit and in another order of the threads.
template <class Product>
void check_fewer_tokens(std::int64_t m, Product&& product) {
  rounded_sums s(m);
  const std::vector<float> all = product(s.w, s.x, 33, 0);
  tokens fewer(11, 352);
  fewer.fill([&](std::int64_t r, std::int64_t k) { return s.x.at(r, k); });
  device_settings.seed = 50;
  CHECK(same_bits(product(s.w, fewer, 33, 0), {all.begin(), all.begin() + 11 * 33}));
}

/// Results in f16 are those in f32, rounded once.
template <class InF32, class InF16>
void check_results_in_f16(InF32&& in_f32, InF16&& in_f16) {
  rounded_sums s(11);
  const std::vector<float> exact = in_f32(s.w, s.x, 33, 0), rounded = in_f16(s.w, s.x, 33, 0);
  for (std::size_t i = 0; i < exact.size(); ++i) CHECK(same_bits(rounded[i], decode(encode_f16(exact[i]))));
}

/// What a row's last word of scales holds belongs to the next row: the NaNs of row 9 must not reach row 8.
template <class Product>
void check_scales_past_a_row(std::int64_t m, std::int64_t n, Product&& product) {
  for (const std::int64_t k : {32, 96, 288}) {
    CAPTURE(k);
    device_weights w(n, k);
    splitmix random(3);
    fill(w.host, n, k, {126, 127}, random);
    for (std::int64_t b = 0; b < k / 32; ++b) w.host.scale(9, b) = 255;
    tokens x(m, k);
    x.fill([&](auto, auto) { return static_cast<float>(random.between(-2, 2)); });
    const exact_product exact(w.host, n, x);
    for (std::int64_t i = 0; i < m * n; ++i)
      REQUIRE(std::isnan(exact.sum[static_cast<std::size_t>(i)]) == (i % n == 9));
    CHECK(unequal(product(w, x, n, 0), exact.sum) == 0);
  }
}

}  // namespace mxfp4::test
