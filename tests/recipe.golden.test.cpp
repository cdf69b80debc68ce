// tests/recipe.golden.test.cpp -- every recipe against the bytes that its peer wrote: scale and all codes.
// SPDX-License-Identifier: Apache-2.0
//
// The vectors, the programs and commits that made them: tests/vectors/README.md. What is not compared:
// support/peers.hpp.
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "mxfp4/format/block.hpp"
#include "support/peers.hpp"
#include "support/print.hpp"
#include "support/vectors.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;

comparison against(const peer& p, const std::string& set, int blocks) {
  const auto input = load_bytes(set + "/inputs." + p.input);
  const auto scale = load_bytes(set + "/" + p.name + ".scale.u8");
  const auto packed = load_bytes(set + "/" + p.name + ".packed.u8");
  const auto valid = p.has_valid ? load_bytes(set + "/" + p.name + ".valid.u8") : std::vector<std::uint8_t>{};
  REQUIRE(scale.size() == static_cast<std::size_t>(blocks));
  REQUIRE(packed.size() == scale.size() * block_code_bytes);
  REQUIRE(input.size() == scale.size() * block_size * (std::string(p.input) == "f32" ? 4u : 2u));
  REQUIRE((!p.has_valid || valid.size() == scale.size()));
  return p.run({input.data(), scale.data(), packed.data(), p.has_valid ? valid.data() : nullptr, blocks}, p.stable);
}

/// The blocks of a set with 32-bit inputs.
std::vector<std::vector<float>> blocks_of(const std::string& set) {
  const auto all = load<float>(set + "/inputs.f32");
  std::vector<std::vector<float>> blocks;
  for (auto at = all.begin(); at != all.end(); at += block_size) blocks.emplace_back(at, at + block_size);
  return blocks;
}

template <class Recipe>
block encode(const std::vector<float>& x) {
  float copy[block_size];
  std::memcpy(copy, x.data(), sizeof copy);
  return encode_block<Recipe>(copy);
}

block filled(std::uint8_t scale, std::uint8_t codes) {
  block b{e8m0{scale}, {}};
  std::memset(b.codes, codes, sizeof b.codes);
  return b;
}

}  // namespace

TEST_CASE("recipes write the bytes of their peers", "[recipe][golden]") {
  for (const peer& p : peers) {
    CAPTURE(p.name);
    const comparison dev = against(p, "dev", dev_blocks), examples = against(p, "examples", examples_blocks);
    // how much was compared is a literal, so that a skip cannot grow unseen
    CHECK(dev == comparison{p.dev_scales, p.dev_codes, 0, 0, -1});
    CHECK(examples == comparison{p.examples_scales, p.examples_codes, 0, 0, -1});
  }
}

TEST_CASE("ocp is torchao FLOOR on finite blocks, and a NaN block where there is NaN or infinity", "[recipe][golden]") {
  int finite = 0, nonfinite = 0;
  for (const std::string set : {"dev", "examples"}) {
    const auto scale = load_bytes(set + "/torchao_floor_f32.scale.u8");
    const auto packed = load_bytes(set + "/torchao_floor_f32.packed.u8");
    const auto blocks = blocks_of(set);
    for (std::size_t b = 0; b < blocks.size(); ++b) {
      CAPTURE(set, b);
      const block_facts facts = facts_of<float>(reinterpret_cast<const std::uint8_t*>(blocks[b].data()));
      const block ours = encode<recipe::ocp>(blocks[b]);
      if (facts.nans + facts.infinities != 0) {
        ++nonfinite;
        CHECK(ours == filled(0xFF, 0));
        CHECK(encode<recipe::min_mse>(blocks[b]) == filled(0xFF, 0));
        continue;
      }
      ++finite;
      block theirs{e8m0{scale[b]}, {}};
      std::memcpy(theirs.codes, packed.data() + b * block_code_bytes, block_code_bytes);
      if (ours != theirs) CHECK(ours == theirs);
    }
  }
  CHECK(finite == 1918 + 32);
  CHECK(nonfinite == 96 + 3);
}

TEST_CASE("where a peer is undefined the result is the documented one", "[recipe][golden]") {
  const float inf = detail::float_from_bits(0x7F800000u), nan = detail::float_from_bits(0x7FC00000u);
  const auto block_with = [](std::initializer_list<float> first) {
    std::vector<float> x(block_size, 1.0f);
    std::copy(first.begin(), first.end(), x.begin());
    return x;
  };
  const auto one_nan = block_with({nan}), one_inf = block_with({-inf}), two_nans = block_with({nan, -nan, -2.0f});
  const block nan_block = filled(0xFF, 0);

  SECTION("NaN and infinity make a NaN block") {
    for (const auto& x : {one_nan, one_inf, two_nans}) {
      CHECK(encode<recipe::ocp>(x) == nan_block);
      CHECK(encode<recipe::min_mse>(x) == nan_block);
      CHECK(encode<recipe::compressed_tensors>(x) == nan_block);
      CHECK(encode<recipe::modelopt>(x) == nan_block);
      CHECK(encode<recipe::torchao_floor>(x) == nan_block);
      CHECK(encode<recipe::torchao_ceil>(x) == nan_block);
      CHECK(encode<recipe::torchao_even>(x) == nan_block);
      CHECK(encode<recipe::torchao_rceil>(x) == nan_block);
      CHECK(encode<recipe::microxcaling_nearest>(x) == nan_block);
      CHECK(encode<recipe::microxcaling_even>(x) == nan_block);
      CHECK(encode<recipe::microxcaling_py_nearest>(x) == nan_block);
      CHECK(encode<recipe::microxcaling_py_even>(x) == nan_block);
    }
    f16 half[block_size]{f16{0x7C00}};
    CHECK(encode_block<recipe::compressed_tensors>(half) == nan_block);
    bf16 brain[block_size]{bf16{0xFFC1}};
    CHECK(encode_block<recipe::compressed_tensors>(brain) == nan_block);
    e4m3 eight[block_size]{e4m3{0xFF}};
    CHECK(encode_block<recipe::compressed_tensors>(eight) == nan_block);
  }
  SECTION("torchao EVEN turns a finite block into a NaN block from 1.75 * 2^127 on") {
    CHECK(encode<recipe::torchao_even>(block_with({0x1.Cp127f})) == nan_block);
    CHECK(encode<recipe::torchao_even>(block_with({0x1.BFFFFEp127f})).scale == e8m0{252});
  }
  SECTION("ggml: a block below 2^-125 has byte 0 and codes 0") {
    for (const float tiny : {0x1.FFp-126f, 0x1p-126f, 0x1p-127f, 0x1p-149f, 0.0f}) {
      CAPTURE(tiny);
      CHECK(encode<recipe::ggml>(std::vector<float>(block_size, tiny)) == filled(0, 0));
      CHECK(encode<recipe::ggml>(std::vector<float>(block_size, -tiny)) == filled(0, 0));
    }
    // eight ulps below 2^-125 log2f already says -125
    CHECK(encode<recipe::ggml>(std::vector<float>(block_size, 0x1.FFFFFp-126f)) == filled(0, 0x66));
  }
  SECTION("MLX: the maximum ignores every NaN; NaN is code 7") {
    block expected = filled(125, 0x66);  // 1 under 2^-2 is 4: code 6; -2 is -8 and saturates: code 15
    expected.codes[0] = 0x77;
    expected.codes[1] = 0x6F;
    CHECK(encode<recipe::mlx>(two_nans) == expected);
    CHECK(encode<recipe::mlx>(std::vector<float>(block_size, -nan)) == filled(255, 0x77));
  }
  SECTION("triton: infinity is code 15, NaN has its sign; with a NaN ROUND_UP has byte 0, ROUND_DOWN 255") {
    block expected = filled(255, 0);
    expected.codes[0] = 0x8F;  // inf, -1
    CHECK(encode<recipe::triton_up>(block_with({inf, -1.0f})) == expected);
    CHECK(encode<recipe::triton_up>(block_with({-inf, -1.0f})) == expected);
    expected.codes[0] = 0xF7;  // NaN, -NaN
    expected.codes[1] = 0x0F;  // inf
    CHECK(encode<recipe::triton_down>(block_with({nan, -nan, inf})) == expected);
    expected.scale = e8m0{0};
    CHECK(encode<recipe::triton_up>(block_with({nan, -nan, inf})) == expected);
    CHECK(encode<recipe::triton_legacy>(block_with({nan, -nan, inf})) == expected);
  }
}
