// tests/float_types.exhaustive.test.cpp -- bf16, f16, e4m3 against tables of values, the nearest searched for.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "mxfp4/core/float_types.hpp"
#include "support/oracle.hpp"
#include "support/print.hpp"
#include "support/sweep.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;

constexpr std::uint64_t infinity = 0x7F800000u;

/// What a format's conversion must be: the nearest value of its table, where the last index means overflow.
struct format {
  const std::vector<double>& values;
  unsigned overflow;  ///< the code beyond the largest value
  unsigned sign;
  unsigned (*convert)(float);
};
unsigned to_bf16(float x) { return static_cast<unsigned>(encode_bf16(x)); }
unsigned to_f16(float x) { return static_cast<unsigned>(encode_f16(x)); }
unsigned to_e4m3(float x) { return static_cast<unsigned>(encode_e4m3(x)); }
unsigned to_e4m3_nan(float x) { return static_cast<unsigned>(encode_e4m3_nan(x)); }

/// Both signs of all magnitudes in [begin, end), each search going on from the last one.
findings converts_right(const format& f, std::uint64_t begin, std::uint64_t end, std::uint64_t stride) {
  return sweep(0, (end - begin + stride - 1) / stride, [&](std::uint64_t from, std::uint64_t to) {
    findings found;
    std::size_t lower = 0;
    for (std::uint64_t i = from; i < to; ++i) {
      const auto bits = static_cast<std::uint32_t>(begin + i * stride);
      const auto magnitude = static_cast<double>(as_float(bits));
      if (i == from) lower = lower_index(f.values, magnitude);
      while (lower + 1 < f.values.size() && f.values[lower + 1] <= magnitude) ++lower;
      const std::size_t nearest = nearest_index(f.values, magnitude, lower);
      const unsigned code = nearest + 1 == f.values.size() ? f.overflow : static_cast<unsigned>(nearest);
      found.expect(f.convert(as_float(bits)) == code && f.convert(as_float(bits | 0x80000000u)) == (code | f.sign),
                   bits);
    }
    return found;
  });
}

const format bf16_format{bf16_values(), 0x7F80, 0x8000, to_bf16};
const format f16_format{f16_values(), 0x7C00, 0x8000, to_f16};
const format e4m3_format{e4m3_values(), 0x7E, 0x80, to_e4m3};
const format e4m3_nan_format{e4m3_values(), 0x7F, 0x80, to_e4m3_nan};
const format* const formats[] = {&bf16_format, &f16_format, &e4m3_format, &e4m3_nan_format};

/// NaN stays a NaN with its sign, quiet, with the top of its payload.
bool nan_is_kept(std::uint64_t i) {
  for (const std::uint32_t sign : {0u, 0x80000000u}) {
    const auto bits = static_cast<std::uint32_t>(i) | sign;
    const float x = as_float(bits);
    if (to_bf16(x) != (sign >> 16 | 0x7FC0u | (bits >> 16 & 0x3Fu))) return false;
    if (to_f16(x) != (sign >> 16 | 0x7E00u | (bits >> 13 & 0x1FFu))) return false;
    if (to_e4m3(x) != (sign >> 24 | 0x7Fu) || to_e4m3_nan(x) != (sign >> 24 | 0x7Fu)) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("every bf16, f16 and e4m3 decodes to its formula's value, and encodes back", "[float_types][exhaustive]") {
  const auto right = [](auto code, double value, unsigned sign) {
    const auto negative = static_cast<decltype(code)>(static_cast<unsigned>(code) | sign);
    const float x = decode(code), y = decode(negative);
    return as_bits(x) == as_bits(static_cast<float>(value)) && as_bits(y) == (as_bits(x) | 0x80000000u) &&
           encode<decltype(code)>(x) == code && encode<decltype(code)>(y) == negative;
  };
  findings found;
  for (unsigned c = 0; c <= 0x7F7F; ++c) found.expect(right(static_cast<bf16>(c), bf16_values()[c], 0x8000u), c);
  for (unsigned c = 0; c <= 0x7BFF; ++c) found.expect(right(static_cast<f16>(c), f16_values()[c], 0x8000u), c);
  for (unsigned c = 0; c <= 0x7E; ++c) found.expect(right(static_cast<e4m3>(c), e4m3_values()[c], 0x80u), c);
  CHECK(found == none);
}

TEST_CASE("infinities and NaN of the small formats decode as such", "[float_types][exhaustive]") {
  CHECK(as_bits(decode(bf16{0x7F80})) == 0x7F800000u);
  CHECK(as_bits(decode(bf16{0xFF80})) == 0xFF800000u);
  CHECK(as_bits(decode(f16{0x7C00})) == 0x7F800000u);
  CHECK(as_bits(decode(f16{0xFC00})) == 0xFF800000u);
  CHECK(as_bits(decode(e4m3{0x7F})) == 0x7FC00000u);
  CHECK(as_bits(decode(e4m3{0xFF})) == 0xFFC00000u);
  findings found;
  for (unsigned payload = 1; payload < 0x80; ++payload) {
    found.expect(as_bits(decode(static_cast<bf16>(0x7F80u | payload))) == (0x7F800000u | payload << 16), payload);
    found.expect(as_bits(decode(static_cast<bf16>(0xFF80u | payload))) == (0xFF800000u | payload << 16), payload);
  }
  for (unsigned payload = 1; payload < 0x400; ++payload) {
    found.expect(as_bits(decode(static_cast<f16>(0x7C00u | payload))) == (0x7F800000u | payload << 13), payload);
    found.expect(as_bits(decode(static_cast<f16>(0xFC00u | payload))) == (0xFF800000u | payload << 13), payload);
  }
  CHECK(found == none);
}

TEST_CASE("float to bf16, f16, e4m3: nearest even near every value and midpoint, and across the range",
          "[float_types][exhaustive]") {
  for (const format* f : formats) {
    findings found;
    for (std::size_t i = 1; i<f->values.size(); i += f->values.size()> 1000 ? 37u : 1u) {
      for (const double at : {f->values[i], (f->values[i] + f->values[i - 1]) / 2}) {
        const std::uint64_t bits = as_bits(static_cast<float>(at < 0x1p128 ? at : 0x1.FFFFFEp127));
        const findings here = converts_right(*f, bits < 3 ? 0 : bits - 3, bits + 4 > infinity ? infinity : bits + 4, 1);
        found.expect(here == none, here.first);
      }
    }
    CAPTURE(f->overflow);
    CHECK(found == none);
    CHECK(converts_right(*f, 0, infinity + 1, 1021) == none);
    CHECK(converts_right(*f, infinity - 100'000, infinity + 1, 1) == none);
  }
  CHECK(sweep_each(infinity + 1, 0x80000000u, nan_is_kept, 251) == none);
}

TEST_CASE("float to bf16, f16, e4m3: all 2^32", "[float_types][exhaustive][.slow]") {
  for (const format* f : formats) {
    CAPTURE(f->overflow);
    CHECK(converts_right(*f, 0, infinity + 1, 1) == none);
  }
  CHECK(sweep_each(infinity + 1, 0x80000000u, nan_is_kept) == none);
}

TEST_CASE("float conversions: named situations", "[float_types][golden]") {
  struct row {
    float in;
    std::uint16_t bf, half;
    std::uint8_t eight, eight_nan;
    const char* why;
  };
  const row rows[] = {
      {1.0f, 0x3F80, 0x3C00, 0x38, 0x38, "1"},
      {-0.0f, 0x8000, 0x8000, 0x80, 0x80, "the sign of zero"},
      {65504.0f, 0x4780, 0x7BFF, 0x7E, 0x7F, "the largest f16"},
      {0x1.FFDFFEp15f, 0x4780, 0x7BFF, 0x7E, 0x7F, "just below the f16 overflow at 65520"},
      {65520.0f, 0x4780, 0x7C00, 0x7E, 0x7F, "a tie that goes to infinity"},
      {448.0f, 0x43E0, 0x5F00, 0x7E, 0x7E, "the largest e4m3"},
      {464.0f, 0x43E8, 0x5F40, 0x7E, 0x7E, "a tie between 448 and what would be 480"},
      {0x1.D00002p8f, 0x43E8, 0x5F40, 0x7E, 0x7F, "just above it"},
      {0x1p-10f, 0x3A80, 0x1400, 0x00, 0x00, "half of the smallest e4m3: even is 0"},
      {0x1.000002p-10f, 0x3A80, 0x1400, 0x01, 0x01, "just above it"},
      {0x1p-25f, 0x3300, 0x0000, 0x00, 0x00, "half of the smallest f16"},
      {0x1.000002p-25f, 0x3300, 0x0001, 0x00, 0x00, "just above it"},
      {0x1p-149f, 0x0000, 0x0000, 0x00, 0x00, "the smallest float"},
      {0x1p-134f, 0x0000, 0x0000, 0x00, 0x00, "half of the smallest bf16"},
      {0x1.8p-134f, 0x0001, 0x0000, 0x00, 0x00, "above it"},
      {0x1.FFFFFEp127f, 0x7F80, 0x7C00, 0x7E, 0x7F, "the largest float overflows bf16"},
      {0x1.FEFFFEp127f, 0x7F7F, 0x7C00, 0x7E, 0x7F, "just below the bf16 overflow"},
  };
  for (const row& r : rows) {
    CAPTURE(r.in, r.why);
    CHECK(to_bf16(r.in) == r.bf);
    CHECK(to_f16(r.in) == r.half);
    CHECK(to_e4m3(r.in) == r.eight);
    CHECK(to_e4m3_nan(r.in) == r.eight_nan);
  }
  CHECK(encode<bf16>(1.5f) == bf16{0x3FC0});
  CHECK(encode<f16>(1.5f) == f16{0x3E00});
  CHECK(encode<e4m3>(1.5f) == e4m3{0x3C});
  CHECK(encode<float>(1.5f) == 1.5f);
}
