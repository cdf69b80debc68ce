// mxfp4/cuda/quantize_mxfp8.cuh -- activations of float, bf16 or f16 -> MXFP8, on the device.
// SPDX-License-Identifier: Apache-2.0
//
// A thread owns a block, as in quantize.cuh: 32 bytes of e4m3 and a scale byte.
#pragma once

#include <cstdint>
#include <type_traits>

#include "mxfp4/cuda/device/check.cuh"
#include "mxfp4/cuda/device/encode.cuh"
#include "mxfp4/format/mxfp8.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

namespace device {

/// The bytes of encode_mxfp8; bits: the 32 numbers as f32 bits. words[j] holds elements 4j .. 4j + 3.
template <class Target = target>
MXFP4_DEVICE std::uint32_t encode_mxfp8_words(const std::uint32_t (&bits)[block_size], mxfp8_scaling scaling,
                                              std::uint32_t (&words)[8]) {
  const int byte = mxfp4::detail::mxfp8_scale(block_amax(bits), scaling);
  const float inverse = inverse_scale(byte);
  MXFP4_UNROLL
  for (int j = 0; j < 8; ++j) {
    if constexpr (Target::e4m3_convert) {
      float scaled[4];
      MXFP4_UNROLL
      for (int i = 0; i < 4; ++i) scaled[i] = multiply_f32(mxfp4::detail::float_from_bits(bits[4 * j + i]), inverse);
      words[j] = byte == 255 ? 0u : convert_f32x4_e4m3(scaled);
    } else {
      words[j] = 0;
      MXFP4_UNROLL
      for (int i = 0; i < 4; ++i)
        words[j] |= static_cast<std::uint32_t>(mxfp4::detail::mxfp8_element(bits[4 * j + i], byte)) << (8 * i);
      if (byte == 255) words[j] = 0;
    }
  }
  return static_cast<std::uint32_t>(byte);
}

}  // namespace device

namespace kernel {

template <class T, class Target = device::target>
struct quantize_mxfp8 {
  static constexpr int threads = 128;
  static constexpr int blocks_per_processor = 5;
  struct arguments {
    dense_view<const T> x;
    mxfp8_view out;
    mxfp8_scaling scaling;
  };
  static MXFP4_DEVICE void run(const arguments& a) {
    const std::int64_t step = std::int64_t{device::grid_x()} * threads, blocks = a.out.cols / block_size;
    for (std::int64_t row = device::block_y(); row < a.out.rows; row += device::grid_y())
      for (std::int64_t b = std::int64_t{device::block_x()} * threads + device::thread_index(); b < blocks; b += step) {
        std::uint32_t bits[block_size], words[8];
        device::load_block(a.x.row(row) + b * block_size, bits);
        const std::uint32_t scale = device::encode_mxfp8_words<Target>(bits, a.scaling, words);
        auto* const elements =
            reinterpret_cast<device::word4*>(a.out.elements + row * a.out.element_stride + b * block_size);
        device::store(elements, device::word4{words[0], words[1], words[2], words[3]});
        device::store(elements + 1, device::word4{words[4], words[5], words[6], words[7]});
        device::store(a.out.scales + row * a.out.scale_stride + b, static_cast<std::uint8_t>(scale));
      }
  }
};

}  // namespace kernel

/// For preload.
template <class T>
using quantize_mxfp8_kernels = kernel_set<kernel::quantize_mxfp8<T>>;

/// Can the activations be quantised on the device?
/// @return ok, or what is wrong first: a size that is negative, zero or 2^31 and more; cols no multiple of 32; a stride
///         shorter than a row; a null pointer; x.data, x.stride in bytes, out.elements or out.element_stride not a
///         multiple of 16 bytes; shapes that differ; overlap.
template <class T>
[[nodiscard]] status check_quantize_mxfp8(const dense_view<const T>& x, const mxfp8_view& out) noexcept {
  if (const status s = detail::check_aligned(x, 16, "x"); !s.ok()) return s;
  if (const status s = detail::check_aligned(out, 16, "out"); !s.ok()) return s;
  if (const status s = mxfp4::detail::check_same_shape(x, "x", out); !s.ok()) return s;
  const mxfp4::detail::byte_range elements{out.elements, mxfp4::detail::extent(out.rows, out.cols, out.element_stride)};
  const mxfp4::detail::byte_range scales{out.scales, mxfp4::detail::extent(out.rows, out.blocks(), out.scale_stride)};
  const mxfp4::detail::byte_range data = mxfp4::detail::data_of(x);
  if (mxfp4::detail::overlap(elements, data) || mxfp4::detail::overlap(scales, data) ||
      mxfp4::detail::overlap(elements, scales))
    return {errc::overlap, "out"};
  return {};
}

/// X -> MXFP8: e4m3 elements and E8M0 scales, the bytes of encode_mxfp8 on the host.
///
/// @param x        M x K numbers in device memory, K a multiple of 32; float, bf16 or f16; 16-byte aligned, with a
///                 stride whose bytes are a multiple of 16.
/// @param out      the same shape in device memory, elements 16-byte aligned with a stride that is a multiple of 16.
/// @param scaling  floor (OCP MX v1.0) or rceil, which saturates nothing.
/// @return         cudaSuccess, or why there is no launch: cudaErrorInvalidValue for what check_quantize_mxfp8 names;
///                 then nothing is written.
/// NaN or infinity in a block: byte 255, elements 0. No workspace, no allocation, no waiting.
template <class T>
[[nodiscard]] cudaError_t quantize_mxfp8(const dense_view<T>& x, const mxfp8_view& out, mxfp8_scaling scaling,
                                         cudaStream_t stream) {
  using value = std::remove_const_t<T>;
  static_assert(element_type<value> && !std::is_same_v<value, e4m3>, "float, bf16 or f16");
  if (const status s = check_quantize_mxfp8<value>(x, out); !s.ok()) return detail::error_of(s);
  using body = kernel::quantize_mxfp8<value>;
  return launch<body>(detail::rows_grid(out.rows, out.cols / block_size, body::threads), 0, stream, {x, out, scaling});
}

}  // namespace mxfp4::cuda
