// examples/common/block_encoder.cpp -- encode a slab, decode it again, compare.
// SPDX-License-Identifier: Apache-2.0
#include "common/block_encoder.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#if defined(MXFP4_TOOLS_DISPATCH)
#include "mxfp4/dispatch.hpp"
#endif

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

namespace {

/// The two weights of a code byte under scale 1, low nibble first.
constexpr auto code_pairs = [] {
  std::array<std::array<float, 2>, 256> pairs{};
  for (std::size_t byte = 0; byte < pairs.size(); ++byte)
    pairs[byte] = {decode(static_cast<e2m1>(byte & 15u)), decode(static_cast<e2m1>(byte >> 4u))};
  return pairs;
}();

[[nodiscard]] bool any_nonzero(const std::uint8_t* codes) noexcept {
  std::uint64_t words[2];
  static_assert(sizeof words == block_code_bytes);
  std::memcpy(words, codes, sizeof words);
  return ((words[0] | words[1]) & 0x7777'7777'7777'7777u) != 0;
}

[[nodiscard]] bool is_finite(const float* x) noexcept {
  int other = 0;
  for (int i = 0; i < block_size; ++i)
    other |= static_cast<int>(!(std::abs(x[i]) <= std::numeric_limits<float>::max()));
  return other == 0;
}

/// A block with finite weights, of which none is lost. In units of the scale, so that nothing overflows, and in eight sums
/// added in a fixed order, which a compiler may keep in registers of any width.
/// @param q  the codes as numbers, under scale 1.
void add_ordinary_block(error_statistics& s, const float* x, const float* q, e8m0 scale) noexcept {
  constexpr std::size_t lanes = 8;
  const float unit = decode(scale), largest = 6.0f * unit;
  int zeroed = 0, saturated = 0;
  for (std::size_t i = 0; i < block_size; ++i) {
    zeroed += static_cast<int>(x[i] != 0) & static_cast<int>(q[i] == 0);
    saturated += static_cast<int>(std::abs(x[i]) > largest) & static_cast<int>(q[i] != 0);
  }
  const double inverse = 1.0 / static_cast<double>(unit);
  double w2[lanes] = {}, e2[lanes] = {}, worst[lanes] = {};
  for (std::size_t i = 0; i < block_size; i += lanes)
    for (std::size_t l = 0; l < lanes; ++l) {
      const double v = static_cast<double>(x[i + l]) * inverse, e = v - static_cast<double>(q[i + l]);
      w2[l] += v * v;
      e2[l] += e * e;
      worst[l] = std::max(worst[l], std::abs(e));
    }
  const double to_weights = static_cast<double>(unit) * static_cast<double>(unit);
  s.squared_weights += (((w2[0] + w2[4]) + (w2[1] + w2[5])) + ((w2[2] + w2[6]) + (w2[3] + w2[7]))) * to_weights;
  s.squared_error += (((e2[0] + e2[4]) + (e2[1] + e2[5])) + ((e2[2] + e2[6]) + (e2[3] + e2[7]))) * to_weights;
  s.max_error = std::max(s.max_error, *std::max_element(worst, worst + lanes) * static_cast<double>(unit));
  s.zeroed += zeroed;
  s.saturated += saturated;
}

/// Any block: NaN scales, weights that are not finite, weights that are lost.
void add_any_block(error_statistics& s, const float* x, const std::uint8_t* codes, e8m0 scale) noexcept {
  const double largest = 6.0 * static_cast<double>(decode(scale));  // NaN in a NaN block: nothing is above it
  const bool any_code = any_nonzero(codes);
  for (int i = 0; i < block_size; ++i) {
    const auto w = static_cast<double>(x[i]);
    if (!std::isfinite(w)) {
      ++s.nonfinite;
      continue;
    }
    const auto decoded = static_cast<double>(decode_weight(get_code<low_first>(codes, i), scale));
    const bool is_lost = w != 0 && (!any_code || !std::isfinite(decoded));
    const double q = std::isfinite(decoded) ? decoded : 0.0;
    if (is_lost) ++s.lost;
    else if (w != 0 && q == 0) ++s.zeroed;
    else if (std::abs(w) > largest) ++s.saturated;
    const double error = std::abs(w - q);
    s.squared_weights += w * w;
    s.squared_error += error * error;
    s.max_error = std::max(s.max_error, error);
  }
}

}  // namespace

template <element_type T>
void error_statistics::add(std::span<const T> w, const std::uint8_t* codes, const std::uint8_t* scale_bytes) noexcept {
  constexpr std::uint8_t largest_safe_scale = 252;  // 6 * 2^125 is a float, 6 * 2^126 is none
  constexpr std::size_t batch = 32;                 // blocks: what is read as a vector was stored long before
  const std::size_t blocks = w.size() / block_size;
  float x[batch * block_size], q[batch * block_size];
  for (std::size_t first = 0; first < blocks; first += batch) {
    const std::size_t count = std::min(batch, blocks - first);
    for (std::size_t i = 0; i < count * block_size; ++i) x[i] = decode(w[first * block_size + i]);
    for (std::size_t j = 0; j < count * block_code_bytes; ++j)
      std::memcpy(q + 2 * j, &code_pairs[codes[first * block_code_bytes + j]], 2 * sizeof(float));
    for (std::size_t b = 0; b < count; ++b) {
      const float* block = x + b * block_size;
      const std::uint8_t* block_codes = codes + (first + b) * block_code_bytes;
      const std::uint8_t byte = scale_bytes[first + b];
      if (is_finite(block) && byte <= largest_safe_scale && any_nonzero(block_codes))
        add_ordinary_block(*this, block, q + b * block_size, static_cast<e8m0>(byte));
      else add_any_block(*this, block, block_codes, static_cast<e8m0>(byte));
      ++scales[byte];
    }
  }
  nan_blocks = scales[static_cast<std::size_t>(e8m0::nan)];
  weights += static_cast<std::int64_t>(blocks) * block_size;
}

template <element_type T>
status block_encoder::encode(std::span<const T> weights) {
  const auto blocks = static_cast<std::int64_t>(weights.size()) / block_size;
  codes_.resize(static_cast<std::size_t>(blocks * block_code_bytes));
  scales_.resize(static_cast<std::size_t>(blocks));
  // One long row: the bytes are those of the tensor, since its rows are whole blocks.
  const auto in = make_dense_view(weights, 1, blocks * block_size);
  const auto out = make_view(std::span(codes_), std::span(scales_), 1, blocks * block_size);
  if (!in) return in.error();
  if (!out) return out.error();
#if defined(MXFP4_TOOLS_DISPATCH)
  const status s = dispatch::quantize(recipe_, *in, *out, policy_);
#else
  const status s = quantize(recipe_, *in, *out, policy_);
#endif
  if (!s.ok()) return s;
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
