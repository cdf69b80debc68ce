// mxfp4/cuda/device/encode.cuh -- a block in one thread's registers -> its scale byte and codes.
// SPDX-License-Identifier: Apache-2.0
//
// The scale byte comes from the recipe's own rule. The numbers are divided by the scale, exactly, so that the
// boundaries of rounding.hpp are constants. Where they are the midpoints, the float's own bits are the code from 1 on:
//
//   bits(|v|) = ...e e m | r r r r...    rounded at bit 22, 252 taken off; below 1 two boundaries decide; at most 7
//
// and where the target converts, nearest even with the sign of zero kept is one instruction for two numbers.
// Source: rounding.hpp and recipe.hpp, whose bytes these are.
#pragma once

#include <cstdint>
#include <type_traits>

#include "mxfp4/cuda/device/intrinsics.cuh"
#include "mxfp4/format/recipe.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::device {

/// A block as a thread writes it: words[j] holds codes 8j .. 8j + 7, low_first.
struct encoded_block {
  std::uint32_t words[4];
  std::uint32_t scale;
};

/// Largest magnitude of the block, as f32 bits: above infinity where there is a NaN.
MXFP4_DEVICE std::uint32_t block_amax(const std::uint32_t (&bits)[block_size]) {
  std::uint32_t amax = 0;
  MXFP4_UNROLL
  for (const std::uint32_t b : bits) {
    const std::uint32_t magnitude = b & mxfp4::detail::f32_abs_mask;
    amax = magnitude > amax ? magnitude : amax;
  }
  return amax;
}

/// 2^(127 - byte): takes data to units of the scale. The products are exact, or below 2^-126 and zero as codes.
MXFP4_DEVICE float inverse_scale(int byte) {
  return mxfp4::detail::float_from_bits(mxfp4::detail::pow2_bits(mxfp4::detail::f32_bias - byte));
}

namespace detail {

/// A rounding whose seven boundaries are the midpoints and whose ties all go as those of boundaries 0 and 1.
template <class Round>
inline constexpr bool compares_midpoints =
    std::is_base_of_v<nearest_even, Round> || std::is_base_of_v<nearest_away, Round> ||
    std::is_base_of_v<nearest_toward_zero, Round>;

/// What the elements of a block need to know besides the scale.
struct block_rules {
  std::uint32_t sign_boundary;  ///< magnitude in data units from which on the sign is kept
  std::uint32_t stray;          ///< this magnitude alone is code 1 although below the first boundary
  int limit;                    ///< largest code that can be reached
};

/// Magnitude code of `scaled`, f32 bits of |v| in units of the scale; infinity is 7.
template <class Round>
MXFP4_DEVICE int unit_code(std::uint32_t scaled) {
  constexpr element_boundaries boundaries = make_boundaries<Round, keep_sign>(e8m0::one);
  if constexpr (compares_midpoints<Round>) {
    constexpr std::uint32_t half = 1u << 21, two_codes_off = 252u << 22;  // half of a step between codes
    std::uint32_t rounded = scaled - two_codes_off + half;
    if constexpr (Round::ulps(0) != 0) rounded -= 1u;                              // a tie stays below ...
    if constexpr (Round::ulps(0) != Round::ulps(1)) rounded += scaled >> 22 & 1u;  // ... unless the code there is odd
    const int above = static_cast<int>(rounded) >> 22;                             // negative far below 1
    const int below = (scaled >= boundaries.boundary[0] ? 1 : 0) + (scaled >= boundaries.boundary[1] ? 1 : 0);
    return above > below ? above : below;
  } else {
    int code = 0;
    MXFP4_UNROLL
    for (const std::uint32_t boundary : boundaries.boundary) code += scaled >= boundary ? 1 : 0;
    return code;
  }
}

/// The code of the number with f32 bits `bits`.
template <class Round, class Zero>
MXFP4_DEVICE std::uint32_t encode_one(std::uint32_t bits, float inverse, const block_rules& rules) {
  using mxfp4::detail::f32_abs_mask;
  const std::uint32_t magnitude = bits & f32_abs_mask;
  const float scaled = multiply_f32(mxfp4::detail::float_from_bits(magnitude), inverse);
  int code = unit_code<Round>(mxfp4::detail::float_bits(scaled));
  if constexpr (Round::stray(0) != mxfp4::detail::unreachable) code = magnitude == rules.stray ? 1 : code;
  code = code < rules.limit ? code : rules.limit;
  std::uint32_t sign = bits >> 28 & 8u;
  if constexpr (!std::is_same_v<Zero, keep_sign>) sign = magnitude >= rules.sign_boundary ? sign : 0u;
  if constexpr (Zero::zero_is_negative) sign = magnitude < rules.sign_boundary ? 8u : sign;
  return static_cast<std::uint32_t>(code) | sign;
}

/// Finite numbers and infinity under the scale that a rule has chosen: basic_recipe::encode_under.
template <class Round, class Zero, class Target>
MXFP4_DEVICE encoded_block encode_under(const std::uint32_t (&bits)[block_size], const scale_outcome& outcome) {
  encoded_block out{{0, 0, 0, 0}, outcome.byte};
  if (outcome.byte == 255) return out;
  const int byte = static_cast<int>(outcome.code_scale());
  const float inverse = inverse_scale(byte);
  if constexpr (Target::e2m1_convert && std::is_same_v<Round, nearest_even> && std::is_same_v<Zero, keep_sign>) {
    MXFP4_UNROLL
    for (int j = 0; j < 4; ++j) {
      float scaled[8];
      MXFP4_UNROLL
      for (int i = 0; i < 8; ++i) scaled[i] = multiply_f32(mxfp4::detail::float_from_bits(bits[8 * j + i]), inverse);
      const std::uint32_t codes = convert_f32x8_e2m1(scaled);
      out.words[j] = outcome.flush ? codes & 0x88888888u : codes;
    }
  } else {
    const int k = byte - mxfp4::detail::f32_bias;
    const std::uint32_t first_boundary =
        outcome.flush ? mxfp4::detail::unreachable : mxfp4::detail::boundary_bits(Round::base(0), Round::ulps(0), k);
    const block_rules rules{Zero::sign_boundary(static_cast<e8m0>(byte), first_boundary), Round::stray(k),
                            outcome.flush ? 0 : static_cast<int>(Round::reachable(k))};
    MXFP4_UNROLL
    for (int j = 0; j < 4; ++j) {
      MXFP4_UNROLL
      for (int i = 0; i < 8; ++i) out.words[j] |= encode_one<Round, Zero>(bits[8 * j + i], inverse, rules) << (4 * i);
    }
  }
  return out;
}

/// Recipe::encode_finite, amax being the largest magnitude's bits.
template <class Recipe, class Target>
  requires requires { typename Recipe::scale_rule_type; }
MXFP4_DEVICE encoded_block encode_finite(const std::uint32_t (&bits)[block_size], std::uint32_t amax) {
  return encode_under<typename Recipe::rounding_rule_type, typename Recipe::zero_rule_type, Target>(
      bits, choose_scale<typename Recipe::scale_rule_type>(mxfp4::detail::float_from_bits(amax)));
}

/// |v| of code i of the block in quarters of 2^floor_byte, an integer of at most 48.
MXFP4_DEVICE int quarters(const encoded_block& b, int i, int floor_byte) {
  const std::uint32_t magnitude = b.words[i / 8] >> (i % 8 * 4) & 7u;
  const std::uint32_t doubled = magnitude < 2 ? magnitude : (2u | (magnitude & 1u)) << ((magnitude >> 1) - 1u);
  return static_cast<int>(doubled << (static_cast<int>(b.scale) - floor_byte + 1));
}

/// Squared error under `a` less that under `b`, exact: min_mse_recipe says in what unit, and why nothing overflows.
MXFP4_DEVICE std::int64_t error_difference(const std::uint32_t (&bits)[block_size], const encoded_block& a,
                                           const encoded_block& b, int floor_byte) {
  std::int64_t sum = 0;
  MXFP4_UNROLL
  for (int i = 0; i < block_size; ++i) {
    const int qa = quarters(a, i, floor_byte), qb = quarters(b, i, floor_byte);
    const std::uint32_t magnitude = bits[i] & mxfp4::detail::f32_abs_mask;
    const int stored = static_cast<int>(magnitude >> mxfp4::detail::f32_mantissa_bits);
    const std::uint32_t significand = (magnitude & mxfp4::detail::f32_mantissa_mask) | (stored == 0 ? 0u : 1u << 23);
    const int shift = (stored == 0 ? 1 : stored) - floor_byte + 3;  // negative only where qa == qb
    const int twice_x = static_cast<int>(significand << ((shift > 0 ? shift : 0) + 1));
    sum += std::int64_t{qa - qb} * ((qa + qb) * (1 << 24) - twice_x);
  }
  return sum;
}

/// Byte 253 turns |v| >= 4, codes 6 and 7, into infinity as a float.
MXFP4_DEVICE bool overflows(const encoded_block& b) {
  std::uint32_t six_or_seven = 0;
  MXFP4_UNROLL
  for (const std::uint32_t word : b.words) six_or_seven |= word & word >> 1 & 0x22222222u;
  return b.scale >= 253 && six_or_seven != 0;
}

template <class Recipe, class Target>
  requires std::is_base_of_v<mxfp4::detail::min_mse_recipe, Recipe>
MXFP4_DEVICE encoded_block encode_finite(const std::uint32_t (&bits)[block_size], std::uint32_t amax) {
  const int floor_byte = choose_scale<scale_floor>(mxfp4::detail::float_from_bits(amax)).byte;
  encoded_block best = encode_under<nearest_even, keep_sign, Target>(bits, {static_cast<std::uint8_t>(floor_byte)});
  for (int byte = floor_byte - 1; byte <= floor_byte + 1; byte += 2) {
    if (byte < 0) continue;
    const encoded_block other = encode_under<nearest_even, keep_sign, Target>(bits, {static_cast<std::uint8_t>(byte)});
    if (overflows(other)) continue;
    const std::int64_t improvement = error_difference(bits, best, other, floor_byte);
    if (improvement > 0 || (improvement == 0 && other.scale > best.scale)) best = other;
  }
  return best;
}

/// Every code of the block from its number alone: code(bits).
template <class Code>
MXFP4_DEVICE encoded_block fill(const std::uint32_t (&bits)[block_size], std::uint32_t scale, Code&& code) {
  encoded_block out{{0, 0, 0, 0}, scale};
  MXFP4_UNROLL
  for (int j = 0; j < 4; ++j) {
    MXFP4_UNROLL
    for (int i = 0; i < 8; ++i) out.words[j] |= code(bits[8 * j + i]) << (4 * i);
  }
  return out;
}

/// NaN becomes 0. @return how many there were.
MXFP4_DEVICE int drop_nans(const std::uint32_t (&bits)[block_size], std::uint32_t (&clean)[block_size]) {
  int nans = 0;
  MXFP4_UNROLL
  for (int i = 0; i < block_size; ++i) {
    const bool nan = mxfp4::detail::is_nan_bits(bits[i]);
    clean[i] = nan ? 0u : bits[i];
    nans += nan ? 1 : 0;
  }
  return nans;
}

// The policies of recipe.hpp for blocks with NaN or infinity, by overloads: what they do, on packed codes. A recipe
// with a policy of its own needs an overload here.

template <class Recipe, class Target>
MXFP4_DEVICE encoded_block encode_nonfinite(nonfinite_is_nan_block, const std::uint32_t (&)[block_size],
                                            std::uint32_t) {
  return {{0, 0, 0, 0}, 255};
}

template <class Recipe, class Target>
MXFP4_DEVICE encoded_block encode_nonfinite(nonfinite_ggml, const std::uint32_t (&bits)[block_size], std::uint32_t) {
  std::uint32_t clean[block_size];
  (void)drop_nans(bits, clean);
  const std::uint32_t amax = block_amax(clean);
  if (amax == mxfp4::detail::f32_inf) return {{0, 0, 0, 0}, 0};
  return encode_finite<Recipe, Target>(clean, amax);
}

template <class Recipe, class Target>
MXFP4_DEVICE encoded_block encode_nonfinite(nonfinite_mlx, const std::uint32_t (&bits)[block_size], std::uint32_t) {
  std::uint32_t clean[block_size];
  const int nans = drop_nans(bits, clean);
  const std::uint32_t amax = block_amax(clean);
  const auto is_nonfinite = [](std::uint32_t b) { return (b & mxfp4::detail::f32_abs_mask) >= mxfp4::detail::f32_inf; };
  if (amax == mxfp4::detail::f32_inf || nans == block_size)
    return fill(bits, 255, [&](std::uint32_t b) { return is_nonfinite(b) ? 7u : b >> 28 & 8u; });
  encoded_block out = encode_finite<Recipe, Target>(clean, amax);
  const encoded_block sevens = fill(bits, 0, [&](std::uint32_t b) { return is_nonfinite(b) ? 7u : 0u; });
  MXFP4_UNROLL
  for (int j = 0; j < 4; ++j) out.words[j] |= sevens.words[j];  // a dropped NaN was code 0
  return out;
}

template <class Recipe, class Target, std::uint8_t NanByte>
MXFP4_DEVICE encoded_block encode_nonfinite(nonfinite_triton<NanByte>, const std::uint32_t (&bits)[block_size],
                                            std::uint32_t amax) {
  return fill(bits, amax == mxfp4::detail::f32_inf ? 255u : NanByte, [](std::uint32_t b) {
    const std::uint32_t magnitude = b & mxfp4::detail::f32_abs_mask, sign = b >> 28 & 8u;
    if (magnitude == mxfp4::detail::f32_inf) return 15u;
    return magnitude < mxfp4::detail::f32_inf ? sign : sign | 7u;
  });
}

template <class Recipe, class Target, bool Satfinite>
MXFP4_DEVICE encoded_block encode_nonfinite(nonfinite_cuda<Satfinite>, const std::uint32_t (&bits)[block_size],
                                            std::uint32_t amax) {
  if (Satfinite && amax == mxfp4::detail::f32_inf)
    return encode_under<typename Recipe::rounding_rule_type, typename Recipe::zero_rule_type, Target>(
        bits, {static_cast<std::uint8_t>(e8m0::max)});
  return {{0x77777777u, 0x77777777u, 0x77777777u, 0x77777777u}, 255};
}

}  // namespace detail

/// The bytes of encode_block<Recipe> for a tensor of T; bits: the 32 numbers as f32 bits.
template <class Recipe, class T, class Target = target>
MXFP4_DEVICE encoded_block encode_words(const std::uint32_t (&bits)[block_size]) {
  using resolved = typename Recipe::template for_input<T>;
  const std::uint32_t amax = block_amax(bits);
  if (amax >= mxfp4::detail::f32_inf)
    return detail::encode_nonfinite<resolved, Target>(typename resolved::nonfinite_type{}, bits, amax);
  return detail::encode_finite<resolved, Target>(bits, amax);
}

/// The 32 numbers of a block that starts at p, 16-byte aligned, as f32 bits.
template <element_type T>
MXFP4_DEVICE void load_block(const T* p, std::uint32_t (&bits)[block_size]) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 2, "float, bf16 or f16");
  constexpr int per_load = 16 / static_cast<int>(sizeof(T));
  MXFP4_UNROLL
  for (int j = 0; j < block_size / per_load; ++j) {
    const word4 loaded = load_streaming(reinterpret_cast<const word4*>(p) + j);
    const std::uint32_t words[4] = {loaded.x, loaded.y, loaded.z, loaded.w};
    MXFP4_UNROLL
    for (int i = 0; i < 4; ++i) {
      if constexpr (std::is_same_v<T, float>) {
        bits[4 * j + i] = words[i];
      } else if constexpr (std::is_same_v<T, bf16>) {
        bits[8 * j + 2 * i] = words[i] << 16;
        bits[8 * j + 2 * i + 1] = words[i] & 0xFFFF0000u;
      } else {
        using mxfp4::detail::f32_abs_mask;
        float low = 0, high = 0;
        convert_f16x2_f32x2(words[i], low, high);  // the signs are NaN's own: see nonfinite_triton
        bits[8 * j + 2 * i] = (mxfp4::detail::float_bits(low) & f32_abs_mask) | (words[i] << 16 & ~f32_abs_mask);
        bits[8 * j + 2 * i + 1] = (mxfp4::detail::float_bits(high) & f32_abs_mask) | (words[i] & ~f32_abs_mask);
      }
    }
  }
}

}  // namespace mxfp4::cuda::device
