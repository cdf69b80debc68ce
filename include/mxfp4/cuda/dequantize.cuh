// mxfp4/cuda/dequantize.cuh -- MXFP4 -> a matrix of float, bf16 or f16, on the device.
// SPDX-License-Identifier: Apache-2.0
//
// Output is three to eight times the input, so its order decides: a thread writes 16 bytes, its neighbour the next 16.
// A thread does that for four parts of the row, and loads all four before it writes the first.
#pragma once

#include <cstdint>
#include <type_traits>

#include "mxfp4/cuda/device/check.cuh"
#include "mxfp4/cuda/device/decode.cuh"
#include "mxfp4/format/dialect.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

namespace device {

/// Codes of 16 bytes of T: eight of bf16 and f16, four of float, from the low end of `codes`.
template <class T, class Dialect>
MXFP4_DEVICE word4 decode_weights(std::uint32_t codes, std::uint32_t byte) {
  std::uint32_t d[4];
  decode_weights_bf16x8<Dialect>(codes, byte, d);
  if constexpr (std::is_same_v<T, bf16>) {
    return {d[0], d[1], d[2], d[3]};
  } else if constexpr (std::is_same_v<T, float>) {
    return {d[0] << 16, d[0] & 0xFFFF0000u, d[1] << 16, d[1] & 0xFFFF0000u};
  } else {
    MXFP4_UNROLL
    for (std::uint32_t& pair : d) {
      const float low = mxfp4::detail::float_from_bits(pair << 16);
      const float high = mxfp4::detail::float_from_bits(pair & 0xFFFF0000u);
      pair = convert_f32x2_f16x2(low, high);
      if (byte == 255) {  // the NaN that this library writes, not the hardware's
        if ((pair & 0x7FFFu) > 0x7C00u) pair = (pair & 0xFFFF0000u) | 0x7E00u;
        if ((pair >> 16 & 0x7FFFu) > 0x7C00u) pair = (pair & 0x0000FFFFu) | 0x7E000000u;
      }
    }
    return {d[0], d[1], d[2], d[3]};
  }
}

}  // namespace device

namespace kernel {

template <class T, class Dialect, block_layout Layout>
struct dequantize {
  static constexpr int threads = 256;
  static constexpr int blocks_per_processor = 4;
  static constexpr int values = 16 / static_cast<int>(sizeof(T));  ///< that a thread writes at once
  static constexpr int stretches = 4;
  struct arguments {
    const_mx_view<Layout> w;
    dense_view<T> out;
  };
  static MXFP4_DEVICE void run(const arguments& a) {
    const std::int64_t pieces = a.w.cols / values;
    const std::int64_t step = std::int64_t{device::grid_x()} * threads * stretches;
    const std::int64_t first = std::int64_t{device::block_x()} * threads * stretches + device::thread_index();
    for (std::int64_t row = device::block_y(); row < a.w.rows; row += device::grid_y())
      for (std::int64_t base = first; base < pieces; base += step) {
        std::uint32_t codes[stretches]{}, bytes[stretches]{};
        MXFP4_UNROLL
        for (int i = 0; i < stretches; ++i) {
          const std::int64_t piece = base + i * threads;
          if (piece < pieces) {
            using word = std::conditional_t<values == 8, std::uint32_t, std::uint16_t>;
            const std::int64_t col = piece * values;
            codes[i] =
                device::load_streaming(reinterpret_cast<const word*>(a.w.codes + row * a.w.code_stride + col / 2));
            bytes[i] = device::load_constant(a.w.block_scale(row, col / block_size));
          }
        }
        MXFP4_UNROLL
        for (int i = 0; i < stretches; ++i) {
          const std::int64_t piece = base + i * threads;
          if (piece < pieces)
            device::store_streaming(reinterpret_cast<device::word4*>(a.out.row(row) + piece * values),
                                    device::decode_weights<T, Dialect>(codes[i], bytes[i]));
        }
      }
  }
};

}  // namespace kernel

/// For preload.
template <decode_dialect Dialect, class T, block_layout Layout = layout::compressed_tensors>
using dequantize_kernels = kernel_set<kernel::dequantize<T, Dialect, Layout>>;

/// Can the matrix be dequantised on the device?
/// @return ok, or what is wrong first: a size that is negative, zero or 2^31 and more; cols no multiple of 32; a stride
///         shorter than a row; a null pointer; w.codes or w.code_stride not a multiple of 4 bytes; out.data, out.stride
///         in bytes not of 16; shapes that differ; overlap.
template <block_layout Layout, class T>
[[nodiscard]] status check_dequantize(const const_mx_view<Layout>& w, const dense_view<T>& out) noexcept {
  if (const status s = detail::check_aligned(w, 4, "w"); !s.ok()) return s;
  if (const status s = detail::check_aligned(out, 16, "out"); !s.ok()) return s;
  if (const status s = mxfp4::detail::check_same_shape(w, "w", out); !s.ok()) return s;
  if (mxfp4::detail::overlap(w, out)) return {errc::overlap, "out"};
  return {};
}

/// MXFP4 -> numbers, the bits of decode_weight<T, Dialect>: exact for float and bf16; f16 rounds to nearest even, which
/// gives infinity from 65520 on and zero up to 2^-25.
///
/// @param w    rows x cols weights in device memory, cols a multiple of 32, low_first, scales in rows or
///             swizzled_128x4; codes 4-byte aligned with a stride that is a multiple of 4, scales at any address.
/// @param out  the same shape in device memory, overwritten: float, bf16 or f16; 16-byte aligned, with a stride whose
///             bytes are a multiple of 16; what lies between its rows is not touched.
/// @return     cudaSuccess, or why there is no launch: cudaErrorInvalidValue for what check_dequantize names; then
///             nothing is written. Faults of the device come with a later call.
/// Scale byte 0 is 2^-127; byte 255 as `Dialect` has it. No workspace, no allocation, no waiting.
template <decode_dialect Dialect = dialect::ocp, class Byte, block_layout Layout, element_type T>
[[nodiscard]] cudaError_t dequantize(const basic_mx_view<Byte, Layout>& w, const dense_view<T>& out,
                                     cudaStream_t stream) {
  static_assert(!std::is_same_v<T, e4m3>, "an MXFP4 weight does not fit e4m3 in general");
  static_assert(std::is_same_v<typename Layout::order, low_first> && !Layout::interleaved,
                "convert to compressed_tensors first: see convert.cuh");
  if (const status s = check_dequantize<Layout>(w, out); !s.ok()) return detail::error_of(s);
  using body = kernel::dequantize<T, Dialect, Layout>;
  return launch<body>(detail::rows_grid(w.rows, w.cols / body::values, body::threads * body::stretches), 0, stream,
                      {w, out});
}

}  // namespace mxfp4::cuda
