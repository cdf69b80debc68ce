// src/model/served_activations.cpp -- see served_activations.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "model/served_activations.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "mxfp4/block.hpp"
#include "mxfp4/recipe.hpp"

namespace mxfp4::model {

namespace {

constexpr std::int64_t group_size = 128;
constexpr float e4m3_largest = 448.0f;

}  // namespace

token_rows as_fp8(dense_view<const float> x) {
  token_rows served(x.rows, x.cols);
  for (std::int64_t m = 0; m < x.rows; ++m)
    for (std::int64_t first = 0; first < x.cols; first += group_size) {
      const std::span<const float> group(x.row(m) + first,
                                         static_cast<std::size_t>(std::min(group_size, x.cols - first)));
      float* const out = served.row(m) + first;
      float amax = 0;
      bool finite = true;
      for (const float v : group) {
        amax = std::max(amax, std::fabs(v));
        finite = finite && std::isfinite(v);
      }
      const float scale = amax / e4m3_largest;
      for (std::size_t i = 0; i < group.size(); ++i)
        out[i] = !finite      ? std::numeric_limits<float>::quiet_NaN()
                 : scale == 0 ? 0.0f
                              : decode(encode_e4m3(group[i] / scale)) * scale;
    }
  return served;
}

token_rows as_mxfp4(dense_view<const float> x) {
  token_rows served(x.rows, x.cols);
  for (std::int64_t m = 0; m < x.rows; ++m)
    for (std::int64_t first = 0; first < x.cols; first += block_size) {
      const block b =
          encode_block<recipe::compressed_tensors>(std::span<const float, block_size>(x.row(m) + first, block_size));
      const auto numbers = decode_block<float>(b);
      std::ranges::copy(numbers, served.row(m) + first);
    }
  return served;
}

}  // namespace mxfp4::model
