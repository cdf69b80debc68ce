// tests/exact_fp8.property.test.cpp -- MXFP4 as block FP8: accepted exactly where some scale holds every weight.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <set>
#include <vector>

#include "checkpoint/exact_fp8.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::checkpoint;

double weight(int code, int scale) { return test::weight(static_cast<unsigned>(code), scale); }

const std::set<double>& all_numbers() {
  static const std::set<double> numbers = [] {
    std::set<double> found;
    for (unsigned byte = 0; byte < 256; ++byte)
      if ((byte & 127) != 127) found.insert(test::e4m3_number(byte));
    return found;
  }();
  return numbers;
}

/// Is there a power of two under which e4m3 holds both? By trying them all.
bool some_scale_holds(double a, double b) {
  for (int k = -170; k <= 150; ++k)
    if (all_numbers().contains(std::ldexp(a, -k)) && all_numbers().contains(std::ldexp(b, -k))) return true;
  return false;
}

struct encoded {
  std::int64_t bad = 0;
  std::vector<e4m3> fp8;
  std::vector<float> scales;
  exponent_span why;

  double at(std::int64_t i, std::int64_t cols) const {
    const std::int64_t tile = i % cols / 128;
    return test::e4m3_number(static_cast<unsigned>(fp8[static_cast<std::size_t>(i)])) *
           double{scales[static_cast<std::size_t>(tile)]};
  }
};

encoded encode(const std::vector<std::uint8_t>& codes, const std::vector<std::uint8_t>& scales, std::int64_t rows,
               std::int64_t cols) {
  encoded e;
  e.fp8.resize(static_cast<std::size_t>(rows * cols));
  e.scales.resize(static_cast<std::size_t>((cols + 127) / 128));
  e.bad = encode_exact_fp8(codes, scales, rows, cols, e.fp8, e.scales, e.why);
  return e;
}

bool same(double a, double b) { return a == b && std::signbit(a) == std::signbit(b); }

}  // namespace

TEST_CASE("exact fp8: two weights at any distance", "[fp8]") {
  std::int64_t accepted = 0, refused = 0;
  for (const int low : {0, 1, 2, 64, 127, 200, 233, 254})
    for (int distance = 0; distance <= 22 && low + distance <= 254; ++distance)
      for (int a = 1; a < 16; ++a)
        for (const int b : {1, 2, 3, 4, 5, 6, 7}) {
          if (a == 8) continue;
          std::vector<std::uint8_t> codes(32, 0x80);  // the neighbours are +0 and -0
          codes[3] = static_cast<std::uint8_t>(a | 0x80);
          codes[16] = static_cast<std::uint8_t>(b);
          const auto scale_a = static_cast<std::uint8_t>(low), scale_b = static_cast<std::uint8_t>(low + distance);
          const encoded e = encode(codes, {scale_a, scale_b}, 1, 64);
          const double x = weight(a, scale_a), y = weight(b, scale_b);
          CAPTURE(low, distance, a, b);
          const bool fits = some_scale_holds(x, y);
          if ((e.bad == -1) != fits) FAIL("accepted " << (e.bad == -1) << ", possible " << fits);
          (fits ? accepted : refused) += 1;
          if (!fits) continue;
          if (!same(e.at(6, 64), x) || !same(e.at(32, 64), y)) FAIL(e.at(6, 64) << " and " << e.at(32, 64));
          if (!same(e.at(0, 64), 0.0) || !same(e.at(1, 64), -0.0)) FAIL("a zero lost its sign");
          if (e.scales[0] < 0x1p-126f || e.scales[0] > 0x1p127f) FAIL("scale " << e.scales[0]);
        }
  CHECK(accepted > 10'000);
  CHECK(refused > 2'000);
}

TEST_CASE("exact fp8: all 15 octaves of scale bytes, whatever the codes", "[fp8]") {
  test::splitmix random(3);
  std::vector<std::uint8_t> codes(128 * 160 / 2), scales(128 * 160 / 32);
  for (std::uint8_t& c : codes) c = random.byte();
  for (std::size_t i = 0; i < scales.size(); ++i)
    scales[i] =
        static_cast<std::uint8_t>(i % 5 < 4 ? random.in(100, 114) : random.in(10, 24));  // two blocks of columns
  const encoded e = encode(codes, scales, 128, 160);
  REQUIRE(e.bad == -1);
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < 128 * 160; ++i) {
    const int pair = codes[static_cast<std::size_t>(i / 2)], code = i % 2 == 0 ? pair & 15 : pair >> 4;
    wrong += !same(e.at(i, 160), weight(code, scales[static_cast<std::size_t>(i / 32)]));
  }
  CHECK(wrong == 0);
}

TEST_CASE("exact fp8: what does not fit is named", "[fp8]") {
  // 0.5 everywhere: 2^-1 down to 2^-18 is what e4m3 just holds (a converter that goes by scale bytes rounds it to 0).
  const std::vector<std::uint8_t> halves(128 * 256 / 2, 0x11);
  std::vector<std::uint8_t> scales(128 * 256 / 32, 127);
  scales[7 * 8 + 5] = 110;
  CHECK(encode(halves, scales, 128, 256).bad == -1);
  scales[7 * 8 + 5] = 109;
  const encoded e = encode(halves, scales, 128, 256);
  CHECK(e.bad == 1);
  CHECK(e.why.top == -1);
  CHECK(e.why.bottom == -19);
  CHECK_FALSE(e.why.nan);
  scales[7 * 8 + 5] = 255;
  CHECK(encode(halves, scales, 128, 256).bad == 1);
  CHECK(encode(halves, scales, 128, 256).why.nan);
  CHECK(encode(std::vector<std::uint8_t>(16, 0), {255}, 1, 32).bad == 0);  // zeros under NaN are NaN
}

TEST_CASE("exact fp8: zeros ask for nothing", "[fp8]") {
  const std::vector<std::uint8_t> zeros(16 * 4, 0x08);
  const encoded none = encode(zeros, {0, 254, 100, 3}, 1, 128);
  REQUIRE(none.bad == -1);
  CHECK(none.scales[0] == 1.0f);
  CHECK(same(none.at(0, 128), -0.0));
  std::vector<std::uint8_t> one = zeros;
  one[20] = 0x70;  // 6 * 2^0 beside zeros under 2^-127 and 2^127
  const encoded e = encode(one, {0, 127, 254, 0}, 1, 128);
  REQUIRE(e.bad == -1);
  CHECK(same(e.at(41, 128), 6.0));
  CHECK(same(e.at(40, 128), 0.0));
  CHECK(same(e.at(64, 128), -0.0));
}
