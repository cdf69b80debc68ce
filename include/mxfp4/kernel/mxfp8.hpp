// mxfp4/kernel/mxfp8.hpp -- f32, bf16 and f16 activations to MXFP8.
// SPDX-License-Identifier: Apache-2.0
//
// encode_mxfp8 (format/mxfp8.hpp) defines the bytes; this loop gives the same under the default rounding mode where
// subnormals are not flushed to zero.
#pragma once

#include <cstdint>

#include "mxfp4/core/executor_ref.hpp"
#include "mxfp4/kernel/activation.hpp"
#include "mxfp4/simd/simd.hpp"
#include "mxfp4/tensor/call_options.hpp"
#include "mxfp4/tensor/mxfp8_activations.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {
namespace kernel {
inline namespace MXFP4_ISA_NS {

/// mxfp8_element of 32 finite floats, which are multiplied by a power of two: exactly, or to so small a number that the
/// element is 0. Elements below 2^-6 are multiples of 2^-9, as floats at 2^14 are: adding 2^14 rounds to them.
template <class Arch>
MXFP4_INLINE void round_mxfp8(const float (&x)[block_size], std::uint8_t byte, std::uint8_t* out) noexcept {
  using namespace mxfp4::detail;
  using floats = simd::batch<float, Arch>;
  using words = simd::batch<std::uint32_t, Arch>;
  constexpr std::uint32_t magic = std::uint32_t{f32_bias + 14} << 23,
                          smallest_normal = std::uint32_t{f32_bias - 6} << 23;
  alignas(64) std::uint32_t wide[block_size];
  const floats factor(float_from_bits(pow2_bits(f32_bias - int{byte})));
  for (int i = 0; i < block_size; i += static_cast<int>(floats::size)) {
    const words bits = simd::bitwise_cast<std::uint32_t>(floats::load_aligned(x + i));
    const floats scaled = simd::bitwise_cast<float>(bits & words(f32_abs_mask)) * factor;
    const words v = simd::bitwise_cast<std::uint32_t>(scaled);
    const words subnormal = simd::bitwise_cast<std::uint32_t>(scaled + floats(float_from_bits(magic))) - words(magic);
    const words to_even = words(0x7FFFFu) + ((v >> 20) & words(1u));
    const words normal = (v + to_even - words(std::uint32_t{f32_bias - e4m3_bias} << 23)) >> 20;
    const words element = simd::min(simd::select(v < words(smallest_normal), subnormal, normal), words(e4m3_max));
    (element | ((bits >> 24) & words(0x80u))).store_aligned(wide + i);
  }
  for (int i = 0; i < block_size; ++i) out[i] = static_cast<std::uint8_t>(wide[i]);
}

}  // namespace MXFP4_ISA_NS
}  // namespace kernel

inline namespace MXFP4_ISA_NS {

/// X -> MXFP8: the bytes of encode_mxfp8, block by block; nothing is allocated.
/// @param x        M x K activations in data units: float, bf16 or f16, any row stride.
/// @param out      the same shape, overwritten; must not overlap x.
/// @param scaling  floor (OCP) or rceil (nothing saturates).
/// Error:    half a unit of e4m3: |x - q| <= max(|x| / 16, scale * 2^-10), but up to amax / 8 where floor saturates.
/// Special:  NaN or infinity in a block makes its scale byte 255 and its elements 0: in a product the token is NaN.
/// Same bytes on every ISA, for any executor; a task is 16 rows.
template <class Arch = simd::native_arch, class T>
status quantize_activations(const dense_view<T>& x, const mxfp8_view& out, mxfp8_scaling scaling = mxfp8_scaling::floor,
                            const run_options& options = {}) {
  static_assert(element_type<std::remove_const_t<T>> && !std::same_as<std::remove_const_t<T>, e4m3>);
  using namespace mxfp4::detail;
  if (const status s = check(x, "x"); !s.ok()) return s;
  if (const status s = check(out, "out"); !s.ok()) return s;
  if (out.rows != x.rows) return {errc::shape_mismatch, "rows", out.rows, x.rows, "out"};
  if (out.cols != x.cols) return {errc::shape_mismatch, "cols", out.cols, x.cols, "out"};
  const operand target = operand_of(out, "out");
  if (overlap(target.memory[0], data_of(x)) || overlap(target.memory[1], data_of(x)) ||
      overlap(target.memory[0], target.memory[1]))
    return {errc::overlap, "out"};
  if (x.rows == 0 || x.cols == 0) return {};
  constexpr std::int64_t rows_a_task = 16;
  const auto task = [&](std::size_t index) noexcept {
    const std::int64_t first = static_cast<std::int64_t>(index) * rows_a_task;
    for (std::int64_t r = first; r < first + rows_a_task && r < x.rows; ++r)
      for (std::int64_t b = 0; b < out.blocks(); ++b) {
        alignas(64) float block[block_size];
        kernel::widen_block(x.row(r) + b * block_size, block);
        const std::uint8_t byte = mxfp8_scale(kernel::amax_bits<Arch>(block), scaling);
        std::uint8_t* const elements = out.elements + r * out.element_stride + b * block_size;
        out.scales[r * out.scale_stride + b] = byte;
        if (byte == 255) std::memset(elements, 0, block_size);
        else kernel::round_mxfp8<Arch>(block, byte, elements);
      }
  };
  options.executor.run(static_cast<std::size_t>(ceil_div(x.rows, rows_a_task)), task);
  return {};
}

/// The same into memory of its own. errc::out_of_memory, errc::not_blocks where K is no multiple of 32.
template <class Arch = simd::native_arch, class T>
[[nodiscard]] result<mxfp8_activations> quantize_activations(const dense_view<T>& x, mxfp8_scaling scaling,
                                                             const run_options& options = {}) {
  if (const status s = check(x, "x"); !s.ok()) return s;
  result<mxfp8_activations> made = mxfp8_activations::create(x.rows, x.cols);
  if (!made) return made;
  mxfp8_activations out = *std::move(made);
  if (const status s = quantize_activations<Arch>(x, out.view(), scaling, options); !s.ok()) return s;
  return result<mxfp8_activations>(std::move(out));
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4
