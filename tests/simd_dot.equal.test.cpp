// tests/simd_dot.equal.test.cpp -- decoded quads and block sums of every ISA against plain integers.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <cstring>

#include "mxfp4/simd/dot.hpp"
#include "support/arches.hpp"
#include "support/random.hpp"

namespace {

using namespace mxfp4;
constexpr int twice_the_weight[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/// A register of bytes as integers, the bias taken off.
template <class Arch>
void weights_of(const simd::byte_lanes<Arch>& lanes, int (&w)[64]) {
  alignas(64) std::uint8_t bytes[64];
  lanes.store_aligned(bytes);
  for (int i = 0; i < 4 * simd::rows_per_register<Arch>; ++i)
    w[i] = simd::weight_bias<Arch> != 0 ? bytes[i] - simd::weight_bias<Arch> : static_cast<std::int8_t>(bytes[i]);
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("decode_quads: every byte in every place", "[simd][int8][exhaustive]", test::arches) {
  constexpr int bytes = 4 * simd::rows_per_register<TestType>;
  for (int byte = 0; byte < 256; ++byte)
    for (int place = 0; place < bytes; ++place) {
      std::uint8_t line[64];
      std::memset(line, 0x5A, sizeof line);  // codes 10 and 5: not to be mixed up with the byte's neighbours
      line[place] = static_cast<std::uint8_t>(byte);
      simd::byte_lanes<TestType> low, high;
      simd::decode_quads<TestType>(line, low, high);
      int l[64], h[64];
      weights_of<TestType>(low, l);
      weights_of<TestType>(high, h);
      for (int i = 0; i < bytes; ++i) {
        const int expected_low = i == place ? twice_the_weight[byte % 16] : -2;
        const int expected_high = i == place ? twice_the_weight[byte / 16] : 6;
        if (l[i] != expected_low || h[i] != expected_high) FAIL("byte " << byte << " at " << place << ", lane " << i);
      }
    }
}

TEMPLATE_LIST_TEST_CASE("block_sum: extremes and random blocks", "[simd][int8][property]", test::arches) {
  constexpr int rows = simd::rows_per_register<TestType>;
  test::splitmix random(1);
  for (int trial = 0; trial < 2000; ++trial) {
    std::uint8_t lines[4][64];
    std::int8_t x[32];
    for (auto& line : lines)
      for (std::uint8_t& byte : line) byte = static_cast<std::uint8_t>(trial < 3 ? 0x77 : random.bits());
    for (std::int8_t& q : x) q = static_cast<std::int8_t>(trial == 0 ? 127 : trial == 1 ? -127 : random.in(-127, 127));
    if (trial == 3) std::memset(lines, 0xFF, sizeof lines);  // all -6
    if (trial < 4)
      for (std::int8_t& q : x) q = static_cast<std::int8_t>(trial % 2 == 0 ? 127 : -127);
    int sum_of_x = 0;
    for (const std::int8_t q : x) sum_of_x += q;
    simd::block_sum<TestType> dot;
    dot.start(-12 * sum_of_x);
    for (int g = 0; g < 4; ++g) {
      simd::byte_lanes<TestType> low, high;
      simd::decode_quads<TestType>(lines[g], low, high);
      dot.add(0, low, simd::load_quad(reinterpret_cast<const std::uint8_t*>(x) + 4 * g));
      dot.add(1, high, simd::load_quad(reinterpret_cast<const std::uint8_t*>(x) + 16 + 4 * g));
    }
    alignas(64) std::int32_t sums[16];
    dot.sum().store_aligned(sums);
    for (int r = 0; r < rows; ++r) {
      int expected = 0;
      for (int k = 0; k < 16; ++k) {
        const unsigned byte = lines[k / 4][4 * r + k % 4];
        expected += twice_the_weight[byte % 16] * x[k] + twice_the_weight[byte / 16] * x[16 + k];
      }
      if (sums[r] != expected) FAIL("trial " << trial << ", row " << r << ": " << sums[r] << ", not " << expected);
    }
  }
}

TEMPLATE_LIST_TEST_CASE("widen_bytes: every byte", "[simd][int8][exhaustive]", test::arches) {
  for (int byte = 0; byte < 256; ++byte) {
    std::uint8_t bytes[16];
    for (int i = 0; i < 16; ++i) bytes[i] = static_cast<std::uint8_t>(byte + 37 * i);
    alignas(64) std::int32_t lanes[16];
    simd::widen_bytes<TestType>(bytes).store_aligned(lanes);
    for (int i = 0; i < simd::rows_per_register<TestType>; ++i) REQUIRE(lanes[i] == (byte + 37 * i) % 256);
  }
}
