// tests/fuzz/encode_decode.cpp -- any 32 numbers, any recipe, against a second implementation in double.
// SPDX-License-Identifier: Apache-2.0
//
// Input: one byte that picks the type and the recipe, then 32 elements. A trap is a bug.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../support/oracle.hpp"
#include "mxfp4/mxfp4.hpp"

namespace {

using namespace mxfp4;

void require(bool holds) {
  if (!holds) __builtin_trap();
}

double value_of(e2m1 code) { return test::weight(static_cast<unsigned>(code), 127); }

/// Distance from v to the nearest FP4 value: what every nearest rounding must reach.
double least_distance(double v) {
  double least = std::fabs(v);
  for (unsigned c = 1; c < 16; ++c) least = std::fmin(least, std::fabs(v - value_of(static_cast<e2m1>(c))));
  return least;
}

bool same_value(float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); }

template <class Recipe, class T>
void check_block(const T (&x)[block_size]) {
  const block b = encode_block<Recipe>(x);
  bool finite = true;
  float amax = 0.0f;
  for (const T v : x) {
    finite = finite && std::isfinite(decode(v));
    amax = std::fmax(amax, std::fabs(decode(v)));
  }

  // decode: each dialect against ldexp
  for (int i = 0; i < block_size; ++i) {
    const e2m1 code = get_code<low_first>(b.codes, i);
    const double exact = std::ldexp(value_of(code), static_cast<int>(b.scale) - 127);
    if (b.scale == e8m0::nan) require(std::isnan(decode_weight(code, b.scale)));
    else require(same_value(decode_weight(code, b.scale), static_cast<float>(exact)));
    require(same_value(decode_weight<float, dialect::ggml>(code, b.scale), static_cast<float>(exact)));
    require(same_value(decode_weight<float, dialect::gpt_oss>(code, b.scale), static_cast<float>(exact)));
    require(b.scale == e8m0{0}
                ? decode_weight<float, dialect::openvino>(code, b.scale) == 0.0f
                : same_value(decode_weight<float, dialect::openvino>(code, b.scale), decode_weight(code, b.scale)) ||
                      b.scale == e8m0::nan);
    if (value_of(code) != 0)
      require(decode(decode_weight<bf16, dialect::inf_at_255>(code, b.scale)) ==
              (b.scale == e8m0::nan ? std::copysign(INFINITY, static_cast<float>(exact)) : static_cast<float>(exact)));
  }
  if (!finite || b.scale == e8m0::nan) return;

  // every element is as near as its scale allows, unless the recipe lost the block
  bool lost = amax > 0;
  for (const std::uint8_t byte : b.codes) lost = lost && (byte & 0x77) == 0;
  for (int i = 0; i < block_size && !lost; ++i) {
    const double v = std::ldexp(static_cast<double>(decode(x[i])), 127 - static_cast<int>(b.scale));
    const double distance = std::fabs(v - value_of(get_code<low_first>(b.codes, i)));
    const bool stray = std::fabs(v) == 0.25 - 0x1p-26;                 // microxcaling's Python
    const bool overflow = b.scale >= e8m0{253} && std::fabs(v) > 3.5;  // ggml stops at the largest finite product
    const bool halved = std::same_as<Recipe, recipe::quark> && b.scale == e8m0{1};  // its codes are those of byte 0
    require(distance == least_distance(v) || stray || overflow || halved);
  }

  // the scale of the standard's rule, from the exponent that the C library sees
  if constexpr (std::same_as<Recipe, recipe::ocp>) {
    const int expected = amax > 0 ? std::ilogb(amax) - 2 + 127 : 0;
    require(static_cast<int>(b.scale) == (expected < 0 ? 0 : expected));
  }

  // stochastic rounding takes one of the two neighbours
  if constexpr (std::same_as<Recipe, recipe::torchao_rceil>) {
    std::uint32_t random[block_size];
    for (std::uint32_t i = 0; i < block_size; ++i) random[i] = i * 0x9E3779B9u ^ b.codes[i / 2];
    const block s = encode_block_stochastic<Recipe>(x, random);
    require(s.scale == b.scale);
    for (int i = 0; i < block_size; ++i) {
      const double v = std::ldexp(static_cast<double>(decode(x[i])), 127 - static_cast<int>(s.scale));
      const double distance = std::fabs(v - value_of(get_code<low_first>(s.codes, i)));
      const double gap = std::fabs(v) < 2 ? 0.5 : std::fabs(v) < 4 ? 1 : 2;
      require(least_distance(v) == 0 ? distance == 0 : distance <= gap);
    }
  }

  // there and back through every layout
  std::uint8_t ggml_block[block_bytes], codes[block_code_bytes], scale[1], tile[512];
  std::uint8_t again[block_code_bytes], scale_byte[1] = {static_cast<std::uint8_t>(b.scale)};
  const const_mx_view<> in{b.codes, scale_byte, 1, block_size, block_code_bytes, 1};
  const mx_view<layout::ggml> as_ggml{ggml_block + 1, ggml_block, 1, block_size, block_bytes, block_bytes};
  const mx_view<layout::swizzled_128x4> swizzled{codes, tile, 1, block_size, block_code_bytes, 512};
  const mx_view<> back{again, scale, 1, block_size, block_code_bytes, 1};
  require(convert(in, as_ggml).ok() && convert(as_ggml, swizzled).ok() && convert(swizzled, back).ok());
  require(std::memcmp(again, b.codes, sizeof again) == 0 && scale[0] == scale_byte[0]);
}

template <class T>
void check_input(recipe_id id, const std::uint8_t* data, std::size_t size) {
  if (size < sizeof(T) * block_size) return;
  T x[block_size];
  std::memcpy(x, data, sizeof x);
  visit_recipe(id, [&]<class R>() { check_block<R>(x); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const auto id = static_cast<recipe_id>(data[0] % recipe_count);
  switch (data[0] / recipe_count % 4) {
    case 0:
      check_input<float>(id, data + 1, size - 1);
      break;
    case 1:
      check_input<bf16>(id, data + 1, size - 1);
      break;
    case 2:
      check_input<f16>(id, data + 1, size - 1);
      break;
    default:
      check_input<e4m3>(id, data + 1, size - 1);
      break;
  }
  return 0;
}
