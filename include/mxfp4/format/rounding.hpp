// mxfp4/format/rounding.hpp -- a number -> the nearest FP4 code; ties and the sign of zero are policies.
// SPDX-License-Identifier: Apache-2.0
//
//   magnitude     0     0.5    1     1.5    2      3      4      6
//   code          0      1     2      3     4      5      6      7
//   boundary         0.25  0.75   1.25  1.75   2.5    3.5     5          code = number of boundaries that |x| reaches
//
// Seven boundaries define a rounding. They are compared as integers (bits.hpp), and a block scale moves all of them by
// the same power of two, so x itself is never divided. A rule for ties says whether a midpoint reaches its boundary.
// Source: OCP MX v1.0, section 6.3 (nearest even is required, others are allowed); the peers named at each policy.
#pragma once

#include <concepts>
#include <cstdint>

#include "mxfp4/core/e2m1.hpp"
#include "mxfp4/core/e8m0.hpp"
#include "mxfp4/core/float_types.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

namespace detail {

inline constexpr std::uint32_t unreachable = 0xFFFFFFFFu;

/// The bits of `base` * 2^k moved by `ulps` units in the last place; an overflowed boundary is reached by infinity
/// alone.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr std::uint32_t boundary_bits(std::uint32_t base, int ulps,
                                                                          int k) noexcept {
  const std::uint32_t scaled = ldexp_bits(base, k);
  return scaled == f32_inf ? scaled : scaled + static_cast<std::uint32_t>(ulps);
}

}  // namespace detail

// ---- roundings ------------------------------------------------------------------------------------------------------

using detail::unreachable;  ///< a boundary that nothing reaches, NaN included: 0xFFFFFFFF

/// A rounding gives, for each of the seven boundaries, a base value (f32 bits at scale 1) and how many ulps above it a
/// magnitude must lie to reach the boundary. Two oddities of peers, under a scale of 2^k: how many of the boundaries
/// can be reached, and a stray magnitude that is code 1 although it lies below the first boundary.
///
/// One of your own derives from seven_boundaries or midpoint_boundaries, which have neither oddity, and adds what is
/// missing: a name, ulps(boundary), and base(boundary). Boundaries ascend. Kernels take it as they take ours; one whose
/// boundaries do not fit 16 bits as theirs do is encoded by the plain loop (simd/words.hpp, word_recipe).
///
///   struct up_from_a_third : seven_boundaries { ... };
///   using mine = basic_recipe<scale_floor, up_from_a_third, keep_sign, nonfinite_is_nan_block>;     recipe.hpp
///   quantize<mine>(weights, out);
template <class R>
concept rounding_rule = requires(unsigned boundary, int k) {
  { R::name } -> std::convertible_to<const char*>;
  { R::base(boundary) } noexcept -> std::same_as<std::uint32_t>;
  { R::ulps(boundary) } noexcept -> std::same_as<int>;
  { R::reachable(k) } noexcept -> std::same_as<unsigned>;
  { R::stray(k) } noexcept -> std::same_as<std::uint32_t>;
};

/// What a rounding has in common with nearly every other: all seven boundaries, and no stray. To derive from; missing
/// are `name`, base(boundary) and ulps(boundary).
struct seven_boundaries {
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr unsigned reachable(int) noexcept { return 7; }
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::uint32_t stray(int) noexcept { return unreachable; }
};

/// The boundaries in the middle between two numbers: 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5. To derive from; missing are
/// `name` and ulps(boundary), which says of each tie whether it goes up (0) or down (1).
struct midpoint_boundaries : seven_boundaries {
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::uint32_t base(unsigned boundary) noexcept {
    return detail::e2m1_midpoint_bits(boundary);
  }
};

namespace detail {
/// 0.25 * 2^k less one ulp, if that is a float with all its 24 bits.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr std::uint32_t just_below_quarter(int k) noexcept {
  return k >= -123 ? ldexp_bits(e2m1_midpoint_bits(0), k) - 1u : unreachable;
}
}  // namespace detail

/// Ties go to the code with an even mantissa: 0, 1, 1, 2, 2, 4, 4. Peers: nearly all of them.
struct nearest_even : midpoint_boundaries {
  static constexpr const char* name = "nearest_even";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr int ulps(unsigned boundary) noexcept {
    return boundary % 2 == 0 ? 1 : 0;
  }
};

/// Ties go away from zero: 0.5, 1, 1.5, 2, 3, 4, 6. Peers: microxcaling "nearest", older triton_kernels.
struct nearest_away : midpoint_boundaries {
  static constexpr const char* name = "nearest_away";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr int ulps(unsigned) noexcept { return 0; }
};

/// Ties go toward zero: 0, 0.5, 1, 1.5, 2, 3, 4. Peer: ModelOpt.
struct nearest_toward_zero : midpoint_boundaries {
  static constexpr const char* name = "nearest_toward_zero";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr int ulps(unsigned) noexcept { return 1; }
};

/// nearest_toward_zero by a search through the sixteen products code * scale: one that overflows is never the nearest.
/// Peers: ggml, ik_llama.
struct nearest_finite : nearest_toward_zero {
  static constexpr const char* name = "nearest_finite";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr unsigned reachable(int k) noexcept {
    unsigned boundaries = 7;
    while (detail::ldexp_bits(detail::e2m1_magnitude_bits(boundaries), k) == detail::f32_inf) --boundaries;
    return boundaries;
  }
};

/// Truncation. Peer: CUDA __nv_cvt_float_to_fp4 with cudaRoundZero.
struct toward_zero : seven_boundaries {
  static constexpr const char* name = "toward_zero";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::uint32_t base(unsigned boundary) noexcept {
    return detail::e2m1_magnitude_bits(boundary + 1);
  }
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr int ulps(unsigned) noexcept { return 0; }
};

/// microxcaling's Python: it rounds floor(2v + 0.5) in float, where the sum for v = 0.25 - 2^-26 is already 1. So this
/// one value becomes 0.5. Source: microxcaling 7bc41952, mx/elemwise_ops.py, _round_mantissa.
template <class Ties>
struct with_quarter_defect : Ties {
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::uint32_t stray(int k) noexcept {
    return detail::just_below_quarter(k);
  }
};

// ---- the sign of zero -----------------------------------------------------------------------------------------------

/// A zero rule gives the magnitude from which on a value that rounds to zero keeps its sign; `first_boundary` is the
/// magnitude from which on it does not round to zero, `unreachable` in a block that its recipe flushes.
/// `zero_is_negative`: an exact zero becomes code 8 whatever its sign.
template <class Z>
concept zero_rule = requires(e8m0 scale, std::uint32_t first_boundary) {
  { Z::sign_boundary(scale, first_boundary) } noexcept -> std::same_as<std::uint32_t>;
  { Z::zero_is_negative } -> std::convertible_to<bool>;
};

/// -0 and everything that rounds to it is code 8. Peers: CUDA, CUTLASS, ml_dtypes, torchao, MLX, triton.
struct keep_sign {
  static constexpr bool zero_is_negative = false;
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::uint32_t sign_boundary(e8m0, std::uint32_t) noexcept {
    return 0;
  }
};

/// The sign survives where x / scale is not zero in the type T that the peer divides in; -0 is code 0.
/// Peers: compressed-tensors on the CPU (torch.sign), microxcaling's Python.
template <element_type T>
struct sign_of_quotient {
  static constexpr bool zero_is_negative = false;
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::uint32_t sign_boundary(
      e8m0 scale, std::uint32_t first_boundary) noexcept {
    if (first_boundary == detail::unreachable) return detail::unreachable;
    // half of T's smallest subnormal is a tie and rounds to zero; 2^-150 in data units is below every float
    constexpr int half_of_smallest = std::same_as<T, f16> ? -25 : std::same_as<T, float> ? -150 : -134;
    return detail::pow2_bits(half_of_smallest + static_cast<int>(scale) - detail::f32_bias) + 1u;
  }
};

/// No code 8 at all. Peers: ggml, ik_llama, microxcaling's C++.
struct no_negative_zero {
  static constexpr bool zero_is_negative = false;
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::uint32_t sign_boundary(
      e8m0, std::uint32_t first_boundary) noexcept {
    return first_boundary;
  }
};

/// The sign bit is set unless x / scale > 0, so a plain zero is code 8. Peer: ModelOpt: sign bit (2 - sign(x)) // 2.
struct zero_is_code_8 {
  static constexpr bool zero_is_negative = true;
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::uint32_t sign_boundary(
      e8m0 scale, std::uint32_t first_boundary) noexcept {
    return sign_of_quotient<float>::sign_boundary(scale, first_boundary);
  }
};

// ---- the boundaries of one block, and one element against them ------------------------------------------------------

/// What encodes the elements of a block: nine integers, with which the bits of |x| are compared.
struct element_boundaries {
  std::uint32_t boundary[7];    ///< code = number of boundaries reached
  std::uint32_t stray;          ///< this magnitude alone is code 1 too
  std::uint32_t sign_boundary;  ///< from here on the sign is kept
};

/// The boundaries under `scale`, in the units of the data. `flush`: every element becomes a zero.
template <rounding_rule Round, zero_rule Zero>
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr element_boundaries make_boundaries(e8m0 scale,
                                                                                 bool flush = false) noexcept {
  const int k = static_cast<int>(scale) - detail::f32_bias;
  const unsigned reachable = flush ? 0u : Round::reachable(k);
  element_boundaries boundaries{};
  for (unsigned i = 0; i < 7; ++i)
    boundaries.boundary[i] =
        i < reachable ? detail::boundary_bits(Round::base(i), Round::ulps(i), k) : detail::unreachable;
  boundaries.stray = flush ? detail::unreachable : Round::stray(k);
  boundaries.sign_boundary = Zero::sign_boundary(scale, boundaries.boundary[0]);
  return boundaries;
}

/// Code of the element with f32 bits `bits`. NaN counts as a magnitude above infinity: code 7 or 15.
template <zero_rule Zero>
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr e2m1 encode_bits(std::uint32_t bits,
                                                               const element_boundaries& boundaries) noexcept {
  const std::uint32_t magnitude = bits & detail::f32_abs_mask;
  unsigned code = magnitude == boundaries.stray ? 1u : 0u;
  for (const std::uint32_t boundary : boundaries.boundary) code += magnitude >= boundary ? 1u : 0u;
  bool negative = (bits >> 31) != 0 && magnitude >= boundaries.sign_boundary;
  if constexpr (Zero::zero_is_negative) negative = negative || magnitude < boundaries.sign_boundary;
  return static_cast<e2m1>(code | (negative ? 8u : 0u));
}

// ---- one number, scale 1 --------------------------------------------------------------------------------------------

/// Nearest FP4 code to `x`, which is already divided by the block scale. Saturates at +-6, infinity and NaN included
/// (blocks with such values are the recipe's business); the sign of zero is kept.
template <rounding_rule Round = nearest_even, element_type T>
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr e2m1 encode_e2m1(T x) noexcept {
  constexpr element_boundaries boundaries = make_boundaries<Round, keep_sign>(e8m0::one);
  return encode_bits<keep_sign>(detail::float_bits(decode(x)), boundaries);
}

/// The same for double, exactly: the boundaries are compared as doubles, so 0.25 + 2^-54 is code 1.
template <rounding_rule Round = nearest_even>
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr e2m1 encode_e2m1(double x) noexcept {
  const auto bits = detail::bit_cast<std::uint64_t>(x);
  const std::uint64_t magnitude = bits & 0x7FFFFFFFFFFFFFFFu;
  unsigned code = 0;
  for (unsigned i = 0; i < 7; ++i) {
    const std::uint64_t base = (static_cast<std::uint64_t>(Round::base(i)) << 29) + (std::uint64_t{1023 - 127} << 52);
    code += magnitude >= base + static_cast<std::uint64_t>(Round::ulps(i)) ? 1u : 0u;
  }
  return static_cast<e2m1>(code | static_cast<unsigned>(bits >> 63) << 3);
}

namespace detail {
/// Stochastic code of `magnitude` (finite f32 bits) in a block with scale 2^k.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr unsigned stochastic_code(std::uint32_t magnitude, int k,
                                                                       std::uint32_t random) noexcept {
  unsigned code = 0;
  for (unsigned i = 1; i < 8; ++i) code += magnitude >= ldexp_bits(e2m1_magnitude_bits(i), k) ? 1u : 0u;
  if (code == 7) return 7;
  // frac = (|x| - lower) / gap, both exact as integers times 2^unit: |x| - lower has at most 24 significant bits
  const std::uint32_t lower = ldexp_bits(e2m1_magnitude_bits(code), k);
  const int gap_exponent = k + (code < 4 ? -1 : code < 6 ? 0 : 1);  // gaps 0.5 0.5 0.5 0.5 1 1 2
  const int x_exponent = magnitude >> 23 == 0 ? 1 : static_cast<int>(magnitude >> 23);
  const int l_exponent = lower >> 23 == 0 ? 1 : static_cast<int>(lower >> 23);
  const std::uint32_t x_significand = (magnitude & f32_mantissa_mask) | (magnitude >> 23 == 0 ? 0u : 1u << 23);
  const std::uint32_t l_significand = (lower & f32_mantissa_mask) | (lower >> 23 == 0 ? 0u : 1u << 23);
  const std::uint32_t aligned = lower == 0 ? 0u : l_significand >> (x_exponent - l_exponent);  // exact, |x| < 2 lower
  const std::uint64_t rest = x_significand - aligned;
  if (rest == 0) return code;
  const int shift = x_exponent - f32_bias - f32_mantissa_bits - gap_exponent + 32;  // frac * 2^32 = rest * 2^shift
  if (shift >= 0) return (rest << shift) > random ? code + 1 : code;                // shift < 32 as frac < 1
  const int right = -shift;
  if (right >= 32) return random == 0 ? code + 1 : code;  // 0 < frac * 2^32 < 1
  return rest > static_cast<std::uint64_t>(random) << right ? code + 1 : code;
}
}  // namespace detail

/// Stochastic rounding: up, away from zero, iff frac * 2^32 > random, where frac in [0, 1) is the place of |x| between
/// its two neighbouring codes. Exact for every x: with `random` uniform the expected value is x to within 2^-32 of the
/// gap. Saturates at +-6; the sign is kept. `x` is already divided by the block scale.
template <element_type T>
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr e2m1 encode_e2m1_stochastic(T x, std::uint32_t random) noexcept {
  const std::uint32_t bits = detail::float_bits(decode(x));
  return static_cast<e2m1>(detail::stochastic_code(bits & detail::f32_abs_mask, 0, random) | (bits >> 31) << 3);
}

// ---- proof ----------------------------------------------------------------------------------------------------------
namespace detail {
template <rounding_rule R>
[[nodiscard]] consteval bool ties_give(const int (&codes)[7]) {
  for (unsigned i = 0; i < 7; ++i) {
    const float tie = float_from_bits(e2m1_midpoint_bits(i));
    if (encode_e2m1<R>(tie) != static_cast<e2m1>(codes[i]) ||
        encode_e2m1<R>(static_cast<double>(tie)) != encode_e2m1<R>(tie))
      return false;
  }
  return true;
}
}  // namespace detail
static_assert(detail::ties_give<nearest_even>({0, 2, 2, 4, 4, 6, 6}));
static_assert(detail::ties_give<nearest_away>({1, 2, 3, 4, 5, 6, 7}));
static_assert(detail::ties_give<nearest_toward_zero>({0, 1, 2, 3, 4, 5, 6}));
static_assert(detail::ties_give<toward_zero>({0, 1, 2, 3, 4, 5, 6}));
static_assert(encode_e2m1(0x1.000002p-2f) == e2m1{1} && encode_e2m1(0.25 + 0x1p-54) == e2m1{1});
static_assert(encode_e2m1(-0.0f) == e2m1{8} && encode_e2m1(-1e30f) == e2m1{15});
static_assert(encode_e2m1_stochastic(1.25f, 0x7FFFFFFFu) == e2m1{3} &&
              encode_e2m1_stochastic(1.25f, 0x80000000u) == e2m1{2});

}  // namespace mxfp4
