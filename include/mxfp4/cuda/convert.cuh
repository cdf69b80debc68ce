// mxfp4/cuda/convert.cuh -- from one checkpoint layout to another on the device, without loss.
// SPDX-License-Identifier: Apache-2.0
//
// A thread moves a block. ggml's blocks of 17 bytes are read and written byte by byte, since no wider access is
// aligned: convert once to compressed_tensors, which every other kernel reads.
#pragma once

#include <cstdint>

#include "mxfp4/cuda/device/check.cuh"
#include "mxfp4/format/nibble.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

namespace device {

/// The 16 bytes of a block's codes. Aligned: they start at a multiple of 16.
template <bool Aligned>
MXFP4_DEVICE void load_codes(const std::uint8_t* p, std::uint8_t (&bytes)[block_code_bytes]) {
  if constexpr (Aligned) {
    const word4 w = load_streaming(reinterpret_cast<const word4*>(p));
    const std::uint32_t words[4] = {w.x, w.y, w.z, w.w};
    MXFP4_UNROLL
    for (int j = 0; j < block_code_bytes; ++j) bytes[j] = static_cast<std::uint8_t>(words[j / 4] >> (j % 4 * 8));
  } else {
    MXFP4_UNROLL
    for (int j = 0; j < block_code_bytes; ++j) bytes[j] = load(p + j);
  }
}
template <bool Aligned>
MXFP4_DEVICE void store_codes(std::uint8_t* p, const std::uint8_t (&bytes)[block_code_bytes]) {
  if constexpr (Aligned) {
    std::uint32_t words[4]{};
    MXFP4_UNROLL
    for (int j = 0; j < block_code_bytes; ++j) words[j / 4] |= std::uint32_t{bytes[j]} << (j % 4 * 8);
    store(reinterpret_cast<word4*>(p), word4{words[0], words[1], words[2], words[3]});
  } else {
    MXFP4_UNROLL
    for (int j = 0; j < block_code_bytes; ++j) store(p + j, bytes[j]);
  }
}

}  // namespace device

namespace kernel {

template <block_layout From, block_layout To>
struct convert {
  static constexpr int threads = 128;
  static constexpr int blocks_per_processor = 8;
  struct arguments {
    const_mx_view<From> in;
    mx_view<To> out;
    std::int64_t padded_rows, padded_blocks;  ///< a layout with padding has more than out.rows, out.blocks()
  };
  static MXFP4_DEVICE void run(const arguments& a) {
    const std::int64_t step = std::int64_t{device::grid_x()} * threads;
    for (std::int64_t row = device::block_y(); row < a.padded_rows; row += device::grid_y())
      for (std::int64_t b = std::int64_t{device::block_x()} * threads + device::thread_index(); b < a.padded_blocks;
           b += step) {
        if constexpr (requires { To::padding; }) {
          if (row >= a.out.rows || b >= a.out.blocks()) {
            device::store(a.out.block_scale(row, b), std::uint8_t{To::padding});
            continue;
          }
        }
        std::uint8_t bytes[block_code_bytes];
        device::load_codes<!From::interleaved>(a.in.block_codes(row, b), bytes);
        if constexpr (!std::is_same_v<typename From::order, typename To::order>) {
          e2m1 codes[block_size];
          MXFP4_UNROLL
          for (int i = 0; i < block_size; ++i) codes[i] = get_code<typename From::order>(bytes, i);
          MXFP4_UNROLL
          for (std::uint8_t& byte : bytes) byte = 0;
          MXFP4_UNROLL
          for (int i = 0; i < block_size; ++i) {
            const auto code = static_cast<unsigned>(codes[i]);
            bytes[To::order::byte_of(i)] |= static_cast<std::uint8_t>(To::order::is_high(i) ? code << 4 : code);
          }
        }
        device::store_codes<!To::interleaved>(a.out.block_codes(row, b), bytes);
        device::store(a.out.block_scale(row, b), device::load(a.in.block_scale(row, b)));
      }
  }
};

}  // namespace kernel

/// For preload.
template <block_layout From, block_layout To>
using convert_kernels = kernel_set<kernel::convert<From, To>>;

/// Can the matrix be converted on the device?
/// @return ok, or what is wrong first: a size that is negative, zero or 2^31 and more; cols no multiple of 32; a stride
///         shorter than a row; a null pointer; codes or a code_stride that are not a multiple of 16 bytes (ggml: any);
///         shapes that differ; overlap.
template <block_layout From, block_layout To>
[[nodiscard]] status check_convert(const const_mx_view<From>& in, const mx_view<To>& out) noexcept {
  if (const status s = detail::check_aligned(in, From::interleaved ? 1 : 16, "in"); !s.ok()) return s;
  if (const status s = detail::check_aligned(out, To::interleaved ? 1 : 16, "out"); !s.ok()) return s;
  if (const status s = mxfp4::detail::check_same_shape(in, "in", out); !s.ok()) return s;
  if (mxfp4::detail::overlap(in, out) || mxfp4::detail::overlap_itself(out)) return {errc::overlap, "out"};
  return {};
}

/// Moves every code and every scale byte to its place in another layout, as convert() of convert.hpp does on the host:
/// compressed_tensors (gpt_oss and mlx are the same bytes), swizzled_128x4 (padding written as byte 0), ggml.
/// @param in   rows x cols in device memory.  @param out  the same shape; must not overlap `in`.
/// @return     cudaSuccess, or why there is no launch: cudaErrorInvalidValue for what check_convert names; then nothing
///             is written. No workspace, no allocation, no waiting.
template <class Byte, block_layout From, block_layout To>
[[nodiscard]] cudaError_t convert(const basic_mx_view<Byte, From>& in, const mx_view<To>& out, cudaStream_t stream) {
  if (const status s = check_convert<From, To>(in, out); !s.ok()) return detail::error_of(s);
  using body = kernel::convert<From, To>;
  const detail::padded padded = detail::padded_shape(out);
  return launch<body>(detail::rows_grid(padded.rows, padded.blocks, body::threads), 0, stream,
                      {in, out, padded.rows, padded.blocks});
}

}  // namespace mxfp4::cuda
