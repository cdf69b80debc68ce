// mxfp4/tensor/mxfp8_view.hpp -- M x K activations in MXFP8 that somebody else owns.
// SPDX-License-Identifier: Apache-2.0
//
//   elements   [row][K]         e4m3, a byte each
//   scales     [row][K / 32]    E8M0
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "mxfp4/format/mxfp8.hpp"
#include "mxfp4/tensor/product_check.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// A row from column `first` on, as a pointer of numbers would be: row + k, k >= 0.
struct mxfp8_row {
  const std::uint8_t* elements;  ///< of the row, e4m3
  const std::uint8_t* scales;    ///< of the row, one for each 32 elements
  std::int64_t first;            ///< the element at which it begins

  /// The same row from k elements further on.
  [[nodiscard]] MXFP4_INLINE friend constexpr mxfp8_row operator+(mxfp8_row row, std::int64_t k) noexcept {
    return {row.elements, row.scales, row.first + k};
  }
};

/// Byte is std::uint8_t or const std::uint8_t; the mutable view converts to the const one. No alignment is asked.
template <class Byte>
struct basic_mxfp8_view {
  Byte* elements = nullptr;         ///< e4m3
  Byte* scales = nullptr;           ///< e8m0, one for each 32 elements of a row
  std::int64_t rows = 0;            ///< tokens
  std::int64_t cols = 0;            ///< a multiple of 32
  std::int64_t element_stride = 0;  ///< bytes from one row of elements to the next
  std::int64_t scale_stride = 0;    ///< bytes from one row of scales to the next

  [[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr std::int64_t blocks() const noexcept {
    return cols / block_size;
  }  ///< in a row
  /// Row r, from its first element.
  [[nodiscard]] MXFP4_INLINE constexpr mxfp8_row row(std::int64_t r) const noexcept {
    return {elements + r * element_stride, scales + r * scale_stride, 0};
  }
  /// The number at (r, k), in data units.
  [[nodiscard]] MXFP4_INLINE constexpr float at(std::int64_t r, std::int64_t k) const noexcept {
    return decode(static_cast<e4m3>(elements[r * element_stride + k]),
                  static_cast<e8m0>(scales[r * scale_stride + k / block_size]));
  }
  /// The mutable view is a const one too.
  template <class B>
    requires(!std::is_const_v<Byte> && std::same_as<B, const Byte>)
  [[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr operator basic_mxfp8_view<B>() const noexcept {
    return {elements, scales, rows, cols, element_stride, scale_stride};
  }
};

/// Of memory that is written.
using mxfp8_view = basic_mxfp8_view<std::uint8_t>;
/// Of memory that is read.
using const_mxfp8_view = basic_mxfp8_view<const std::uint8_t>;

/// Is this view one that may be read and written?
/// @param argument  its name, for the message.
template <class Byte>
MXFP4_INLINE constexpr status check(const basic_mxfp8_view<Byte>& v, const char* argument = "") noexcept {
  if (const status s = detail::check_blocks(v.rows, v.cols, argument); !s.ok()) return s;
  if (v.element_stride < v.cols) return {errc::stride_too_small, "element_stride", v.element_stride, v.cols, argument};
  if (v.scale_stride < v.blocks())
    return {errc::stride_too_small, "scale_stride", v.scale_stride, v.blocks(), argument};
  const std::int64_t elements = detail::extent(v.rows, v.cols, v.element_stride);
  const std::int64_t scales = detail::extent(v.rows, v.blocks(), v.scale_stride);
  if (elements < 0) return {errc::size_overflow, "rows * element_stride", v.rows, 0, argument};
  if (scales < 0) return {errc::size_overflow, "rows * scale_stride", v.rows, 0, argument};
  if (elements > 0 && v.elements == nullptr) return {errc::null_pointer, "elements", 0, elements, argument};
  if (scales > 0 && v.scales == nullptr) return {errc::null_pointer, "scales", 0, scales, argument};
  return {};
}

namespace detail {
template <class Byte>
[[nodiscard]] MXFP4_INLINE operand operand_of(const basic_mxfp8_view<Byte>& v, const char* argument) noexcept {
  if (const status s = check(v, argument); !s.ok()) return {s};
  return {
      {},
      v.rows,
      v.cols,
      {{v.elements, extent(v.rows, v.cols, v.element_stride)}, {v.scales, extent(v.rows, v.blocks(), v.scale_stride)}}};
}
}  // namespace detail

}  // namespace mxfp4
