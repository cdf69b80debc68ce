// integrations/vllm/src/plain_kernels.hpp -- what plain_linear.hpp needs of an instruction set.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

namespace mxfp4::vllm {

inline constexpr std::int64_t plain_group_rows = 64;  ///< what a task multiplies: some tiles, one after another

/// The products of a group's rows.
struct plain_kernels {
  /// Adds to (or begins) the sums of some tokens and all rows of a group.
  /// @param w     the first of the columns in the group's first tile; step: words from a tile to the next.
  /// @param x     [column][token]
  /// @param sums  [token][row]; stride: from a token to the next.
  using product = void (*)(const std::uint32_t* w, std::int64_t step, const float* x, std::int64_t columns, float* sums,
                           std::int64_t stride, bool add) noexcept;

  std::int64_t tile_words;           ///< of a column: the floats of a register, half of the tile's rows
  std::int64_t most_tokens;          ///< that are multiplied at once
  std::array<product, 12> products;  ///< for 1, 2, ... most_tokens; the rest is null
};

extern const plain_kernels plain_avx2, plain_avx512;  ///< x86-64 only

}  // namespace mxfp4::vllm
