// mxfp4/format/block.hpp -- 32 numbers <-> 17 bytes.
// SPDX-License-Identifier: Apache-2.0
//
//   byte     0        1                                        16
//          +-------+----------+----------+-----  ...  -----+----------+
//          | scale | x1 | x0  | x3 | x2  |                 | x31| x30 |    low nibble = even element
//          +-------+----------+----------+-----  ...  -----+----------+
//
// `block` is the type of a single block; layout.hpp says how the codes and scales of a matrix are stored.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <type_traits>

#include "mxfp4/format/dialect.hpp"
#include "mxfp4/format/nibble.hpp"
#include "mxfp4/format/recipe.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// One encoded block, low_first.
struct block {
  e8m0 scale;                            ///< the power of two that all elements are multiplied with
  std::uint8_t codes[block_code_bytes];  ///< element 2j in the low nibble of byte j, 2j + 1 in the high one

  MXFP4_INLINE friend constexpr bool operator==(const block&, const block&) = default;
};
static_assert(sizeof(block) == block_bytes && alignof(block) == 1);

namespace detail {
inline namespace MXFP4_ISA_NS {
/// The plain loop of a resolved recipe for the f32 bits of 32 numbers, for callers that take it by its address: it is
/// compiled once for all types of numbers, layouts and tasks.
template <class Resolved>
[[nodiscard]] block_codes encode_bits(const std::uint32_t (&bits)[block_size]) noexcept {
  return Resolved::encode(bits);
}
}  // namespace MXFP4_ISA_NS
}  // namespace detail

inline namespace MXFP4_ISA_NS {

/// 32 numbers in data units -> scale and codes, unpacked, as `Recipe` encodes tensors of T. What becomes of NaN,
/// infinity, subnormals and overflow is said at the recipe. constexpr, and the same bytes under any floating-point
/// flags or rounding mode.
template <block_recipe Recipe = recipe::ocp, element_type T>
[[nodiscard]] MXFP4_HD constexpr block_codes encode_block_codes(const T (&x)[block_size]) noexcept {
  std::uint32_t bits[block_size]{};
  for (int i = 0; i < block_size; ++i) bits[i] = detail::float_bits(decode(x[i]));
  return Recipe::template for_input<T>::encode(bits);
}

/// 32 numbers in data units -> 17 bytes. See encode_block_codes.
template <block_recipe Recipe = recipe::ocp, element_type T>
[[nodiscard]] MXFP4_HD constexpr block encode_block(const T (&x)[block_size]) noexcept {
  const block_codes unpacked = encode_block_codes<Recipe>(x);
  block b{unpacked.scale, {}};
  pack_block<low_first>(unpacked.code, b.codes);
  return b;
}

/// The same from a span or array (host only).
template <block_recipe Recipe = recipe::ocp, class T>
  requires element_type<std::remove_const_t<T>>
[[nodiscard]] constexpr block encode_block(std::span<T, block_size> x) noexcept {
  std::remove_const_t<T> copy[block_size]{};
  for (std::size_t i = 0; i < block_size; ++i) copy[i] = x[i];
  return encode_block<Recipe>(copy);
}
template <block_recipe Recipe = recipe::ocp, element_type T>
[[nodiscard]] constexpr block encode_block(const std::array<T, block_size>& x) noexcept {
  return encode_block<Recipe>(std::span<const T, block_size>(x));
}

/// Stochastic rounding under the recipe's own scale: element i goes up, away from zero, iff frac * 2^32 > random[i].
/// The sign is kept; a block that the recipe flushes or makes NaN, and one with NaN or infinity, is as in encode_block.
/// Unbiased where nothing saturates: scale_floor saturates what lies in (6s, 8s), the scale of `torchao_rceil` nothing.
template <class Recipe = recipe::ocp, element_type T>
  requires block_recipe<Recipe> && requires { typename Recipe::template for_input<T>::scale_rule_type; }
[[nodiscard]] MXFP4_HD constexpr block encode_block_stochastic(const T (&x)[block_size],
                                                               const std::uint32_t (&random)[block_size]) noexcept {
  using resolved = typename Recipe::template for_input<T>;
  std::uint32_t bits[block_size]{};
  for (int i = 0; i < block_size; ++i) bits[i] = detail::float_bits(decode(x[i]));
  const std::uint32_t amax = detail::amax_bits(bits);
  block_codes unpacked = resolved::encode(bits);
  if (amax < detail::f32_inf) {
    const scale_outcome outcome = choose_scale<typename resolved::scale_rule_type>(detail::float_from_bits(amax));
    for (int i = 0; i < block_size && !outcome.flush && unpacked.scale != e8m0::nan; ++i) {
      const unsigned code =
          detail::stochastic_code(bits[i] & detail::f32_abs_mask, int{outcome.byte} - detail::f32_bias, random[i]);
      unpacked.code[i] = static_cast<e2m1>(code | (bits[i] >> 31) << 3);
    }
  }
  block b{unpacked.scale, {}};
  pack_block<low_first>(unpacked.code, b.codes);
  return b;
}

/// 17 bytes -> 32 numbers in data units, as `Dialect` reads them; exact for float and bf16, see decode_weight for f16.
template <decode_dialect Dialect = dialect::ocp, element_type T>
MXFP4_HD constexpr void decode_block(const block& b, T (&x)[block_size]) noexcept {
  for (int i = 0; i < block_size; ++i) x[i] = decode_weight<T, Dialect>(get_code<low_first>(b.codes, i), b.scale);
}

/// The same into an array (host only): decode_block<float>(b).
template <element_type T = float, decode_dialect Dialect = dialect::ocp>
[[nodiscard]] constexpr std::array<T, block_size> decode_block(const block& b) noexcept {
  std::array<T, block_size> x{};
  for (std::size_t i = 0; i < block_size; ++i)
    x[i] = decode_weight<T, Dialect>(get_code<low_first>(b.codes, static_cast<int>(i)), b.scale);
  return x;
}

}  // namespace MXFP4_ISA_NS

namespace detail {
[[nodiscard]] consteval bool block_round_trips() {
  std::array<float, block_size> x{};
  for (std::size_t i = 0; i < block_size; ++i) x[i] = 0.25f * e2m1_values[i % 16];
  const block b = encode_block(x);
  return b.scale == e8m0{125} && b.codes[0] == 0x10 && b.codes[7] == 0xFE && decode_block(b) == x;
}
}  // namespace detail

static_assert(detail::block_round_trips());

}  // namespace mxfp4
