// mxfp4/format/recipe.hpp -- a recipe = scale rule + ties + sign of zero + non-finite blocks, under its peer's name.
// SPDX-License-Identifier: Apache-2.0
//
// A peer is another program that writes MXFP4. For finite blocks a recipe gives its peer's bytes, the numbers that the
// peer loses included: each recipe lists them. Where a peer's result is undefined, the recipe's is defined and the
// docstring says so. tests/recipe.golden.test.cpp proves it on vectors that were made by running the peers.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "mxfp4/format/nibble.hpp"
#include "mxfp4/format/rounding.hpp"
#include "mxfp4/format/scale_rule.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// What a recipe makes of 32 numbers, before packing.
struct block_codes {
  e8m0 scale;             ///< its byte
  e2m1 code[block_size];  ///< in order
};

namespace detail {

[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr std::uint32_t amax_bits(
    const std::uint32_t (&bits)[block_size]) noexcept {
  std::uint32_t amax = 0;
  for (const std::uint32_t b : bits) {
    const std::uint32_t magnitude = b & f32_abs_mask;
    amax = magnitude > amax ? magnitude : amax;
  }
  return amax;
}

[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr block_codes nan_block() noexcept { return {e8m0::nan, {}}; }

}  // namespace detail

// ---- blocks with NaN or infinity ------------------------------------------------------------------------------------

/// `encode<Recipe>(bits, amax)` handles a block whose largest magnitude is infinity or NaN.
/// Byte 0xFF and codes 0: the whole block decodes to NaN. The defined answer wherever a peer has none.
struct nonfinite_is_nan_block {
  template <class Recipe>
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr block_codes encode(const std::uint32_t (&)[block_size],
                                                                          std::uint32_t) noexcept {
    return detail::nan_block();
  }
};

/// ggml: a NaN is not greater than anything and nearest to nothing, so it is code 0 and the rest of the block is
/// encoded as if it were not there. Infinity makes byte 0 and codes 0.
struct nonfinite_ggml {
  template <class Recipe>
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr block_codes encode(const std::uint32_t (&bits)[block_size],
                                                                          std::uint32_t) noexcept {
    std::uint32_t clean[block_size]{};
    for (int i = 0; i < block_size; ++i) clean[i] = detail::is_nan_bits(bits[i]) ? 0u : bits[i];
    const std::uint32_t amax = detail::amax_bits(clean);
    if (amax == detail::f32_inf) return {e8m0{0}, {}};
    return Recipe::encode_finite(clean, amax);
  }
};

/// MLX: the maximum ignores NaN, and a NaN is code 7 whatever its sign. With an infinity, or with nothing but NaN, the
/// scale is 255 and its reciprocal 0: finite values become +-0, and inf * 0 is a NaN again.
struct nonfinite_mlx {
  template <class Recipe>
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr block_codes encode(const std::uint32_t (&bits)[block_size],
                                                                          std::uint32_t) noexcept {
    std::uint32_t clean[block_size]{};
    int nans = 0;
    for (int i = 0; i < block_size; ++i) {
      const bool nan = detail::is_nan_bits(bits[i]);
      clean[i] = nan ? 0u : bits[i];
      nans += nan ? 1 : 0;
    }
    const std::uint32_t amax = detail::amax_bits(clean);
    const bool scaled = amax != detail::f32_inf && nans != block_size;
    block_codes out = scaled ? Recipe::encode_finite(clean, amax) : detail::nan_block();
    for (int i = 0; i < block_size; ++i) {
      if ((bits[i] & detail::f32_abs_mask) >= detail::f32_inf) out.code[i] = e2m1{7};
      else if (!scaled) out.code[i] = static_cast<e2m1>((bits[i] >> 31) << 3);
    }
    return out;
  }
};

/// triton_kernels: the reciprocal of the scale is 0, so a NaN stays a NaN (code 7 with its sign), inf * 0 is a NaN with
/// the sign that x86 gives it (code 15), the rest becomes +-0. With a NaN the block has byte `NanByte`, else 255.
template <std::uint8_t NanByte>
struct nonfinite_triton {
  template <class Recipe>
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr block_codes encode(const std::uint32_t (&bits)[block_size],
                                                                          std::uint32_t amax) noexcept {
    block_codes out{amax == detail::f32_inf ? e8m0::nan : e8m0{NanByte}, {}};
    for (int i = 0; i < block_size; ++i) {
      const std::uint32_t magnitude = bits[i] & detail::f32_abs_mask, sign = (bits[i] >> 31) << 3;
      if (magnitude == detail::f32_inf) out.code[i] = e2m1{15};
      else out.code[i] = static_cast<e2m1>(magnitude < detail::f32_inf ? sign : sign | 7u);
    }
    return out;
  }
};

/// CUDA's conversions put together: a NaN scale turns every quotient into NaN, which is code 7. `satfinite` keeps an
/// infinite scale at 2^127, and the block is encoded under that.
template <bool satfinite>
struct nonfinite_cuda {
  template <class Recipe>
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr block_codes encode(const std::uint32_t (&bits)[block_size],
                                                                          std::uint32_t amax) noexcept {
    if (satfinite && amax == detail::f32_inf) return Recipe::encode_under(bits, {static_cast<std::uint8_t>(e8m0::max)});
    block_codes out{e8m0::nan, {}};
    for (e2m1& code : out.code) code = e2m1{7};
    return out;
  }
};

// ---- a recipe -------------------------------------------------------------------------------------------------------

/// Four policies make a recipe. `for_input<T>` is the recipe for a tensor of T: every recipe has it, because some peers
/// compute in the type of their input and encode bf16 otherwise than float.
template <scale_rule Scale, rounding_rule Round, zero_rule Zero, class Nonfinite>
struct basic_recipe {
  template <element_type T>
  using for_input = basic_recipe;
  using scale_rule_type = Scale;     ///< the scale from amax
  using rounding_rule_type = Round;  ///< the code from a number under the scale
  using zero_rule_type = Zero;       ///< the sign of what rounds to zero
  using nonfinite_type = Nonfinite;  ///< what becomes of a block with NaN or infinity

  /// @param bits  f32 bits of the 32 values.
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr block_codes encode(
      const std::uint32_t (&bits)[block_size]) noexcept {
    const std::uint32_t amax = detail::amax_bits(bits);
    return amax < detail::f32_inf ? encode_finite(bits, amax) : Nonfinite::template encode<basic_recipe>(bits, amax);
  }

  /// A block of finite numbers, whose largest magnitude has the f32 bits `amax`.
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr block_codes encode_finite(
      const std::uint32_t (&bits)[block_size], std::uint32_t amax) noexcept {
    return encode_under(bits, choose_scale<Scale>(detail::float_from_bits(amax)));
  }

  /// A block under a scale that has been chosen.
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr block_codes encode_under(const std::uint32_t (&bits)[block_size],
                                                                                scale_outcome outcome) noexcept {
    const auto scale = static_cast<e8m0>(outcome.byte);
    if (scale == e8m0::nan) return detail::nan_block();
    const element_boundaries boundaries = make_boundaries<Round, Zero>(outcome.code_scale(), outcome.flush);
    block_codes out{scale, {}};
    for (int i = 0; i < block_size; ++i) out.code[i] = encode_bits<Zero>(bits[i], boundaries);
    return out;
  }
};

namespace detail {

/// Least squares among the three scales floor - 1, floor, floor + 1; a tie goes to the larger byte. The errors of two
/// scales are compared exactly, in integers: per element the difference of squares is (q1 - q2) (q1 + q2 - 2x), and in
/// units of a quarter of the floor scale every q is an integer of at most 48 and x one of at most 32 * 2^24.
struct min_mse_recipe {
  template <element_type T>
  using for_input = min_mse_recipe;
  using fixed = basic_recipe<scale_floor, nearest_even, keep_sign, nonfinite_is_nan_block>;
  using nonfinite_type = nonfinite_is_nan_block;

  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr block_codes encode(
      const std::uint32_t (&bits)[block_size]) noexcept {
    const std::uint32_t amax = amax_bits(bits);
    return amax < f32_inf ? encode_finite(bits, amax) : nan_block();
  }

  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr block_codes encode_finite(
      const std::uint32_t (&bits)[block_size], std::uint32_t amax) noexcept {
    const int floor_byte = choose_scale<scale_floor>(float_from_bits(amax)).byte;
    block_codes best = fixed::encode_under(bits, {static_cast<std::uint8_t>(floor_byte)});
    for (const int byte : {floor_byte - 1, floor_byte + 1}) {
      if (byte < 0) continue;
      const block_codes other = fixed::encode_under(bits, {static_cast<std::uint8_t>(byte)});
      if (overflows(other)) continue;
      const std::int64_t improvement = error_difference(bits, best, other, floor_byte);
      if (improvement > 0 || (improvement == 0 && other.scale > best.scale)) best = other;
    }
    return best;
  }

 private:
  /// Byte 253 turns |v| >= 4 into infinity as a float.
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr bool overflows(const block_codes& b) noexcept {
    if (b.scale < e8m0{253}) return false;
    for (const e2m1 code : b.code)
      if ((static_cast<unsigned>(code) & 7u) >= 6) return true;
    return false;
  }

  /// 4 |v| * 2^(byte - floor_byte), an integer.
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::int64_t quarters(e2m1 code, e8m0 scale,
                                                                             int floor_byte) noexcept {
    const auto magnitude = static_cast<e2m1>(static_cast<unsigned>(code) & 7u);
    return std::int64_t{doubled_weight(magnitude)} << (static_cast<int>(scale) - floor_byte + 1);
  }

  /// squared error under `a` minus squared error under `b`, in units of (floor scale / 4)^2 * 2^-24.
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::int64_t error_difference(
      const std::uint32_t (&bits)[block_size], const block_codes& a, const block_codes& b, int floor_byte) noexcept {
    std::int64_t sum = 0;
    for (int i = 0; i < block_size; ++i) {
      const std::int64_t qa = quarters(a.code[i], a.scale, floor_byte), qb = quarters(b.code[i], b.scale, floor_byte);
      if (qa == qb) continue;  // the same value: the same error, however small x is
      const std::uint32_t magnitude = bits[i] & f32_abs_mask;
      const int stored = static_cast<int>(magnitude >> f32_mantissa_bits);
      const std::int64_t significand = (magnitude & f32_mantissa_mask) | (stored == 0 ? 0u : 1u << f32_mantissa_bits);
      // |x| = significand * 2^(stored - 150), the unit is 2^(floor_byte - 129 - 24)
      const int shift = (stored == 0 ? 1 : stored) - 150 - (floor_byte - 129 - 24);
      const std::int64_t x = significand << shift;  // shift >= 0: |x| is at least an eighth of the floor scale
      sum += (qa - qb) * (((qa + qb) << 24) - 2 * x);
    }
    return sum;
  }
};

}  // namespace detail

/// A named recipe: `for_input<T>` resolves it for a tensor of T.
template <class R>
concept block_recipe = requires(const std::uint32_t (&bits)[block_size]) {
  { R::template for_input<float>::encode(bits) } noexcept -> std::same_as<block_codes>;
};

namespace recipe {

/// The standard's own conversion and this library's default: floor, nearest even, saturating, sign of zero kept. Equals
/// torchao FLOOR on finite blocks. A finite block never becomes NaN or infinity; a block with NaN or infinity is NaN.
struct ocp : basic_recipe<scale_floor, nearest_even, keep_sign, nonfinite_is_nan_block> {
  static constexpr const char* name = "ocp";
};

/// compressed-tensors (llm-compressor, vLLM) on the CPU, in the type of the input; e4m3 is taken for bf16.
/// Losses: blocks with amax >= 1.75 * 2^127 (f16: >= 57344, and < 1.5 * 2^-15) become byte 127, codes 0.
/// Defined here, unstable there: blocks with NaN or infinity are NaN.
struct compressed_tensors {
  static constexpr const char* name = "compressed_tensors";
  template <element_type T>
  using in = basic_recipe<scale_compressed_tensors<T>, nearest_even, sign_of_quotient<T>, nonfinite_is_nan_block>;
  template <element_type T>
  using for_input = in<std::conditional_t<std::same_as<T, e4m3>, bf16, T>>;
};

/// torchao ScaleCalculationMode.FLOOR. Blocks with NaN or infinity are byte 0xFF there and here; its codes are garbage.
struct torchao_floor : basic_recipe<scale_floor, nearest_even, keep_sign, nonfinite_is_nan_block> {
  static constexpr const char* name = "torchao_floor";
};
/// torchao ScaleCalculationMode.CEIL.
struct torchao_ceil : basic_recipe<scale_ceil, nearest_even, keep_sign, nonfinite_is_nan_block> {
  static constexpr const char* name = "torchao_ceil";
};
/// torchao ScaleCalculationMode.EVEN. Loss: blocks with amax >= 1.75 * 2^127 become NaN.
struct torchao_even : basic_recipe<scale_even, nearest_even, keep_sign, nonfinite_is_nan_block> {
  static constexpr const char* name = "torchao_even";
};
/// torchao ScaleCalculationMode.RCEIL.
struct torchao_rceil : basic_recipe<scale_rceil, nearest_even, keep_sign, nonfinite_is_nan_block> {
  static constexpr const char* name = "torchao_rceil";
};

/// microxcaling's C++ and CUDA code with round="nearest" (ties away).
struct microxcaling_nearest : basic_recipe<scale_floor, nearest_away, no_negative_zero, nonfinite_is_nan_block> {
  static constexpr const char* name = "microxcaling_nearest";
};
/// microxcaling's C++ and CUDA code with round="even".
struct microxcaling_even : basic_recipe<scale_floor, nearest_even, no_negative_zero, nonfinite_is_nan_block> {
  static constexpr const char* name = "microxcaling_even";
};
/// microxcaling's Python with round="nearest". Loss: v = 0.25 - 2^-26 becomes 0.5.
struct microxcaling_py_nearest : basic_recipe<scale_floor_log2, with_quarter_defect<nearest_away>,
                                              sign_of_quotient<float>, nonfinite_is_nan_block> {
  static constexpr const char* name = "microxcaling_py_nearest";
};
/// microxcaling's Python with round="even". Loss: as above, while v = 0.25 itself becomes 0.
struct microxcaling_py_even : basic_recipe<scale_floor_log2, with_quarter_defect<nearest_even>, sign_of_quotient<float>,
                                           nonfinite_is_nan_block> {
  static constexpr const char* name = "microxcaling_py_even";
};

/// ModelOpt's MXFP4QTensor: +0 and -0 are code 8. Defined here, unstable there: blocks with NaN or infinity are NaN.
struct modelopt : basic_recipe<scale_modelopt, nearest_toward_zero, zero_is_code_8, nonfinite_is_nan_block> {
  static constexpr const char* name = "modelopt";
};

/// ggml's and ik_llama's reference quantiser. Losses: a block with amax < 2^-125 becomes zeros (its byte is undefined
/// there, 0 here); NaN becomes 0; a block with an infinity becomes zeros; within 44 ulps of 2^128 the codes 6 and 7
/// would overflow the float and 5 is taken.
struct ggml : basic_recipe<scale_ggml, nearest_finite, no_negative_zero, nonfinite_ggml> {
  static constexpr const char* name = "ggml";
};

/// MLX since 0.32.2, mx.quantize on the CPU, in the type of the input; e4m3 is taken for bf16. A block of zeros has
/// byte 127. Defined here, undefined there: blocks with NaN or infinity are NaN, and a block with amax <= 1.5 * 2^-126
/// has byte 0 (there its byte wraps to one near 255).
struct mlx {
  static constexpr const char* name = "mlx";
  template <element_type T>
  using in = basic_recipe<scale_mlx<T>, nearest_toward_zero, no_negative_zero, nonfinite_is_nan_block>;
  template <element_type T>
  using for_input = in<std::conditional_t<std::same_as<T, e4m3>, bf16, T>>;
};
/// The same up to MLX 0.32.1, for float; bf16 and f16 are taken for float, where its byte differs near 6 * sqrt(2) *
/// 2^k.
/// Losses: values up to 8.49s saturate to 6s. What is undefined there as in `mlx`.
struct mlx_0_32_1 : basic_recipe<scale_mlx_0_32_1, nearest_toward_zero, no_negative_zero, nonfinite_is_nan_block> {
  static constexpr const char* name = "mlx_0_32_1";
};
/// MLX since 0.32.2, Metal kernels. Losses: NaN becomes 6s, a block with infinity byte 255. Defined here, unstable
/// there: the maximum of a block with several NaN, which depends on the order of the reduction.
struct mlx_metal : basic_recipe<scale_rceil, nearest_even, keep_sign, nonfinite_mlx> {
  static constexpr const char* name = "mlx_metal";
};
/// The same up to MLX 0.32.1. Losses: as there, and values up to 8.49s saturate to 6s.
struct mlx_metal_0_32_1 : basic_recipe<scale_mlx_metal_0_32_1, nearest_even, keep_sign, nonfinite_mlx> {
  static constexpr const char* name = "mlx_metal_0_32_1";
};

/// AMD Quark, OCP_MXFP4Spec, as exported. Losses: a block with amax < 1.75 * 2^-125 is read back as twice itself; from
/// 1.75 * 2^127 on weights of 2^128 are read back as infinity. Defined here, unstable there: blocks with NaN or
/// infinity are NaN, and in the blocks from 1.75 * 2^127 on an infinite weight is code 4 (6 there).
struct quark : basic_recipe<scale_quark, nearest_even, no_negative_zero, nonfinite_is_nan_block> {
  static constexpr const char* name = "quark";
};

/// AutoRound's quant_mx and QuantLinear.pack: nearest, without its search of the scale. Losses: v = 0.25 - 2^-26
/// becomes 0.5. Defined here, lost there: blocks with NaN or infinity are NaN, and within 44 ulps of 2^128 the largest
/// weights are 4s (0 there).
struct auto_round : basic_recipe<scale_auto_round, with_quarter_defect<nearest_even>, sign_of_quotient<float>,
                                 nonfinite_is_nan_block> {
  static constexpr const char* name = "auto_round";
};

/// nncf's compress_weights for OpenVINO. Losses: no scale is below 2^-25, so blocks with amax < 2^-23 lose bits or
/// vanish; a block with an infinity is encoded under byte 254. Defined here, dependent on the processor there: the byte
/// within 96 ulps above 1.5 * 2^k. A block with NaN is byte 255, codes 7.
struct nncf : basic_recipe<scale_nncf, nearest_even, keep_sign, nonfinite_cuda<true>> {
  static constexpr const char* name = "nncf";
};

/// triton_kernels (gpt-oss) ROUND_UP. Loss: a block with NaN becomes byte 0, NaN 6s and its other values +-0.
/// Defined here, unstable there: an infinity has code 15 whatever its sign, as on x86.
struct triton_up : basic_recipe<scale_triton_up, nearest_even, keep_sign, nonfinite_triton<0>> {
  static constexpr const char* name = "triton_up";
};
/// triton_kernels ROUND_DOWN. Losses: a block with amax < 2^-124 becomes +-0; NaN as above, under byte 255.
struct triton_down : basic_recipe<scale_triton_down, nearest_even, keep_sign, nonfinite_triton<255>> {
  static constexpr const char* name = "triton_down";
};
/// Older triton_kernels, as vendored by Quark: ROUND_UP with ties away from zero.
struct triton_legacy : basic_recipe<scale_triton_up, nearest_away, keep_sign, nonfinite_triton<0>> {
  static constexpr const char* name = "triton_legacy";
};

/// CUDA's conversions put together: scale = cvt.rp(amax * fl(1/6)) without saturation, codes = cvt.rn(x / scale). A
/// block with NaN or infinity is byte 255, codes 7.
struct cuda_rceil : basic_recipe<scale_rceil, nearest_even, keep_sign, nonfinite_cuda<false>> {
  static constexpr const char* name = "cuda_rceil";
};
/// The same with cvt.rp.satfinite(amax / 6): a block with an infinity is encoded under byte 254.
struct cuda_rceil_satfinite : basic_recipe<scale_rceil, nearest_even, keep_sign, nonfinite_cuda<true>> {
  static constexpr const char* name = "cuda_rceil_satfinite";
};

/// The scale with the least squared error among floor - 1, floor and floor + 1, compared exactly; ties to the larger
/// one. Never worse than any fixed rule above on any block. About three times the work. NaN and infinity as in `ocp`.
struct min_mse : detail::min_mse_recipe {
  static constexpr const char* name = "min_mse";
};

}  // namespace recipe

}  // namespace mxfp4
