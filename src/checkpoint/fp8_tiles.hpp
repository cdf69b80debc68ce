// src/checkpoint/fp8_tiles.hpp -- a matrix in tiles that take little memory, however long its rows are.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "mxfp4/core/version.hpp"
#include "mxfp4/tensor/fp8.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// Rows [row, row + rows) and columns [col, col + cols): whole rows or a part of one: elements that lie together.
struct fp8_tile {
  std::int64_t row = 0, rows = 0, col = 0, cols = 0;

  [[nodiscard]] std::int64_t size() const noexcept { return rows * cols; }
  /// Its first element in a matrix with so many columns.
  [[nodiscard]] std::int64_t first(std::int64_t matrix_cols) const noexcept { return row * matrix_cols + col; }
};

/// Calls body(tile) for a matrix, in the order of its elements. A tile has at most `most` elements, or a block of 128;
/// it lies within one band of 128 rows and begins at a multiple of 128 columns: no scale of FP8 or MXFP4 is cut.
template <class Body>
void for_each_fp8_tile(std::int64_t rows, std::int64_t cols, std::int64_t most, Body body) {
  if (cols == 0) return;
  const std::int64_t width = std::min(cols, std::max(fp8_block, most / fp8_block * fp8_block));
  // A power of two divides a band into equal parts; less than a row is one row.
  const auto fitting = static_cast<std::uint64_t>(std::clamp<std::int64_t>(most / cols, 1, fp8_block));
  const std::int64_t height = width < cols ? 1 : static_cast<std::int64_t>(std::bit_floor(fitting));
  for (std::int64_t r = 0; r < rows; r += height)
    for (std::int64_t c = 0; c < cols; c += width)
      body(fp8_tile{r, std::min(height, rows - r), c, std::min(width, cols - c)});
}

}  // namespace mxfp4::checkpoint
