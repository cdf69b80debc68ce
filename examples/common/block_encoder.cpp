// examples/common/block_encoder.cpp -- encode a slab, decode it again, compare.
// SPDX-License-Identifier: Apache-2.0
#include "common/block_encoder.hpp"

#include <algorithm>
#include <cmath>

namespace mxfp4::tools {

error_statistics& error_statistics::operator+=(const error_statistics& other) noexcept {
  weights += other.weights;
  saturated += other.saturated;
  zeroed += other.zeroed;
  lost += other.lost;
  nonfinite += other.nonfinite;
  nan_blocks += other.nan_blocks;
  squared_weights += other.squared_weights;
  squared_error += other.squared_error;
  max_error = std::max(max_error, other.max_error);
  for (std::size_t i = 0; i < scales.size(); ++i) scales[i] += other.scales[i];
  return *this;
}

double error_statistics::relative_error() const noexcept {
  return squared_weights > 0 ? std::sqrt(squared_error / squared_weights) : 0.0;
}

template <element_type T>
void error_statistics::add(std::span<const T> w, const std::uint8_t* codes, const std::uint8_t* scale_bytes) noexcept {
  const std::size_t blocks = w.size() / block_size;
  for (std::size_t b = 0; b < blocks; ++b, codes += block_code_bytes) {
    const auto scale = static_cast<e8m0>(scale_bytes[b]);
    const bool nan_block = scale == e8m0::nan;
    const double largest = 6.0 * static_cast<double>(decode(scale));  // NaN in a NaN block: nothing is above it
    bool any_code = false;
    for (int j = 0; j < block_code_bytes; ++j) any_code = any_code || (codes[j] & 0x77) != 0;
    for (int i = 0; i < block_size; ++i) {
      const auto x = static_cast<double>(decode(w[b * block_size + static_cast<std::size_t>(i)]));
      if (!std::isfinite(x)) {
        ++nonfinite;
        continue;
      }
      const e2m1 code = get_code<low_first>(codes, i);
      const auto decoded = static_cast<double>(decode_weight(code, scale));
      const bool is_lost = x != 0 && (!any_code || !std::isfinite(decoded));
      const double q = std::isfinite(decoded) ? decoded : 0.0;
      if (is_lost) ++lost;
      else if (x != 0 && q == 0) ++zeroed;
      else if (std::abs(x) > largest) ++saturated;
      const double error = std::abs(x - q);
      squared_weights += x * x;
      squared_error += error * error;
      max_error = std::max(max_error, error);
    }
    nan_blocks += nan_block ? 1 : 0;
    ++scales[scale_bytes[b]];
  }
  weights += static_cast<std::int64_t>(blocks) * block_size;
}

template <element_type T>
status block_encoder::encode(std::span<const T> weights) {
  const auto blocks = static_cast<std::int64_t>(weights.size()) / block_size;
  codes_.resize(static_cast<std::size_t>(blocks * block_code_bytes));
  scales_.resize(static_cast<std::size_t>(blocks));
  // Rows of one block: the bytes are those of the tensor, since its rows are whole blocks too.
  const auto in = make_dense_view(weights, blocks, block_size);
  const auto out = make_view(std::span(codes_), std::span(scales_), blocks, block_size);
  if (!in) return in.error();
  if (!out) return out.error();
  if (const status s = quantize(recipe_, *in, *out, policy_); !s.ok()) return s;
  statistics_.add(weights, codes_.data(), scales_.data());
  return {};
}

template void error_statistics::add(std::span<const float>, const std::uint8_t*, const std::uint8_t*) noexcept;
template void error_statistics::add(std::span<const bf16>, const std::uint8_t*, const std::uint8_t*) noexcept;
template void error_statistics::add(std::span<const f16>, const std::uint8_t*, const std::uint8_t*) noexcept;
template status block_encoder::encode(std::span<const float>);
template status block_encoder::encode(std::span<const bf16>);
template status block_encoder::encode(std::span<const f16>);

}  // namespace mxfp4::tools
