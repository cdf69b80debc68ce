// tests/nibble.property.test.cpp -- two codes in a byte: literal bytes for each order, round trips for every length.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <cstring>
#include <vector>

#include "mxfp4/format/nibble.hpp"
#include "support/print.hpp"
#include "support/random.hpp"

namespace {

using namespace mxfp4;

/// Codes 0, 1, .. 15 and then 15, 14, .. 0: every position differs from its neighbours.
void up_and_down(e2m1 (&codes)[block_size]) {
  for (int i = 0; i < block_size; ++i) codes[i] = static_cast<e2m1>(i < 16 ? i : 31 - i);
}

template <class Order>
constexpr std::uint8_t expected_bytes[16] = {};
template <>
constexpr std::uint8_t expected_bytes<low_first>[16] = {0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE,
                                                        0xEF, 0xCD, 0xAB, 0x89, 0x67, 0x45, 0x23, 0x01};
template <>
constexpr std::uint8_t expected_bytes<high_first>[16] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF,
                                                         0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10};
template <>
constexpr std::uint8_t expected_bytes<half_split>[16] = {0xF0, 0xE1, 0xD2, 0xC3, 0xB4, 0xA5, 0x96, 0x87,
                                                         0x78, 0x69, 0x5A, 0x4B, 0x3C, 0x2D, 0x1E, 0x0F};

}  // namespace

TEMPLATE_TEST_CASE("a block packs into the bytes of its order", "[nibble][golden]", low_first, high_first, half_split) {
  e2m1 codes[block_size], back[block_size];
  up_and_down(codes);
  std::uint8_t buffer[block_code_bytes + 8];
  for (int offset = 0; offset < 4; ++offset) {  // unaligned too
    CAPTURE(offset);
    std::memset(buffer, 0xA5, sizeof buffer);
    pack_block<TestType>(codes, buffer + offset);
    CHECK(std::memcmp(buffer + offset, expected_bytes<TestType>, block_code_bytes) == 0);
    for (int i = 0; i < offset; ++i) CHECK(buffer[i] == 0xA5);  // not a byte beside them
    for (int i = offset + block_code_bytes; i < block_code_bytes + 8; ++i) CHECK(buffer[i] == 0xA5);
    unpack_block<TestType>(buffer + offset, back);
    CHECK(std::memcmp(codes, back, sizeof back) == 0);
    for (int i = 0; i < block_size; ++i) CHECK(get_code<TestType>(buffer + offset, i) == codes[i]);
  }
}

TEMPLATE_TEST_CASE("packing ignores the upper half of a code", "[nibble][property]", low_first, high_first,
                   half_split) {
  e2m1 codes[block_size];
  up_and_down(codes);
  for (e2m1& code : codes) code = static_cast<e2m1>(static_cast<unsigned>(code) | 0xD0u);
  std::uint8_t bytes[block_code_bytes];
  pack_block<TestType>(codes, bytes);
  CHECK(std::memcmp(bytes, expected_bytes<TestType>, block_code_bytes) == 0);
}

TEMPLATE_TEST_CASE("every block of bytes comes back", "[nibble][property]", low_first, high_first, half_split) {
  test::splitmix random(6);
  for (int round = 0; round < 1000; ++round) {
    std::uint8_t bytes[block_code_bytes], back[block_code_bytes];
    for (std::uint8_t& b : bytes) b = static_cast<std::uint8_t>(random.bits());
    e2m1 codes[block_size];
    unpack_block<TestType>(bytes, codes);
    pack_block<TestType>(codes, back);
    REQUIRE(std::memcmp(bytes, back, sizeof back) == 0);
  }
}

TEST_CASE("pack_codes: every length, odd ends padded with code 0", "[nibble][property]") {
  test::splitmix random(7);
  for (std::size_t n = 0; n <= 129; ++n)
    for (const std::size_t offset : {0u, 1u, 3u}) {
      CAPTURE(n, offset);
      std::vector<e2m1> codes(n), back(n + 1, e2m1{0xEE});
      for (e2m1& code : codes) code = static_cast<e2m1>(random.bits() & 0xFFu);  // upper halves are to be ignored
      std::vector<std::uint8_t> buffer(offset + (n + 1) / 2 + 1, 0xA5);
      pack_codes(codes.data(), static_cast<std::int64_t>(n), buffer.data() + offset);
      for (std::size_t i = 0; i < n; ++i) {
        const unsigned byte = buffer[offset + i / 2];
        REQUIRE((i % 2 == 0 ? byte & 0xFu : byte >> 4) == (static_cast<unsigned>(codes[i]) & 0xFu));
      }
      if (n % 2 != 0) CHECK(buffer[offset + n / 2] >> 4 == 0);
      CHECK(buffer.back() == 0xA5);
      for (std::size_t i = 0; i < offset; ++i) CHECK(buffer[i] == 0xA5);
      unpack_codes(buffer.data() + offset, static_cast<std::int64_t>(n), back.data());
      for (std::size_t i = 0; i < n; ++i)
        REQUIRE(static_cast<unsigned>(back[i]) == (static_cast<unsigned>(codes[i]) & 0xFu));
      CHECK(back[n] == e2m1{0xEE});
    }
}

TEST_CASE("pack_codes of a block is pack_block<low_first>; the sizes are those of the format", "[nibble][golden]") {
  e2m1 codes[block_size];
  up_and_down(codes);
  std::uint8_t bytes[block_code_bytes];
  pack_codes(codes, block_size, bytes);
  CHECK(std::memcmp(bytes, expected_bytes<low_first>, block_code_bytes) == 0);
  STATIC_CHECK(block_size == 32);
  STATIC_CHECK(block_code_bytes == 16);
  STATIC_CHECK(block_bytes == 17);
}
