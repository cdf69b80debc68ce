// mxfp4/kernel/activation.hpp -- f32, bf16 and f16 activations to int8.
// SPDX-License-Identifier: Apache-2.0
//
// tensor/activation.hpp defines the codes (encode_mxint8, encode_int8, take_off); these loops give the same bits under
// the default rounding mode, to nearest even.
#pragma once

#include <cstdint>
#include <cstring>

#include "mxfp4/core/executor_ref.hpp"
#include "mxfp4/core/float_types.hpp"
#include "mxfp4/simd/simd.hpp"
#include "mxfp4/tensor/activation.hpp"
#include "mxfp4/tensor/call_options.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {
namespace kernel {
inline namespace MXFP4_ISA_NS {

/// The largest magnitude of a block as f32 bits; NaN and infinity are larger than any number.
template <class Arch>
[[nodiscard]] MXFP4_INLINE std::uint32_t amax_bits(const float (&x)[block_size]) noexcept {
  using ints = simd::batch<std::int32_t, Arch>;
  using floats = simd::batch<float, Arch>;
  const ints magnitude(static_cast<std::int32_t>(mxfp4::detail::f32_abs_mask));
  ints largest(0);
  for (int i = 0; i < block_size; i += static_cast<int>(ints::size))
    largest = simd::max(largest, simd::bitwise_cast<std::int32_t>(floats::load_aligned(x + i)) & magnitude);
  return static_cast<std::uint32_t>(simd::reduce_max(largest));
}

/// Nearest integers of x * factor, clamped to +-127, and their sum.
template <class Arch>
[[nodiscard]] MXFP4_INLINE mxfp4::detail::int8_block round_block(const float (&x)[block_size], float factor) noexcept {
  using ints = simd::batch<std::int32_t, Arch>;
  using floats = simd::batch<float, Arch>;
  alignas(64) std::int32_t wide[block_size];
  const ints limit(mxfp4::detail::int8_max);
  ints sum(0);
  for (int i = 0; i < block_size; i += static_cast<int>(ints::size)) {
    const ints nearest = simd::nearbyint_as_int(floats::load_aligned(x + i) * floats(factor));
    const ints code = simd::max(simd::min(nearest, limit), -limit);
    code.store_aligned(wide + i);
    sum += code;
  }
  mxfp4::detail::int8_block b;
  for (int i = 0; i < block_size; ++i) b.code[i] = static_cast<std::int8_t>(wide[i]);
  b.sum = simd::reduce_add(sum);
  return b;
}

/// encode_mxint8 in registers. Below byte 6 the factor 2^(133 - byte) is no float: encode_mxint8 itself does the work.
template <class Arch>
[[nodiscard]] MXFP4_INLINE mxfp4::detail::int8_block round_mxint8(const float (&x)[block_size],
                                                                  std::uint8_t byte) noexcept {
  using namespace mxfp4::detail;
  if (byte < 6 || byte == 255) return encode_mxint8(x, byte);
  return round_block<Arch>(x, float_from_bits(pow2_bits(f32_bias + mxint8_fraction_bits - int{byte})));
}

/// encode_int8 in registers; inverse 0 means that all codes are 0, whatever x is.
template <class Arch>
[[nodiscard]] MXFP4_INLINE mxfp4::detail::int8_block round_int8(const float (&x)[block_size], float inverse) noexcept {
  if (inverse == 0.0f) return {};
  return round_block<Arch>(x, inverse);
}

template <class T>
MXFP4_INLINE void widen_block(const T* in, float (&x)[block_size]) noexcept {
  for (int i = 0; i < block_size; ++i) x[i] = decode(in[i]);
}

/// Writes the blocks of one token into its group, and keeps the range of their scale exponents.
struct token_writer {
  std::uint8_t* group;  ///< the first block of the group
  int8_scaling scaling;
  int token, width;
  mxfp4::detail::scale_exponent_range scale_exponents{32767, -32768};

  void put(std::int64_t b, const mxfp4::detail::int8_block& block, std::uint32_t scale_word,
           int term = 0) const noexcept {
    const int lane = token * terms_of(scaling) + term;
    std::uint8_t* const at = group + b * int8_activations::block_bytes_at(width) + 4 * lane;
    for (int q = 0; q < block_quads; ++q) std::memcpy(at + 4 * q * width, block.code + 4 * q, 4);
    const std::int32_t initial_sum = -mxfp4::detail::zero_point * block.sum;
    std::memcpy(at + 4 * block_quads * width, &initial_sum, sizeof initial_sum);
    std::memcpy(at + 4 * (block_quads + 1) * width, &scale_word, sizeof scale_word);
  }
  void saw(int scale_exponent) noexcept {
    if (scale_exponent < scale_exponents.low) scale_exponents.low = static_cast<std::int16_t>(scale_exponent);
    if (scale_exponent > scale_exponents.high) scale_exponents.high = static_cast<std::int16_t>(scale_exponent);
  }
};

[[nodiscard]] constexpr std::uint32_t exponent_word(int scale_exponent) noexcept {
  return static_cast<std::uint32_t>(scale_exponent) << mxfp4::detail::f32_mantissa_bits;
}

/// A block as the sum of terms, each a block in MXINT8 of what those before it left over. x is overwritten.
template <class Arch>
MXFP4_INLINE void put_terms(float (&x)[block_size], std::uint32_t amax, std::int64_t b, token_writer& writer) noexcept {
  using namespace mxfp4::detail;
  std::uint8_t byte = mxint8_scale(amax);
  const int terms = terms_of(writer.scaling);
  for (int term = 0;;) {
    const int8_block codes = round_mxint8<Arch>(x, byte);
    const int scale_exponent = scale_exponent_of(byte);
    writer.put(b, codes, exponent_word(scale_exponent), term);
    if (byte != 255) writer.saw(scale_exponent);
    if (++term == terms) return;
    if (byte == 255) continue;  // the codes are 0 whatever x is
    take_off(x, codes, byte);
    byte = residual_scale(amax_bits<Arch>(x), byte);
  }
}

/// One token. Returns what its sums are to be multiplied with after the last block (int8_activations::finish).
template <class Arch, class T>
float quantize_token(const T* x, std::int64_t blocks, token_writer& writer) noexcept {
  using namespace mxfp4::detail;
  const int8_scaling scaling = writer.scaling;
  alignas(64) float block[block_size];
  float row_scale = 1.0f, row_inverse = 0.0f;
  if (scaling == int8_scaling::row) {
    std::uint32_t amax = 0;
    for (std::int64_t b = 0; b < blocks; ++b) {
      widen_block(x + b * block_size, block);
      const std::uint32_t here = amax_bits<Arch>(block);
      amax = here > amax ? here : amax;
    }
    row_scale = int8_scale(float_from_bits(amax));
    row_inverse = int8_inverse_scale(float_from_bits(amax));
    writer.saw(-1);
  }
  float finish = row_scale;
  for (std::int64_t b = 0; b < blocks; ++b) {
    widen_block(x + b * block_size, block);
    if (scaling == int8_scaling::row) {
      writer.put(b, round_int8<Arch>(block, row_inverse), exponent_word(-1));
      continue;
    }
    const std::uint32_t amax = amax_bits<Arch>(block);
    if (amax >= f32_inf) finish = float_from_bits(f32_nan);
    if (scaling != int8_scaling::f32) {
      put_terms<Arch>(block, amax, b, writer);
      continue;
    }
    const float scale = int8_scale(float_from_bits(amax));
    writer.put(b, round_int8<Arch>(block, int8_inverse_scale(float_from_bits(amax))), float_bits(0.5f * scale));
    if (amax < f32_inf) writer.saw(scale_exponent_of(scale));
  }
  return finish;
}

}  // namespace MXFP4_ISA_NS
}  // namespace kernel

inline namespace MXFP4_ISA_NS {

/// X -> int8, in the scaling that `out` was created with (activation.hpp's table); nothing is allocated.
/// @param x    M x K activations in data units: float, bf16 or f16, any row stride.
/// @param out  the same shape, overwritten.
/// Error:    e8m0: at most half a step of amax * 2^-6, a whole one where a code is clamped; f32, row: half a step of
///           amax / 127 and a few ulps; a block (row: a row) with amax < 2^-118 becomes zeros; residual2: amax * 2^-13,
///           residual3: amax * 2^-20 of the block (half of that where no code is clamped), 2^-133 where that is more.
/// Special:  NaN or infinity in a block (row: anywhere in the row) makes the token's outputs NaN.
/// Same bits on every ISA, for any executor; a task is a group of 16 tokens, of residual2 8, of residual3 5. Rounding
/// mode: nearest; for residual2 and residual3 subnormals must not be flushed to zero.
template <class Arch = simd::native_arch, class T>
status quantize_activations(const dense_view<T>& x, int8_activations& out, const run_options& options = {}) {
  static_assert(element_type<std::remove_const_t<T>> && !std::same_as<std::remove_const_t<T>, e4m3>);
  if (const status s = check(x, "x"); !s.ok()) return s;
  if (x.rows != out.rows()) return {errc::shape_mismatch, "rows", x.rows, out.rows(), "x"};
  if (x.cols != out.cols()) return {errc::shape_mismatch, "cols", x.cols, out.cols(), "x"};
  if (mxfp4::detail::overlap(out.bytes(), mxfp4::detail::data_of(x))) return {errc::overlap, "out"};
  const auto task = [&](std::size_t i) {
    const auto group = static_cast<std::int64_t>(i);
    mxfp4::detail::scale_exponent_range scale_exponents{32767, -32768};
    for (int t = 0; t < out.rows_in(group); ++t) {
      kernel::token_writer writer{out.block(group, 0), out.scaling(), t, out.width(group), scale_exponents};
      out.finish(group)[t] = kernel::quantize_token<Arch>(x.row(out.first_row(group) + t), out.blocks(), writer);
      scale_exponents = writer.scale_exponents;
    }
    out.set_scale_exponents(
        group, scale_exponents.low <= scale_exponents.high ? scale_exponents : mxfp4::detail::scale_exponent_range{});
  };
  options.executor.run(static_cast<std::size_t>(out.groups()), task);
  return {};
}

/// The same into memory of its own. errc::out_of_memory, errc::not_blocks where K is no multiple of 32.
template <class Arch = simd::native_arch, class T>
[[nodiscard]] result<int8_activations> quantize_activations(const dense_view<T>& x, int8_scaling scaling,
                                                            const run_options& options = {}) {
  if (const status s = check(x, "x"); !s.ok()) return s;
  result<int8_activations> made = int8_activations::create(x.rows, x.cols, scaling);
  if (!made) return made;
  int8_activations out = *std::move(made);
  if (const status s = quantize_activations<Arch>(x, out, options); !s.ok()) return s;
  return result<int8_activations>(std::move(out));
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4
