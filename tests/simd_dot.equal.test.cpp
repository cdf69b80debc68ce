// tests/simd_dot.equal.test.cpp -- decoded quads and block sums of every ISA against plain integers.
// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <cstring>

#include "mxfp4/simd/simd.hpp"
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
    w[i] = simd::zero_point<Arch> != 0 ? bytes[i] - simd::zero_point<Arch> : static_cast<std::int8_t>(bytes[i]);
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

namespace {

/// One quad of weights under `Tokens` quads of codes.
template <class Arch, std::size_t Tokens>
void check_add_quads(test::splitmix& random) {
  std::uint8_t line[64], codes[Tokens][4];
  for (std::uint8_t& byte : line) byte = random.byte();
  simd::byte_lanes<Arch> low, high;
  simd::decode_quads<Arch>(line, low, high);
  simd::block_sum<Arch> dot[Tokens];
  for (std::size_t t = 0; t < Tokens; ++t) {
    int sum_of_x = 0;
    for (std::uint8_t& q : codes[t]) {
      q = static_cast<std::uint8_t>(random.in(-127, 127));
      sum_of_x += static_cast<std::int8_t>(q);
    }
    dot[t].start(-12 * sum_of_x);
  }
  simd::add_quads<Arch>(dot, 1, high, codes[0]);
  for (std::size_t t = 0; t < Tokens; ++t) {
    alignas(64) std::int32_t sums[16];
    dot[t].sum().store_aligned(sums);
    for (int r = 0; r < simd::rows_per_register<Arch>; ++r) {
      int expected = 0;
      for (int k = 0; k < 4; ++k)
        expected += twice_the_weight[line[4 * r + k] / 16] * static_cast<std::int8_t>(codes[t][k]);
      if (sums[r] != expected) FAIL("token " << t << " of " << Tokens << ", row " << r << ": " << sums[r]);
    }
  }
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("add_quads: each token its own quad", "[simd][int8][property]", test::arches) {
  test::splitmix random(3);
  for (int trial = 0; trial < 100; ++trial) {
    check_add_quads<TestType, 1>(random);
    check_add_quads<TestType, 2>(random);
    check_add_quads<TestType, 3>(random);
    check_add_quads<TestType, 4>(random);
  }
}

#if defined(__ARM_FEATURE_MATMUL_INT8)

namespace {

/// A tile's block times that of a group, as kernel/int8.hpp takes it apart: all 16 rows, all tokens of the group.
template <std::size_t Width, std::size_t Pairs>
void check_mmla(test::splitmix& random, bool extreme) {
  using unit = simd::mmla<simd::native_arch>;
  std::uint8_t tile[4][16][4], group[8][Width][4];
  for (auto& line : tile)
    for (auto& row : line)
      for (std::uint8_t& byte : row) byte = static_cast<std::uint8_t>(extreme ? 0x77 : random.bits());
  for (auto& quad : group)
    for (auto& token : quad)
      for (std::uint8_t& q : token) q = static_cast<std::uint8_t>(extreme ? -127 : random.in(-127, 127));
  for (int row = 0; row < 16; row += 4)
    for (int token = 0; token < static_cast<int>(Width); token += static_cast<int>(2 * Pairs)) {
      unit::products dot[2][Pairs]{};
      for (int g = 0; g < 4; g += 2) {
        unit::bytes rows[2][2], tokens[Pairs];
        unit::load_rows(tile[g][row], rows[0], rows[1]);
        for (int half = 0; half < 2; ++half) {
          unit::load_tokens<static_cast<int>(Width)>(group[4 * half + g][token], tokens);
          for (std::size_t p = 0; p < 2; ++p)
            for (std::size_t t = 0; t < Pairs; ++t) unit::add(dot[p][t], tokens[t], rows[half][p]);
        }
      }
      for (int t = 0; t < static_cast<int>(2 * Pairs); ++t)
        for (int r = 0; r < 4; ++r) {
          int expected = 0;
          for (int k = 0; k < 32; ++k) {
            const unsigned byte = tile[k % 16 / 4][row + r][k % 4], code = k < 16 ? byte % 16 : byte / 16;
            expected += twice_the_weight[code] * static_cast<std::int8_t>(group[k / 4][token + t][k % 4]);
          }
          std::int32_t sums[4];
          std::memcpy(sums, &dot[r / 2][t / 2], sizeof sums);
          if (sums[t % 2 * 2 + r % 2] != expected)
            FAIL("width " << Width << ", token " << token + t << ", row " << row + r << ": " << sums[t % 2 * 2 + r % 2]
                          << ", not " << expected);
        }
    }
}

}  // namespace

TEST_CASE("mmla: blocks of four rows and two, four or eight tokens of a group", "[simd][int8][property]") {
  test::splitmix random(2);
  for (int trial = 0; trial < 200; ++trial) {
    check_mmla<2, 1>(random, trial == 0);
    check_mmla<4, 2>(random, trial == 0);
    check_mmla<8, 4>(random, trial == 0);
    check_mmla<12, 2>(random, trial == 0);
    check_mmla<16, 4>(random, trial == 0);
  }
}

TEST_CASE("mmla: words and sums in the places of (t, r) (t, r + 1) (t + 1, r) (t + 1, r + 1)", "[simd][int8][golden]") {
  using unit = simd::mmla<simd::native_arch>;
  using lanes = std::array<std::int32_t, 4>;
  const auto in_order = [](const simd::int_lanes<simd::native_arch>& words) {
    lanes order{};
    words.store_unaligned(order.data());
    return order;
  };
  const lanes words = {10, 11, 12, 13};
  simd::int_lanes<simd::native_arch> pair[2];
  unit::spread_rows(simd::int_lanes<simd::native_arch>::load_unaligned(words.data()), pair);
  CHECK(in_order(pair[0]) == lanes{10, 11, 10, 11});
  CHECK(in_order(pair[1]) == lanes{12, 13, 12, 13});
  std::uint8_t bytes[8];
  std::memcpy(bytes, words.data(), sizeof bytes);
  CHECK(in_order(unit::spread_tokens(bytes)) == lanes{10, 10, 11, 11});

  const std::array<float, 10> from = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  std::array<float, 10> to{};
  unit::store_sums(unit::load_sums(from.data() + 1, 5), to.data() + 2, 3);  // tokens 5 floats apart, then 3
  CHECK(to == std::array<float, 10>{0, 0, 1, 2, 0, 6, 7, 0, 0, 0});
}

#endif

TEMPLATE_LIST_TEST_CASE("widen_bytes: every byte", "[simd][int8][exhaustive]", test::arches) {
  for (int byte = 0; byte < 256; ++byte) {
    std::uint8_t bytes[16];
    for (int i = 0; i < 16; ++i) bytes[i] = static_cast<std::uint8_t>(byte + 37 * i);
    alignas(64) std::int32_t lanes[16];
    simd::widen_bytes<TestType>(bytes).store_aligned(lanes);
    for (int i = 0; i < simd::rows_per_register<TestType>; ++i) REQUIRE(lanes[i] == (byte + 37 * i) % 256);
  }
}
