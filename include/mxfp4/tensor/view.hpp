// mxfp4/tensor/view.hpp -- non-owning views of matrices, and the checks that every whole-matrix function makes.
// SPDX-License-Identifier: Apache-2.0
//
// Weights are N x K: `rows` outputs, `cols` inputs, blocks along the inputs. Bytes (codes, scales, e4m3) may lie
// anywhere; wider elements lie at a multiple of their size, as C++ asks of a pointer to them, or errc::misaligned.
#pragma once

#include <concepts>
#include <cstdint>
#include <iterator>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>

#include "mxfp4/core/float_types.hpp"
#include "mxfp4/core/status.hpp"
#include "mxfp4/tensor/layout.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// MXFP4 codes and scales. Byte is std::uint8_t or const std::uint8_t; the mutable view converts to the const one.
template <class Byte, block_layout Layout = layout::compressed_tensors>
struct basic_mx_view {
  Byte* codes = nullptr;          ///< 16 bytes a block; order and place by Layout
  Byte* scales = nullptr;         ///< one byte a block
  std::int64_t rows = 0;          ///< of the matrix
  std::int64_t cols = 0;          ///< elements, a multiple of 32
  std::int64_t code_stride = 0;   ///< bytes from one row of codes to the next
  std::int64_t scale_stride = 0;  ///< bytes from one row (swizzled: one band of 128 rows) of scales to the next

  [[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr std::int64_t blocks() const noexcept {
    return cols / block_size;
  }  ///< in a row
  /// The 16 bytes of codes of block (row, b).
  [[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr Byte* block_codes(std::int64_t row, std::int64_t b) const noexcept {
    return codes + Layout::code_offset(row, b, code_stride);
  }
  /// The scale byte of block (row, b).
  [[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr Byte* block_scale(std::int64_t row, std::int64_t b) const noexcept {
    return scales + Layout::scale_offset(row, b, scale_stride);
  }
  /// The mutable view is a const one too.
  template <class B>
    requires(!std::is_const_v<Byte> && std::same_as<B, const Byte>)
  [[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr operator basic_mx_view<B, Layout>() const noexcept {
    return {codes, scales, rows, cols, code_stride, scale_stride};
  }
};

/// Codes and scales that are written.
template <block_layout Layout = layout::compressed_tensors>
using mx_view = basic_mx_view<std::uint8_t, Layout>;
/// Codes and scales that are read.
template <block_layout Layout = layout::compressed_tensors>
using const_mx_view = basic_mx_view<const std::uint8_t, Layout>;

/// A row-major matrix of numbers; any number of columns.
template <class T>
struct dense_view {
  T* data = nullptr;        ///< the first element
  std::int64_t rows = 0;    ///< of the matrix
  std::int64_t cols = 0;    ///< of the matrix
  std::int64_t stride = 0;  ///< elements from one row to the next

  /// Row r.
  [[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr T* row(std::int64_t r) const noexcept { return data + r * stride; }
  /// The mutable view is a const one too.
  template <class U>
    requires(!std::is_const_v<T> && std::same_as<U, const T>)
  [[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr operator dense_view<U>() const noexcept {
    return {data, rows, cols, stride};
  }
};

/// What can be one row of numbers: an array, a vector, a span, anything that std::data and std::size know.
template <class R>
concept number_row = requires(R& row) {
  *std::data(row);
  std::size(row);
};

namespace detail {

/// A row of numbers as a matrix, with its own length: a product then finds one that is too short.
template <number_row R>
[[nodiscard]] MXFP4_INLINE constexpr auto one_row(R& row) noexcept {
  const auto size = static_cast<std::int64_t>(std::size(row));
  return dense_view<std::remove_pointer_t<decltype(std::data(row))>>{std::data(row), 1, size, size};
}

inline constexpr std::int64_t int64_max = std::numeric_limits<std::int64_t>::max();

/// Elements from the start of a strided buffer to its end: (lines - 1) * stride + line; -1 on overflow.
[[nodiscard]] MXFP4_INLINE constexpr std::int64_t extent(std::int64_t lines, std::int64_t line,
                                                         std::int64_t stride) noexcept {
  if (lines == 0 || line == 0) return 0;
  if (lines > 1 && stride > (int64_max - line) / (lines - 1)) return -1;
  return (lines - 1) * stride + line;
}

[[nodiscard]] MXFP4_INLINE constexpr std::int64_t ceil_div(std::int64_t rows, std::int64_t rows_per_band) noexcept {
  return rows / rows_per_band + (rows % rows_per_band != 0 ? 1 : 0);
}

template <block_layout Layout>
[[nodiscard]] MXFP4_INLINE constexpr std::int64_t code_extent(std::int64_t rows, std::int64_t cols,
                                                              std::int64_t stride) noexcept {
  const std::int64_t line = Layout::code_row_bytes(cols / block_size);
  return extent(rows, Layout::interleaved && line > 0 ? line - 1 : line, stride);  // from byte 1 of a block on
}

template <block_layout Layout>
[[nodiscard]] MXFP4_INLINE constexpr std::int64_t scale_extent(std::int64_t rows, std::int64_t cols,
                                                               std::int64_t stride) noexcept {
  return extent(ceil_div(rows, Layout::rows_per_band), Layout::scale_band_bytes(cols / block_size), stride);
}

[[nodiscard]] MXFP4_INLINE constexpr status check_shape(std::int64_t rows, std::int64_t cols,
                                                        const char* argument) noexcept {
  if (rows < 0) return {errc::negative_size, "rows", rows, 0, argument};
  if (cols < 0) return {errc::negative_size, "cols", cols, 0, argument};
  return {};
}

/// The same for a matrix of blocks, with room for the sizes that a layout makes of `cols`.
[[nodiscard]] MXFP4_INLINE constexpr status check_blocks(std::int64_t rows, std::int64_t cols,
                                                         const char* argument) noexcept {
  if (const status s = check_shape(rows, cols, argument); !s.ok()) return s;
  if (cols % block_size != 0) return {errc::not_blocks, "cols", cols, 0, argument};
  if (cols > int64_max / 8) return {errc::size_overflow, "cols", cols, 0, argument};
  return {};
}

}  // namespace detail

namespace detail {
/// Bytes from the last multiple of alignof(T) to p; 0 in a constant expression, where memory has no address.
template <class T>
[[nodiscard]] MXFP4_INLINE constexpr std::int64_t bytes_past_alignment(const T* p) noexcept {
  if (std::is_constant_evaluated()) return 0;
  return static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(p) % alignof(T));
}
}  // namespace detail

/// Is this view one that may be read and written? Every whole-matrix function asks this of its arguments first.
/// @param argument  the view's name, for the message.
template <class Byte, block_layout Layout>
MXFP4_INLINE constexpr status check(const basic_mx_view<Byte, Layout>& v, const char* argument = "") noexcept {
  if (const status s = detail::check_blocks(v.rows, v.cols, argument); !s.ok()) return s;
  const std::int64_t code_row = Layout::code_row_bytes(v.blocks()), scale_row = Layout::scale_band_bytes(v.blocks());
  if (v.code_stride < code_row) return {errc::stride_too_small, "code_stride", v.code_stride, code_row, argument};
  if (v.scale_stride < scale_row) return {errc::stride_too_small, "scale_stride", v.scale_stride, scale_row, argument};
  const std::int64_t code_bytes = detail::code_extent<Layout>(v.rows, v.cols, v.code_stride);
  const std::int64_t scale_bytes = detail::scale_extent<Layout>(v.rows, v.cols, v.scale_stride);
  if (code_bytes < 0) return {errc::size_overflow, "rows * code_stride", v.rows, 0, argument};
  if (scale_bytes < 0) return {errc::size_overflow, "rows * scale_stride", v.rows, 0, argument};
  if (code_bytes > 0 && v.codes == nullptr) return {errc::null_pointer, "codes", 0, code_bytes, argument};
  if (scale_bytes > 0 && v.scales == nullptr) return {errc::null_pointer, "scales", 0, scale_bytes, argument};
  if constexpr (Layout::interleaved) {  // one buffer: a block's codes follow its scale
    if (v.scale_stride != v.code_stride)
      return {errc::shape_mismatch, "scale_stride", v.scale_stride, v.code_stride, argument};
    if (code_bytes > 0 && v.codes != v.scales + 1)
      return {errc::shape_mismatch, "codes - scales", v.codes - v.scales, 1, argument};
  }
  return {};
}

/// Is a view what it claims to be? Pointer, sizes, stride, alignment and overflow are looked at, no element is read.
template <class T>
MXFP4_INLINE constexpr status check(const dense_view<T>& v, const char* argument = "") noexcept {
  if (const status s = detail::check_shape(v.rows, v.cols, argument); !s.ok()) return s;
  if (v.stride < v.cols) return {errc::stride_too_small, "stride", v.stride, v.cols, argument};
  const std::int64_t elements = detail::extent(v.rows, v.cols, v.stride);
  if (elements < 0 || elements > detail::int64_max / static_cast<std::int64_t>(sizeof(T)))
    return {errc::size_overflow, "rows * stride", v.rows, 0, argument};
  if (elements > 0 && v.data == nullptr) return {errc::null_pointer, "data", 0, elements, argument};
  if (const std::int64_t past = detail::bytes_past_alignment(v.data); elements > 0 && past != 0)
    return {errc::misaligned, "data", past, alignof(T), argument};
  return {};
}

namespace detail {
/// The checks of a function from one matrix to another of the same shape, `out`; overlap is asked separately.
template <class In, class Out>
MXFP4_INLINE constexpr status check_same_shape(const In& in, const char* in_name, const Out& out) noexcept {
  if (const status s = check(in, in_name); !s.ok()) return s;
  if (const status s = check(out, "out"); !s.ok()) return s;
  if (out.rows != in.rows) return {errc::shape_mismatch, "out.rows", out.rows, in.rows};
  if (out.cols != in.cols) return {errc::shape_mismatch, "out.cols", out.cols, in.cols};
  return {};
}
}  // namespace detail

// ---- sizes and factories --------------------------------------------------------------------------------------------

/// Bytes of codes and of scales that `rows` x `cols` elements take without gaps; the padding of swizzled scales
/// included. For ggml, whose blocks hold both, `codes` is the whole buffer and `scales` 0.
struct mx_bytes {
  std::int64_t codes = 0;   ///< bytes
  std::int64_t scales = 0;  ///< bytes
};

/// How much memory such a matrix takes. errc::not_blocks, negative_size, size_overflow.
template <block_layout Layout = layout::compressed_tensors>
MXFP4_INLINE constexpr result<mx_bytes> bytes_needed(std::int64_t rows, std::int64_t cols) noexcept {
  if (const status s = detail::check_blocks(rows, cols, ""); !s.ok()) return s;
  const std::int64_t code_row = Layout::code_row_bytes(cols / block_size);
  const std::int64_t scale_row = Layout::scale_band_bytes(cols / block_size);
  const std::int64_t codes = detail::extent(rows, code_row, code_row);
  const std::int64_t scales = detail::extent(detail::ceil_div(rows, Layout::rows_per_band), scale_row, scale_row);
  if (codes < 0 || scales < 0) return status{errc::size_overflow, "rows * cols", rows};
  return mx_bytes{codes, Layout::interleaved ? 0 : scales};
}

namespace detail {

/// The element type of a contiguous range: `const float` for a const std::vector<float>.
template <class Range>
using element_of = typename decltype(std::span(std::declval<Range>()))::element_type;

/// A contiguous range whose elements outlive the call: a span, or a vector or an array that is no temporary.
template <class Range>
concept lasting_range = requires { typename element_of<Range>; };

}  // namespace detail

/// A view without gaps over two buffers, spans, arrays or vectors, each at least as large as bytes_needed says.
/// A view of const bytes where one of them is const.
template <block_layout Layout = layout::compressed_tensors, class Codes, class Scales>
  requires(!Layout::interleaved) && detail::lasting_range<Codes> && detail::lasting_range<Scales>
MXFP4_INLINE constexpr auto make_view(Codes&& code_memory, Scales&& scale_memory, std::int64_t rows,
                                      std::int64_t cols) noexcept {
  using code = detail::element_of<Codes>;
  using scale = detail::element_of<Scales>;
  static_assert(
      std::same_as<std::remove_const_t<code>, std::uint8_t> && std::same_as<std::remove_const_t<scale>, std::uint8_t>,
      "make_view takes codes and scales as bytes, std::uint8_t");
  using byte = std::conditional_t<std::is_const_v<code> || std::is_const_v<scale>, const std::uint8_t, std::uint8_t>;
  using made = result<basic_mx_view<byte, Layout>>;
  const std::span<byte> codes(code_memory), scales(scale_memory);
  const result<mx_bytes> need = bytes_needed<Layout>(rows, cols);
  if (!need) return made(need.error());
  const auto code_bytes = static_cast<std::int64_t>(codes.size()),
             scale_bytes = static_cast<std::int64_t>(scales.size());
  if (code_bytes < need->codes) return made(status{errc::buffer_too_small, "codes", code_bytes, need->codes});
  if (scale_bytes < need->scales) return made(status{errc::buffer_too_small, "scales", scale_bytes, need->scales});
  const basic_mx_view<byte, Layout> view{codes.data(),
                                         scales.data(),
                                         rows,
                                         cols,
                                         Layout::code_row_bytes(cols / block_size),
                                         Layout::scale_band_bytes(cols / block_size)};
  if (const status s = check(view); !s.ok()) return made(s);
  return made(view);
}

/// A view of ggml's 17-byte blocks without gaps: a span, an array or a vector of bytes.
template <detail::lasting_range Blocks>
MXFP4_INLINE constexpr auto make_ggml_view(Blocks&& block_range, std::int64_t rows, std::int64_t cols) noexcept {
  using byte = detail::element_of<Blocks>;
  static_assert(std::same_as<std::remove_const_t<byte>, std::uint8_t>,
                "make_ggml_view takes blocks as bytes, std::uint8_t");
  using made = result<basic_mx_view<byte, layout::ggml>>;
  const std::span<byte> blocks(block_range);
  const result<mx_bytes> need = bytes_needed<layout::ggml>(rows, cols);
  if (!need) return made(need.error());
  const auto bytes = static_cast<std::int64_t>(blocks.size());
  if (bytes < need->codes) return made(status{errc::buffer_too_small, "blocks", bytes, need->codes});
  const std::int64_t stride = layout::ggml::code_row_bytes(cols / block_size);
  byte* const first_codes = need->codes > 0 ? blocks.data() + 1 : blocks.data();
  return made(basic_mx_view<byte, layout::ggml>{first_codes, blocks.data(), rows, cols, stride, stride});
}

namespace detail {

/// Types that hold the bits of a bf16, f16 or e4m3 under another name. `_Float16` and `__bf16` are, with the standard
/// library of C++23, std::float16_t and std::bfloat16_t.
template <class S>
inline constexpr bool is_bf16_under_another_name = std::same_as<S, std::uint16_t>;
template <class S>
inline constexpr bool is_f16_under_another_name = std::same_as<S, std::uint16_t>;
template <class S>
inline constexpr bool is_e4m3_under_another_name = std::same_as<S, std::uint8_t>;
#if defined(__STDCPP_BFLOAT16_T__) || defined(__BFLT16_MAX__)
template <>
inline constexpr bool is_bf16_under_another_name<__bf16> = true;
#endif
#if defined(__FLT16_MAX__) && (defined(__x86_64__) || defined(__clang__) || __GNUC__ >= 13)  // g++ 12: x86-64 alone
__extension__ typedef _Float16 compiler_f16;
template <>
inline constexpr bool is_f16_under_another_name<compiler_f16> = true;
#endif

template <class T>
inline constexpr bool is_element_under_another_name =
    is_bf16_under_another_name<T> || is_f16_under_another_name<T> || is_e4m3_under_another_name<T>;

}  // namespace detail

/// A dense view without gaps.
template <class T>
MXFP4_INLINE constexpr result<dense_view<T>> make_dense_view(std::span<T> data, std::int64_t rows,
                                                             std::int64_t cols) noexcept {
  static_assert(!detail::is_element_under_another_name<std::remove_const_t<T>>,
                "say which numbers these bits are: make_bf16_view, make_f16_view or make_e4m3_view");
  const dense_view<T> view{data.data(), rows, cols, cols};
  if (const status s = check(view); !s.ok()) return s;
  const std::int64_t need = detail::extent(rows, cols, cols), have = static_cast<std::int64_t>(data.size());
  if (have < need) return status{errc::buffer_too_small, "data", have, need};
  return view;
}
/// The same of an array or a vector.
template <detail::lasting_range Range>
MXFP4_INLINE constexpr auto make_dense_view(Range&& data, std::int64_t rows, std::int64_t cols) noexcept {
  return make_dense_view(std::span<detail::element_of<Range>>(data), rows, cols);
}

namespace detail {
/// The memory of a range as numbers of type T, const where the range is. float_types.hpp says why the cast is defined.
template <class T, class Range>
[[nodiscard]] MXFP4_INLINE auto make_view_as(Range&& range, std::int64_t rows, std::int64_t cols) noexcept {
  using held = element_of<Range>;
  using element = std::conditional_t<std::is_const_v<held>, const T, T>;
  static_assert(sizeof(T) == sizeof(held) && alignof(T) <= alignof(held));
  const std::span<held> all(range);
  return make_dense_view(std::span<element>(reinterpret_cast<element*>(all.data()), all.size()), rows, cols);
}
}  // namespace detail

/// A dense view without gaps of memory that holds bf16 under another name: elements are bf16, std::uint16_t or, where
/// the compiler has it, std::bfloat16_t. No copy is made; the view is of const bf16 where the range is const.
template <detail::lasting_range Range>
[[nodiscard]] MXFP4_INLINE auto make_bf16_view(Range&& bits, std::int64_t rows, std::int64_t cols) noexcept {
  using held = std::remove_const_t<detail::element_of<Range>>;
  static_assert(std::same_as<held, bf16> || detail::is_bf16_under_another_name<held>,
                "make_bf16_view takes elements of type bf16, std::uint16_t or std::bfloat16_t");
  return detail::make_view_as<bf16>(std::forward<Range>(bits), rows, cols);
}
/// The same for f16: elements are f16, std::uint16_t or, where the compiler has it, _Float16 (std::float16_t).
template <detail::lasting_range Range>
[[nodiscard]] MXFP4_INLINE auto make_f16_view(Range&& bits, std::int64_t rows, std::int64_t cols) noexcept {
  using held = std::remove_const_t<detail::element_of<Range>>;
  static_assert(std::same_as<held, f16> || detail::is_f16_under_another_name<held>,
                "make_f16_view takes elements of type f16, std::uint16_t or _Float16");
  return detail::make_view_as<f16>(std::forward<Range>(bits), rows, cols);
}
/// The same for e4m3: elements are e4m3 or std::uint8_t.
template <detail::lasting_range Range>
[[nodiscard]] MXFP4_INLINE auto make_e4m3_view(Range&& bits, std::int64_t rows, std::int64_t cols) noexcept {
  using held = std::remove_const_t<detail::element_of<Range>>;
  static_assert(std::same_as<held, e4m3> || detail::is_e4m3_under_another_name<held>,
                "make_e4m3_view takes elements of type e4m3 or std::uint8_t");
  return detail::make_view_as<e4m3>(std::forward<Range>(bits), rows, cols);
}

// ---- overlap --------------------------------------------------------------------------------------------------------
namespace detail {

struct byte_range {
  const void* begin;
  std::int64_t bytes;
};

[[nodiscard]] MXFP4_INLINE bool overlap(byte_range a, byte_range b) noexcept {
  const auto a0 = reinterpret_cast<std::uintptr_t>(a.begin), b0 = reinterpret_cast<std::uintptr_t>(b.begin);
  return a.bytes > 0 && b.bytes > 0 && a0 < b0 + static_cast<std::uintptr_t>(b.bytes) &&
         b0 < a0 + static_cast<std::uintptr_t>(a.bytes);
}

template <class Byte, block_layout Layout>
[[nodiscard]] MXFP4_INLINE byte_range codes_of(const basic_mx_view<Byte, Layout>& v) noexcept {
  return {v.codes, code_extent<Layout>(v.rows, v.cols, v.code_stride)};
}
template <class Byte, block_layout Layout>
[[nodiscard]] MXFP4_INLINE byte_range scales_of(const basic_mx_view<Byte, Layout>& v) noexcept {
  return {v.scales, scale_extent<Layout>(v.rows, v.cols, v.scale_stride)};
}
template <class T>
[[nodiscard]] MXFP4_INLINE byte_range data_of(const dense_view<T>& v) noexcept {
  return {v.data, extent(v.rows, v.cols, v.stride) * static_cast<std::int64_t>(sizeof(T))};
}

/// Do the codes and the scales of one view share bytes? In an interleaved layout they may.
template <class Byte, block_layout Layout>
[[nodiscard]] MXFP4_INLINE bool overlap_itself(const basic_mx_view<Byte, Layout>& v) noexcept {
  return !Layout::interleaved && overlap(codes_of(v), scales_of(v));
}

/// Do a matrix that is read and one that is written share bytes?
template <class Byte, block_layout Layout, class T>
[[nodiscard]] MXFP4_INLINE bool overlap(const basic_mx_view<Byte, Layout>& v, const dense_view<T>& d) noexcept {
  const byte_range data = data_of(d);
  return overlap(codes_of(v), data) || overlap(scales_of(v), data);
}
template <class ByteA, block_layout A, class ByteB, block_layout B>
[[nodiscard]] MXFP4_INLINE bool overlap(const basic_mx_view<ByteA, A>& a, const basic_mx_view<ByteB, B>& b) noexcept {
  const byte_range a_codes = codes_of(a), a_scales = scales_of(a), b_codes = codes_of(b), b_scales = scales_of(b);
  return overlap(a_codes, b_codes) || overlap(a_codes, b_scales) || overlap(a_scales, b_codes) ||
         overlap(a_scales, b_scales);
}

/// Writes the padding of swizzled scales: the bytes in its tiles that belong to no row or block.
template <block_layout Layout>
MXFP4_INLINE constexpr void fill_padding(mx_view<Layout> out) noexcept {
  if constexpr (requires { Layout::padding; }) {
    if (out.rows == 0 || out.cols == 0) return;
    const std::int64_t all_rows = ceil_div(out.rows, Layout::rows_per_band) * Layout::rows_per_band;
    const std::int64_t all_blocks = Layout::scale_band_bytes(out.blocks()) / Layout::rows_per_band;
    for (std::int64_t r = 0; r < all_rows; ++r)
      for (std::int64_t b = r < out.rows ? out.blocks() : 0; b < all_blocks; ++b)
        *out.block_scale(r, b) = Layout::padding;
  }
}

}  // namespace detail

}  // namespace mxfp4
