// examples/common/block_encoder.hpp -- weights -> MXFP4 a slab at a time, and what was lost on the way.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "mxfp4/quantize.hpp"

namespace mxfp4::tools {

inline constexpr std::int64_t slab_blocks = 1 << 15;                    ///< what is in memory at a time
inline constexpr std::int64_t slab_weights = slab_blocks * block_size;  ///< 2^20: 4 MiB of float

/// How far the encoded weights are from the given ones. The last four counts exclude one another.
struct error_statistics {
  std::int64_t weights = 0;
  std::int64_t saturated = 0;   ///< |w| > 6 * scale: cut to 6 * scale, in part a rounding and in part a loss
  std::int64_t zeroed = 0;      ///< nonzero, but nearest to 0; the block has nonzero values left
  std::int64_t lost = 0;        ///< nonzero, and now NaN, infinite, or in a block that came out as nothing but zeros
  std::int64_t nonfinite = 0;   ///< NaN or infinity to begin with
  std::int64_t nan_blocks = 0;  ///< blocks with scale byte 255
  double squared_weights = 0;   ///< sum of w^2, finite w only; to 2^-21 of itself, for 32 are summed as floats
  double squared_error = 0;     ///< sum of (w - q)^2, likewise; a lost weight counts as q = 0
  double max_error = 0;         ///< largest |w - q|
  std::array<std::int64_t, 256> scales{};  ///< blocks by their scale byte

  error_statistics& operator+=(const error_statistics& other) noexcept;
  [[nodiscard]] double relative_error() const noexcept;  ///< |W - Q|_F / |W|_F; 0 for a tensor of zeros

  /// Compares whole blocks: 32 weights, 16 code bytes and 1 scale byte each.
  template <element_type T>
  void add(std::span<const T> weights, const std::uint8_t* codes, const std::uint8_t* scales) noexcept;
};

/// Encodes with one recipe and adds up the statistics; the buffers are kept from slab to slab.
class block_encoder {
 public:
  explicit block_encoder(recipe_id recipe, on_nonfinite policy = on_nonfinite::encode) noexcept
      : recipe_(recipe), policy_(policy) {}

  /// @param weights  whole blocks.  @return what mxfp4::quantize says; with errc::nonfinite, `value` is the index.
  template <element_type T>
  status encode(std::span<const T> weights);

  [[nodiscard]] std::span<const std::uint8_t> codes() const noexcept { return codes_; }    ///< 16 bytes a block
  [[nodiscard]] std::span<const std::uint8_t> scales() const noexcept { return scales_; }  ///< 1 byte a block
  [[nodiscard]] const error_statistics& statistics() const noexcept { return statistics_; }
  void reset_statistics() noexcept { statistics_ = {}; }

 private:
  recipe_id recipe_;
  on_nonfinite policy_;
  std::vector<std::uint8_t> codes_, scales_;
  error_statistics statistics_;
};

}  // namespace mxfp4::tools
