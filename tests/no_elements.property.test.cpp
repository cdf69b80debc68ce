// tests/no_elements.property.test.cpp -- 2^63 - 1 rows of no columns, or no rows at all: ok, at once, nothing touched.
// SPDX-License-Identifier: Apache-2.0
//
// A loop over such rows would run for centuries: a defect is a test that does not end, and its time limit.
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "mxfp4/kernel/dequantize.hpp"
#include "mxfp4/kernel/measure_error.hpp"
#include "mxfp4/kernel/pack.hpp"
#include "mxfp4/kernel/quantize.hpp"
#include "mxfp4/kernel/quantize_fp8.hpp"
#include "mxfp4/kernel/quantize_measured.hpp"
#include "mxfp4/linalg.hpp"
#include "mxfp4/moe.hpp"
#include "mxfp4/reference/error_statistics.hpp"
#include "mxfp4/reference/gemm.hpp"
#include "mxfp4/reference/int8.hpp"
#include "mxfp4/reference/quantize.hpp"
#include "mxfp4/router.hpp"
#include "mxfp4/tensor/convert.hpp"

namespace {

using namespace mxfp4;
constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t shapes[][2] = {{most, 0}, {0, most / 2048 / 32 * 32}, {0, 0}};

template <class T>
dense_view<T> dense(std::int64_t rows, std::int64_t cols) {
  return {nullptr, rows, cols, cols};
}
template <class Layout = layout::compressed_tensors>
mx_view<Layout> packed(std::int64_t rows, std::int64_t cols) {
  return {nullptr,
          nullptr,
          rows,
          cols,
          Layout::code_row_bytes(cols / block_size),
          Layout::scale_band_bytes(cols / block_size)};
}

}  // namespace

TEST_CASE("no elements: encoding, decoding, measuring", "[bad_input]") {
  using swizzled = layout::swizzled_128x4;
  for (const auto& [rows, cols] : shapes) {
    CAPTURE(rows, cols);
    const auto scales =
        dense<const float>(rows / 128 + (rows % 128 != 0 ? 1 : 0), cols / 128 + (cols % 128 != 0 ? 1 : 0));
    for (const on_nonfinite policy : {on_nonfinite::encode, on_nonfinite::refuse}) {
      CHECK(reference::quantize(dense<const float>(rows, cols), packed(rows, cols), {.nonfinite = policy}).ok());
      CHECK(reference::quantize_fp8(dense<const e4m3>(rows, cols), scales, packed(rows, cols), {.nonfinite = policy})
                .ok());
      CHECK(kernel::quantize(dense<const float>(rows, cols), packed<swizzled>(rows, cols), {.nonfinite = policy}).ok());
      CHECK(kernel::quantize_fp8(dense<const e4m3>(rows, cols), scales, packed<swizzled>(rows, cols),
                                 {.nonfinite = policy})
                .ok());
    }
    CHECK(reference::widen_fp8(dense<const e4m3>(rows, cols), scales, dense<bf16>(rows, cols)).ok());
    CHECK(kernel::widen_fp8(dense<const e4m3>(rows, cols), scales, dense<bf16>(rows, cols)).ok());
    CHECK(reference::dequantize(packed(rows, cols), dense<float>(rows, cols)).ok());
    CHECK(kernel::dequantize(packed(rows, cols), dense<float>(rows, cols)).ok());
    CHECK(convert(packed(rows, cols), packed<swizzled>(rows, cols)).ok());
    error_statistics sum;
    CHECK(reference::measure_error(dense<const float>(rows, cols), packed(rows, cols), sum).ok());
    CHECK(kernel::measure_error(dense<const float>(rows, cols), packed(rows, cols), sum).ok());
    CHECK(kernel::quantize_fp8_measured(dense<const e4m3>(rows, cols), scales, packed(rows, cols), sum).ok());
    CHECK(sum.weights == 0);
  }
}

TEST_CASE("no elements: packing and products", "[bad_input]") {
  for (const auto& [rows, cols] : shapes) {
    CAPTURE(rows, cols);
    const auto made = pack(packed(rows, cols));
    REQUIRE(made);
    CHECK((made->rows() == rows && made->cols() == cols && made->bytes().empty()));
    CHECK(unpack(*made, packed<layout::swizzled_128x4>(rows, cols)).ok());
    REQUIRE(packed_matrix::from_bytes(rows, cols, {}));
    CHECK(
        quantize_activations(dense<const float>(rows, cols), mxfp8_view{nullptr, nullptr, rows, cols, cols, cols / 32})
            .ok());

    // w has these rows and x none of them; then x has them and w none
    const auto x8 = int8_activations::create(0, cols);
    REQUIRE(x8);
    const auto none = dense<float>(0, rows);
    CHECK(gemm(packed(rows, cols), dense<const float>(0, cols), none).ok());
    CHECK(gemm(*made, *x8, none).ok());
    CHECK(gemm(packed(rows, cols), *x8, none).ok());
    CHECK(reference::gemm(packed(rows, cols), *x8, none).ok());
    CHECK(reference::gemm(packed(rows, cols), dense<const float>(0, cols), dense<double>(0, rows)).ok());
    const auto no_outputs = dense<float>(rows, 0);
    CHECK(gemm(packed(0, cols), dense<const float>(rows, cols), no_outputs).ok());
    CHECK(gemm(packed(0, cols), const_mxfp8_view{nullptr, nullptr, rows, cols, cols, cols / 32}, no_outputs).ok());
    CHECK(reference::gemm(packed(0, cols), dense<const float>(rows, cols), dense<double>(rows, 0)).ok());
  }
}

TEST_CASE("no columns to sum over: outputs are zeros, written", "[bad_input]") {
  std::vector<float> y(6, 7.0f);
  const dense_view<float> out{y.data(), 2, 3, 3};
  const std::vector<float> zeros(6, 0.0f);
  const auto is_zero = [&](const status& s) {
    const bool good = s.ok() && y == zeros;
    y.assign(6, 7.0f);
    return good;
  };
  const auto x8 = quantize_activations(dense<const float>(2, 0), int8_scaling::e8m0);
  const auto w = pack(packed(3, 0));
  REQUIRE((x8 && w));
  CHECK(is_zero(gemm(packed(3, 0), dense<const float>(2, 0), out)));
  CHECK(is_zero(gemm(w->view(), dense<const float>(2, 0), out)));
  CHECK(is_zero(gemm(*w, *x8, out)));
  CHECK(is_zero(gemm(packed(3, 0), *x8, out)));
  CHECK(is_zero(reference::gemm(packed(3, 0), *x8, out)));
}

TEST_CASE("no elements: routing and mixture of experts", "[bad_input]") {
  const auto no_experts = dense<const float>(most, 0);
  CHECK(route_topk_sigmoid(no_experts, nullptr, dense<std::int32_t>(most, 0), dense<float>(most, 0)).ok());

  auto workspace = moe_workspace::create({most, 0, 0, 0, 0});
  REQUIRE(workspace);
  moe_workspace memory = *std::move(workspace);
  const std::vector<expert<packed_view>> experts;
  CHECK(moe(experts, dense<const float>(most, 0), dense<const std::int32_t>(most, 0), dense<const float>(most, 0),
            dense<float>(most, 0), memory)
            .ok());
}

TEST_CASE("from_bytes: another number of bytes is refused before memory is asked for", "[bad_input]") {
  const std::uint8_t few[16]{};
  const std::int64_t huge = std::int64_t{1} << 40;  // 2^56 bytes
  const status s = packed_matrix::from_bytes(huge, 1 << 16, few).error();
  CHECK(s.code == errc::shape_mismatch);
  CHECK((s.value == 16 && s.expected == huge / 16 * (1 << 11) * 272));
  CHECK(packed_matrix::uninitialized(huge, 1 << 16).error().code == errc::out_of_memory);
}
