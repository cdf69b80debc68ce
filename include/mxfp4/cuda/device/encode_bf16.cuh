// mxfp4/cuda/device/encode_bf16.cuh -- a block of bf16 -> its scale byte and codes, two numbers per instruction.
// SPDX-License-Identifier: Apache-2.0
//
// A bf16 divided by a power of two is a bf16 still, so the pairs stay as they were loaded. With a = |x| / scale:
//
//   below 1   min(a, 1) + 64 in bf16, whose last place there is 0.5: rounds to 0, 1 or 2 halves, ties to even
//   from 1    bits(max(a, 1)) = ...e e m | r r r r r r    rounded at bit 6, the bits of 1 taken off
//   code      the sum of the two, at most 7
//
// For recipes with nearest even whose blocks with NaN are NaN: half the instructions of encode.cuh.
#pragma once

#include <cstdint>
#include <type_traits>

#include "mxfp4/cuda/device/decode.cuh"
#include "mxfp4/cuda/device/encode.cuh"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::device {

namespace detail {
template <class Zero>
inline constexpr bool zero_rule_of_pairs = std::is_same_v<Zero, keep_sign> || std::is_same_v<Zero, no_negative_zero> ||
                                           std::is_same_v<Zero, sign_of_quotient<bf16>>;

template <class Recipe>
[[nodiscard]] consteval bool is_recipe_of_pairs() {
  if constexpr (requires { typename Recipe::rounding_rule_type; })
    return std::is_same_v<typename Recipe::rounding_rule_type, nearest_even> &&
           std::is_same_v<typename Recipe::nonfinite_type, nonfinite_is_nan_block> &&
           zero_rule_of_pairs<typename Recipe::zero_rule_type>;
  else return false;
}
template <class Recipe>
[[nodiscard]] consteval bool is_converted_by_hardware() {
  if constexpr (requires { typename Recipe::zero_rule_type; })
    return std::is_same_v<typename Recipe::zero_rule_type, keep_sign>;
  else return false;
}
}  // namespace detail

/// Whether encode_pairs is right for a recipe (resolved for bf16) and the best way on the target.
template <class Recipe, class Target>
inline constexpr bool encodes_in_pairs =
    detail::is_recipe_of_pairs<Recipe>() && !(Target::e2m1_convert && detail::is_converted_by_hardware<Recipe>());

/// The 32 numbers of a block that starts at p, 16-byte aligned, as they are.
MXFP4_DEVICE void load_pairs(const bf16* p, std::uint32_t (&pairs)[block_size / 2]) {
  MXFP4_UNROLL
  for (int j = 0; j < 4; ++j) {
    const word4 w = load_streaming(reinterpret_cast<const word4*>(p) + j);
    pairs[4 * j] = w.x;
    pairs[4 * j + 1] = w.y;
    pairs[4 * j + 2] = w.z;
    pairs[4 * j + 3] = w.w;
  }
}

/// Codes of a pair in bits 0 to 3 and 16 to 19; inverse: 2^(127 - byte) twice.
template <class Zero>
MXFP4_DEVICE std::uint32_t encode_pair(std::uint32_t pair, std::uint32_t inverse) {
  constexpr std::uint32_t magnitudes = 0x7FFF7FFFu, signs = 0x80008000u;
  constexpr std::uint32_t one = 0x3F803F80u, six = 0x40C040C0u, sixty_four = 0x42804280u;
  const std::uint32_t scaled = multiply_bf16x2(pair, inverse);  // exact, or below 2^-126 and zero as a code
  const std::uint32_t a = scaled & magnitudes;
  const std::uint32_t halves = multiply_add_bf16x2(min_bf16x2(a, one), one, sixty_four);
  const std::uint32_t above = min_bf16x2(max_bf16x2(a, one), six);
  const std::uint32_t odd = above >> 6 & 0x00010001u;
  const std::uint32_t rounded = (above + odd + 0x001F001Fu) >> 6 & 0x01FF01FFu;
  const std::uint32_t code = halves + rounded - sixty_four - (one >> 6 & 0x01FF01FFu);  // no borrow between the halves
  // x + 0x7FFF has the sign's bit set unless x is 0
  std::uint32_t sign = scaled & signs;
  if constexpr (std::is_same_v<Zero, sign_of_quotient<bf16>>) sign &= a + magnitudes;
  else if constexpr (std::is_same_v<Zero, no_negative_zero>) sign &= code + magnitudes;
  return code | sign >> 12;
}

/// The bytes of encode_block<Recipe> for bf16, where encodes_in_pairs. pairs: the 32 numbers, the first one in the
/// lower half of pairs[0].
template <class Recipe>
MXFP4_DEVICE encoded_block encode_pairs(const std::uint32_t (&pairs)[block_size / 2]) {
  using resolved = typename Recipe::template for_input<bf16>;
  using zero = typename resolved::zero_rule_type;
  static_assert(detail::is_recipe_of_pairs<resolved>());
  std::uint32_t largest = 0;
  MXFP4_UNROLL
  for (const std::uint32_t pair : pairs) largest = max_bf16x2(largest, pair & 0x7FFF7FFFu);
  const std::uint32_t low = largest << 16, high = largest & 0xFFFF0000u, amax = low > high ? low : high;
  encoded_block out{{0, 0, 0, 0}, 255};
  if (amax >= mxfp4::detail::f32_inf) return out;
  const scale_outcome outcome = choose_scale<typename resolved::scale_rule_type>(mxfp4::detail::float_from_bits(amax));
  if (outcome.byte == 255) return out;
  out.scale = outcome.byte;
  const std::uint32_t inverse = scale_bf16x2(254u - static_cast<std::uint32_t>(outcome.code_scale()));
  MXFP4_UNROLL
  for (int j = 0; j < 4; ++j) {
    std::uint32_t bytes[4];
    MXFP4_UNROLL
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t codes = encode_pair<zero>(pairs[4 * j + i], inverse);
      bytes[i] = codes | codes >> 12;  // both in the lowest byte
    }
    out.words[j] =
        permute_bytes(permute_bytes(bytes[0], bytes[1], 0x0040), permute_bytes(bytes[2], bytes[3], 0x0040), 0x5410);
    if (outcome.flush) out.words[j] = std::is_same_v<zero, keep_sign> ? out.words[j] & 0x88888888u : 0u;
  }
  return out;
}

}  // namespace mxfp4::cuda::device
