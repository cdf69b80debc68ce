// tests/layout.golden.test.cpp -- where codes and scales live: literal bytes, and offsets from CUTLASS and torchao.
// SPDX-License-Identifier: Apache-2.0
//
// The offset tables are CUTLASS's Sm1xxBlockScaledConfig<32> layout evaluated and torchao's to_blocked run; see
// tests/vectors/README.md for the commits.
#include "mxfp4/tensor/layout.hpp"

#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "mxfp4/tensor/convert.hpp"
#include "mxfp4/tensor/view.hpp"
#include "support/matrix.hpp"

namespace {

using namespace mxfp4;
using mxfp4::test::mx_memory;
using mxfp4::test::splitmix;

std::vector<std::uint32_t> read_u32(const std::string& name) {
  std::ifstream file(std::string(MXFP4_TEST_VECTORS) + "/swizzle/" + name, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  std::vector<std::uint32_t> numbers(bytes.size() / 4);
  for (std::size_t i = 0; i < bytes.size() / 4 * 4; ++i)
    numbers[i / 4] |= static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[i])) << (8 * (i % 4));
  return numbers;
}

/// Codes 0 1 2 .. 15 0 1 .. 15 and scale byte 99 in one block of `Layout`, from compressed-tensors bytes.
template <class Layout>
std::vector<std::uint8_t> one_block() {
  std::vector<std::uint8_t> codes = {0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE,
                                     0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE};
  std::uint8_t scale = 99;
  const mx_view<> in{codes.data(), &scale, 1, 32, 16, 1};
  mx_memory<Layout> out(1, 32);
  REQUIRE(convert(in, out.view()).ok());
  return {out.view().codes, out.view().codes + 16};
}

}  // namespace

TEST_CASE("layout: swizzled offsets equal CUTLASS's and torchao's", "[layout][golden]") {
  struct shape {
    const char* name;
    std::int64_t rows, blocks, stride;
  };
  for (const auto& [name, rows, blocks, stride] :
       {shape{"128x4", 128, 4, 512}, shape{"200x7", 200, 7, 1024}, shape{"384x12", 384, 12, 1536}})
    for (const char* peer : {"cutlass_sfa_offset_", "torchao_to_blocked_offset_"}) {
      CAPTURE(peer, name);
      const std::vector<std::uint32_t> offsets = read_u32(std::string(peer) + name + ".u32");
      REQUIRE(offsets.size() == static_cast<std::size_t>(rows * blocks));
      CHECK(layout::swizzled_128x4::scale_band_bytes(blocks) == stride);
      std::int64_t wrong = 0;
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t b = 0; b < blocks; ++b)
          wrong +=
              layout::swizzled_128x4::scale_offset(r, b, stride) != offsets[static_cast<std::size_t>(r * blocks + b)];
      CHECK(wrong == 0);
    }
}

TEST_CASE("layout: named offsets", "[layout][golden]") {
  struct row {
    std::int64_t code, scale, expected_code, expected_scale;
    const char* why;
  };
  using ct = layout::compressed_tensors;
  using sw = layout::swizzled_128x4;
  using gg = layout::ggml;
  const row rows[] = {
      {ct::code_offset(0, 1, 100), ct::scale_offset(0, 1, 9), 16, 1, "a block is 16 code bytes and one scale byte"},
      {ct::code_offset(3, 2, 100), ct::scale_offset(3, 2, 9), 332, 29, "strides are bytes"},
      {sw::code_offset(3, 2, 100), sw::scale_offset(3, 2, 512), 332, 50, "row r of a tile: 16 r"},
      {sw::code_offset(0, 4, 0), sw::scale_offset(32, 0, 512), 64, 4, "row 32 is beside row 0"},
      {sw::code_offset(0, 5, 0), sw::scale_offset(127, 3, 512), 80, 511, "the last of a tile"},
      {sw::code_offset(0, 0, 0), sw::scale_offset(0, 4, 1024), 0, 512, "block 4 opens a tile"},
      {sw::code_offset(0, 0, 0), sw::scale_offset(128, 0, 1024), 0, 1024, "row 128 opens a band"},
      {gg::code_offset(0, 1, 100), gg::scale_offset(0, 1, 100), 17, 17, "a block is 17 bytes"},
      {gg::code_offset(3, 2, 100), gg::scale_offset(3, 2, 100), 334, 334, "both from their own pointer"},
  };
  for (const row& r : rows) {
    CAPTURE(r.why);
    CHECK(r.code == r.expected_code);
    CHECK(r.scale == r.expected_scale);
  }
}

TEST_CASE("layout: a ggml block is the scale, then elements j and j + 16 in byte j", "[layout][golden]") {
  std::vector<std::uint8_t> codes = {0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE,
                                     0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80};  // the last element is code 8
  std::uint8_t scale = 130;
  std::uint8_t block[17];
  const auto out = make_ggml_view(std::span<std::uint8_t>(block), 1, 32);
  REQUIRE(out);
  REQUIRE(convert(mx_view<>{codes.data(), &scale, 1, 32, 16, 1}, *out).ok());
  const std::uint8_t expected[17] = {130,  0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07,
                                     0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x8F};
  for (int i = 0; i < 17; ++i) CHECK(int{block[i]} == int{expected[i]});
}

TEST_CASE("layout: mlx words hold element i at bits 4 (i % 8)", "[layout][golden]") {
  const std::vector<std::uint8_t> bytes = one_block<layout::mlx>();
  const std::uint32_t expected[4] = {0x76543210u, 0xFEDCBA98u, 0x76543210u, 0xFEDCBA98u};
  for (std::size_t w = 0; w < 4; ++w) {
    const std::uint32_t word = bytes[4 * w] | static_cast<std::uint32_t>(bytes[4 * w + 1]) << 8 |
                               static_cast<std::uint32_t>(bytes[4 * w + 2]) << 16 |
                               static_cast<std::uint32_t>(bytes[4 * w + 3]) << 24;
    CHECK(word == expected[w]);
  }
  CHECK(one_block<layout::gpt_oss>() == bytes);
  CHECK(one_block<layout::swizzled_128x4>() == bytes);
}

TEST_CASE("layout: swizzled padding is byte 0 and nothing outside is written", "[layout][property]") {
  splitmix random(1);
  for (const std::int64_t rows : {1, 31, 32, 33, 127, 128, 129, 200, 257})
    for (std::int64_t blocks = 1; blocks <= 9; ++blocks)
      for (const std::int64_t gap : {0, 5}) {
        CAPTURE(rows, blocks, gap);
        mx_memory<layout::compressed_tensors> in(rows, 32 * blocks);
        in.fill_randomly(random);
        mx_memory<layout::swizzled_128x4> out(rows, 32 * blocks, gap, 1);
        REQUIRE(convert(in.view(), out.view()).ok());
        REQUIRE(out.only_its_own_bytes_were_written());
        std::int64_t wrong = 0;
        for (std::int64_t r = 0; r < rows; ++r)
          for (std::int64_t b = 0; b < blocks; ++b) wrong += out.scale(r, b) != in.scale(r, b);
        REQUIRE(wrong == 0);
      }
}

TEST_CASE("layout: names", "[layout]") {
  CHECK(std::string(layout::compressed_tensors::name) == "compressed_tensors");
  CHECK(std::string(layout::gpt_oss::name) == "gpt_oss");
  CHECK(std::string(layout::mlx::name) == "mlx");
  CHECK(std::string(layout::swizzled_128x4::name) == "swizzled_128x4");
  CHECK(std::string(layout::ggml::name) == "ggml");
}
