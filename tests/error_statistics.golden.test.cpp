// tests/error_statistics.golden.test.cpp -- what is counted as what: blocks written down by hand, with their errors.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <limits>
#include <vector>

#include "mxfp4/reference/error_statistics.hpp"

namespace {

using namespace mxfp4;

constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();

/// Two weights of a block under a code each; the others are 0 under code 0.
struct row {
  float w[2];
  unsigned code[2];
  std::uint8_t scale;
  std::int64_t saturated, zeroed, lost, nonfinite;
  double squared_weights, squared_error, max_error;
  const char* why;
};
constexpr row rows[] = {
    {{1.0f, -0.5f}, {2, 9}, 127, 0, 0, 0, 0, 1.25, 0, 0, "exact"},
    {{2.5f, -0.25f}, {5, 8}, 127, 0, 1, 0, 0, 6.3125, 0.3125, 0.5, "rounded up; -0.25 becomes -0"},
    {{7.0f, -6.0f}, {7, 15}, 127, 1, 0, 0, 0, 85, 1, 1, "6 * scale itself is not cut"},
    {{7.0f, 13.0f}, {7, 7}, 128, 1, 0, 0, 0, 218, 26, 5, "scale 2: 12 is the largest; 7 is not cut"},
    {{7.0f, 1.0f}, {0, 2}, 127, 0, 1, 0, 0, 50, 49, 7, "above 6 * scale and zeroed: counted once"},
    {{0x1p-149f, 0.0f}, {0, 7}, 127, 0, 1, 0, 0, 0x1p-298, 36, 6, "the smallest float is not 0; 0 became 6"},
    {{3.0f, -0.0f}, {8, 0}, 127, 0, 0, 1, 0, 9, 9, 3, "nothing but zeros: lost"},
    {{0.0f, -0.0f}, {8, 0}, 127, 0, 0, 0, 0, 0, 0, 0, "zeros stay zeros"},
    {{1.0f, 2.0f}, {2, 4}, 255, 0, 0, 2, 0, 5, 5, 2, "a NaN block loses all"},
    {{0x1p127f, 0x1p126f}, {4, 1}, 254, 0, 0, 1, 0, 0x1p254 + 0x1p252, 0x1p254, 0x1p127, "2 * 2^127 is infinite"},
    {{inf, 1.0f}, {7, 2}, 127, 0, 0, 0, 1, 1, 0, 0, "infinity is in no sum"},
    {{nan, 7.0f}, {0, 7}, 127, 1, 0, 0, 1, 49, 1, 1, "NaN neither"},
    {{-inf, nan}, {0, 0}, 255, 0, 0, 0, 2, 0, 0, 0, "nor in a NaN block"},
    {{0x1.8p-126f, 0x1p-128f}, {5, 1}, 0, 0, 0, 0, 0, 0x1.2p-251 + 0x1p-256, 0, 0, "scale 2^-127: subnormal, exact"},
};

template <class T>
error_statistics measure(const row& r) {
  std::vector<T> w(block_size, encode<T>(0.0f));
  std::vector<std::uint8_t> codes(block_code_bytes);
  w[4] = encode<T>(r.w[0]);
  w[31] = encode<T>(r.w[1]);
  codes[2] = static_cast<std::uint8_t>(r.code[0]);
  codes[15] = static_cast<std::uint8_t>(r.code[1] << 4);
  std::vector<std::uint8_t> scale{r.scale};
  error_statistics s;
  const auto q = make_view(std::span<const std::uint8_t>(codes), std::span<const std::uint8_t>(scale), 1, block_size);
  REQUIRE(reference::measure_error(*make_dense_view(std::span(w), 1, block_size), *q, s).ok());
  return s;
}

void check(const error_statistics& s, const row& r) {
  CHECK(s.weights == 32);
  CHECK(s.saturated == r.saturated);
  CHECK(s.zeroed == r.zeroed);
  CHECK(s.lost == r.lost);
  CHECK(s.nonfinite == r.nonfinite);
  CHECK(s.nan_blocks == (r.scale == 255 ? 1 : 0));
  CHECK(s.squared_weights == r.squared_weights);
  CHECK(s.squared_error == r.squared_error);
  CHECK(s.max_error == r.max_error);
  for (unsigned i = 0; i < 256; ++i) CHECK(s.scales[i] == (i == r.scale ? 1 : 0));
}

}  // namespace

TEST_CASE("measure_error: what counts as what", "[error_statistics]") {
  for (const row& r : rows) {
    CAPTURE(r.why);
    check(measure<float>(r), r);
    if (decode(encode_bf16(r.w[0])) == r.w[0]) check(measure<bf16>(r), r);
  }
}

TEST_CASE("error_statistics: sums, and the relative error", "[error_statistics]") {
  error_statistics sum;
  CHECK(sum.relative_error() == 0);
  for (const row& r : rows) sum += measure<float>(r);
  CHECK(sum.weights == 14 * 32);
  CHECK((sum.saturated == 3 && sum.zeroed == 3 && sum.lost == 4 && sum.nonfinite == 4 && sum.nan_blocks == 2));
  CHECK((sum.scales[127] == 9 && sum.scales[255] == 2 && sum.scales[0] == 1 && sum.max_error == 0x1p127));
  error_statistics half;
  half.squared_weights = 4;
  half.squared_error = 1;
  CHECK(half.relative_error() == 0.5);
}

TEST_CASE("measure_error: any layout; refused arguments leave the sum alone", "[error_statistics]") {
  const std::vector<float> w(block_size, 3.0f);
  std::vector<std::uint8_t> blocks(17, 0x55);  // code 5 is 3
  blocks[0] = 127;
  error_statistics s;
  const auto q = make_ggml_view(std::span<const std::uint8_t>(blocks), 1, block_size);
  const auto x = make_dense_view(std::span(w), 1, block_size);
  REQUIRE(reference::measure_error(*x, *q, s).ok());
  CHECK((s.weights == 32 && s.squared_weights == 288 && s.squared_error == 0));
  CHECK(reference::measure_error(dense_view<const float>{nullptr, 1, 32, 32}, *q, s).code == errc::null_pointer);
  CHECK(reference::measure_error(dense_view<const float>{w.data(), 0, 32, 32}, *q, s).code == errc::shape_mismatch);
  CHECK(s.weights == 32);
}
