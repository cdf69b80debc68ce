// src/checkpoint/block_encoder.hpp -- weights -> MXFP4 a slab at a time, and what was lost on the way.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "mxfp4/format/recipe_id.hpp"
#include "mxfp4/reference/error_statistics.hpp"
#include "mxfp4/tensor/call_options.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

inline constexpr std::int64_t slab_blocks = 1 << 15;                    ///< what is in memory at a time
inline constexpr std::int64_t slab_weights = slab_blocks * block_size;  ///< 2^20: 4 MiB of float

using mxfp4::error_statistics;

/// Encodes with one recipe and adds up the statistics; the buffers are kept from slab to slab.
class block_encoder {
 public:
  explicit block_encoder(recipe_id recipe, on_nonfinite policy = on_nonfinite::encode) noexcept
      : recipe_(recipe), policy_(policy) {}

  /// @param weights  whole blocks.  @return what mxfp4::quantize says; with errc::nonfinite, `value` is the index.
  template <element_type T>
  status encode(std::span<const T> weights);

  /// Takes the codes that are there already, and measures what they lost: room(weights) is to be filled before.
  template <element_type T>
  status take(std::span<const T> weights);
  /// Room for the codes and scales of so many weights.
  [[nodiscard]] mx_view<> room(std::int64_t weights) { return make_room(1, weights); }

  /// The same of FP8 weights with block scales, as mxfp4::quantize_fp8 takes them.
  status encode_fp8(const dense_view<const e4m3>& w, const dense_view<const float>& scales);

  [[nodiscard]] std::span<const std::uint8_t> codes() const noexcept { return codes_; }    ///< 16 bytes a block
  [[nodiscard]] std::span<const std::uint8_t> scales() const noexcept { return scales_; }  ///< 1 byte a block
  [[nodiscard]] const error_statistics& statistics() const noexcept { return statistics_; }
  void reset_statistics() noexcept { statistics_ = {}; }

 private:
  [[nodiscard]] mx_view<> make_room(std::int64_t rows, std::int64_t cols);

  recipe_id recipe_;
  on_nonfinite policy_;
  std::vector<std::uint8_t> codes_, scales_;
  error_statistics statistics_;
};

}  // namespace mxfp4::checkpoint
