// src/model/token_rows.hpp -- activations: a row of floats for each token.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "mxfp4/view.hpp"

namespace mxfp4::model {

/// `count` rows of `size` floats, zeros at first.
struct token_rows {
  std::int64_t count = 0, size = 0;
  std::vector<float> data;

  token_rows() = default;
  token_rows(std::int64_t tokens, std::int64_t elements)
      : count(tokens), size(elements), data(static_cast<std::size_t>(tokens * elements)) {}
  [[nodiscard]] float* row(std::int64_t i) noexcept { return data.data() + i * size; }
  [[nodiscard]] const float* row(std::int64_t i) const noexcept { return data.data() + i * size; }
  [[nodiscard]] dense_view<const float> view() const noexcept { return {data.data(), count, size, size}; }
  [[nodiscard]] dense_view<float> view() noexcept { return {data.data(), count, size, size}; }
  /// Rows [first, first + rows).
  [[nodiscard]] dense_view<const float> rows(std::int64_t first, std::int64_t rows) const noexcept {
    return {row(first), rows, size, size};
  }
};

/// out[i] = weight[i] * (x[i] / sqrt(mean(x^2) + eps)); `out` may be x. Squares are added up in double, i ascending.
inline void rms_norm(const float* x, const std::vector<float>& weight, float eps, float* out) {
  double sum = 0;
  for (std::size_t i = 0; i < weight.size(); ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  const auto mean = static_cast<float>(sum / static_cast<double>(weight.size()));
  const float scale = 1.0f / std::sqrt(mean + eps);
  for (std::size_t i = 0; i < weight.size(); ++i) out[i] = weight[i] * (x[i] * scale);
}

}  // namespace mxfp4::model
