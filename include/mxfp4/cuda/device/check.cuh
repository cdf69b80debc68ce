// mxfp4/cuda/device/check.cuh -- what the launch functions ask of device matrices, on the host.
// SPDX-License-Identifier: Apache-2.0
//
// The checks look at shapes and addresses, not at memory. A launch function begins with them and turns what they find
// into a cudaError_t. For the sentence, call the check itself and print message(status).
#pragma once

#include <cstdint>

#include "mxfp4/cuda/device/launch.cuh"
#include "mxfp4/tensor/mxfp8_view.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::detail {

inline constexpr std::int64_t max_lines = 0x7FFFFFFF;  ///< of rows, and of columns

[[nodiscard]] inline status check_alignment(const void* p, std::int64_t bytes, const char* what,
                                            const char* argument) noexcept {
  const auto past = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(p) % static_cast<std::uintptr_t>(bytes));
  if (past != 0) return {errc::misaligned, what, past, bytes, argument};
  return {};
}

/// At least one and fewer than 2^31 rows and columns.
[[nodiscard]] inline status check_lines(std::int64_t rows, std::int64_t cols, const char* argument) noexcept {
  if (rows == 0) return {errc::shape_mismatch, "rows", 0, 1, argument};
  if (cols == 0) return {errc::shape_mismatch, "cols", 0, 1, argument};
  if (rows > max_lines) return {errc::too_large, "rows", rows, max_lines, argument};
  if (cols > max_lines) return {errc::too_large, "cols", cols, max_lines, argument};
  return {};
}

/// A row-major matrix whose rows start at multiples of `bytes`.
template <class T>
[[nodiscard]] status check_aligned(const dense_view<T>& v, std::int64_t bytes, const char* argument) noexcept {
  if (const status s = check(v, argument); !s.ok()) return s;
  if (const status s = check_lines(v.rows, v.cols, argument); !s.ok()) return s;
  if (const status s = check_alignment(v.data, bytes, "data", argument); !s.ok()) return s;
  const std::int64_t past = v.stride % bytes * static_cast<std::int64_t>(sizeof(T)) % bytes;
  if (past != 0 && v.rows > 1) return {errc::misaligned, "stride in bytes", past, bytes, argument};
  return {};
}

/// Codes whose rows start at multiples of `bytes`; nothing is asked of the scales.
template <class Byte, block_layout Layout>
[[nodiscard]] status check_aligned(const basic_mx_view<Byte, Layout>& v, std::int64_t bytes,
                                   const char* argument) noexcept {
  if (const status s = check(v, argument); !s.ok()) return s;
  if (const status s = check_lines(v.rows, v.cols, argument); !s.ok()) return s;
  if (const status s = check_alignment(v.codes, bytes, "codes", argument); !s.ok()) return s;
  if (v.code_stride % bytes != 0 && v.rows > 1)
    return {errc::misaligned, "code_stride", v.code_stride % bytes, bytes, argument};
  return {};
}

template <class Byte>
[[nodiscard]] status check_aligned(const basic_mxfp8_view<Byte>& v, std::int64_t bytes, const char* argument) noexcept {
  if (const status s = check(v, argument); !s.ok()) return s;
  if (const status s = check_lines(v.rows, v.cols, argument); !s.ok()) return s;
  if (const status s = check_alignment(v.elements, bytes, "elements", argument); !s.ok()) return s;
  if (v.element_stride % bytes != 0 && v.rows > 1)
    return {errc::misaligned, "element_stride", v.element_stride % bytes, bytes, argument};
  return {};
}

/// The grid of a kernel whose threads take one item each, `items` of them in a row. Where there are more than a grid
/// may have blocks, the kernel loops over both directions.
[[nodiscard]] constexpr grid rows_grid(std::int64_t rows, std::int64_t items, std::int64_t threads) noexcept {
  return {(items + threads - 1) / threads, rows < max_grid_yz ? rows : max_grid_yz};
}

/// Rows and blocks that the scales have room for, with those that only fill up a layout's tiles.
struct padded {
  std::int64_t rows, blocks;
};
template <block_layout Layout>
[[nodiscard]] constexpr padded padded_shape(const mx_view<Layout>& v) noexcept {
  if constexpr (requires { Layout::padding; })
    return {mxfp4::detail::ceil_div(v.rows, Layout::rows_per_band) * Layout::rows_per_band,
            Layout::scale_band_bytes(v.blocks()) / Layout::rows_per_band};
  else return {v.rows, v.blocks()};
}

/// The cudaError_t for a status. Never cudaErrorMisalignedAddress: that is a kernel's fault, after which the context is
/// lost, and callers give up the process for it.
[[nodiscard]] constexpr cudaError_t error_of(const status& s) noexcept {
  return s.ok() ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace mxfp4::cuda::detail
