// src/calibrate/importance.cpp -- see importance.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "calibrate/importance.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "calibrate/one_block.hpp"
#include "mxfp4/block.hpp"

namespace mxfp4::calibrate {

namespace {

constexpr std::size_t block_width = block_size;

/// A block under one scale.
struct trial {
  double loss = 0;       ///< of all weights
  double saturated = 0;  ///< of those beyond six times the scale
  float value[block_width];
};

void try_scale(const float* w, const float* importance, int byte, trial& out) {
  const float scale = power_of_two(byte), inverse = power_of_two(254 - byte);
  out.loss = out.saturated = 0;
  for (std::size_t c = 0; c < block_width; ++c) {
    out.value[c] = round_under(w[c], scale, inverse);
    const double e = static_cast<double>(w[c]) - static_cast<double>(out.value[c]);
    const double loss = static_cast<double>(importance[c]) * (e * e);
    out.loss += loss;
    if (std::fabs(w[c]) * inverse > 6.0f) out.saturated += loss;
  }
}

}  // namespace

checkpoint::code_costs choose_by_importance(std::span<const float> weights, std::span<const float> importance,
                                            std::int64_t first, std::span<std::uint8_t> codes,
                                            std::span<std::uint8_t> scales) {
  checkpoint::code_costs costs;
  const std::size_t row_blocks = importance.size() / block_width;
  for (std::size_t b = 0; b < scales.size(); ++b) {
    const float* const w = weights.data() + b * block_width;
    if (!std::all_of(w, w + block_width, [](float x) { return std::isfinite(x); })) continue;
    const float* const of_columns =
        importance.data() + (static_cast<std::size_t>(first) + b) % row_blocks * block_width;
    std::uint8_t* const code = codes.data() + b * block_code_bytes;
    double plain = 0;
    float amax = 0;
    for (std::size_t c = 0; c < block_width; ++c) {
      const double q = static_cast<double>(
          decode_weight<float>(get_code<low_first>(code, static_cast<int>(c)), static_cast<e8m0>(scales[b])));
      const double e = static_cast<double>(w[c]) - q;
      plain += static_cast<double>(of_columns[c]) * (e * e);
      amax = std::max(amax, std::fabs(w[c]));
    }
    double least = plain;
    trial t;
    for (int byte = std::min(floor_byte(amax) + 1, 254); byte >= 0; --byte) {
      try_scale(w, of_columns, byte, t);
      if (t.loss < least) {
        least = t.loss;
        scales[b] = static_cast<std::uint8_t>(byte);
        write_block(t.value, scales[b], code);
      }
      if (t.saturated >= least) break;
    }
    costs.plain += plain;
    costs.chosen += least;
  }
  return costs;
}

}  // namespace mxfp4::calibrate
