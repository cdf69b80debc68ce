// mxfp4/cuda/quantize.cuh -- a matrix of float, bf16 or f16 -> MXFP4, on the device.
// SPDX-License-Identifier: Apache-2.0
//
// A thread owns a block: it reads 64 or 128 bytes and writes 16 bytes and one. Nothing is shared between threads.
#pragma once

#include <cstdint>
#include <type_traits>

#include "mxfp4/cuda/device/check.cuh"
#include "mxfp4/cuda/device/encode.cuh"
#include "mxfp4/cuda/device/encode_bf16.cuh"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

namespace kernel {

/// The grid's x counts the blocks of a row, y the rows; threads loop over both where the grid is smaller.
template <class Recipe, class T, block_layout Layout, class Target = device::target>
struct quantize {
  static constexpr int threads = 128;
  // Up to 96 registers, 128 with min_mse: 32 numbers and their codes, or twice those.
  static constexpr int blocks_per_processor = std::is_base_of_v<mxfp4::detail::min_mse_recipe, Recipe> ? 4 : 5;
  struct arguments {
    dense_view<const T> w;
    mx_view<Layout> out;
    std::int64_t padded_rows, padded_blocks;  ///< a layout with padding has more than out.rows, out.blocks()
  };
  static MXFP4_DEVICE void run(const arguments& a) {
    const std::int64_t step = std::int64_t{device::grid_x()} * threads;
    const std::int64_t blocks = a.out.blocks();
    for (std::int64_t row = device::block_y(); row < a.padded_rows; row += device::grid_y())
      for (std::int64_t b = std::int64_t{device::block_x()} * threads + device::thread_index(); b < a.padded_blocks;
           b += step) {
        std::uint8_t* const scale = a.out.block_scale(row, b);
        if constexpr (requires { Layout::padding; }) {
          if (row >= a.out.rows || b >= blocks) {
            device::store(scale, std::uint8_t{Layout::padding});
            continue;
          }
        }
        const device::encoded_block e = encode(a.w.row(row) + b * block_size);
        device::store_streaming(reinterpret_cast<device::word4*>(a.out.block_codes(row, b)),
                                device::word4{e.words[0], e.words[1], e.words[2], e.words[3]});
        device::store(scale, static_cast<std::uint8_t>(e.scale));
      }
  }

 private:
  static MXFP4_DEVICE device::encoded_block encode(const T* x) {
    if constexpr (std::is_same_v<T, bf16> && device::encodes_in_pairs<typename Recipe::template for_input<T>, Target>) {
      std::uint32_t pairs[block_size / 2];
      device::load_pairs(x, pairs);
      return device::encode_pairs<Recipe>(pairs);
    } else {
      std::uint32_t bits[block_size];
      device::load_block(x, bits);
      return device::encode_words<Recipe, T, Target>(bits);
    }
  }
};

}  // namespace kernel

/// For preload.
template <block_recipe Recipe, class T, block_layout Layout = layout::compressed_tensors>
using quantize_kernels = kernel_set<kernel::quantize<Recipe, T, Layout>>;

/// Can the matrix be quantised on the device?
/// @return ok, or what is wrong first: a size that is negative, zero or 2^31 and more; cols no multiple of 32; a stride
///         shorter than a row; a null pointer; w.data, w.stride in bytes, out.codes or out.code_stride not a multiple
///         of 16 bytes; shapes that differ; overlap.
template <class T, block_layout Layout>
[[nodiscard]] status check_quantize(const dense_view<const T>& w, const mx_view<Layout>& out) noexcept {
  if (const status s = detail::check_aligned(w, 16, "w"); !s.ok()) return s;
  if (const status s = detail::check_aligned(out, 16, "out"); !s.ok()) return s;
  if (const status s = mxfp4::detail::check_same_shape(w, "w", out); !s.ok()) return s;
  if (mxfp4::detail::overlap(out, w) || mxfp4::detail::overlap_itself(out)) return {errc::overlap, "out"};
  return {};
}

/// W -> MXFP4: the bytes of `Recipe` for tensors of T, those that quantize() of quantize.hpp writes on the host.
///
/// @param w    rows x cols numbers in device memory, cols a multiple of 32; float, bf16 or f16; 16-byte aligned, with a
///             stride whose bytes are a multiple of 16.
/// @param out  the same shape in device memory, low_first, scales in rows or swizzled_128x4; codes 16-byte aligned with
///             a stride that is a multiple of 16, scales at any address. Every byte that a block or padding owns is
///             written.
/// @return     cudaSuccess, or why there is no launch: cudaErrorInvalidValue for what check_quantize names; then
///             nothing is written. Faults of the device come with a later call.
/// NaN, infinity, subnormals, overflow: as the recipe's docstring says. No workspace, no allocation, no waiting.
template <block_recipe Recipe = recipe::ocp, class T, block_layout Layout>
[[nodiscard]] cudaError_t quantize(const dense_view<T>& w, const mx_view<Layout>& out, cudaStream_t stream) {
  using value = std::remove_const_t<T>;
  static_assert(element_type<value> && !std::is_same_v<value, e4m3>,
                "float, bf16 or f16: widen FP8 with its scales first");
  static_assert(std::is_same_v<typename Layout::order, low_first> && !Layout::interleaved,
                "quantise to compressed_tensors and convert: see convert.cuh");
  if (const status s = check_quantize<value>(w, out); !s.ok()) return detail::error_of(s);
  const detail::padded padded = detail::padded_shape(out);
  using body = kernel::quantize<Recipe, value, Layout>;
  return launch<body>(detail::rows_grid(padded.rows, padded.blocks, body::threads), 0, stream,
                      {w, out, padded.rows, padded.blocks});
}

}  // namespace mxfp4::cuda
