// tests/recipe.min_mse.test.cpp -- min_mse is the best of its three scales, and never worse than any fixed recipe.
// SPDX-License-Identifier: Apache-2.0
//
// The blocks are integers of at most 22 bits times one power of two, so a sum of squared errors in double is exact:
// each square has at most 46 bits and 32 of them 51. No tolerance is needed, and ties are real ties.
#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "mxfp4/format/block.hpp"
#include "mxfp4/format/recipe_id.hpp"
#include "support/oracle.hpp"
#include "support/print.hpp"
#include "support/random.hpp"
#include "support/sweep.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;

using numbers = std::array<float, block_size>;

/// Sum of squared errors of a decoded block; infinite where it decodes to infinity or NaN.
double block_error(const numbers& x, const block& b) {
  const std::array<float, block_size> decoded = decode_block(b);
  double sum = 0;
  for (std::size_t i = 0; i < block_size; ++i) {
    if (!std::isfinite(decoded[i])) return std::numeric_limits<double>::infinity();
    const double error = static_cast<double>(x[i]) - static_cast<double>(decoded[i]);
    sum += error * error;
  }
  return sum;
}

/// The definition: all three scales, nearest even under each, the least error, the larger byte of equals.
block best_of_three(const numbers& x) {
  double amax = 0;
  for (const float v : x) amax = std::max(amax, std::fabs(static_cast<double>(v)));
  const int floor_byte = amax == 0 ? 0 : std::max(std::ilogb(amax) - 2 + 127, 0);
  block best{};
  double least = std::numeric_limits<double>::infinity();
  for (int byte = std::max(floor_byte - 1, 0); byte <= floor_byte + 1; ++byte) {
    block b{static_cast<e8m0>(byte), {}};
    for (std::size_t i = 0; i < block_size; ++i) {
      const double in_units = std::ldexp(std::fabs(static_cast<double>(x[i])), 127 - byte);
      const unsigned code = round_fp4(place_fp4(in_units), tie::even) | (std::signbit(x[i]) ? 8u : 0u);
      b.codes[i / 2] = static_cast<std::uint8_t>(b.codes[i / 2] | code << (i % 2 * 4));
    }
    const double error = block_error(x, b);
    if (error <= least) {
      least = error;
      best = b;
    }
  }
  return best;
}

/// Integers times 2^unit with at most `bits` bits each; every multiple of `step`.
numbers integer_block(splitmix& random, int unit, int bits, int step) {
  numbers x{};
  const int range = (1 << bits) - 1;
  for (float& v : x) v = static_cast<float>(std::ldexp(random.in(-range, range) / step * step, unit));
  return x;
}

findings check_blocks(std::uint64_t seed, int blocks, int lowest_unit, int highest_unit, int bits, int step) {
  splitmix random(seed);
  findings found;
  for (int i = 0; i < blocks; ++i) {
    const numbers x = integer_block(random, random.in(lowest_unit, highest_unit), random.in(1, bits), step);
    const block ours = encode_block<recipe::min_mse>(x);
    const double error = block_error(x, ours);
    bool good = std::isfinite(error) && ours == best_of_three(x);
    for (int id = 0; id < recipe_count; ++id)
      visit_recipe(static_cast<recipe_id>(id),
                   [&]<class R>() { good = good && error <= block_error(x, encode_block<R>(x)); });
    found.expect(good, static_cast<std::uint64_t>(i));
  }
  return found;
}

}  // namespace

TEST_CASE("min_mse is never worse than a fixed recipe and is the best of its three scales", "[recipe][min_mse]") {
  SECTION("random") { CHECK(check_blocks(20, 8'000, -60, 40, 22, 1) == none); }
  SECTION("few bits: many ties") { CHECK(check_blocks(21, 8'000, -20, 20, 6, 1) == none); }
  SECTION("multiples of a quarter of the scale") { CHECK(check_blocks(22, 8'000, -3, 3, 5, 2) == none); }
  SECTION("tiny: subnormal floats, byte 0 and 1") { CHECK(check_blocks(23, 8'000, -149, -140, 22, 1) == none); }
  SECTION("huge: scales that overflow") { CHECK(check_blocks(24, 8'000, 104, 106, 22, 1) == none); }
  SECTION("narrow at the very top") {
    splitmix random(25);
    findings found;
    for (std::uint64_t i = 0; i < 20'000; ++i) {
      numbers x{};
      for (float& v : x) v = std::ldexp(static_cast<float>(random.in(1 << 17, (1 << 20) - 1)), 108);  // up to 2^128
      const block ours = encode_block<recipe::min_mse>(x);
      found.expect(ours == best_of_three(x) && std::isfinite(block_error(x, ours)), i);
    }
    CHECK(found == none);
  }
}

TEST_CASE("min_mse on one large value among very small ones", "[recipe][min_mse]") {
  // Their errors have no common unit, so a double cannot add them. But a value below 2^-3 of every candidate scale is
  // rounded to zero under all three, and so the choice has to be that for zeros.
  splitmix random(26);
  findings found;
  for (std::uint64_t i = 0; i < 10'000; ++i) {
    numbers x{}, without{};
    const std::size_t at = static_cast<std::size_t>(random.in(0, 31));
    const float large = random.with_exponent(60, 200);
    for (std::size_t j = 0; j < block_size; ++j) x[j] = j == at ? large : std::fabs(random.with_exponent(0, 50));
    without[at] = large;
    found.expect(encode_block<recipe::min_mse>(x) == encode_block<recipe::min_mse>(without), i);
  }
  CHECK(found == none);
}

TEST_CASE("min_mse: named blocks", "[recipe][min_mse][golden]") {
  SECTION("the smaller scale wins: 31 quarters are worth saturating one 4 to 3") {
    numbers x{};
    x.fill(0.25f);
    x[0] = 4.0f;
    block expected{e8m0{126}, {}};
    std::fill_n(expected.codes, 16, std::uint8_t{0x11});
    expected.codes[0] = 0x17;
    CHECK(encode_block<recipe::min_mse>(x) == expected);  // error 1; under byte 127 it is 31/16
  }
  SECTION("the floor scale wins: nothing is lost") {
    numbers x{};
    x.fill(0.5f);
    x[0] = -6.0f;
    block expected{e8m0{127}, {}};
    std::fill_n(expected.codes, 16, std::uint8_t{0x11});
    expected.codes[0] = 0x1F;
    CHECK(encode_block<recipe::min_mse>(x) == expected);
  }
  SECTION("the larger scale wins: 7.5 becomes 8, not 6") {
    numbers x{};
    x.fill(1.0f);
    x[0] = 7.5f;
    block expected{e8m0{128}, {}};
    std::fill_n(expected.codes, 16, std::uint8_t{0x11});
    expected.codes[0] = 0x16;
    CHECK(encode_block<recipe::min_mse>(x) == expected);
  }
  SECTION("a tie of floor and floor + 1 goes to the larger byte: 7 is as far from 6 as from 8") {
    numbers x{7.0f};
    CHECK(encode_block<recipe::min_mse>(x) == block{e8m0{128}, {0x06}});
  }
  SECTION("a tie of floor - 1 and floor goes to the larger byte") {
    numbers x{4.0f, 0.5f};  // byte 126: 4 -> 3, error 1. Byte 127: 16 quarters -> 0, error 1. Byte 128: 0.5 is lost too
    std::fill_n(x.begin() + 2, 16, 0.25f);
    CHECK(encode_block<recipe::min_mse>(x) == block{e8m0{127}, {0x16}});
  }
  SECTION("zeros: every scale is right, so the larger byte; signs are kept") {
    numbers x{0.0f, -0.0f};
    CHECK(encode_block<recipe::min_mse>(x) == block{e8m0{1}, {0x80}});
  }
}
