// tests/dispatch.engine.cpp -- a shared library, as an engine is, with one quantize and one gemv of mxfp4::dispatch.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <mxfp4/dispatch.hpp>
#include <span>

extern "C" [[gnu::visibility("default")]] bool engine(const float* weights, std::uint8_t* codes, std::uint8_t* scales,
                                                      const float* x, float* y, std::int64_t n, std::int64_t k) {
  const auto rows = static_cast<std::size_t>(n), cols = static_cast<std::size_t>(k);
  const auto w = mxfp4::make_view(std::span(codes, rows * cols / 2), std::span(scales, rows * cols / 32), n, k);
  if (!w || !mxfp4::dispatch::quantize(mxfp4::dense_view<const float>{weights, n, k, k}, *w).ok()) return false;
  return mxfp4::dispatch::gemv(*w, std::span(x, cols), std::span(y, rows)).ok();
}
