// tests/rounding.stochastic.test.cpp -- stochastic rounding against exact arithmetic: up iff frac * 2^32 > random.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>

#include "mxfp4/format/block.hpp"
#include "support/oracle.hpp"
#include "support/print.hpp"
#include "support/random.hpp"
#include "support/sweep.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;

bool right(float x, std::uint32_t random) {
  const unsigned code = stochastic_fp4(std::fabs(static_cast<double>(x)), random);
  const unsigned sign = as_bits(x) >> 31 << 3;
  return encode_e2m1_stochastic(x, random) == static_cast<e2m1>(code | sign);
}

}  // namespace

TEST_CASE("stochastic rounding: named situations", "[rounding][golden]") {
  struct row {
    float x;
    std::uint32_t random;
    std::uint8_t code;
    const char* why;
  };
  const row rows[] = {
      {0.0f, 0, 0, "nothing rounds zero up"},
      {-0.0f, 0, 8, "the sign of zero is kept"},
      {0x1p-149f, 0, 1, "the smallest float goes up for random 0 alone"},
      {0x1p-149f, 1, 0, "and for no other"},
      {0x1p-33f, 0, 1, "frac * 2^32 == 1 > 0"},
      {0x1p-33f, 1, 0, "frac * 2^32 == 1 is not > 1"},
      {0x1.8p-33f, 1, 1, "frac * 2^32 == 1.5 > 1"},
      {0.25f, 0x7FFFFFFFu, 1, "half way, random just below half"},
      {0.25f, 0x80000000u, 0, "half way, random at half"},
      {5.0f, 0x7FFFFFFFu, 7, "half way in the widest gap"},
      {5.0f, 0x80000000u, 6, "and not"},
      {0x1.7FFFFEp2f, 0xFFFFFBFFu, 7, "one ulp below 6: frac * 2^32 is 2^32 - 2^10"},
      {0x1.7FFFFEp2f, 0xFFFFFC00u, 6, "and not above itself"},
      {3.0f, 0, 5, "an exact value never moves"},
      {6.0f, 0, 7, "6"},
      {100.0f, 0xFFFFFFFFu, 7, "saturates"},
      {-2.5f, 0, 13, "away from zero, with the sign"},
  };
  for (const auto& [x, random, code, why] : rows) {
    CAPTURE(x, random, why);
    CHECK(encode_e2m1_stochastic(x, random) == e2m1{code});
  }
}

TEST_CASE("stochastic rounding: random floats and every edge of theirs", "[rounding][property]") {
  splitmix random(3);
  findings found;
  for (std::uint64_t i = 0; i < 1'000'000; ++i) {
    const float x = i % 8 == 0 ? random.with_exponent(0, 130) : random.with_exponent(90, 129);
    found.expect(right(x, random.bits()), as_bits(x));
    const double magnitude = std::fabs(static_cast<double>(x));
    if (magnitude >= 6.0) continue;
    const auto edge = static_cast<std::uint32_t>(std::floor(std::ldexp(fp4_fraction(magnitude), 32)));  // < 2^32
    for (const std::uint32_t r : {edge - 1u, edge, edge + 1u, 0u, 0xFFFFFFFFu}) found.expect(right(x, r), as_bits(x));
  }
  CHECK(found == none);
}

TEST_CASE("stochastic rounding: the mean over evenly spread numbers is the value", "[rounding][property]") {
  constexpr int steps = 1 << 16;
  splitmix random(4);
  for (int i = 0; i < 100; ++i) {
    const float x = random.with_exponent(120, 129);
    const double magnitude = std::fabs(static_cast<double>(x));
    if (magnitude >= 6.0) continue;
    const unsigned lower = place_fp4(magnitude).lower;
    int ups = 0;
    for (unsigned step = 0; step < steps; ++step)
      ups += (static_cast<unsigned>(encode_e2m1_stochastic(x, step << 16)) & 7u) != lower ? 1 : 0;
    CAPTURE(x);
    CHECK(ups ==
          static_cast<int>(std::ceil(fp4_fraction(magnitude) * steps)));  // so the bias is below 2^-16 of the gap
  }
}

TEST_CASE("stochastic rounding takes bf16, f16 and e4m3", "[rounding][property]") {
  CHECK(encode_e2m1_stochastic(bf16{0x40A0}, 0x7FFFFFFFu) == e2m1{7});  // 5
  CHECK(encode_e2m1_stochastic(f16{0xC500}, 0x80000000u) == e2m1{14});  // -5
  CHECK(encode_e2m1_stochastic(e4m3{0x4A}, 0x7FFFFFFFu) == e2m1{7});    // 5
}

TEST_CASE("stochastic blocks: every element under its block's scale", "[rounding][block][property]") {
  splitmix random(5);
  findings found;
  for (std::uint64_t i = 0; i < 60'000; ++i) {
    const int top = i % 3 == 0 ? random.in(0, 8) : random.in(0, 254);
    float x[block_size];
    std::uint32_t r[block_size];
    for (int j = 0; j < block_size; ++j) {
      x[j] = random.with_exponent(top < 12 ? 0 : top - 12, top);
      r[j] = i % 2 == 0 ? random.bits() : random.bits() >> random.in(0, 31);
    }
    const block b = encode_block_stochastic<recipe::torchao_rceil>(x, r);
    bool good = b.scale == encode_block<recipe::torchao_rceil>(x).scale;
    for (int j = 0; j < block_size; ++j) {
      const double in_units = std::ldexp(std::fabs(static_cast<double>(x[j])), 127 - static_cast<int>(b.scale));
      const unsigned code = stochastic_fp4(in_units, r[j]) | (as_bits(x[j]) >> 31) << 3;
      good = good && get_code<low_first>(b.codes, j) == static_cast<e2m1>(code);
    }
    found.expect(good, i);
  }
  CHECK(found == none);
}

TEST_CASE("stochastic blocks: lost and non-finite blocks are the recipe's", "[rounding][block][golden]") {
  const std::uint32_t zero[block_size]{};  // would round every nonzero value up
  float tiny[block_size]{0x1p-126f, -0x1p-126f};
  CHECK(encode_block_stochastic<recipe::triton_down>(tiny, zero) == encode_block<recipe::triton_down>(tiny));
  CHECK(encode_block_stochastic<recipe::triton_down>(tiny, zero) == block{e8m0{0}, {0x80}});
  float huge[block_size]{0x1.Cp127f, 1.0f};
  CHECK(encode_block_stochastic<recipe::torchao_even>(huge, zero) == block{e8m0::nan, {}});
  float nan[block_size]{detail::float_from_bits(0x7FC00000u), 1.0f};
  CHECK(encode_block_stochastic<recipe::ocp>(nan, zero) == block{e8m0::nan, {}});
  float one_up[block_size]{6.0f, 0x1p-149f, -0x1p-149f};
  CHECK(encode_block_stochastic<recipe::ocp>(one_up, zero) == block{e8m0::one, {0x17, 0x09}});
}
