// mxfp4/cuda/tile.cuh -- side: what gemv and gemm share: which tokens a tile has, and scale bytes on their way in.
// SPDX-License-Identifier: Apache-2.0
//
// Reads: intrinsics.cuh, floor 4's views.  Read by: gemv.cuh, gemm.cuh, moe.cuh.
#pragma once

#include <cstdint>

#include "mxfp4/cuda/intrinsics.cuh"
#include "mxfp4/view.hpp"

namespace mxfp4::cuda::device {

/// Rows begin .. end - 1 of w: one matrix of a stack, or all.
struct weight_rows {
  const_mx_view<> w;
  int begin;
  int end;
};

/// Tokens first .. first + count - 1 of a dense product.
struct dense_tokens {
  int first;
  int count;

  [[nodiscard]] MXFP4_DEVICE int x_row(int i) const { return first + i; }
  [[nodiscard]] MXFP4_DEVICE int y_row(int i) const { return first + i; }
};

/// Some of the pairs (token, slot) of one expert. Pair p is row p of Y, and row p / pairs_per_row of X.
struct routed_tokens {
  const std::int32_t* pairs;
  int count;
  int pairs_per_row;

  [[nodiscard]] MXFP4_DEVICE int x_row(int i) const { return load_constant(pairs + i) / pairs_per_row; }
  [[nodiscard]] MXFP4_DEVICE int y_row(int i) const { return load_constant(pairs + i); }
};

/// The scales of a matrix as 4-byte words, since no asynchronous copy moves less. A row of K / 32 bytes may begin inside a
/// word: the word then begins in the row before. `scales` is 4-byte aligned; no byte outside the matrix is read.
struct scale_words {
  const std::uint8_t* scales;
  std::int64_t stride;
  std::int64_t end;  ///< offset past the last scale of the matrix

  [[nodiscard]] MXFP4_DEVICE static scale_words of(const const_mx_view<>& w) {
    return {w.scales, w.scale_stride, w.rows == 0 ? 0 : (w.rows - 1) * w.scale_stride + w.blocks()};
  }
  /// Where the word lies that holds the scale of (row, block).
  [[nodiscard]] MXFP4_DEVICE std::int64_t word_of(std::int64_t row, int block) const {
    return (row * stride + block) & ~std::int64_t{3};
  }
  /// Which byte of that word it is: the lowest two bits, which no higher ones reach.
  [[nodiscard]] MXFP4_DEVICE int byte_of(std::int64_t row, int block) const {
    const auto low = static_cast<std::uint32_t>(row) * static_cast<std::uint32_t>(stride);
    return static_cast<int>((low + static_cast<std::uint32_t>(block)) & 3u);
  }
  /// Starts to copy the word at `offset`, a multiple of 4; zeros for what is past the end, or for all of it.
  MXFP4_DEVICE void copy(std::uint8_t* shared, std::int64_t offset, bool exists = true) const {
    const std::int64_t left = end - offset;
    const int bytes = left >= 4 ? 4 : left > 0 ? static_cast<int>(left) : 0;
    copy_async_part<4>(shared, scales + offset, exists ? bytes : 0);
  }
};

/// A scale byte that has arrived. Past the last block of a row there are codes 0 under the bytes of what follows in
/// memory; a NaN among those must not count.
MXFP4_DEVICE std::uint32_t load_scale(const std::uint8_t* shared, bool exists) {
  const std::uint32_t byte = load_shared(shared);
  return exists ? byte : 0;
}

}  // namespace mxfp4::cuda::device
