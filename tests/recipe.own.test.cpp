// tests/recipe.own.test.cpp -- recipes that a user writes: what they encode, and that the kernels give the same bytes.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "mxfp4/format/block.hpp"
#include "mxfp4/kernel/quantize.hpp"
#include "mxfp4/kernel/quantize_fp8.hpp"

namespace {

using namespace mxfp4;

/// The example of rounding.hpp: 0.5 from a third on, which is no number of 16 bits; else nearest, ties up.
struct up_from_a_third : midpoint_boundaries {
  static constexpr const char* name = "up_from_a_third";
  static constexpr std::uint32_t base(unsigned boundary) noexcept {
    return boundary == 0 ? std::bit_cast<std::uint32_t>(1.0f / 3) : midpoint_boundaries::base(boundary);
  }
  static constexpr int ulps(unsigned) noexcept { return 0; }
};

/// Seven boundaries wherever one likes.
template <class Own>
struct boundaries_of : seven_boundaries {
  static constexpr const char* name = "boundaries_of";
  static constexpr std::uint32_t base(unsigned boundary) noexcept {
    return std::bit_cast<std::uint32_t>(Own::all[boundary]);
  }
  static constexpr int ulps(unsigned) noexcept { return 0; }
};
struct between_words : boundaries_of<between_words> {
  static constexpr float all[]{0.3f, 0.7f, 1.3f, 1.7f, 2.6f, 3.4f, 5.1f};
};
struct on_words : boundaries_of<on_words> {
  static constexpr float all[]{0.3125f, 0.625f, 1.1875f, 1.75f, 2.75f, 3.25f, 5.5f};
};
struct two_in_a_half_binade : boundaries_of<two_in_a_half_binade> {
  static constexpr float all[]{0.28125f, 0.3125f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};
};
struct below_an_eighth : boundaries_of<below_an_eighth> {
  static constexpr float all[]{0.0625f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};
};

/// A boundary that cannot be reached, under some scales.
struct no_six_in_large_blocks : nearest_even {
  static constexpr unsigned reachable(int k) noexcept { return k >= -6 ? 6 : 7; }
};
/// A stray magnitude in another place than microxcaling's.
struct stray_eighth : nearest_even {
  static constexpr std::uint32_t stray(int k) noexcept { return detail::ldexp_bits(0x3E000000u, k); }
};

/// Up a binade from 1.2: no number of 16 bits, and regular apart from that.
struct scale_up_from_six_fifths {
  static constexpr const char* name = "up_from_six_fifths";
  static constexpr scale_step step(unsigned exponent) noexcept { return regular_step(exponent, 0x19999Au); }
};
/// Never up a binade, by a threshold beyond every mantissa.
struct scale_large_threshold {
  static constexpr const char* name = "large_threshold";
  static constexpr scale_step step(unsigned exponent) noexcept { return regular_step(exponent, 0x00FFFFFFu); }
};
/// Nine binades above what fits.
struct scale_far_above {
  static constexpr const char* name = "far_above";
  static constexpr scale_step step(unsigned exponent) noexcept {
    const auto byte = static_cast<std::uint8_t>(exponent < 245 ? exponent + 9 : 254);
    return {no_mantissa, {byte}, {byte}};
  }
};

/// 3 binades below the largest magnitude, and none: the ends of what is a run for FP8's tables.
template <unsigned Down>
struct scale_down {
  static constexpr const char* name = "down";
  static constexpr scale_step step(unsigned exponent) noexcept {
    const auto byte = static_cast<std::uint8_t>(exponent < Down ? 0 : exponent - Down);
    return {no_mantissa, {byte}, {byte}};
  }
};

template <class Scale, class Round, class Zero = keep_sign>
using own = basic_recipe<Scale, Round, Zero, nonfinite_is_nan_block>;

/// A recipe with a name of its own that is no basic_recipe: every block is its first number.
struct first_number {
  template <element_type T>
  using for_input = first_number;
  static constexpr block_codes encode(const std::uint32_t (&bits)[block_size]) noexcept {
    block_codes b = recipe::ocp::encode(bits);
    for (e2m1& code : b.code) code = b.code[0];
    return b;
  }
};

/// Words with every bit pattern in the upper halves of a few binades, then numbers at random scales, then specials.
std::vector<float> inputs() {
  std::vector<float> x;
  std::uint64_t state = 1;
  const auto random = [&state] {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::uint32_t>(state >> 32);
  };
  for (int i = 0; i < 32 * 2000; ++i) {  // a block: one number of [1, 2) times 4, and others below it
    const int scale = (i / 32 % 3 - 1) * (i / 32 % 40);
    const std::uint32_t exponent = (i % 32 == 0 ? 129u : 129u - random() % 10) + static_cast<std::uint32_t>(scale);
    const std::uint32_t lower = random() % 4 == 0 ? 0u : random() % 4 == 1 ? 1u : random() & 0xFFFFu;
    x.push_back(std::bit_cast<float>((random() & 0x807F0000u) | exponent << 23 | lower));
  }
  for (int i = 0; i < 32 * 500; ++i) x.push_back(std::bit_cast<float>(random()));
  for (const float special : {0.0f, -0.0f, 1.0f / 3, 0.3f, 0.0625f, 0.125f, 0.3125f, 1.2f, 0x1p-149f, 0x1p-126f})
    for (int i = 0; i < 32; ++i) x.push_back(i == 0 ? 1.0f : i % 2 == 0 ? -special : special);
  return x;
}

/// The kernel's bytes against block after block of the definition.
template <class Recipe, class T>
void check_kernel(const std::vector<T>& x) {
  const auto blocks = static_cast<std::int64_t>(x.size()) / block_size, cols = blocks * block_size;
  std::vector<std::uint8_t> codes(x.size() / 2), scales(x.size() / 32);
  const dense_view<const T> w{x.data(), 1, cols, cols};
  REQUIRE(kernel::quantize<Recipe>(w, *make_view(codes, scales, 1, cols)).ok());
  std::int64_t wrong = 0;
  for (std::size_t b = 0; b < scales.size(); ++b) {
    T in[block_size];
    for (std::size_t i = 0; i < block_size; ++i) in[i] = x[b * block_size + i];
    const block expected = encode_block<Recipe>(in);
    bool same = static_cast<std::uint8_t>(expected.scale) == scales[b];
    for (std::size_t i = 0; i < block_code_bytes; ++i)
      same = same && expected.codes[i] == codes[b * block_code_bytes + i];
    wrong += same ? 0 : 1;
  }
  CHECK(wrong == 0);
}

template <class Recipe>
void check_kernels() {
  const std::vector<float> x = inputs();
  check_kernel<Recipe>(x);
  std::vector<bf16> bf(x.size());
  std::vector<f16> f(x.size());
  std::vector<e4m3> e(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    bf[i] = encode_bf16(x[i]);
    f[i] = encode_f16(x[i]);
    e[i] = encode_e4m3(x[i]);
  }
  check_kernel<Recipe>(bf);
  check_kernel<Recipe>(f);
  check_kernel<Recipe>(e);

  // FP8 under scales: what the bf16 recipe makes of the widened weights
  constexpr std::int64_t rows = 128, cols = 512;
  const float scale[4] = {1.0f, 0.75f, 0x1.fp-9f, -3.0f};
  std::vector<std::uint8_t> codes(rows * cols / 2), scales(rows * cols / 32);
  REQUIRE(kernel::quantize_fp8<Recipe>({e.data(), rows, cols, cols}, {scale, 1, 4, 4},
                                       *make_view(codes, scales, rows, cols))
              .ok());
  std::int64_t wrong = 0;
  for (std::size_t b = 0; b < scales.size(); ++b) {
    bf16 in[block_size];
    for (std::size_t i = 0; i < block_size; ++i)
      in[i] = decode_scaled(e[b * block_size + i], scale[b % (cols / block_size) / 4]);
    const block expected = encode_block<Recipe>(in);
    wrong += static_cast<std::uint8_t>(expected.scale) != scales[b] ||
             !std::equal(expected.codes, expected.codes + block_code_bytes, codes.data() + b * block_code_bytes);
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("a recipe of one's own: what its rounding says", "[recipe]") {
  using mine = own<scale_floor, up_from_a_third>;
  STATIC_CHECK(rounding_rule<up_from_a_third> && block_recipe<mine>);
  float x[block_size]{4.0f, 0.25f, 1.0f / 3, -0.333f, -1.0f / 3, 0.75f, 5.0f};
  const block b = encode_block<mine>(x);
  CHECK(b.scale == e8m0{127});
  const int expected[]{6, 0, 1, 8, 9, 2, 7};
  for (int i = 0; i < 7; ++i) CHECK(static_cast<int>(get_code<low_first>(b.codes, i)) == expected[i]);
}

TEST_CASE("which recipes are encoded as words", "[recipe]") {
  STATIC_CHECK(detail::word_recipe<own<scale_floor, on_words>>);
  STATIC_CHECK(detail::word_recipe<own<scale_up_from_six_fifths, nearest_even>>);
  STATIC_CHECK(detail::word_recipe<own<scale_far_above, nearest_even>>);
  STATIC_CHECK(detail::word_recipe<recipe::ocp::for_input<float>>);
  STATIC_CHECK(detail::word_recipe<recipe::microxcaling_py_even::for_input<float>>);
  STATIC_CHECK(detail::word_recipe<recipe::ggml::for_input<bf16>>);
  STATIC_CHECK_FALSE(detail::word_recipe<own<scale_floor, up_from_a_third>>);
  STATIC_CHECK_FALSE(detail::word_recipe<own<scale_floor, between_words>>);
  STATIC_CHECK_FALSE(detail::word_recipe<own<scale_floor, two_in_a_half_binade>>);
  STATIC_CHECK_FALSE(detail::word_recipe<own<scale_floor, below_an_eighth>>);
  STATIC_CHECK_FALSE(detail::word_recipe<own<scale_floor, no_six_in_large_blocks>>);
  STATIC_CHECK_FALSE(detail::word_recipe<own<scale_floor, stray_eighth>>);
  STATIC_CHECK_FALSE(detail::word_recipe<own<scale_large_threshold, nearest_even>>);
  STATIC_CHECK_FALSE(detail::word_recipe<first_number>);
  STATIC_CHECK_FALSE(detail::word_recipe<recipe::min_mse::for_input<float>>);
}

TEMPLATE_TEST_CASE("kernels give the bytes of a recipe of one's own", "[kernel][quantize]",
                   (own<scale_floor, up_from_a_third>), (own<scale_even, between_words>), (own<scale_floor, on_words>),
                   (own<scale_rceil, on_words, zero_is_code_8>), (own<scale_floor, two_in_a_half_binade>),
                   (own<scale_floor, below_an_eighth>), (own<scale_floor, no_six_in_large_blocks>),
                   (own<scale_floor, stray_eighth>), (own<scale_up_from_six_fifths, nearest_away, no_negative_zero>),
                   (own<scale_large_threshold, nearest_even>), (own<scale_far_above, nearest_even>),
                   (own<scale_down<0>, nearest_even>), (own<scale_down<3>, on_words, no_negative_zero>),
                   (own<scale_down<4>, nearest_even>), first_number) {
  check_kernels<TestType>();
}
