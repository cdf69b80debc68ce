// tests/quantize.guard_page.test.cpp -- no whole-matrix function touches the byte behind the last one of any argument.
// SPDX-License-Identifier: Apache-2.0
//
// Each buffer ends where a page without access begins: one byte more and the program dies.
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cstdint>

#include "mxfp4/reference/gemm.hpp"
#include "mxfp4/reference/quantize.hpp"
#include "mxfp4/tensor/convert.hpp"
#include "mxfp4/tensor/encode_row.hpp"
#include "support/matrix.hpp"

namespace {

using namespace mxfp4;
using mxfp4::test::layouts;
using mxfp4::test::page_end;
using mxfp4::test::place;

/// Weights in pages of their own, with `gap` bytes between rows and none behind the last.
template <class Layout>
class page_end_mx {
 public:
  page_end_mx(std::int64_t rows, std::int64_t cols, std::int64_t gap)
      : rows_(rows),
        cols_(cols),
        code_stride_(place<Layout>::code_row(cols / 32) + gap),
        scale_stride_(place<Layout>::scale_line(cols / 32) + gap),
        codes_(code_stride_ * rows - gap),
        scales_(scale_stride_ * place<Layout>::scale_lines(rows) - gap) {}
  mx_view<Layout> view() const {
    if (place<Layout>::has_scale_buffer)
      return {codes_.data(), scales_.data(), rows_, cols_, code_stride_, scale_stride_};
    return {codes_.data() + 1, codes_.data(), rows_, cols_, code_stride_, code_stride_};
  }

 private:
  std::int64_t rows_, cols_, code_stride_, scale_stride_;
  page_end<std::uint8_t> codes_, scales_;
};

}  // namespace

TEMPLATE_LIST_TEST_CASE("guard page: quantize, dequantize, convert, gemm", "[quantize][property]", layouts) {
  for (const std::int64_t rows : {1, 3, 128, 129})
    for (const std::int64_t cols : {32, 160})
      for (const std::int64_t gap : {0, 3}) {
        CAPTURE(rows, cols, gap);
        const page_end<float> x(rows * (cols + gap) - gap), back(rows * (cols + gap) - gap);
        for (std::int64_t i = 0; i < rows * (cols + gap) - gap; ++i) x.data()[i] = 6.0f;
        const page_end_mx<TestType> w(rows, cols, gap);
        const dense_view<const float> x_view{x.data(), rows, cols, cols + gap};
        REQUIRE(reference::quantize(x_view, w.view(), {.nonfinite = on_nonfinite::refuse}).ok());
        REQUIRE(reference::quantize<recipe::min_mse>(x_view, w.view()).ok());
        REQUIRE(reference::dequantize(w.view(), dense_view<float>{back.data(), rows, cols, cols + gap}).ok());
        REQUIRE(back.data()[(rows - 1) * (cols + gap) + cols - 1] == 6.0f);

        const page_end_mx<layout::ggml> blocks(rows, cols, gap);
        const page_end_mx<layout::swizzled_128x4> tiles(rows, cols, gap);
        REQUIRE(convert(w.view(), blocks.view()).ok());
        REQUIRE(convert(blocks.view(), tiles.view()).ok());
        REQUIRE(convert(tiles.view(), w.view()).ok());

        const page_end<double> y(2 * rows + gap);
        const page_end<float> tokens(2 * cols + gap);
        for (std::int64_t i = 0; i < 2 * cols + gap; ++i) tokens.data()[i] = 1.0f;
        REQUIRE(reference::gemm(w.view(), dense_view<const float>{tokens.data(), 2, cols, cols + gap},
                                dense_view<double>{y.data(), 2, rows, rows + gap})
                    .ok());
        REQUIRE(y.data()[2 * rows + gap - 1] == 6.0 * static_cast<double>(cols));
      }
}

TEST_CASE("guard page: quantize_fp8 and encode_row", "[quantize][property]") {
  const page_end<e4m3> w(20800);  // 130 x 160
  for (std::int64_t i = 0; i < 20800; ++i) w.data()[i] = e4m3{0x38};
  const page_end<float> scales(4);
  for (std::int64_t i = 0; i < 4; ++i) scales.data()[i] = 1.0f;
  const page_end_mx<layout::compressed_tensors> out(130, 160, 0);
  REQUIRE(reference::quantize_fp8({w.data(), 130, 160, 160}, {scales.data(), 2, 2, 2}, out.view(),
                                  {.nonfinite = on_nonfinite::refuse})
              .ok());

  for (const std::int64_t n : {1, 31, 32, 33, 100}) {
    const page_end<float> x(n);
    const std::int64_t blocks = n / 32 + (n % 32 != 0);
    const page_end<std::uint8_t> codes(16 * blocks), bytes(blocks);
    for (std::int64_t i = 0; i < n; ++i) x.data()[i] = 6.0f;
    REQUIRE(encode_row(x.data(), n, codes.data(), bytes.data()).ok());
    REQUIRE(bytes.data()[blocks - 1] == 127);
  }
}
