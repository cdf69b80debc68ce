// mxfp4/simd/words.hpp -- a recipe in 16 bits, as data: what the words of a block are compared with.
// SPDX-License-Identifier: Apache-2.0
//
// A number becomes the upper half of its f32 bits, whose last bit is set if the lower half was not zero: it is rounded
// to odd.
//
//   f32 bits   s eeeeeeee mmmmmmm mmmmmmmmmmmmmmmm        word = upper | (lower != 0)
//              |---- upper ------|---- lower -----|       bf16: the word is the number
//
// Every boundary of every rounding is a number with two bits of mantissa, or one ulp above such a number; so a word is
// on the same side of it as the number. Some peers have thresholds and boundaries that are finer than that (logarithms
// in float, quotients that underflow): one word is then ambiguous, as it stands for numbers on both sides. A block with
// that word goes to the plain loop.
#pragma once

#include <array>
#include <cstdint>

#include "mxfp4/format/recipe.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::simd {

inline constexpr unsigned word_abs_mask = 0x7FFF, word_inf = 0x7F80, word_nan = 0x7FC0;
inline constexpr std::uint16_t no_word = 0xFFFF;  ///< above every magnitude

/// The scale bytes that the vector paths take: in between, every boundary is a normal float, and none overflows.
inline constexpr unsigned vector_scale_min = 4, vector_scale_max = 252;

/// The scale rule for one exponent field: byte[0] for a largest magnitude below `boundary`, else byte[1]. An array, so
/// that the comparison becomes an index: a branch would be mispredicted often. The plain loop takes blocks whose scale
/// byte is 0 or whose largest magnitude is the word `ambiguous`.
struct alignas(8) word_step {
  std::uint16_t boundary = no_word, ambiguous = no_word;
  std::uint8_t byte[2] = {0, 0};
};

/// The scale rule for a run of exponent fields where it is the same for each, no word is ambiguous and no block goes to
/// the plain loop: byte = (amax + carry) / 128 - 2 for `first` <= amax / 128 <= `last`. There is none if last < first.
struct word_rule {
  std::uint32_t carry = 0, first = 1, last = 0;
};

/// A scale rule for a run of exponent fields `first` .. `last` where it is the same in each binade:
/// byte = (largest word + carry) / 128 - down. There is none if last < first.
struct place_rule {
  std::uint32_t carry = 0, down = 0, first = 1, last = 0;
};

/// What the elements of a block under one scale byte are compared with, each twice in 32 bits.
struct word_scale {
  std::uint32_t offset;    ///< subtracted from a magnitude: 64 words a half binade, from [.25, .375) at 64 on; 0 below
  std::uint32_t negative;  ///< from this word on the code is negative
};

/// The code of a number in the half binade n, at n * 64 + rest: code[(n * 64 + rest + carry[n]) / 64]. Half binade 0 is
/// all below 0.25. No largest magnitude that a vector path sees lies above half binade 12.
struct half_binades {
  std::array<std::uint8_t, 16> carry, code;
  std::array<std::uint16_t, 32> both;  ///< the same in one addition: code = (n * 64 + rest + both[n]) / 64
};

/// A recipe that was chosen at run time, as the words of its numbers see it: what detail::static_words has as
/// constants, for kernels that are compiled once for all recipes.
struct recipe_words {
  static constexpr bool may_take_words = true;

  bool words = false;          ///< false: every block goes to the plain loop, and nothing below counts
  bool stray = false;          ///< the rounding has a stray magnitude (rounding.hpp)
  bool same_sign = true;       ///< every element keeps its sign
  bool negative_zero = false;  ///< zero is code 8
  word_rule regular;
  place_rule places;
  const word_step* steps = nullptr;          ///< by exponent field, 256
  const word_scale* scales = nullptr;        ///< by scale byte, 256
  const std::uint16_t* ambiguous = nullptr;  ///< by scale byte, 256: see detail::ambiguous_signs; none: nullptr
  half_binades halves = {};                  ///< a copy, which no store of codes can change
  std::int16_t boundary[7] = {};             ///< of the codes, as places: 64 a half binade, 0.25 at 64
  block_codes (*plain)(const std::uint32_t (&bits)[block_size]) noexcept = nullptr;  ///< the plain loop for one block

  [[nodiscard]] MXFP4_INLINE bool takes_words() const noexcept { return words; }
  [[nodiscard]] MXFP4_INLINE bool has_stray() const noexcept { return stray; }
  [[nodiscard]] MXFP4_INLINE bool keeps_sign() const noexcept { return same_sign; }
  [[nodiscard]] MXFP4_INLINE bool zero_is_negative() const noexcept { return negative_zero; }
  [[nodiscard]] MXFP4_INLINE const word_rule& rule() const noexcept { return regular; }
  [[nodiscard]] MXFP4_INLINE const place_rule& place() const noexcept { return places; }
  [[nodiscard]] MXFP4_INLINE const word_step& step(std::uint32_t exponent) const noexcept { return steps[exponent]; }
  [[nodiscard]] MXFP4_INLINE const word_scale& scale(unsigned byte) const noexcept { return scales[byte]; }
  [[nodiscard]] MXFP4_INLINE std::uint16_t ambiguous_sign(unsigned byte) const noexcept {
    return ambiguous != nullptr ? ambiguous[byte] : no_word;
  }
  [[nodiscard]] MXFP4_INLINE const half_binades& half() const noexcept { return halves; }
  [[nodiscard]] MXFP4_INLINE std::int16_t boundary_place(unsigned i) const noexcept { return boundary[i]; }
  [[nodiscard]] MXFP4_INLINE block_codes encode(const std::uint32_t (&bits)[block_size]) const noexcept {
    return plain(bits);
  }
};

/// One without a stray magnitude whose zero is not code 8, as nearly all are: the kernels are a tenth faster for it.
struct common_recipe_words : recipe_words {
  MXFP4_INLINE explicit common_recipe_words(const recipe_words& w) noexcept : recipe_words(w) {}
  [[nodiscard]] MXFP4_INLINE static constexpr bool has_stray() noexcept { return false; }
  [[nodiscard]] MXFP4_INLINE static constexpr bool zero_is_negative() noexcept { return false; }
};

/// Returns f(w), w as the type whose kernels are the fastest.
template <class F>
MXFP4_INLINE auto visit_words(const recipe_words& w, F f) {
  if (w.stray || w.negative_zero) return f(w);
  return f(common_recipe_words(w));
}

/// decode_scaled(code, scale) for all 256 FP8 codes under one block scale. `regular`: every finite word but zero is a
/// normal number; then each binade has the mantissas of the one before, and codes of opposite sign have words of
/// opposite sign.
struct alignas(64) fp8_words {
  std::uint16_t word[256];
  bool regular;
};

}  // namespace mxfp4::simd

namespace mxfp4::inline MXFP4_VERSION_NS::detail {

/// `bits` >= boundary is word >= word_boundary(boundary), unless the word is the ambiguous one.
[[nodiscard]] MXFP4_INLINE constexpr std::uint16_t word_boundary(std::uint32_t boundary) noexcept {
  return static_cast<std::uint16_t>(boundary > 0xFFFF0000u ? 0xFFFFu : (boundary + 0xFFFFu) >> 16);
}

/// `exact`: the numbers have 16 bits, so none is rounded and nothing is ambiguous.
[[nodiscard]] MXFP4_INLINE constexpr std::uint16_t ambiguous_word(std::uint32_t boundary, bool exact) noexcept {
  return exact || (boundary & 0x1FFFFu) <= 1 ? simd::no_word : static_cast<std::uint16_t>(boundary >> 16 | 1u);
}

template <scale_rule Rule, bool Exact>
[[nodiscard]] consteval std::array<simd::word_step, 256> make_word_steps() noexcept {
  std::array<simd::word_step, 256> steps{};  // 255, infinity and NaN: left to the plain loop
  for (unsigned exponent = 0; exponent < 255; ++exponent) {
    const scale_step step = Rule::step(exponent);
    const std::uint32_t boundary = (exponent << f32_mantissa_bits) + step.threshold;
    const auto taken = [exponent](scale_outcome o) {
      const bool vectors = !o.flush && o.byte >= simd::vector_scale_min && o.byte <= simd::vector_scale_max;
      return vectors && o.byte + 3u >= exponent ? o.byte : std::uint8_t{0};
    };
    steps[exponent] = {
        word_boundary(boundary), ambiguous_word(boundary, Exact), {taken(step.below), taken(step.above)}};
  }
  return steps;
}
/// By exponent field: the same numbers for every path.
template <scale_rule Rule, bool Exact>
inline constexpr std::array<simd::word_step, 256> word_steps = make_word_steps<Rule, Exact>();

template <zero_rule Zero, rounding_rule Round>
[[nodiscard]] MXFP4_INLINE constexpr std::uint32_t sign_boundary_under(unsigned byte) noexcept {
  const int k = static_cast<int>(byte) - f32_bias;
  return Zero::sign_boundary(static_cast<e8m0>(byte), boundary_bits(Round::base(0), Round::ulps(0), k));
}

template <rounding_rule Round, zero_rule Zero>
[[nodiscard]] consteval std::array<simd::word_scale, 256> make_word_scales() noexcept {
  std::array<simd::word_scale, 256> scales{};
  for (unsigned byte = simd::vector_scale_min; byte <= simd::vector_scale_max; ++byte)
    scales[byte] = {((byte - 2) * 128 - 64) * 0x10001u,
                    (word_boundary(sign_boundary_under<Zero, Round>(byte)) | 0x8000u) * 0x10001u};
  return scales;
}
template <rounding_rule Round, zero_rule Zero>
inline constexpr std::array<simd::word_scale, 256> word_scales = make_word_scales<Round, Zero>();

/// By scale byte: the magnitude whose sign is ambiguous where numbers are rounded to words.
template <rounding_rule Round, zero_rule Zero>
[[nodiscard]] consteval std::array<std::uint16_t, 256> make_ambiguous_signs() noexcept {
  std::array<std::uint16_t, 256> ambiguous{};
  for (unsigned byte = simd::vector_scale_min; byte <= simd::vector_scale_max; ++byte)
    ambiguous[byte] = ambiguous_word(sign_boundary_under<Zero, Round>(byte), false);
  return ambiguous;
}
template <rounding_rule Round, zero_rule Zero>
inline constexpr std::array<std::uint16_t, 256> ambiguous_signs = make_ambiguous_signs<Round, Zero>();

/// The longest run of exponent fields round that of 2^-8, where weights are, with one threshold.
template <scale_rule Rule, rounding_rule Round, zero_rule Zero, bool Exact>
[[nodiscard]] consteval simd::word_rule make_word_rule() noexcept {
  const std::uint32_t threshold = Rule::step(119).threshold;
  const auto regular = [&](unsigned exponent) {
    const scale_step rule = Rule::step(exponent);
    const simd::word_step step = word_steps<Rule, Exact>[exponent];
    bool plain = rule.threshold == threshold && step.ambiguous == simd::no_word;
    for (unsigned i = 0; i < 2; ++i)
      plain = plain && step.byte[i] == exponent - 2 + i &&
              ambiguous_word(sign_boundary_under<Zero, Round>(step.byte[i]), Exact) == simd::no_word;
    return plain;
  };
  if (!regular(119)) return {};
  simd::word_rule rule{128 - (word_boundary(threshold) & 0xFFu), 119, 119};
  while (regular(rule.first - 1)) --rule.first;
  while (regular(rule.last + 1)) ++rule.last;
  return rule;
}

/// The longest run of exponent fields round that of 2^-8 where a scale rule is the same in each.
template <scale_rule Rule>
[[nodiscard]] consteval simd::place_rule make_place_rule() noexcept {
  const auto at = [](unsigned exponent) {
    const simd::word_step& step = word_steps<Rule, true>[exponent];
    const std::uint32_t boundary = step.boundary - exponent * 128u;
    const bool plain = step.byte[0] != 0 && step.byte[0] <= exponent &&  // a scale far above the weights is no run
                       (step.byte[1] == step.byte[0] + 1 || boundary == 128);
    return plain ? simd::place_rule{128 - boundary, exponent - step.byte[0], exponent, exponent} : simd::place_rule{};
  };
  simd::place_rule rule = at(119);
  const auto same = [&rule, &at](unsigned exponent) {
    const simd::place_rule other = at(exponent);
    return other.first == exponent && other.carry == rule.carry && other.down == rule.down;
  };
  if (rule.first != 119) return {};
  while (same(rule.first - 1)) --rule.first;
  while (same(rule.last + 1)) ++rule.last;
  return rule;
}
template <scale_rule Rule>
inline constexpr simd::place_rule place_rule_of = make_place_rule<Rule>();

/// Does a rounding have a stray magnitude (rounding.hpp)? It is the float below the first boundary: the word of place
/// 63.
template <rounding_rule Round, bool Exact>
inline constexpr bool has_stray = !Exact && Round::stray(0) != unreachable;

/// The word from which half binade 1 begins, less 64: that of 0.25, less 64.
inline constexpr unsigned first_half_binade = 125u * 128 - 64;

/// The half binades of a rounding as if it fitted 16 bits; encodes_words() says whether it does.
template <rounding_rule Round>
[[nodiscard]] consteval simd::half_binades make_half_binades() noexcept {
  simd::half_binades h{};
  for (unsigned n = 0; n < 16; ++n) {
    unsigned code = 0, boundary = (n + 1) * 64;
    for (unsigned i = 0; i < 7; ++i) {
      const std::uint32_t at = Round::base(i) + static_cast<std::uint32_t>(Round::ulps(i));
      const unsigned place = word_boundary(at) - first_half_binade;
      if (place <= n * 64) ++code;
      else if (place < (n + 1) * 64) boundary = place;
    }
    h.carry[n] = static_cast<std::uint8_t>((n + 1) * 64 - boundary);
    h.code[n] = static_cast<std::uint8_t>(code);
    h.both[n] = static_cast<std::uint16_t>((n + 1) * 64 - boundary + (code - n) * 64);
  }
  return h;
}

/// Has every number the code of its word, in each half binade that a vector path sees? It has where every boundary lies
/// between two words and no two boundaries in the same half binade, under every scale.
template <rounding_rule Round>
[[nodiscard]] consteval bool encodes_words() noexcept {
  constexpr simd::half_binades h = make_half_binades<Round>();
  std::uint32_t boundary[7]{};
  for (unsigned i = 0; i < 7; ++i) {
    boundary[i] = Round::base(i) + static_cast<std::uint32_t>(Round::ulps(i));
    if (i > 0 && boundary[i] < boundary[i - 1]) return false;
  }
  // Asked for ascending magnitudes, so that each boundary is passed once: every unit that quantizes evaluates this.
  unsigned passed = 0;
  const auto code_of = [&](std::uint32_t magnitude) {
    while (passed < 7 && magnitude >= boundary[passed]) ++passed;
    return passed;
  };
  const auto code_is_of_word = [&](unsigned place) {
    const std::uint32_t word = first_half_binade + place, odd = word & 1u;
    const std::uint32_t least = odd != 0 ? ((word - 1) << 16) + 1 : word << 16;
    const std::uint32_t lowest = place == 0 ? 0u : least;  // place 0: all below too
    const std::uint32_t highest = odd != 0 ? (word << 16) + 0xFFFFu : word << 16;
    const unsigned code = (place + h.both[place / 64]) % 0x10000u / 64;
    return code_of(lowest) == code && code_of(highest) == code && h.code[(place + h.carry[place / 64]) / 64] == code;
  };
  // Within a half binade both codes ascend, and the table's steps once at the most: the ends and both sides of that
  // step tell for all.
  for (unsigned first = 0; first < 13 * 64; first += 64) {
    const unsigned last = first + 63, step = first + 64 - h.carry[first / 64];
    if (!code_is_of_word(first)) return false;
    if (step > first && step <= last && !(code_is_of_word(step - 1) && code_is_of_word(step))) return false;
    if (!code_is_of_word(last)) return false;
  }
  for (unsigned byte = simd::vector_scale_min; byte <= simd::vector_scale_max; ++byte) {
    const int k = static_cast<int>(byte) - f32_bias;
    if (Round::reachable(k) != 7) return false;
    if ((Round::stray(k) == unreachable) != (Round::stray(0) == unreachable)) return false;
    if (Round::stray(k) == unreachable) continue;
    const std::uint32_t first = ldexp_bits(float_bits(0.25f), k);  // the one stray that a path looks for: place 63
    if ((Round::stray(k) & 0xFFFFu) == 0 || (Round::stray(k) >> 16 | 1u) != (first >> 16) - 1) return false;
  }
  return true;
}
template <rounding_rule Round>
  requires(encodes_words<Round>())
inline constexpr simd::half_binades half_binades_of = make_half_binades<Round>();

/// A threshold beyond every mantissa is no_mantissa itself, or a regular rule's carry would be wrong.
template <scale_rule Rule>
[[nodiscard]] consteval bool scales_words() noexcept {
  for (unsigned exponent = 0; exponent < 255; ++exponent)
    if (Rule::step(exponent).threshold > no_mantissa) return false;
  return true;
}

template <class Resolved>
inline constexpr bool is_word_recipe = false;
template <scale_rule Scale, rounding_rule Round, zero_rule Zero, class Nonfinite>
inline constexpr bool is_word_recipe<basic_recipe<Scale, Round, Zero, Nonfinite>> =
    scales_words<Scale>() && encodes_words<Round>();

/// A recipe whose blocks may be encoded as words of 16 bits: four policies (basic_recipe), and a rounding whose
/// boundaries fit them. Any other recipe goes through the plain loop, block by block: the same bytes, slower.
template <class Resolved>
concept word_recipe = is_word_recipe<Resolved>;

/// What kernels ask a recipe that they are compiled for: the functions of simd::recipe_words, all constants.
/// @tparam Exact  the numbers have 16 bits.
template <class Resolved, bool Exact>
struct static_words {
  static constexpr bool may_take_words = false;

  [[nodiscard]] MXFP4_INLINE static constexpr bool takes_words() noexcept { return false; }
  [[nodiscard]] MXFP4_INLINE static block_codes encode(const std::uint32_t (&bits)[block_size]) noexcept {
    return Resolved::encode(bits);
  }
  [[nodiscard]] static constexpr simd::recipe_words value(
      block_codes (*plain)(const std::uint32_t (&)[block_size]) noexcept) noexcept {
    simd::recipe_words w;
    w.plain = plain;
    return w;
  }
};
template <word_recipe Resolved, bool Exact>
struct static_words<Resolved, Exact> {
  static constexpr bool may_take_words = true;
  using scaling = typename Resolved::scale_rule_type;
  using round = typename Resolved::rounding_rule_type;
  using zero = typename Resolved::zero_rule_type;

  [[nodiscard]] MXFP4_INLINE static constexpr bool takes_words() noexcept { return true; }
  [[nodiscard]] MXFP4_INLINE static constexpr bool has_stray() noexcept { return detail::has_stray<round, Exact>; }
  [[nodiscard]] MXFP4_INLINE static constexpr bool keeps_sign() noexcept { return std::same_as<zero, keep_sign>; }
  [[nodiscard]] MXFP4_INLINE static constexpr bool zero_is_negative() noexcept { return zero::zero_is_negative; }
  [[nodiscard]] MXFP4_INLINE static constexpr simd::word_rule rule() noexcept { return rule_; }
  [[nodiscard]] MXFP4_INLINE static constexpr simd::place_rule place() noexcept { return place_rule_of<scaling>; }
  [[nodiscard]] MXFP4_INLINE static constexpr const simd::word_step& step(std::uint32_t exponent) noexcept {
    return word_steps<scaling, Exact>[exponent];
  }
  [[nodiscard]] MXFP4_INLINE static constexpr const simd::word_scale& scale(unsigned byte) noexcept {
    return word_scales<round, zero>[byte];
  }
  [[nodiscard]] MXFP4_INLINE static constexpr std::uint16_t ambiguous_sign(unsigned byte) noexcept {
    if constexpr (has_ambiguous_signs) return ambiguous_signs<round, zero>[byte];
    else return simd::no_word;
  }
  [[nodiscard]] MXFP4_INLINE static constexpr const simd::half_binades& half() noexcept {
    return half_binades_of<round>;
  }
  [[nodiscard]] MXFP4_INLINE static constexpr std::int16_t boundary_place(unsigned i) noexcept {
    return static_cast<std::int16_t>(word_boundary(round::base(i) + static_cast<unsigned>(round::ulps(i))) -
                                     first_half_binade);
  }
  [[nodiscard]] MXFP4_INLINE static block_codes encode(const std::uint32_t (&bits)[block_size]) noexcept {
    return Resolved::encode(bits);
  }

  /// The same as a value. @param plain  Resolved::encode, compiled where the caller wants it.
  [[nodiscard]] static constexpr simd::recipe_words value(
      block_codes (*plain)(const std::uint32_t (&)[block_size]) noexcept) noexcept {
    simd::recipe_words w;
    w.words = true;
    w.stray = has_stray();
    w.same_sign = keeps_sign();
    w.negative_zero = zero_is_negative();
    w.regular = rule_;
    w.places = place();
    w.steps = word_steps<scaling, Exact>.data();
    w.scales = word_scales<round, zero>.data();
    if constexpr (has_ambiguous_signs) w.ambiguous = ambiguous_signs<round, zero>.data();
    w.halves = half();
    for (unsigned i = 0; i < 7; ++i) w.boundary[i] = boundary_place(i);
    w.plain = plain;
    return w;
  }

 private:
  static constexpr bool has_ambiguous_signs = !Exact && !std::same_as<zero, keep_sign>;
  static constexpr simd::word_rule rule_ = make_word_rule<scaling, round, zero, Exact>();
};

}  // namespace mxfp4::detail

namespace mxfp4::inline MXFP4_VERSION_NS::simd {
inline namespace MXFP4_ISA_NS {

/// Where all products are normal numbers, eight of them make the table: the others are these times a power of two.
[[nodiscard]] constexpr fp8_words make_fp8_words(float scale) noexcept {
  fp8_words table{};
  const std::uint32_t exponent = (mxfp4::detail::float_bits(scale) & mxfp4::detail::f32_abs_mask) >> 23;
  if (exponent < 27 || exponent > 227) {
    for (unsigned c = 0; c < 256; ++c)
      table.word[c] = static_cast<std::uint16_t>(decode_scaled(static_cast<e4m3>(c), scale));
    return table;
  }
  table.regular = true;
  std::uint16_t first[8]{};  // exponent field 1
  for (unsigned m = 0; m < 8; ++m)
    first[m] = static_cast<std::uint16_t>(decode_scaled(static_cast<e4m3>(8 + m), scale));
  table.word[0] = first[0] & 0x8000u;
  for (unsigned c = 1; c < 8; ++c) {  // subnormals: 2^-9 c
    const unsigned down = c == 1 ? 3 : c < 4 ? 2 : 1;
    table.word[c] = static_cast<std::uint16_t>(first[(c << down) & 7u] - (down << 7));
  }
  for (unsigned c = 8; c < 128; ++c) table.word[c] = static_cast<std::uint16_t>(first[c & 7u] + ((c / 8 - 1) << 7));
  for (unsigned c = 0; c < 128; ++c) table.word[c + 128] = table.word[c] ^ 0x8000u;
  table.word[0x7F] = table.word[0xFF] = static_cast<std::uint16_t>(decode_scaled(e4m3{0x7F}, scale));
  return table;
}
inline constexpr fp8_words fp8_words_of_one = make_fp8_words(1.0f);

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd
