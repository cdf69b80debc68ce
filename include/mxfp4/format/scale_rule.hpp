// mxfp4/format/scale_rule.hpp -- largest magnitude of a block -> its E8M0 scale.
// SPDX-License-Identifier: Apache-2.0
//
//   amax bits   0 | E E E E E E E E | m m m m m m m m m m m m m m m m m m m m m m m
//
//   scale byte = m < threshold(E) ? below(E) : above(E)          one compare, for every rule of every peer
//
// Nearly everywhere below = E - 2 and above = E - 1, and the threshold is the mantissa from which on a rule takes the
// larger scale: never (floor), above 1 (ceil), above 1.5 (rceil), from 1.75 (even). Peers that compute log2 in float
// have thresholds some ulps off, by a number that depends on E alone. So no rule needs a logarithm or a division, all
// vectorise, and a GPU gives the same bits.
// Source: OCP MX v1.0 section 6.3; each rule names its peer. The thresholds are proved in
// tests/scale_rule.exhaustive.test.cpp, which evaluates the peers' own formulas on all 2^31 magnitudes.
#pragma once

#include <concepts>
#include <cstdint>

#include "mxfp4/core/e8m0.hpp"
#include "mxfp4/core/float_types.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// What a rule decides for a block: its scale byte, and two ways in which peers lose one. `flush`: all its codes become
/// zeros. `halved`: its codes are those of the next smaller scale, so that the block is read back as twice itself.
struct scale_outcome {
  std::uint8_t byte;    ///< E8M0
  bool flush = false;   ///< all codes become zeros
  bool halved = false;  ///< the codes are those of byte - 1

  /// The scale under which the codes are chosen.
  [[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr e8m0 code_scale() const noexcept {
    return static_cast<e8m0>(halved ? byte - 1 : byte);
  }
};

/// The rule for one exponent field E of amax: `below` for mantissas under `threshold`, else `above`.
struct scale_step {
  std::uint32_t threshold;     ///< of the 23 bits of the mantissa
  scale_outcome below, above;  ///< on either side of it
};

/// A scale rule gives the step for each exponent field 0..254; amax is finite.
template <class R>
concept scale_rule = requires(unsigned exponent) {
  { R::name } -> std::convertible_to<const char*>;
  { R::step(exponent) } noexcept -> std::same_as<scale_step>;
};

namespace detail {

inline constexpr std::uint32_t no_mantissa = 0x00800000u;  ///< a threshold above every mantissa

/// E - 2 below `threshold`, E - 1 from it on, clamped at byte 0.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr scale_step regular_step(unsigned exponent,
                                                                      std::uint32_t threshold) noexcept {
  if (exponent < 2) return {no_mantissa, {0}, {0}};
  return {threshold, {static_cast<std::uint8_t>(exponent - 2)}, {static_cast<std::uint8_t>(exponent - 1)}};
}

/// How many ulps off a power of two 2^n a float may lie and still have log2 == n after rounding to float: `at_64` where
/// |n| is 64..127, half as many for each binade of n below, since the spacing of the logarithm halves there. n <= 127.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr std::uint32_t log2_ulps(std::uint32_t at_64, unsigned n) noexcept {
  return at_64 >> (7 - bit_width(n));
}

}  // namespace detail

// For a rule of your own: a step that is regular, and the threshold of one that never goes up.
using detail::no_mantissa;
using detail::regular_step;

/// 2^(floor(log2 amax) - 2), from the exponent bits; amax in (6s, 8s) saturates to 6s.
/// Peers: the OCP text, torchao FLOOR, microxcaling's C++.
struct scale_floor {
  static constexpr const char* name = "floor";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr scale_step step(unsigned exponent) noexcept {
    return detail::regular_step(exponent, detail::no_mantissa);
  }
};

/// 2^(ceil(log2 amax) - 2). Peer: torchao CEIL.
struct scale_ceil {
  static constexpr const char* name = "ceil";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr scale_step step(unsigned exponent) noexcept {
    return detail::regular_step(exponent, 1);
  }
};

/// amax is rounded to a power of two, upward from 1.75 * 2^k on, and the scale is a quarter of that. From 1.75 * 2^127
/// on the power is infinite and the block becomes NaN (byte 0xFF). Peer: torchao EVEN.
struct scale_even {
  static constexpr const char* name = "even";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr scale_step step(unsigned exponent) noexcept {
    if (exponent == 254) return {0x600000u, {252}, {255}};
    return detail::regular_step(exponent, 0x600000u);
  }
};

/// 2^ceil(log2(amax / 6)): nothing saturates. The quotient is rounded to float, which shows at E = 2 only, where it is
/// subnormal. Peers: torchao RCEIL, CUTLASS, CUDA's cvt.rp of amax / 6.
struct scale_rceil {
  static constexpr const char* name = "rceil";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr scale_step step(unsigned exponent) noexcept {
    return detail::regular_step(exponent, exponent == 2 ? 0x400002u : 0x400001u);
  }
};

/// scale_even in the type of the tensor: from 1.75 * 2^emax on the scale is infinite and the block is lost: byte 127,
/// codes 0. In f16 a block with amax < 1.5 * 2^-15 is lost too, because its scale underflows to 0 and 1 is taken
/// instead.
/// Peer: compressed-tensors ac8e2ba8, generate_mx_scales and calculate_qparams.
template <element_type T>
struct scale_compressed_tensors {
  static constexpr const char* name = "compressed_tensors";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr scale_step step(unsigned exponent) noexcept {
    constexpr unsigned top = std::same_as<T, f16> ? 142 : 254;
    if (exponent > top) return {detail::no_mantissa, {127, true}, {127, true}};  // no finite f16 comes here
    if (exponent == top) return {0x600000u, {top - 2}, {127, true}};
    if constexpr (std::same_as<T, f16>) {
      if (exponent < 112) return {detail::no_mantissa, {127}, {127}};  // subnormal in f16, rounded down to 0
      if (exponent == 112) return {0x400000u, {127}, {111}};           // its upper half is rounded up to 2^-14
    }
    return detail::regular_step(exponent, 0x600000u);
  }
};

/// floor(log2f(amax)) - 2: up to 44 ulps below a power of two count as that power. Peer: microxcaling's Python.
struct scale_floor_log2 {
  static constexpr const char* name = "floor_log2";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr scale_step step(unsigned exponent) noexcept {
    const unsigned n = exponent >= 127 ? exponent - 127 : 126 - exponent;
    return detail::regular_step(exponent, detail::no_mantissa - detail::log2_ulps(44, n));
  }
};

/// scale_floor_log2 without a clamp: where the byte would be negative (amax < 2^-125) the peer's conversion to an
/// unsigned char is undefined and all codes come out 0. Here the byte is 0 and the block is flushed: the same values.
/// Peers: ggml d99724f2 quantize_row_mxfp4_ref, ik_llama.cpp 8337e4cd.
struct scale_ggml {
  static constexpr const char* name = "ggml";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr scale_step step(unsigned exponent) noexcept {
    if (exponent == 0) return {detail::no_mantissa, {0, true}, {0, true}};
    const scale_step s = scale_floor_log2::step(exponent);
    if (exponent == 1) return {detail::no_mantissa - detail::log2_ulps(44, 125), {0, true}, {0}};
    return s;
  }
};

/// ceil(log2f(amax / 6)): up to 33 ulps above 1.5 * 2^k still count as it. Peer: ModelOpt a2fbac7b, MXFP4QTensor.
struct scale_modelopt {
  static constexpr const char* name = "modelopt";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr scale_step step(unsigned exponent) noexcept {
    if (exponent < 2) return {detail::no_mantissa, {0}, {0}};
    const unsigned n = exponent >= 129 ? exponent - 129 : 128 - exponent;
    const std::uint32_t quotient_ulps = detail::log2_ulps(22, n);
    // an ulp of amax / 6 just above 2^k is 1.5 ulps of amax; at E = 2 the quotient is subnormal, as in scale_rceil
    return detail::regular_step(exponent, 0x400001u + (3 * quotient_ulps + 1) / 2 + (exponent == 2 ? 1u : 0u));
  }
};

/// 2^ceil(log2(amax / 6)), the quotient rounded in the type T of the tensor: nothing saturates. Where the quotient is
/// subnormal in T the rounding shows, and a quotient of zero makes byte 127. For amax <= 1.5 * 2^-126 the byte is
/// undefined there (a negative float becomes an unsigned char), 0 here.
/// Peer: MLX 0.32.2 on the CPU, mx.quantize.
template <element_type T>
struct scale_mlx {
  static constexpr const char* name = "mlx";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr scale_step step(unsigned exponent) noexcept {
    constexpr bool half = std::same_as<T, f16>;
    if (exponent == 0)  // a quotient of at most half of T's smallest number is zero
      return {half ? 1u : std::same_as<T, float> ? 4u : 0x40000u, {127, true}, {0}};
    // amax is in [2^place, 2^(place + 1)) of T's smallest numbers: 2^-149, 2^-133, 2^-24
    const unsigned place = exponent + (half ? 0u - 103u : std::same_as<T, float> ? 22u : 6u);
    const auto byte = static_cast<std::uint8_t>(exponent - 2);
    if constexpr (half) {
      if (exponent < 105) return {detail::no_mantissa, {127, true}, {127, true}};         // up to 3: zero
      if (place == 2) return {detail::no_mantissa, {byte}, {byte}};                       // 4 to 7: the quotient is 1
      if (place == 3) return {0x100000u, {static_cast<std::uint8_t>(byte - 1)}, {byte}};  // 8; 9 to 15: 2
    }
    // up to three smallest numbers above 6 * 2^k the quotient is rounded down to 2^k
    const std::uint32_t excess = place < 32 ? 0x1800000u >> place : 0u;
    return detail::regular_step(exponent, 0x400001u + excess);
  }
};

namespace detail {
/// The binade of |n + 0.5|: 0 for 0.5, 1 for 1.5, 2 for 2.5 and 3.5, and so on up to 7 from 64.5 on.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr unsigned half_band(int n) noexcept {
  return static_cast<unsigned>(bit_width(static_cast<std::uint32_t>(n < 0 ? -n - 1 : n)));
}
}  // namespace detail

/// round(log2f(amax / 6)), ties to the even exponent: amax may reach 6 * sqrt(2) * 2^k, so values up to 8.49s saturate
/// to 6s. Zero as in scale_mlx; below 1.06 * 2^-125 the byte is undefined there, 0 here. In bf16, f16, where the peer
/// rounds the quotient and its logarithm to 16 bits, its byte may be another one near 6 * sqrt(2) * 2^k.
/// Peer: MLX 0.32.1 on the CPU, mx.quantize.
struct scale_mlx_0_32_1 {
  static constexpr const char* name = "mlx_0_32_1";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr scale_step step(unsigned exponent) noexcept {
    if (exponent == 0) return {4, {127, true}, {0}};  // a quotient that rounds to zero
    if (exponent < 3) return {detail::no_mantissa, {0}, {0}};
    return {threshold(exponent), {static_cast<std::uint8_t>(exponent - 3)}, {static_cast<std::uint8_t>(exponent - 2)}};
  }

  /// Mantissa from which on log2f says n + 0.5, if that tie goes up, else of the first number above.
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::uint32_t threshold(unsigned exponent) noexcept {
    constexpr std::uint8_t up[8] = {0xB6, 0xB6, 0xB6, 0xB6, 0xB4, 0xB1, 0xAB, 0x9F};
    constexpr std::uint8_t down[8] = {0xB7, 0xB7, 0xB8, 0xB9, 0xBA, 0xBD, 0xC2, 0xCE};
    const unsigned band = detail::half_band(static_cast<int>(exponent) - 130);
    return 0x07C300u + (exponent % 2 != 0 ? up : down)[band];
  }
};

/// round(log2f(amax / 6)): amax may reach 6 * sqrt(2) * 2^k, so values up to 8.49s saturate to 6s.
/// Peer: MLX 846d1762, up to 0.32.1, fp8.h and fp4.h (Metal).
struct scale_mlx_metal_0_32_1 {
  static constexpr const char* name = "mlx_metal_0_32_1";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr scale_step step(unsigned exponent) noexcept {
    if (exponent < 3) return {detail::no_mantissa, {0}, {0}};
    return {threshold(exponent), {static_cast<std::uint8_t>(exponent - 3)}, {static_cast<std::uint8_t>(exponent - 2)}};
  }

  /// Mantissa of 6 * sqrt(2), moved by as many ulps as the quotient and its logarithm, both rounded to float, are off
  /// at this exponent.
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::uint32_t threshold(unsigned exponent) noexcept {
    if (exponent < 4) return 0x07C3CFu;
    if (exponent < 66) return 0x07C3CEu;
    if (exponent < 98) return 0x07C3C2u;
    if (exponent < 114) return 0x07C3BDu;
    if (exponent < 122) return 0x07C3BAu;
    if (exponent < 126) return 0x07C3B9u;
    if (exponent < 128) return 0x07C3B8u;
    if (exponent < 131) return 0x07C3B7u;
    if (exponent < 138) return 0x07C3B6u;
    if (exponent < 146) return 0x07C3B4u;
    if (exponent < 162) return 0x07C3B1u;
    if (exponent < 194) return 0x07C3ABu;
    return 0x07C39Fu;
  }
};

/// scale_even, but never byte 0: a block with amax < 1.75 * 2^-125 is written with byte 1 and the codes of byte 0, and
/// read back as twice itself. From 1.75 * 2^127 on the byte is 254. Peer: Quark 0.13, even_round and to_e8m0_uint8.
struct scale_quark {
  static constexpr const char* name = "quark";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr scale_step step(unsigned exponent) noexcept {
    if (exponent < 2) return {detail::no_mantissa, {1, false, true}, {1, false, true}};
    if (exponent == 2) return {0x600000u, {1, false, true}, {1}};
    if (exponent == 254) return {0x600000u, {252}, {254}};
    return detail::regular_step(exponent, 0x600000u);
  }
};

/// scale_floor_log2, but a block of zeros has byte 126. Peer: AutoRound 0.16.1, quant_mx.
struct scale_auto_round {
  static constexpr const char* name = "auto_round";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr scale_step step(unsigned exponent) noexcept {
    return exponent == 0 ? scale_step{1, {126}, {0}} : scale_floor_log2::step(exponent);
  }
};

/// scale_rceil, but amax is at least 2^-23, so that no byte is below 102. The peer's logarithm is compiled for the
/// processor it runs on: within 96 ulps above 1.5 * 2^k its byte may be the smaller one.
/// Peer: nncf 3.4.0 on OpenVINO 2026.4.1, tensors of 10000 numbers and more.
struct scale_nncf {
  static constexpr const char* name = "nncf";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr scale_step step(unsigned exponent) noexcept {
    return exponent < 104 ? scale_step{detail::no_mantissa, {102}, {102}} : scale_rceil::step(exponent);
  }
};

/// scale_rceil, but every nonzero quotient has at least byte 1, and byte 0 means a scale of zero: codes +-0.
/// Peer: triton_kernels 018a674f, ROUND_UP.
struct scale_triton_up {
  static constexpr const char* name = "triton_up";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr scale_step step(unsigned exponent) noexcept {
    if (exponent == 0) return {4, {0, true}, {1}};  // amax / 6 rounds to nonzero from 4 * 2^-149 on
    if (exponent < 3) return {detail::no_mantissa, {1}, {1}};
    return scale_rceil::step(exponent);
  }
};

/// The exponent of amax / 4, and byte 0 means a scale of zero: a block with amax < 2^-124 is lost.
/// Peer: triton_kernels 018a674f, ROUND_DOWN.
struct scale_triton_down {
  static constexpr const char* name = "triton_down";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr scale_step step(unsigned exponent) noexcept {
    if (exponent < 2) return {detail::no_mantissa, {0, true}, {0, true}};
    if (exponent == 2) return {0x7FFFFFu, {0, true}, {1}};  // the last float below 2^-124: a quarter of it rounds up
    return scale_floor::step(exponent);
  }
};

/// The scale of a block whose largest magnitude is `amax`, finite and >= 0. Unit: the data's.
template <scale_rule Rule>
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr scale_outcome choose_scale(float amax) noexcept {
  const std::uint32_t bits = detail::float_bits(amax) & detail::f32_abs_mask;
  const scale_step step = Rule::step(bits >> detail::f32_mantissa_bits);
  return (bits & detail::f32_mantissa_mask) < step.threshold ? step.below : step.above;
}

static_assert(choose_scale<scale_floor>(6.0f).byte == 127 && choose_scale<scale_floor>(7.9f).byte == 127);
static_assert(choose_scale<scale_rceil>(6.0f).byte == 127 && choose_scale<scale_rceil>(0x1.800002p2f).byte == 128);
static_assert(choose_scale<scale_even>(6.9f).byte == 127 && choose_scale<scale_even>(7.0f).byte == 128);
static_assert(choose_scale<scale_ceil>(4.0f).byte == 127 && choose_scale<scale_ceil>(0x1.000002p2f).byte == 128);
static_assert(choose_scale<scale_mlx<float>>(6.9f).byte == 128 && choose_scale<scale_mlx<float>>(0.0f).byte == 127);
static_assert(choose_scale<scale_mlx_0_32_1>(8.4f).byte == 127 && choose_scale<scale_mlx_0_32_1>(8.5f).byte == 128);

}  // namespace mxfp4
