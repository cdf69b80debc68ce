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

/// What an ordinary block adds, in units of its scale, so that nothing overflows.
struct block_sums {
  float squared_weights, squared_error, max_error;
  int zeroed, saturated;
};

constexpr int largest_safe_scale = 252;  // 6 * 2^125 is a float, 6 * 2^126 is none

// Vectors of the compilers, which neither makes of these sums by itself: eight sums in a fixed order have the same bits on
// every machine. No clone with FMA, for that reason.
constexpr std::size_t lanes = 8;
using float_lanes [[gnu::vector_size(lanes * sizeof(float))]] = float;
using int_lanes [[gnu::vector_size(lanes * sizeof(int))]] = int;

#if defined(__x86_64__) && defined(__GLIBC__)
[[gnu::target_clones("avx2", "default")]]
#endif
/// @param x  weights.  @param q  their codes as numbers, under scale 1.  Of a block with a scale above largest_safe_scale
///           or a weight that is not finite, squared_weights is NaN or infinite, and the rest means nothing.
void measure_blocks(const float* x, const float* q, const std::uint8_t* scale_bytes, std::size_t blocks,
                    block_sums* sums) {
  for (std::size_t b = 0; b < blocks; ++b) {
    const std::uint32_t byte = scale_bytes[b];
    const float inverse = byte <= largest_safe_scale ? detail::float_from_bits((254u - byte) << 23)  // exact
                                                     : std::numeric_limits<float>::infinity();
    float_lanes w2{}, e2{}, worst{};
    int_lanes zeroed{}, saturated{};
    for (std::size_t i = 0; i < block_size; i += lanes) {
      float_lanes v, k;
      std::memcpy(&v, x + b * block_size + i, sizeof v);
      std::memcpy(&k, q + b * block_size + i, sizeof k);
      zeroed -= (v != 0.0f) & (k == 0.0f);  // true is -1
      v *= inverse;
      saturated -= (v > 6.0f) | (v < -6.0f);
      const float_lanes e = v - k;
      w2 += v * v;
      e2 += e * e;
      worst = e > worst ? e : worst;
      worst = -e > worst ? -e : worst;
    }
    block_sums& s = sums[b];
    s.squared_weights = ((w2[0] + w2[4]) + (w2[1] + w2[5])) + ((w2[2] + w2[6]) + (w2[3] + w2[7]));
    s.squared_error = ((e2[0] + e2[4]) + (e2[1] + e2[5])) + ((e2[2] + e2[6]) + (e2[3] + e2[7]));
    s.max_error = 0;
    s.zeroed = s.saturated = 0;
    for (std::size_t l = 0; l < lanes; ++l) {
      s.max_error = std::max(s.max_error, worst[l]);
      s.zeroed += zeroed[l];
      s.saturated += saturated[l];
    }
  }
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
  constexpr std::size_t batch = 32;  // blocks: what is read as a vector was stored long before
  const std::size_t blocks = w.size() / block_size;
  float x[batch * block_size], q[batch * block_size];
  block_sums sums[batch];
  for (std::size_t first = 0; first < blocks; first += batch) {
    const std::size_t count = std::min(batch, blocks - first);
    for (std::size_t i = 0; i < count * block_size; ++i) x[i] = decode(w[first * block_size + i]);
    for (std::size_t j = 0; j < count * block_code_bytes; ++j)
      std::memcpy(q + 2 * j, &code_pairs[codes[first * block_code_bytes + j]], 2 * sizeof(float));
    measure_blocks(x, q, scale_bytes + first, count, sums);
    for (std::size_t b = 0; b < count; ++b) {
      const std::uint8_t* block_codes = codes + (first + b) * block_code_bytes;
      const auto scale = static_cast<e8m0>(scale_bytes[first + b]);
      ++scales[scale_bytes[first + b]];
      if (!std::isfinite(sums[b].squared_weights) || !any_nonzero(block_codes)) {
        add_any_block(*this, x + b * block_size, block_codes, scale);
        continue;
      }
      const auto unit = static_cast<double>(decode(scale));
      squared_weights += static_cast<double>(sums[b].squared_weights) * (unit * unit);
      squared_error += static_cast<double>(sums[b].squared_error) * (unit * unit);
      max_error = std::max(max_error, static_cast<double>(sums[b].max_error) * unit);
      zeroed += sums[b].zeroed;
      saturated += sums[b].saturated;
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
