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

/// The inputs of a set, as bytes. Those of `selected` are blocks of dev: the first 22 of each category.
std::vector<std::uint8_t> input_of(const std::string& set, const std::string& type) {
  if (set != "selected") return load_bytes(set + "/inputs." + type);
  const auto category = load_bytes("dev/category.u8"), all = load_bytes("dev/inputs." + type);
  const std::size_t bytes = all.size() / category.size();
  int taken[12] = {};
  std::vector<std::uint8_t> input;
  for (std::size_t b = 0; b < category.size(); ++b)
    if (taken[category[b]]++ < 22)
      input.insert(input.end(), all.begin() + static_cast<std::ptrdiff_t>(b * bytes),
                   all.begin() + static_cast<std::ptrdiff_t>((b + 1) * bytes));
  return input;
}

comparison against(const peer& p, const std::string& set, int blocks) {
  const auto input = input_of(set, p.input);
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
  const auto bytes = input_of(set, "f32");
  std::vector<float> all(bytes.size() / 4);
  std::memcpy(all.data(), bytes.data(), bytes.size());
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

TEST_CASE("recipes write the bytes of newer releases", "[recipe][golden]") {
  for (const peer& p : selected_peers) {
    CAPTURE(p.name);
    CHECK(against(p, "selected", selected_blocks) == comparison{p.dev_scales, p.dev_codes, 0, 0, -1});
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
  SECTION("MLX on Metal: the maximum ignores every NaN; NaN is code 7") {
    block expected = filled(125, 0x66);  // 1 under 2^-2 is 4: code 6; -2 is -8 and saturates: code 15
    expected.codes[0] = 0x77;
    expected.codes[1] = 0x6F;
    CHECK(encode<recipe::mlx_metal_0_32_1>(two_nans) == expected);
    CHECK(encode<recipe::mlx_metal_0_32_1>(std::vector<float>(block_size, -nan)) == filled(255, 0x77));
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

TEST_CASE("torchao 0.18.0 differs from later sources as documented", "[recipe][golden]") {
  // its scale is at least 2^-126, so that blocks under byte 0 have the codes of byte 1 and come back as half; RCEIL
  // makes zeros of them. Infinity has byte 253, or 254, and so has what EVEN rounds up to it. RCEIL takes log2 in
  // float, eager.
  using rceil_by_log2 = basic_recipe<scale_modelopt, nearest_even, keep_sign, nonfinite_is_nan_block>;
  const auto blocks = blocks_of("selected");
  REQUIRE(blocks.size() == selected_blocks);
  const auto check = [&]<class R>(const std::string& mode, std::uint8_t infinite, int expected_tiny,
                                  int expected_infinities) {
    const auto scale = load_bytes("selected/torchao_0_18_0_" + mode + "_f32.scale.u8");
    const auto packed = load_bytes("selected/torchao_0_18_0_" + mode + "_f32.packed.u8");
    int tiny = 0, infinities = 0;
    for (std::size_t b = 0; b < blocks.size(); ++b) {
      CAPTURE(mode, b);
      block theirs{e8m0{scale[b]}, {}};
      std::memcpy(theirs.codes, packed.data() + b * block_code_bytes, block_code_bytes);
      block ours = encode<R>(blocks[b]);
      const block_facts facts = facts_of<float>(reinterpret_cast<const std::uint8_t*>(blocks[b].data()));
      if (ours.scale == e8m0::nan) {
        infinities += facts.nans == 0 ? 1 : 0;
        CHECK(theirs.scale == (facts.nans == 0 ? e8m0{infinite} : e8m0::nan));
        continue;
      }
      if (ours.scale == e8m0{0}) {
        ++tiny;
        std::uint32_t bits[block_size];
        std::memcpy(bits, blocks[b].data(), sizeof bits);
        block_codes under = R::encode_under(bits, {1, mode == "rceil"});
        pack_block<low_first>(under.code, ours.codes);
      }
      CHECK(theirs == ours);
    }
    CHECK(tiny == expected_tiny);
    CHECK(infinities == expected_infinities);
  };
  check.operator()<recipe::torchao_floor>("floor", 253, 15, 13);
  check.operator()<recipe::torchao_ceil>("ceil", 253, 14, 13);
  check.operator()<recipe::torchao_even>("even", 253, 15, 19);
  check.operator()<rceil_by_log2>("rceil", 254, 15, 13);
}

TEST_CASE("the newer recipes: named situations", "[recipe][golden]") {
  const auto block_with = [](float first) {
    std::vector<float> x(block_size, 0.0f);
    x[0] = first;
    return x;
  };
  const auto coded = [](std::uint8_t scale, std::uint8_t first) {
    block b = filled(scale, 0);
    b.codes[0] = first;
    return b;
  };
  CHECK(encode<recipe::mlx>(block_with(7.0f)) == coded(128, 5));         // 3.5 is a tie that goes down to 3
  CHECK(encode<recipe::mlx_0_32_1>(block_with(7.0f)) == coded(127, 7));  // saturates
  CHECK(encode<recipe::mlx_metal>(block_with(7.0f)) == coded(128, 6));
  CHECK(encode<recipe::mlx_metal_0_32_1>(block_with(7.0f)) == coded(127, 7));
  CHECK(encode<recipe::mlx>(block_with(0.0f)) == coded(127, 0));
  CHECK(encode<recipe::mlx_0_32_1>(block_with(0.0f)) == coded(127, 0));
  CHECK(encode<recipe::mlx_metal>(block_with(0.0f)) == coded(0, 0));
  CHECK(encode<recipe::mlx>(block_with(0x1p-126f)) == coded(0, 4));  // defined here: 2 under 2^-127
  CHECK(encode<recipe::quark>(block_with(0.0f)) == coded(1, 0));
  CHECK(encode<recipe::quark>(block_with(-0.0f)) == coded(1, 0));
  CHECK(encode<recipe::quark>(block_with(0x1p-126f)) == coded(1, 4));  // 2 under 2^-126: read back as 2^-125
  CHECK(encode<recipe::quark>(block_with(0x1.Cp-125f)) == coded(1, 6));
  CHECK(encode<recipe::quark>(block_with(0x1.Cp127f)) == coded(254, 4));
  CHECK(encode<recipe::auto_round>(block_with(0.0f)) == coded(126, 0));
  CHECK(encode<recipe::auto_round>(block_with(7.0f)) == coded(127, 7));
  CHECK(encode<recipe::nncf>(block_with(0.0f)) == coded(102, 0));
  CHECK(encode<recipe::nncf>(block_with(0x1p-24f)) == coded(102, 4));  // 2 under 2^-25
  CHECK(encode<recipe::nncf>(block_with(detail::float_from_bits(0x7F800000u))) == coded(254, 7));
  for (const float v : {detail::float_from_bits(0x7F800000u), detail::float_from_bits(0x7FC00000u)}) {
    CHECK(encode<recipe::mlx>(block_with(v)) == filled(0xFF, 0));
    CHECK(encode<recipe::mlx_0_32_1>(block_with(v)) == filled(0xFF, 0));
    CHECK(encode<recipe::quark>(block_with(v)) == filled(0xFF, 0));
    CHECK(encode<recipe::auto_round>(block_with(v)) == filled(0xFF, 0));
  }
}
