// tests/rounding.golden.test.cpp -- number to FP4 code: every rounding situation by name, and CUDA's own tables.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <limits>

#include "mxfp4/format/rounding.hpp"
#include "support/print.hpp"
#include "support/vectors.hpp"

using namespace mxfp4;

namespace {

struct row {
  double in;
  std::uint8_t even, away, toward_zero, truncate;
  const char* why;
};
constexpr row rows[] = {
    {0.0, 0, 0, 0, 0, "zero"},
    {0x1p-1074, 0, 0, 0, 0, "the smallest double"},
    {0x1p-149, 0, 0, 0, 0, "the smallest float"},
    {0x1p-127, 0, 0, 0, 0, "a subnormal float"},
    {0x1.FFFFFEp-3, 0, 0, 0, 0, "one float ulp below midpoint 0|0.5"},
    {0.25, 0, 1, 0, 0, "midpoint 0|0.5: even is 0"},
    {0x1.000002p-2, 1, 1, 1, 0, "one float ulp above it"},
    {0x1.FFFFFEp-2, 1, 1, 1, 0, "one float ulp below 0.5"},
    {0.5, 1, 1, 1, 1, "0.5"},
    {0x1.7FFFFEp-1, 1, 1, 1, 1, "one ulp below midpoint 0.5|1"},
    {0.75, 2, 2, 1, 1, "midpoint 0.5|1: even is 1"},
    {0x1.800002p-1, 2, 2, 2, 1, "one ulp above it"},
    {1.0, 2, 2, 2, 2, "1"},
    {0x1.3FFFFEp0, 2, 2, 2, 2, "one ulp below midpoint 1|1.5"},
    {1.25, 2, 3, 2, 2, "midpoint 1|1.5: even is 1"},
    {0x1.400002p0, 3, 3, 3, 2, "one ulp above it"},
    {1.5, 3, 3, 3, 3, "1.5"},
    {0x1.BFFFFEp0, 3, 3, 3, 3, "one ulp below midpoint 1.5|2"},
    {1.75, 4, 4, 3, 3, "midpoint 1.5|2: even is 2"},
    {0x1.C00002p0, 4, 4, 4, 3, "one ulp above it"},
    {2.0, 4, 4, 4, 4, "2"},
    {0x1.3FFFFEp1, 4, 4, 4, 4, "one ulp below midpoint 2|3"},
    {2.5, 4, 5, 4, 4, "midpoint 2|3: even is 2"},
    {0x1.400002p1, 5, 5, 5, 4, "one ulp above it"},
    {3.0, 5, 5, 5, 5, "3"},
    {0x1.BFFFFEp1, 5, 5, 5, 5, "one ulp below midpoint 3|4"},
    {3.5, 6, 6, 5, 5, "midpoint 3|4: even is 4"},
    {0x1.C00002p1, 6, 6, 6, 5, "one ulp above it"},
    {4.0, 6, 6, 6, 6, "4"},
    {0x1.3FFFFEp2, 6, 6, 6, 6, "one ulp below midpoint 4|6"},
    {5.0, 6, 7, 6, 6, "midpoint 4|6: even is 4"},
    {0x1.400002p2, 7, 7, 7, 6, "one ulp above it"},
    {0x1.7FFFFEp2, 7, 7, 7, 6, "one ulp below 6"},
    {6.0, 7, 7, 7, 7, "6"},
    {6.1, 7, 7, 7, 7, "saturates to 6"},
    {0x1.FFFFFEp127, 7, 7, 7, 7, "the largest float saturates"},
};
/// What only a double can express: the float next to it would be the midpoint itself.
constexpr row double_rows[] = {
    {0.25 - 0x1p-55, 0, 0, 0, 0, "one double ulp below midpoint 0|0.5"},
    {0.25 + 0x1p-54, 1, 1, 1, 0, "one double ulp above it"},
    {0.5 - 0x1p-54, 1, 1, 1, 0, "one double ulp below 0.5"},
    {0.75 - 0x1p-53, 1, 1, 1, 1, "one double ulp below midpoint 0.5|1"},
    {0.75 + 0x1p-53, 2, 2, 2, 1, "one double ulp above it"},
    {1.25 - 0x1p-52, 2, 2, 2, 2, "one double ulp below midpoint 1|1.5"},
    {1.25 + 0x1p-52, 3, 3, 3, 2, "one double ulp above it"},
    {1.75 - 0x1p-52, 3, 3, 3, 3, "one double ulp below midpoint 1.5|2"},
    {1.75 + 0x1p-52, 4, 4, 4, 3, "one double ulp above it"},
    {2.5 - 0x1p-51, 4, 4, 4, 4, "one double ulp below midpoint 2|3"},
    {2.5 + 0x1p-51, 5, 5, 5, 4, "one double ulp above it"},
    {3.5 - 0x1p-51, 5, 5, 5, 5, "one double ulp below midpoint 3|4"},
    {3.5 + 0x1p-51, 6, 6, 6, 5, "one double ulp above it"},
    {5.0 - 0x1p-50, 6, 6, 6, 6, "one double ulp below midpoint 4|6"},
    {5.0 + 0x1p-50, 7, 7, 7, 6, "one double ulp above it"},
    {6.0 - 0x1p-50, 7, 7, 7, 6, "one double ulp below 6"},
    {0x1p1023, 7, 7, 7, 7, "far beyond float"},
    {std::numeric_limits<double>::infinity(), 7, 7, 7, 7, "infinity saturates"},
    {std::numeric_limits<double>::quiet_NaN(), 7, 7, 7, 7, "NaN counts as above infinity"},
};

template <class T>
void check(T in, const row& r) {
  CAPTURE(r.in, r.why);
  CHECK(encode_e2m1<nearest_even>(in) == e2m1{r.even});
  CHECK(encode_e2m1<nearest_away>(in) == e2m1{r.away});
  CHECK(encode_e2m1<nearest_toward_zero>(in) == e2m1{r.toward_zero});
  CHECK(encode_e2m1<nearest_finite>(in) == e2m1{r.toward_zero});
  CHECK(encode_e2m1<toward_zero>(in) == e2m1{r.truncate});
  const T negative = -in;
  CHECK(encode_e2m1<nearest_even>(negative) == static_cast<e2m1>(r.even | 8));
  CHECK(encode_e2m1<nearest_away>(negative) == static_cast<e2m1>(r.away | 8));
  CHECK(encode_e2m1<nearest_toward_zero>(negative) == static_cast<e2m1>(r.toward_zero | 8));
  CHECK(encode_e2m1<nearest_finite>(negative) == static_cast<e2m1>(r.toward_zero | 8));
  CHECK(encode_e2m1<toward_zero>(negative) == static_cast<e2m1>(r.truncate | 8));
}

}  // namespace

TEST_CASE("e2m1 encode: named rounding situations", "[rounding][golden]") {
  for (const row& r : rows) {
    check(static_cast<float>(r.in), r);
    check(r.in, r);
  }
}

TEST_CASE("e2m1 encode: situations between two floats", "[rounding][golden]") {
  for (const row& r : double_rows) check(r.in, r);
}

TEST_CASE("e2m1 encode: infinity and NaN saturate with their sign", "[rounding][golden]") {
  const float inf = std::numeric_limits<float>::infinity();
  CHECK(encode_e2m1(inf) == e2m1{7});
  CHECK(encode_e2m1(-inf) == e2m1{15});
  CHECK(encode_e2m1(f16{0x7C00}) == e2m1{7});
  CHECK(encode_e2m1(bf16{0xFF80}) == e2m1{15});
  CHECK(encode_e2m1(detail::float_from_bits(0x7F800001u)) == e2m1{7});
  CHECK(encode_e2m1(detail::float_from_bits(0xFFC00000u)) == e2m1{15});
  CHECK(encode_e2m1(e4m3{0xFF}) == e2m1{15});
}

TEST_CASE("the quarter defect is one value", "[rounding][golden]") {
  using defect = with_quarter_defect<nearest_even>;
  CHECK(encode_e2m1<defect>(0x1.FFFFFCp-3f) == e2m1{0});
  CHECK(encode_e2m1<defect>(0x1.FFFFFEp-3f) == e2m1{1});
  CHECK(encode_e2m1<defect>(-0x1.FFFFFEp-3f) == e2m1{9});
  CHECK(encode_e2m1<defect>(0.25f) == e2m1{0});
  CHECK(encode_e2m1<with_quarter_defect<nearest_away>>(0.25f) == e2m1{1});
  CHECK(encode_e2m1<with_quarter_defect<nearest_away>>(0x1.FFFFFEp-3f) == e2m1{1});
}

TEST_CASE("e2m1 encode of every bf16 and f16 is CUDA's", "[rounding][golden][exhaustive]") {
  const auto from_bf16 = test::load_bytes("exhaustive/bf16_to_fp4_rn_cuda.u8");
  const auto from_half = test::load_bytes("exhaustive/half_to_fp4_rn_cuda.u8");
  REQUIRE(from_bf16.size() == 65536);
  REQUIRE(from_half.size() == 65536);
  int wrong = 0;
  for (std::size_t i = 0; i < 65536; ++i) {
    const bool bf16_nan = (i & 0x7FFFu) > 0x7F80u, half_nan = (i & 0x7FFFu) > 0x7C00u;
    // CUDA drops the sign of NaN, ours keeps it
    const auto expect = [&](bool nan, std::uint8_t peer) {
      return nan ? static_cast<e2m1>(i >> 15 != 0 ? 15 : 7) : e2m1{peer};
    };
    wrong += encode_e2m1(static_cast<bf16>(i)) != expect(bf16_nan, from_bf16[i]) ? 1 : 0;
    wrong += encode_e2m1(static_cast<f16>(i)) != expect(half_nan, from_half[i]) ? 1 : 0;
    wrong += bf16_nan && from_bf16[i] != 7 ? 1 : 0;
    wrong += half_nan && from_half[i] != 7 ? 1 : 0;
  }
  CHECK(wrong == 0);
}

TEST_CASE("the quarter defect needs all 24 bits: it is there from scale byte 4 on", "[rounding][golden]") {
  using defect = with_quarter_defect<nearest_even>;
  const auto code = [](std::uint8_t byte, std::uint32_t bits) {
    return encode_bits<keep_sign>(bits, make_boundaries<defect, keep_sign>(e8m0{byte}));
  };
  CHECK(code(4, 0x00FFFFFFu) == e2m1{1});  // 2^-125 less one ulp
  CHECK(code(4, 0x01000000u) == e2m1{0});
  CHECK(code(4, 0x00FFFFFEu) == e2m1{0});
  CHECK(code(3, 0x007FFFFFu) == e2m1{0});  // 2^-126 less one ulp is subnormal: 23 bits
  CHECK(code(5, 0x017FFFFFu) == e2m1{1});
}
