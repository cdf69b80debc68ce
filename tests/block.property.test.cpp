// tests/block.property.test.cpp -- compile time equals run time; the overloads agree.
// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <span>
#include <type_traits>

#include "mxfp4/format/block.hpp"
#include "mxfp4/format/peer_cast.hpp"
#include "mxfp4/format/recipe_id.hpp"
#include "support/print.hpp"

namespace {

using namespace mxfp4;

using words = std::array<std::uint32_t, block_size>;
constexpr std::size_t samples = 12;

/// Blocks as bits: ordinary numbers, ties, subnormals, the top of the range, infinity, NaN.
constexpr std::array<words, samples> make_inputs() {
  std::array<words, samples> inputs{};
  constexpr std::uint32_t tops[samples] = {127, 128, 2, 1, 0, 254, 140, 113, 63, 200, 255, 255};
  std::uint32_t state = 1;
  for (std::size_t s = 0; s < samples; ++s)
    for (std::size_t i = 0; i < block_size; ++i) {
      state = state * 1664525u + 1013904223u;
      const std::uint32_t down = state >> 29, top = tops[s];
      std::uint32_t mantissa = s % 2 == 0 ? state & 0x007FFFFFu : state & 0x00700000u;
      std::uint32_t exponent = top > down ? top - down : 0;
      if (exponent == 255) mantissa = s == 10 ? 0 : mantissa;  // one block with infinities, one with NaN too
      inputs[s][i] = (state >> 3 & 0x80000000u) | exponent << 23 | mantissa;
      if (i == 7 && s < 10) inputs[s][i] = 0x80000000u;  // -0
    }
  return inputs;
}
constexpr std::array<words, samples> inputs = make_inputs();

template <class T>
struct typed_block {
  T x[block_size];
};
template <class T>
constexpr typed_block<T> as(const words& bits) {
  typed_block<T> b{};
  for (std::size_t i = 0; i < block_size; ++i) {
    if constexpr (std::is_same_v<T, float>) b.x[i] = detail::float_from_bits(bits[i]);
    else b.x[i] = static_cast<T>(bits[i] >> (32 - 8 * sizeof(T)));  // any pattern will do
  }
  return b;
}

template <class Recipe, class T>
constexpr std::array<block, samples> encode_all(const std::array<words, samples>& in) {
  std::array<block, samples> out{};
  for (std::size_t s = 0; s < samples; ++s) out[s] = encode_block<Recipe>(as<T>(in[s]).x);
  return out;
}

/// The same inputs, hidden from the optimiser.
std::array<words, samples> inputs_at_run_time() {
  std::array<words, samples> in{};
  for (std::size_t s = 0; s < samples; ++s)
    for (std::size_t i = 0; i < block_size; ++i) {
      const volatile std::uint32_t hidden = inputs[s][i];
      in[s][i] = hidden;
    }
  return in;
}

}  // namespace

TEST_CASE("every recipe gives at compile time what it gives at run time", "[block][property]") {
  const auto in = inputs_at_run_time();
  for (int id = 0; id < recipe_count; ++id) {
    CAPTURE(id);
    CHECK(visit_recipe(static_cast<recipe_id>(id), [&]<class R>() {
      static constexpr auto from_f32 = encode_all<R, float>(inputs);
      static constexpr auto from_bf16 = encode_all<R, bf16>(inputs);
      static constexpr auto from_f16 = encode_all<R, f16>(inputs);
      static constexpr auto from_e4m3 = encode_all<R, e4m3>(inputs);
      CHECK(encode_all<R, float>(in) == from_f32);
      CHECK(encode_all<R, bf16>(in) == from_bf16);
      CHECK(encode_all<R, f16>(in) == from_f16);
      CHECK(encode_all<R, e4m3>(in) == from_e4m3);
    }));
  }
}

TEST_CASE("scalars give at compile time what they give at run time", "[block][property]") {
  const auto everything = [](const std::array<words, samples>& in) {
    std::uint64_t sum = 0;
    const auto add = [&](auto value) { sum = sum * 6364136223846793005u + static_cast<std::uint64_t>(value); };
    for (const words& bits : in)
      for (const std::uint32_t b : bits) {
        const float x = detail::float_from_bits(b);
        add(encode_bf16(x)), add(encode_f16(x)), add(encode_e4m3(x)), add(encode_e4m3_nan(x));
        add(encode_e2m1(x)), add(encode_e2m1<toward_zero>(x)), add(encode_e2m1_stochastic(x, b * 77u));
        add(encode_e2m1(detail::bit_cast<double>(std::uint64_t{b} << 32 | b)));
        add(peer_cast::onednn_e2m1(x)), add(peer_cast::mlx_e8m0(x)), add(peer_cast::ml_dtypes_e8m0<true>(x));
        add(detail::float_bits(detail::multiply(x, 0.75f)));
        add(detail::float_bits(decode_weight(static_cast<e2m1>(b & 15u), static_cast<e8m0>(b >> 23 & 255u))));
        add(decode_weight<f16, dialect::ggml>(static_cast<e2m1>(b & 15u), static_cast<e8m0>(b >> 23 & 255u)));
      }
    return sum;
  };
  static constexpr std::uint64_t at_compile_time = everything(inputs);
  CHECK(everything(inputs_at_run_time()) == at_compile_time);
}

TEST_CASE("array, span and C array encode alike; unpacked codes are the packed ones", "[block][property]") {
  for (const words& bits : inputs) {
    const typed_block<float> in = as<float>(bits);
    std::array<float, block_size> array{};
    for (std::size_t i = 0; i < block_size; ++i) array[i] = in.x[i];
    const block expected = encode_block<recipe::torchao_even>(in.x);
    CHECK(encode_block<recipe::torchao_even>(array) == expected);
    CHECK(encode_block<recipe::torchao_even>(std::span<const float, block_size>(array)) == expected);
    auto writable = array;
    CHECK(encode_block<recipe::torchao_even>(std::span<float, block_size>(writable)) == expected);
    CHECK(encode_block<recipe::torchao_even>(std::span(writable)) == expected);
    const block_codes unpacked = encode_block_codes<recipe::torchao_even>(in.x);
    CHECK(unpacked.scale == expected.scale);
    for (int i = 0; i < block_size; ++i) CHECK(unpacked.code[i] == get_code<low_first>(expected.codes, i));
    CHECK(encode_block(in.x) == encode_block<recipe::ocp>(in.x));  // the default
  }
}

TEST_CASE("a block is seventeen bytes", "[block][golden]") {
  STATIC_CHECK(sizeof(block) == 17);
  STATIC_CHECK(alignof(block) == 1);
  STATIC_CHECK(std::is_trivially_copyable_v<block>);
  const float x[block_size]{6.0f, -0.5f, 1.0f, -0.0f};
  CHECK(encode_block(x) == block{e8m0{127}, {0x97, 0x82}});
}
