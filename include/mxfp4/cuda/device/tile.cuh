// mxfp4/cuda/device/tile.cuh -- what gemv and gemm share: the tokens of a tile, loads of scales, parts of K.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "mxfp4/cuda/device/intrinsics.cuh"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::device {

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

/// Some of the token slots of one expert. Token slot p is row p of Y, and row p / slots_per_row of X.
struct routed_tokens {
  const std::int32_t* order;  ///< token slots by expert
  int first;
  int count;
  int slots_per_row;

  /// From number `begin` on, at most `most` of them.
  [[nodiscard]] MXFP4_DEVICE routed_tokens part(int begin, int most) const {
    return {order, first + begin, count - begin < most ? count - begin : most, slots_per_row};
  }
  [[nodiscard]] MXFP4_DEVICE int x_row(int i) const { return load_constant(order + first + i) / slots_per_row; }
  [[nodiscard]] MXFP4_DEVICE int y_row(int i) const { return load_constant(order + first + i); }
};

/// What is needed to store a tile. Until then it is kept in shared memory, 4-byte aligned, which leaves the registers
/// to the sums.
struct tile_end {
  std::int32_t tokens;
  std::int32_t column;   ///< of y, for the tile's first row of weights
  std::int32_t columns;  ///< from there on
};
/// Written by one thread: load_end() only after a barrier.
template <class Tokens>
MXFP4_DEVICE void store_end(tile_end* to, const weight_rows& w, int first_row, const Tokens& which) {
  if (thread_index() != 0) return;
  store_shared(&to->tokens, static_cast<std::int32_t>(which.count));
  store_shared(&to->column, static_cast<std::int32_t>(first_row - w.begin));
  store_shared(&to->columns, static_cast<std::int32_t>(w.end - first_row));
}
MXFP4_DEVICE tile_end load_end(const tile_end* from) {
  return {load_shared(&from->tokens), load_shared(&from->column), load_shared(&from->columns)};
}

/// The scales of a row as 4-byte words, since no asynchronous copy moves less. A row of K / 32 bytes may begin inside a
/// word: the word then begins in the row before. `scales` is 4-byte aligned; no byte outside the matrix is read.
/// View: of weights or of MXFP8 activations.
struct row_scales {
  const std::uint8_t* words;  ///< the one that holds the row's first scale
  int left;                   ///< bytes from there to the last scale of the matrix, as far as an int counts

  /// `exists`: otherwise only zeros are to arrive.
  template <class View>
  [[nodiscard]] MXFP4_DEVICE static row_scales of(const View& v, std::int64_t row, bool exists) {
    const std::int64_t offset = (row * v.scale_stride) & ~std::int64_t{3};
    const std::int64_t end = (v.rows - 1) * v.scale_stride + v.blocks() - offset;
    return {v.scales + offset, !exists ? 0 : end < 0x7FFFFFFF ? static_cast<int>(end) : 0x7FFFFFFF};
  }
  /// Which byte of its first word is the scale of a row: the lowest two bits, which no higher ones reach. The same for
  /// rows that are a multiple of four apart.
  template <class View>
  [[nodiscard]] MXFP4_DEVICE static int first_byte(const View& v, std::int64_t row) {
    return static_cast<int>((static_cast<std::uint32_t>(row) * static_cast<std::uint32_t>(v.scale_stride)) & 3u);
  }
  /// Starts to copy the word `offset` bytes on, a multiple of 4; zeros for what is past the end.
  MXFP4_DEVICE void copy(std::uint8_t* shared, int offset) const {
    const int bytes = left - offset;
    copy_async_part<4>(shared, words + offset, bytes >= 4 ? 4 : bytes > 0 ? bytes : 0);
  }
};

/// Steps begin .. end - 1 of K.
struct step_range {
  int begin, end;
};
/// This warp's part of `steps` that the `warps` warps of a block share; it may be empty.
MXFP4_DEVICE step_range warp_share(int steps, int warps) {
  const std::int64_t warp = warp_index();
  return {static_cast<int>(steps * warp / warps), static_cast<int>(steps * (warp + 1) / warps)};
}

MXFP4_DEVICE void clear(float& sum) { sum = 0.0f; }
/// All sums of an array, of any number of dimensions, to zero.
template <class T, std::size_t N>
MXFP4_DEVICE void clear(T (&sums)[N]) {
  MXFP4_UNROLL
  for (T& one : sums) clear(one);
}

/// A scale byte that has arrived. Past the last block of a row there are codes 0 under the bytes of what follows in
/// memory; a NaN among those must not count.
MXFP4_DEVICE std::uint32_t load_scale(const std::uint8_t* shared, bool exists) {
  const std::uint32_t byte = load_shared(shared);
  return exists ? byte : 0;
}

}  // namespace mxfp4::cuda::device
