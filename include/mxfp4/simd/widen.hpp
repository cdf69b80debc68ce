// mxfp4/simd/widen.hpp -- f32, bf16, f16, e4m3 or MXFP8 in memory -> a register of floats; back to bf16 and f16.
// SPDX-License-Identifier: Apache-2.0
//
//   bf16   bits << 16
//   f16    by an instruction where a file has one, else as e4m3
//   e4m3   a normal number's fields are moved to their places. A subnormal is made with an exponent field one too high,
//          and the hidden bit that this adds is subtracted: 2^e (1 + m) - 2^e = 2^e m. No float here is an f32
//          subnormal.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>

#include "mxfp4/core/float_types.hpp"
#include "mxfp4/simd/batch.hpp"
#include "mxfp4/tensor/mxfp8_view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::simd {
inline namespace MXFP4_ISA_NS {

template <class Arch>
using floats = simd::batch<float, Arch>;
template <class Arch>
using words = simd::batch<std::uint32_t, Arch>;

namespace detail {

/// words<Arch>::size unsigned integers of 8 or 16 bits in memory -> as many lanes of 32, and back.
template <class Arch>
struct small_lanes {
  template <class Small>
  [[nodiscard]] MXFP4_INLINE static words<Arch> load(const Small* from) noexcept {
    std::array<std::uint32_t, words<Arch>::size> wide;
    for (std::size_t i = 0; i < wide.size(); ++i) wide[i] = static_cast<std::uint32_t>(from[i]);
    return words<Arch>::load_unaligned(wide.data());
  }
  /// The low half of every lane -> memory. The upper half is zero.
  MXFP4_INLINE static void store(words<Arch> w, std::uint16_t* to) noexcept {
    std::array<std::uint32_t, words<Arch>::size> wide;
    w.store_unaligned(wide.data());
    for (std::size_t i = 0; i < wide.size(); ++i) to[i] = static_cast<std::uint16_t>(wide[i]);
  }
};

template <class Arch, class Small>
[[nodiscard]] MXFP4_INLINE words<Arch> load_words(const Small* from) noexcept {
  return small_lanes<Arch>::load(from);
}

/// Lanes hold a small format with `Mantissa` explicit bits and sign at bit `Sign`; magnitudes from `Special` on are
/// infinity and NaN.
template <class Arch, int Mantissa, int Bias, int Sign, std::uint32_t Special>
[[nodiscard]] MXFP4_INLINE floats<Arch> widen_fields(words<Arch> w) noexcept {
  using u = words<Arch>;
  constexpr std::uint32_t hidden_bit = std::uint32_t{128 - Bias} << 23;
  const u sign = (w & u(1u << Sign)) << (31 - Sign), magnitude = w & u((1u << Sign) - 1u);
  const u fields = magnitude << (23 - Mantissa);
  const u normal = fields + u(std::uint32_t{127 - Bias} << 23);
  const auto subnormal = simd::bitwise_cast<std::uint32_t>(simd::bitwise_cast<float>(fields | u(hidden_bit)) -
                                                           simd::bitwise_cast<float>(u(hidden_bit)));
  const u special = Mantissa == 3 ? u(mxfp4::detail::f32_nan) : fields | u(mxfp4::detail::f32_inf);
  const u finite = simd::select(magnitude < u(1u << Mantissa), subnormal, normal);
  return simd::bitwise_cast<float>(sign | simd::select(magnitude < u(Special), finite, special));
}

/// encode_f16 on every lane. Below 2^-14 f16 has the spacing of floats near 0.5: adding 0.5 rounds to it.
template <class Arch>
[[nodiscard]] MXFP4_INLINE words<Arch> narrow_to_f16(floats<Arch> x) noexcept {
  using u = words<Arch>;
  const auto bits = simd::bitwise_cast<std::uint32_t>(x);
  const u sign = (bits >> 16) & u(0x8000u), magnitude = bits & u(mxfp4::detail::f32_abs_mask);
  const u odd = (magnitude >> 13) & u(1u);
  const u normal = (magnitude + u(0x0FFFu) + odd - u(112u << 23)) >> 13;
  const u subnormal =
      simd::bitwise_cast<std::uint32_t>(simd::bitwise_cast<float>(magnitude) + floats<Arch>(0.5f)) - u(0x3F000000u);
  const u finite = simd::select(magnitude < u(113u << 23), subnormal, normal);
  const u nan = u(0x7E00u) | ((magnitude >> 13) & u(0x3FFu));
  const u special = simd::select(magnitude > u(mxfp4::detail::f32_inf), nan, u(0x7C00u));
  return sign | simd::select(magnitude < u(143u << 23), finite, special);
}

/// f16 in memory, floats<Arch>::size of them.
template <class Arch>
struct f16_lanes {
  [[nodiscard]] MXFP4_INLINE static floats<Arch> load(const f16* x) noexcept {
    return widen_fields<Arch, 10, 15, 15, 0x7C00>(load_words<Arch>(x));
  }
  MXFP4_INLINE static void store(floats<Arch> x, f16* to) noexcept {
    small_lanes<Arch>::store(narrow_to_f16<Arch>(x), reinterpret_cast<std::uint16_t*>(to));
  }
};

}  // namespace detail

/// floats<Arch>::size elements, widened exactly: the bits of decode(x[i]), flush-to-zero or not. One difference: a
/// signalling NaN of f16 comes out quiet where an instruction widens it. No alignment asked.
template <class Arch, element_type T>
[[nodiscard]] MXFP4_INLINE floats<Arch> load_widened(const T* x) noexcept {
  if constexpr (std::same_as<T, float>) {
    return floats<Arch>::load_unaligned(x);
  } else if constexpr (std::same_as<T, bf16>) {
    return simd::bitwise_cast<float>(detail::load_words<Arch>(x) << 16);
  } else if constexpr (std::same_as<T, e4m3>) {
    return detail::widen_fields<Arch, 3, 7, 7, 0x7F>(detail::load_words<Arch>(x));
  } else {
    return detail::f16_lanes<Arch>::load(x);
  }
}

/// The same for elements of an MXFP8 row, all in one block: the bits of decode(element, scale), if subnormals are not
/// flushed to zero; a NaN may have another sign.
template <class Arch>
[[nodiscard]] MXFP4_INLINE floats<Arch> load_widened(const mxfp8_row& x) noexcept {
  const auto* const elements = reinterpret_cast<const e4m3*>(x.elements + x.first);
  return load_widened<Arch>(elements) * floats<Arch>(decode(static_cast<e8m0>(x.scales[x.first / block_size])));
}

/// The inverse: encode_bf16 or encode_f16 of every lane (nearest, ties to even; overflow is infinity, NaN stays a quiet
/// NaN), for the rounding mode to nearest. float is stored as it is.
template <class Arch, element_type T>
  requires(!std::same_as<T, e4m3>)
MXFP4_INLINE void store_narrowed(floats<Arch> x, T* to) noexcept {
  if constexpr (std::same_as<T, float>) {
    x.store_unaligned(to);
  } else if constexpr (std::same_as<T, bf16>) {
    using u = words<Arch>;
    const auto bits = simd::bitwise_cast<std::uint32_t>(x);
    const u rounded = (bits + u(0x7FFFu) + ((bits >> 16) & u(1u))) >> 16, nan = (bits >> 16) | u(0x40u);
    const auto is_nan = (bits & u(mxfp4::detail::f32_abs_mask)) > u(mxfp4::detail::f32_inf);
    detail::small_lanes<Arch>::store(simd::select(is_nan, nan, rounded), reinterpret_cast<std::uint16_t*>(to));
  } else {
    detail::f16_lanes<Arch>::store(x, to);
  }
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd
