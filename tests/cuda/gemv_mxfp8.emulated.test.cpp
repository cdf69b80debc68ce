// tests/cuda/gemv_mxfp8.emulated.test.cpp -- products with MXFP8 activations on block-scaled tensor cores, emulated.
// SPDX-License-Identifier: Apache-2.0
//
// Expectations are sums in double of values from support/oracle.hpp. The emulator checks every access and barrier.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cuda/product.support.hpp"
#include "mxfp4/cuda/gemv_mxfp8.cuh"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;

/// M x K activations on the host and the device, `gap` bytes between rows of elements.
struct mxfp8_tokens {
  template <class Element, class Scale>
  mxfp8_tokens(std::int64_t m, std::int64_t k, std::int64_t gap, Element&& element, Scale&& scale)
      : stride(k + gap), blocks(k / 32) {
    elements.assign(static_cast<std::size_t>((m - 1) * stride + k), 0x7F);
    for (std::int64_t r = 0; r < m; ++r) {
      for (std::int64_t i = 0; i < k; ++i) elements[static_cast<std::size_t>(r * stride + i)] = element(r, i);
      for (std::int64_t b = 0; b < blocks; ++b) scales.push_back(scale(r, b));
    }
    device_elements = std::make_unique<device_array<std::uint8_t>>(elements, "x.elements");
    device_scales = std::make_unique<device_array<std::uint8_t>>(scales, "x.scales");
    view = {device_elements->data(), device_scales->data(), m, k, stride, blocks};
  }
  double at(std::int64_t r, std::int64_t k) const {
    const unsigned code = elements[static_cast<std::size_t>(r * stride + k)];
    const int byte = scales[static_cast<std::size_t>(r * blocks + k / 32)];
    if ((code & 0x7Fu) == 0x7Fu || byte == 255) return std::nan("");
    const double magnitude = std::ldexp(e4m3_values()[code & 0x7Fu], byte - 127);
    return (code & 0x80u) != 0 ? -magnitude : magnitude;
  }
  std::int64_t stride, blocks;
  std::vector<std::uint8_t> elements, scales;
  std::unique_ptr<device_array<std::uint8_t>> device_elements, device_scales;
  const_mxfp8_view view;
};

struct outcome {
  std::vector<float> y;
  std::vector<double> sum, magnitudes;
};
outcome product(device_weights& w, std::int64_t n, const mxfp8_tokens& x) {
  const std::int64_t m = x.view.rows, k = x.view.cols;
  const mx_bytes need = *cuda::mma16_bytes_needed(n, k);
  device_array<std::uint8_t> codes(static_cast<std::size_t>(need.codes)), scales(static_cast<std::size_t>(need.scales));
  const cuda::mma16_view packed{codes.data(), scales.data(), n, k};
  REQUIRE(cuda::pack_mma16(w.view(), packed, nullptr) == cudaSuccess);
  device_results<float> y(m, n, 1);
  REQUIRE(cuda::gemv(cuda::const_mma16_view(packed), x.view, y.view(), nullptr) == cudaSuccess);
  outcome out{y.values(), {}, {}};
  for (std::int64_t r = 0; r < m; ++r)
    for (std::int64_t row = 0; row < n; ++row) {
      double sum = 0, magnitude = 0;
      for (std::int64_t i = 0; i < k; ++i) {
        const int byte = w.host.scale(row, i / 32);
        const double product = (byte == 255 ? std::nan("") : weight(w.host.code(row, i), byte)) * x.at(r, i);
        sum += product;
        magnitude += std::fabs(product);
      }
      out.sum.push_back(sum);
      out.magnitudes.push_back(magnitude);
    }
  return out;
}

constexpr std::uint8_t small_integers[] = {0x00, 0x38, 0xB8, 0x40, 0xC0, 0x44, 0x80};  // 0 1 -1 2 -2 3 -0

}  // namespace

TEST_CASE("cuda::gemv MXFP8: sums that fit a float come out exactly", "[cuda][gemv][mxfp8]") {
  splitmix random(1);
  std::uint64_t seed = 1;
  struct shape {
    std::int64_t m, n, k, gap;
  };
  for (const auto& [m, n, k, gap] :
       {shape{1, 1, 32, 0}, {2, 33, 2080, 8}, {3, 16, 96, 0}, {5, 31, 608, 16}, {8, 49, 544, 0}}) {
    CAPTURE(m, n, k);
    device_settings.seed = ++seed;
    device_weights w(n, k);
    fill(w.host, n, k, byte_range(120, 130), random);
    const mxfp8_tokens x(
        m, k, gap, [&](auto, auto) { return small_integers[random.between(0, 6)]; },
        [&](auto, auto) { return static_cast<std::uint8_t>(random.between(126, 128)); });
    const outcome out = product(w, n, x);
    std::int64_t wrong = 0;
    for (std::size_t i = 0; i < out.y.size(); ++i) {
      REQUIRE(out.magnitudes[i] < 0x1p15);  // units of 2^-9
      wrong += out.y[i] != static_cast<float>(out.sum[i]);
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("cuda::gemv MXFP8: every scale byte of the weights under bytes of the activations", "[cuda][gemv][mxfp8]") {
  constexpr std::uint8_t x_bytes[] = {0, 1, 100, 127, 180, 253, 254, 255};
  for (unsigned code = 1; code < 16; code += 3) {
    device_weights w(256, 64);
    for (std::int64_t n = 0; n < 256; ++n)
      for (std::int64_t b = 0; b < 2; ++b) {
        w.host.scale(n, b) = b == 0 ? std::uint8_t{127} : static_cast<std::uint8_t>(n);
        for (std::int64_t k = 0; k < 32; ++k) w.host.set_code(n, 32 * b + k, b == 0 ? 0u : code);
      }
    const mxfp8_tokens x(
        8, 64, 0, [](auto, std::int64_t k) { return static_cast<std::uint8_t>(k == 45 ? 0x39 : 0x00); },  // 1.125
        [&](std::int64_t m, std::int64_t b) { return b == 0 ? std::uint8_t{127} : x_bytes[m]; });
    const outcome out = product(w, 256, x);
    std::int64_t wrong = 0, special = 0;
    for (std::size_t i = 0; i < out.y.size(); ++i) {
      const auto expected = static_cast<float>(out.sum[i]);
      wrong += std::isnan(expected) ? !std::isnan(out.y[i]) : out.y[i] != expected;
      special += !std::isfinite(expected);
    }
    CHECK(wrong == 0);
    CHECK(special > 256);
  }
}

TEST_CASE("cuda::gemv MXFP8: within the bound; NaN stays with its token", "[cuda][gemv][mxfp8]") {
  splitmix random(2);
  device_weights w(40, 800);
  fill(w.host, 40, 800, byte_range(100, 154), random);
  const mxfp8_tokens x(
      6, 800, 0,
      [&](std::int64_t m, std::int64_t k) {
        const std::uint8_t byte = random.byte();
        if (m == 4 && k == 700) return std::uint8_t{0x7F};
        return (byte & 0x7F) == 0x7F ? std::uint8_t{0x7E} : byte;
      },
      [&](auto, auto) { return static_cast<std::uint8_t>(random.between(110, 140)); });
  const outcome out = product(w, 40, x);
  const double n = 3.0 * 800 + 8.0, gamma = n * 0x1p-24 / (1.0 - n * 0x1p-24);
  for (std::size_t i = 0; i < out.y.size(); ++i) {
    CAPTURE(i);
    if (i / 40 == 4) CHECK(std::isnan(out.y[i]));
    else CHECK(std::fabs(static_cast<double>(out.y[i]) - out.sum[i]) <= gamma * out.magnitudes[i]);
  }
}

TEST_CASE("cuda::gemv MXFP8: what is refused, before anything is written", "[cuda][gemv][mxfp8][bad_input]") {
  const device_array<std::uint8_t> codes(std::vector<std::uint8_t>(512, 0)), scales(std::vector<std::uint8_t>(32, 127));
  const mxfp8_tokens tokens_of(
      8, 64, 0, [](auto, auto) { return std::uint8_t{0x38}; }, [](auto, auto) { return std::uint8_t{127}; });
  device_results<float> out(8, 16);
  const auto refuses = [&](const char* sentence, auto&& change) {
    cuda::const_mma16_view w{codes.data(), scales.data(), 16, 64};
    const_mxfp8_view x = tokens_of.view;
    dense_view<float> y = out.view();
    change(w, x, y);
    CHECK(message(cuda::check_product(w, x, y, cuda::gemv_tokens)).view() == sentence);
    CHECK(cuda::gemv(w, x, y, nullptr) != cudaSuccess);
    CHECK(out.untouched());
  };
  refuses("w.scales is 1 bytes past a multiple of 4: align it", [](auto& w, auto&, auto&) { w.scales += 1; });
  refuses("x.elements is 4 bytes past a multiple of 8: align it", [](auto&, auto& x, auto&) { x.elements += 4; });
  refuses("x.element_stride is 4 bytes past a multiple of 8: align it",
          [](auto&, auto& x, auto&) { x.element_stride += 4; });
  refuses("x.scales is null, expected memory for 16 elements", [](auto&, auto& x, auto&) { x.scales = nullptr; });
  refuses("x.rows is 9, expected 0 to 8", [](auto&, auto& x, auto&) { x.rows = 9; });
  refuses("x.cols is 32, expected 64", [](auto&, auto& x, auto&) { x.cols = 32; });
  refuses("y.cols is 15, expected 16", [](auto&, auto&, auto& y) { y.cols = 15; });
  for (const int number : {800, 900, 1000, 1300}) {  // no block-scaled tensor cores there
    device_settings.architecture = number;
    CHECK(cuda::gemv(cuda::const_mma16_view{codes.data(), scales.data(), 16, 64}, tokens_of.view, out.view(),
                     nullptr) == cudaErrorNotSupported);
  }
  device_settings.architecture = 1200;
  CHECK(out.untouched());
}
