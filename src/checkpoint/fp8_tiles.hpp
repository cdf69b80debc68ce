// src/checkpoint/fp8_tiles.hpp -- a matrix in tiles that take little memory, however long its rows are.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
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

/// Calls body(tile) for a matrix, in the order of its elements. A tile has at most `most` elements, or a block of 128,
/// and begins at a multiple of 128 columns: no scale of MXFP4 is cut.
template <class Body>
void for_each_tile(std::int64_t rows, std::int64_t cols, std::int64_t most, Body body) {
  if (cols == 0) return;
  const std::int64_t width = std::min(cols, std::max(fp8_block, most / fp8_block * fp8_block));
  const std::int64_t height = width < cols ? 1 : std::max<std::int64_t>(1, most / cols);
  for (std::int64_t r = 0; r < rows; r += height)
    for (std::int64_t c = 0; c < cols; c += width)
      body(fp8_tile{r, std::min(height, rows - r), c, std::min(width, cols - c)});
}

/// The same, of an FP8 matrix: a tile lies within one band of 128 rows too, so that no scale of FP8 is cut.
/// @param above  rows under the same scales that lie above the matrix: it is a part of another, as up_proj of
/// gate_up_proj.
template <class Body>
void for_each_fp8_tile(std::int64_t rows, std::int64_t cols, std::int64_t most, Body body, std::int64_t above = 0) {
  for (std::int64_t band = 0, count = 0; band < rows; band += count) {
    count = std::min(fp8_block - (above + band) % fp8_block, rows - band);
    for_each_tile(count, cols, most, [&](fp8_tile tile) {
      tile.row += band;
      body(tile);
    });
  }
}

}  // namespace mxfp4::checkpoint
