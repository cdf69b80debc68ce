// tests/scale_rule.exhaustive.test.cpp -- each scale rule against its peer's own formula, written out with its
// divisions and logarithms.
//
// SPDX-License-Identifier: Apache-2.0
//
// Where a peer takes log2 in float the expectation comes from the recorded tables of a real log2f (tests/vectors),
// never from this machine's. The tables have one entry per binade of normal floats; at the two ends that they leave out
// (2^128, and subnormal quotients) the logarithm is taken in double and rounded to float, which is the same wherever
// log2f is within half an ulp, and no float comes near enough to a boundary there for the difference to matter.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "mxfp4/format/scale_rule.hpp"
#include "support/oracle.hpp"
#include "support/sweep.hpp"
#include "support/vectors.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;

constexpr std::uint64_t infinity = 0x7F800000u;

struct expected {
  int byte;
  bool flush = false;
};
int exponent_field(float x) { return static_cast<int>(as_bits(x) >> 23 & 0xFFu); }
std::uint32_t mantissa(float x) { return as_bits(x) & 0x7FFFFFu; }
int at_least_0(int byte) { return std::max(byte, 0); }

// ---- log2 as the recorded log2f has it ------------------------------------------------------------------------------

const std::vector<std::int32_t>& ulps_below() {
  static const auto table = load<std::int32_t>("exhaustive/log2f_floor_ulps_below_pow2.i32");
  return table;
}
const std::vector<std::int32_t>& ulps_above() {
  static const auto table = load<std::int32_t>("exhaustive/log2f_ceil_ulps_above_pow2.i32");
  return table;
}
const std::vector<std::uint32_t>& half_way_bits() {
  static const auto table = load<std::uint32_t>("exhaustive/log2f_round_half_threshold_bits.u32");
  return table;
}
float log2_by_double(float x) { return static_cast<float>(std::log2(static_cast<double>(x))); }

int floor_log2f(float x) {
  const int e = exponent_field(x);
  if (e == 0 || e == 254) return static_cast<int>(std::floor(log2_by_double(x)));
  const auto to_next_power = static_cast<std::int32_t>(0x800000u - mantissa(x));
  return e - 127 + (to_next_power <= ulps_below()[static_cast<std::size_t>(e)] ? 1 : 0);
}
int ceil_log2f(float x) {
  const int e = exponent_field(x);
  if (e == 0) return static_cast<int>(std::ceil(log2_by_double(x)));
  return e - 127 + (static_cast<std::int32_t>(mantissa(x)) > ulps_above()[static_cast<std::size_t>(e - 1)] ? 1 : 0);
}
int round_log2f(float x) {
  const int e = exponent_field(x);
  if (e == 0) return static_cast<int>(std::round(log2_by_double(x)));
  return e - 127 + (as_bits(x) >= half_way_bits()[static_cast<std::size_t>(e - 1)] ? 1 : 0);
}

// ---- the peers' formulas --------------------------------------------------------------------------------------------

expected floor_formula(float a) { return {a == 0 ? 0 : at_least_0(std::ilogb(static_cast<double>(a)) - 2 + 127)}; }
expected ceil_formula(float a) {
  if (a == 0) return {0};
  int exponent = 0;
  const double fraction = std::frexp(static_cast<double>(a), &exponent);  // [0.5, 1)
  return {at_least_0((fraction == 0.5 ? exponent - 1 : exponent) - 2 + 127)};
}
expected even_formula(float a) {
  const std::uint32_t rounded = (as_bits(a) + 0x200000u) & 0xFF800000u;
  return {rounded == 0x7F800000u ? 255 : at_least_0(static_cast<int>(rounded >> 23) - 2)};
}
expected compressed_tensors_formula(float a) {
  const expected even = even_formula(a);
  return even.byte == 255 ? expected{127, true} : even;
}
int round_up_to_byte(float quotient) {  // what cvt.rp.e8m0 does
  const int e = exponent_field(quotient);
  return e + (e == 0 ? mantissa(quotient) > 0x400000u : mantissa(quotient) != 0 ? 1 : 0);
}
expected rceil_formula(float a) { return {round_up_to_byte(a / 6.0f)}; }
expected rceil_by_reciprocal_formula(float a) { return {round_up_to_byte(a * (1.0f / 6.0f))}; }
expected triton_up_formula(float a) {
  const auto byte = static_cast<int>((as_bits(a / 6.0f) + 0x7FFFFFu) >> 23 & 0xFFu);
  return {byte, byte == 0};
}
expected triton_down_formula(float a) {
  const int byte = exponent_field(a / 4.0f);
  return {byte, byte == 0};
}
expected floor_log2_formula(float a) { return {a == 0 ? 0 : at_least_0(floor_log2f(a) - 2 + 127)}; }
expected ggml_formula(float a) {
  const int byte = a == 0 ? -1 : floor_log2f(a) - 2 + 127;
  return {at_least_0(byte), byte < 0};
}
expected modelopt_formula(float a) {
  const float quotient = a / 6.0f;
  return {quotient == 0 ? 0 : std::max(ceil_log2f(quotient), -127) + 127};
}
/// In the type of the tensor, of which `a` is a number; T's numbers are found by encode<T>, which is tested by itself.
template <class T>
expected mlx_formula(float a) {
  const float quotient = decode(encode<T>(a / 6.0f));  // as for T's division: 24 bits are enough for two roundings
  if (quotient == 0) return {127, true};
  int exponent = 0;
  const double fraction = std::frexp(static_cast<double>(quotient), &exponent);  // [0.5, 1)
  return {at_least_0((fraction == 0.5 ? exponent - 1 : exponent) + 127)};
}
const std::vector<std::uint32_t>& mlx_0_32_1_bits() {  // of exponent fields 4 to 254
  static const auto table = load<std::uint32_t>("exhaustive/mlx_0_32_1_threshold_bits.u32");
  return table;
}
expected mlx_0_32_1_formula(float a) {
  const int e = exponent_field(a);
  if (a / 6.0f == 0) return {127, true};
  if (e < 4) return {at_least_0(static_cast<int>(std::nearbyint(log2_by_double(a / 6.0f))) + 127)};
  return {e - 3 + (as_bits(a) >= mlx_0_32_1_bits()[static_cast<std::size_t>(e - 4)] ? 1 : 0)};
}
expected nncf_formula(float a) { return rceil_formula(std::max(a, 0x1p-23f)); }
expected auto_round_formula(float a) { return a == 0 ? expected{126} : floor_log2_formula(a); }
expected quark_formula(float a) {
  const expected even = even_formula(a);
  return {even.byte == 255 ? 254 : std::max(even.byte, 1)};
}
expected mlx_metal_0_32_1_formula(float a) {
  const float quotient = a / 6.0f;
  return {quotient == 0 ? 0 : std::clamp(round_log2f(quotient), -127, 127) + 127};
}

template <class Rule, expected (*Formula)(float)>
bool rule_right(std::uint64_t i) {
  const float amax = as_float(static_cast<std::uint32_t>(i));
  const scale_outcome ours = choose_scale<Rule>(amax);
  const expected theirs = Formula(amax);
  return ours.byte == theirs.byte && ours.flush == theirs.flush;
}

struct checked_rule {
  const char* name;
  bool (*right)(std::uint64_t);
};
const checked_rule rules[] = {
    {"floor", rule_right<scale_floor, floor_formula>},
    {"ceil", rule_right<scale_ceil, ceil_formula>},
    {"even", rule_right<scale_even, even_formula>},
    {"rceil", rule_right<scale_rceil, rceil_formula>},
    {"rceil, times fl(1/6)", rule_right<scale_rceil, rceil_by_reciprocal_formula>},
    {"compressed_tensors", rule_right<scale_compressed_tensors<float>, compressed_tensors_formula>},
    {"compressed_tensors bf16", rule_right<scale_compressed_tensors<bf16>, compressed_tensors_formula>},
    {"floor_log2", rule_right<scale_floor_log2, floor_log2_formula>},
    {"ggml", rule_right<scale_ggml, ggml_formula>},
    {"modelopt", rule_right<scale_modelopt, modelopt_formula>},
    {"mlx", rule_right<scale_mlx<float>, mlx_formula<float>>},
    {"mlx_0_32_1", rule_right<scale_mlx_0_32_1, mlx_0_32_1_formula>},
    {"mlx_metal_0_32_1", rule_right<scale_mlx_metal_0_32_1, mlx_metal_0_32_1_formula>},
    {"quark", rule_right<scale_quark, quark_formula>},
    {"auto_round", rule_right<scale_auto_round, auto_round_formula>},
    {"nncf", rule_right<scale_nncf, nncf_formula>},
    {"triton_up", rule_right<scale_triton_up, triton_up_formula>},
    {"triton_down", rule_right<scale_triton_down, triton_down_formula>},
};

}  // namespace

TEST_CASE("scale rules: near every threshold of every binade, and across the range", "[scale_rule][exhaustive]") {
  for (const checked_rule& rule : rules) {
    CAPTURE(rule.name);
    findings found;
    for (std::uint64_t e = 0; e < 255; ++e)
      // powers of two, 6 sqrt 2, 1.5, 1.75; by 160 ulps, which is more than three times the widest table entry
      for (const std::uint64_t at : {0x000000u, 0x07C3B8u, 0x400000u, 0x600000u, 0x800000u}) {
        const std::uint64_t centre = (e << 23) + at;
        for (std::uint64_t i = centre < 160 ? 0 : centre - 160; i <= centre + 160 && i < infinity; ++i)
          found.expect(rule.right(i), i);
      }
    CHECK(found == none);
    CHECK(sweep_each(0, infinity, rule.right, 1021) == none);
    CHECK(sweep_each(0, std::uint64_t{5} << 23, rule.right, 7) == none);  // where quotients are subnormal
  }
}

TEST_CASE("scale rules: all 2^31 magnitudes", "[scale_rule][exhaustive][.slow]") {
  for (const checked_rule& rule : rules) {
    CAPTURE(rule.name);
    CHECK(sweep_each(0, infinity, rule.right) == none);
  }
}

TEST_CASE("compressed_tensors in f16: every finite f16 magnitude", "[scale_rule][exhaustive]") {
  findings found;
  for (unsigned code = 0; code <= 0x7BFF; ++code) {
    const unsigned power = (code + 0x100u) & 0x7C00u;  // the power of two in f16: 0 and infinity are possible
    expected theirs{127};                              // of 0 the peer makes 1
    if (power == 0x7C00u) theirs = {127, true};
    else if (power != 0) theirs = {static_cast<int>(power >> 10) - 15 - 2 + 127};
    const scale_outcome ours = choose_scale<scale_compressed_tensors<f16>>(decode(static_cast<f16>(code)));
    found.expect(ours.byte == theirs.byte && ours.flush == theirs.flush, code);
  }
  CHECK(found == none);
}

TEST_CASE("mlx in bf16 and f16: every finite magnitude", "[scale_rule][exhaustive]") {
  findings found;
  for (unsigned code = 0; code <= 0x7F7F; ++code) {
    const float a = decode(static_cast<bf16>(code));
    const scale_outcome ours = choose_scale<scale_mlx<bf16>>(a);
    const expected theirs = mlx_formula<bf16>(a);
    found.expect(ours.byte == theirs.byte && ours.flush == theirs.flush, code);
  }
  for (unsigned code = 0; code <= 0x7BFF; ++code) {
    const float a = decode(static_cast<f16>(code));
    const scale_outcome ours = choose_scale<scale_mlx<f16>>(a);
    const expected theirs = mlx_formula<f16>(a);
    found.expect(ours.byte == theirs.byte && ours.flush == theirs.flush, 0x10000u + code);
  }
  CHECK(found == none);
}

TEST_CASE("scale rules: named situations", "[scale_rule][golden]") {
  struct row {
    float amax;
    int floor, ceil, even, rceil, floor_log2, modelopt, mlx, triton_up, triton_down;
    const char* why;
  };
  const row rows[] = {
      {4.0f, 127, 127, 127, 127, 127, 127, 126, 127, 127, "a power of two"},
      {0x1.000002p2f, 127, 128, 127, 127, 127, 127, 126, 127, 127, "one ulp above: ceil goes up"},
      {6.0f, 127, 128, 127, 127, 127, 127, 127, 127, 127, "6: nothing is lost"},
      {0x1.800002p2f, 127, 128, 127, 128, 127, 128, 127, 128, 127, "one ulp above: rceil goes up"},
      {0x1.BFFFFEp2f, 127, 128, 127, 128, 127, 128, 127, 128, 127, "one ulp below 7"},
      {7.0f, 127, 128, 128, 128, 127, 128, 127, 128, 127, "7: even goes up"},
      {0x1.FFFFFEp2f, 127, 128, 128, 128, 128, 128, 127, 128, 127, "one ulp below 8: its log2f is 3"},
      {8.0f, 128, 128, 128, 128, 128, 128, 127, 128, 128, "8"},
      {8.4f, 128, 129, 128, 128, 128, 128, 127, 128, 128, "below 6 sqrt 2"},
      {8.5f, 128, 129, 128, 128, 128, 128, 128, 128, 128, "above 6 sqrt 2: the old mlx goes up"},
      {0x1.8p127f, 252, 253, 252, 252, 252, 252, 252, 252, 252, "1.5 * 2^127"},
      {0x1.Cp127f, 252, 253, 255, 253, 252, 253, 252, 253, 252, "1.75 * 2^127: even makes a NaN block"},
      {0x1.FFFFFEp127f, 252, 253, 255, 253, 253, 253, 252, 253, 252, "the largest float"},
      {0x1p-124f, 1, 1, 1, 1, 1, 1, 0, 1, 1, "2^-124"},
      {0x1p-125f, 0, 0, 0, 0, 0, 0, 0, 1, 0, "2^-125: byte 0"},
      {0x1.8p-125f, 0, 1, 0, 0, 0, 0, 0, 1, 0, "6 * 2^-127"},
      {0x1p-149f, 0, 0, 0, 0, 0, 0, 0, 0, 0, "the smallest float"},
      {0.0f, 0, 0, 0, 0, 0, 0, 0, 0, 0, "zero"},
  };
  for (const row& r : rows) {
    CAPTURE(r.amax, r.why);
    CHECK(choose_scale<scale_floor>(r.amax).byte == r.floor);
    CHECK(choose_scale<scale_ceil>(r.amax).byte == r.ceil);
    CHECK(choose_scale<scale_even>(r.amax).byte == r.even);
    CHECK(choose_scale<scale_rceil>(r.amax).byte == r.rceil);
    CHECK(choose_scale<scale_floor_log2>(r.amax).byte == r.floor_log2);
    CHECK(choose_scale<scale_modelopt>(r.amax).byte == r.modelopt);
    CHECK(choose_scale<scale_mlx_metal_0_32_1>(r.amax).byte == r.mlx);
    CHECK(choose_scale<scale_triton_up>(r.amax).byte == r.triton_up);
    CHECK(choose_scale<scale_triton_down>(r.amax).byte == r.triton_down);
  }
}
