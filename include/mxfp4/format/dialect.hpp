// mxfp4/format/dialect.hpp -- a code under a scale byte -> a number, as the different readers see it.
// SPDX-License-Identifier: Apache-2.0
//
//                byte 255, code c           code 8 (-0)  byte 0      readers
//   ocp          NaN                        -0           2^-127 * v  OCP MX v1.0, CUDA, CUTLASS, ml_dtypes, torchao
//   inf_at_255   +-inf, NaN under zeros     -0           2^-127 * v  compressed-tensors, MLX, gpt-oss as published
//   ggml         2^128 * v: 0.5 is 2^127    +0           2^-127 * v  ggml, ik_llama (integer 2v times half a scale)
//   gpt_oss      2^128 * v: 0.5 is 2^127    -0           2^-127 * v  transformers' load of gpt_oss
//   openvino     NaN                        -0           +-0         OpenVINO, scales that are Constants of a model
//
// Versions, and how each was recorded: tests/vectors/README.md; a test compares all 4096 pairs with each reader.
// Everywhere else a weight is its float value v * 2^(byte - 127): exact, subnormals included, infinity where that
// overflows (byte 254 with |v| >= 2, byte 253 with |v| >= 4). Integer arithmetic only, so flush-to-zero loses nothing.
#pragma once

#include <concepts>
#include <cstdint>

#include "mxfp4/core/e2m1.hpp"
#include "mxfp4/core/e8m0.hpp"
#include "mxfp4/core/float_types.hpp"
#include "mxfp4/core/status.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

namespace detail {
/// f32 bits of code under scale 2^(byte - 127), for a byte that means a number.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr std::uint32_t weight_bits(e2m1 code, e8m0 scale) noexcept {
  const auto c = static_cast<unsigned>(code);
  return ldexp_bits(e2m1_magnitude_bits(c & 7u), static_cast<int>(scale) - f32_bias) | (c & 8u) << 28;
}
}  // namespace detail

/// A dialect gives the f32 bits of a weight.
template <class D>
concept decode_dialect = requires(e2m1 code, e8m0 scale) {
  { D::name } -> std::convertible_to<const char*>;
  { D::weight(code, scale) } noexcept -> std::same_as<std::uint32_t>;
};

namespace dialect {

/// The standard's reading: byte 255 is NaN, whatever the code.
struct ocp {
  static constexpr const char* name = "ocp";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::uint32_t weight(e2m1 code, e8m0 scale) noexcept {
    return scale == e8m0::nan ? detail::f32_nan : detail::weight_bits(code, scale);
  }
};

/// Byte 255 is infinity, as a float with that exponent is: times zero a NaN.
struct inf_at_255 {
  static constexpr const char* name = "inf_at_255";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::uint32_t weight(e2m1 code, e8m0 scale) noexcept {
    if (scale != e8m0::nan) return detail::weight_bits(code, scale);
    const auto c = static_cast<unsigned>(code);
    return (c & 7u) == 0 ? detail::f32_nan : detail::f32_inf | (c & 8u) << 28;
  }
};

/// Code 8 is +0, and byte 255 an exponent like the others.
struct ggml {
  static constexpr const char* name = "ggml";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::uint32_t weight(e2m1 code, e8m0 scale) noexcept {
    return code == e2m1{8} ? 0u : detail::weight_bits(code, scale);
  }
};

/// Byte 255 is an exponent like the others: weights of 2^128 and more are infinite.
struct gpt_oss {
  static constexpr const char* name = "gpt_oss";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::uint32_t weight(e2m1 code, e8m0 scale) noexcept {
    return detail::weight_bits(code, scale);
  }
};

/// The scale 2^-127, a subnormal number, is taken for zero. (Where scales are computed by the model it is not: `ocp`.)
struct openvino {
  static constexpr const char* name = "openvino";
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::uint32_t weight(e2m1 code, e8m0 scale) noexcept {
    return scale == e8m0{0} ? (static_cast<std::uint32_t>(code) & 8u) << 28 : ocp::weight(code, scale);
  }
};

}  // namespace dialect

/// Dialects chosen at run time. The numbers are stable.
enum class dialect_id : std::uint8_t { ocp = 0, inf_at_255 = 1, ggml = 2, gpt_oss = 3, openvino = 4 };

inline constexpr int dialect_count = 5;  ///< enumerators of dialect_id

/// Calls `f.template operator()<Dialect>()` with the dialect of `id`; false, and no call, where `id` is no enumerator.
template <class F>
MXFP4_INLINE constexpr bool visit_dialect(dialect_id id, F&& f) {
  switch (id) {
    case dialect_id::ocp:
      return f.template operator()<dialect::ocp>(), true;
    case dialect_id::inf_at_255:
      return f.template operator()<dialect::inf_at_255>(), true;
    case dialect_id::ggml:
      return f.template operator()<dialect::ggml>(), true;
    case dialect_id::gpt_oss:
      return f.template operator()<dialect::gpt_oss>(), true;
    case dialect_id::openvino:
      return f.template operator()<dialect::openvino>(), true;
  }
  return false;
}

namespace detail {
/// The number of a dialect, or dialect_count for one of the user's own.
template <class Dialect>
[[nodiscard]] consteval int dialect_number() {
  for (int i = 0; i < dialect_count; ++i) {
    bool same = false;
    visit_dialect(static_cast<dialect_id>(i), [&]<class D>() { same = std::same_as<D, Dialect>; });
    if (same) return i;
  }
  return dialect_count;
}
}  // namespace detail

/// The id of a dialect.
template <class Dialect>
  requires(detail::dialect_number<Dialect>() < dialect_count)
inline constexpr auto dialect_id_of = static_cast<dialect_id>(detail::dialect_number<Dialect>());

namespace detail {
/// f.operator()<Dialect>() for the dialect of `id`, or errc::unknown_dialect.
template <class F>
[[nodiscard]] MXFP4_INLINE status with_dialect(dialect_id id, F f) {
  status s{errc::unknown_dialect, "dialect", static_cast<std::int64_t>(id)};
  visit_dialect(id, [&]<class Dialect>() { s = f.template operator()<Dialect>(); });
  return s;
}
}  // namespace detail

/// The value of `code` under `scale` as float, bf16 or f16. bf16 holds every weight exactly; f16 rounds to nearest
/// even, which gives infinity from 65520 on and zero up to 2^-25.
template <element_type T = float, decode_dialect Dialect = dialect::ocp>
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr T decode_weight(e2m1 code, e8m0 scale) noexcept {
  static_assert(!std::same_as<T, e4m3>, "an MXFP4 weight does not fit e4m3 in general: decode to f32, bf16 or f16");
  const std::uint32_t bits = Dialect::weight(code, scale);
  if constexpr (std::same_as<T, bf16>) {
    return static_cast<bf16>(bits >> 16);
  } else {
    return encode<T>(detail::float_from_bits(bits));
  }
}

static_assert(decode_weight(e2m1{7}, e8m0{252}) == 0x1.8p127f && decode_weight(e2m1{1}, e8m0{0}) == 0x1p-128f);
static_assert(detail::float_bits(decode_weight(e2m1{4}, e8m0{254})) == detail::f32_inf);
static_assert(decode_weight<float, dialect::ggml>(e2m1{1}, e8m0::nan) == 0x1p127f);

}  // namespace mxfp4
