// tests/dialect.golden.test.cpp -- decode of all 256 bytes and 16 codes: against the peers' tables and against ldexp.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <string>

#include "mxfp4/format/block.hpp"
#include "mxfp4/format/dialect.hpp"
#include "support/oracle.hpp"
#include "support/print.hpp"
#include "support/sweep.hpp"
#include "support/vectors.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;

/// Calls check(byte, code, index) for every pair and collects where it is false.
template <class Check>
findings every_weight(Check check) {
  findings found;
  for (unsigned byte = 0; byte < 256; ++byte)
    for (unsigned code = 0; code < 16; ++code) found.expect(check(byte, code), byte << 4 | code);
  return found;
}
template <class T, class Dialect>
T decoded(unsigned byte, unsigned code) {
  return decode_weight<T, Dialect>(static_cast<e2m1>(code), static_cast<e8m0>(byte));
}
template <class Dialect>
std::uint32_t decoded_bits(unsigned byte, unsigned code) {
  return as_bits(decoded<float, Dialect>(byte, code));
}
bool is_nan(std::uint32_t bits) { return (bits & 0x7FFFFFFFu) > 0x7F800000u; }
bool is_bf16_nan(std::uint16_t bits) { return (bits & 0x7FFFu) > 0x7F80u; }

/// A finite double as f32, f16: nearest even, by search.
std::uint32_t as_f32(double x) {
  if (std::fabs(x) >= 0x1p128) return x < 0 ? 0xFF800000u : 0x7F800000u;  // a weight has three bits: no rounding
  return as_bits(static_cast<float>(x));
}
f16 as_f16(double x) {
  const std::size_t index = nearest_index(f16_values(), std::fabs(x));
  return static_cast<f16>(static_cast<unsigned>(index) |
                          (std::signbit(x) ? 0x8000u : 0u));  // the last index is infinity
}

}  // namespace

TEST_CASE("f32 decode is that of the peers, NaN payload aside", "[dialect][golden]") {
  for (const std::string peer : {"cuda", "ml_dtypes", "torchao"}) {
    const auto table = load<std::uint32_t>("exhaustive/decode_" + peer + ".f32");
    REQUIRE(table.size() == 4096);
    CAPTURE(peer);
    CHECK(every_weight([&](unsigned byte, unsigned code) {
            const std::uint32_t ours = decoded_bits<dialect::ocp>(byte, code), theirs = table[byte * 16 + code];
            return is_nan(ours) ? is_nan(theirs) : ours == theirs;
          }) == none);
  }
  const auto table = load<std::uint32_t>("exhaustive/decode_ggml.f32");
  REQUIRE(table.size() == 4096);
  CHECK(every_weight([&](unsigned byte, unsigned code) {
          return decoded_bits<dialect::ggml>(byte, code) == table[byte * 16 + code];
        }) == none);
}

namespace {
/// Every weight of a dialect against a reader's table, NaN payload aside; and the sign of zero, where a reader shows
/// it.
template <class Dialect>
void check_reader(const std::string& reader, bool shows_negative_zero = true) {
  const auto table = load<std::uint16_t>("exhaustive/decode_" + reader + ".bf16");
  REQUIRE(table.size() == 4096);
  CAPTURE(reader);
  CHECK(every_weight([&](unsigned byte, unsigned code) {
          const auto ours = static_cast<std::uint16_t>(decoded<bf16, Dialect>(byte, code));
          const std::uint16_t theirs = table[byte * 16 + code];
          if (is_bf16_nan(ours)) return is_bf16_nan(theirs);
          return ours == theirs || (!shows_negative_zero && (ours & 0x7FFFu) == 0 && theirs == 0);
        }) == none);
}
}  // namespace

TEST_CASE("bf16 decode is that of each reader", "[dialect][golden]") {
  check_reader<dialect::inf_at_255>("compressed_tensors");
  check_reader<dialect::inf_at_255>("compressed_tensors_0_20_1");
  check_reader<dialect::inf_at_255>("mlx");
  check_reader<dialect::inf_at_255>("gptoss");
  check_reader<dialect::gpt_oss>("transformers_gpt_oss");
  check_reader<dialect::ocp>("torchao_0_18_0");
  check_reader<dialect::ocp>("openvino_parameter");
  check_reader<dialect::openvino>("openvino_matmul", false);
}

TEST_CASE("decode to f32, bf16 and f16 is ldexp, in every dialect", "[dialect][exhaustive]") {
  const auto right = [](auto d, unsigned byte, unsigned code, double value) {
    using dialect_type = decltype(d);
    const std::uint32_t expected = as_f32(value);
    return decoded_bits<dialect_type>(byte, code) == expected &&
           decoded<bf16, dialect_type>(byte, code) == static_cast<bf16>(expected >> 16) &&
           (expected & 0xFFFFu) == 0 &&  // bf16 loses nothing
           decoded<f16, dialect_type>(byte, code) == as_f16(value);
  };
  CHECK(every_weight([&](unsigned byte, unsigned code) {
          const double value = weight(code, static_cast<int>(byte));
          const double in_openvino = byte == 0 ? std::copysign(0.0, code >= 8 ? -1.0 : 1.0) : value;
          return right(dialect::gpt_oss{}, byte, code, value) &&
                 (byte == 255 ||
                  (right(dialect::ocp{}, byte, code, value) && right(dialect::inf_at_255{}, byte, code, value) &&
                   right(dialect::openvino{}, byte, code, in_openvino)));
        }) == none);
  CHECK(every_weight(
            [&](unsigned byte, unsigned code) {  // ggml: byte 255 is a number like the others, and there is no -0
              return right(dialect::ggml{}, byte, code, code == 8 ? 0.0 : weight(code, static_cast<int>(byte)));
            }) == none);
}

TEST_CASE("byte 255 by dialect", "[dialect][exhaustive]") {
  for (unsigned code = 0; code < 16; ++code) {
    CAPTURE(code);
    CHECK(decoded_bits<dialect::ocp>(255, code) == 0x7FC00000u);
    CHECK(decoded<bf16, dialect::ocp>(255, code) == bf16{0x7FC0});
    CHECK(decoded_bits<dialect::openvino>(255, code) == 0x7FC00000u);
    CHECK(decoded<f16, dialect::ocp>(255, code) == f16{0x7E00});
    const bool zero = code % 8 == 0, negative = code > 8;
    CHECK(decoded_bits<dialect::inf_at_255>(255, code) == (zero ? 0x7FC00000u : negative ? 0xFF800000u : 0x7F800000u));
    CHECK(decoded<bf16, dialect::inf_at_255>(255, code) == (zero       ? bf16{0x7FC0}
                                                            : negative ? bf16{0xFF80}
                                                                       : bf16{0x7F80}));
    CHECK(decoded<f16, dialect::inf_at_255>(255, code) == (zero ? f16{0x7E00} : negative ? f16{0xFC00} : f16{0x7C00}));
  }
}

TEST_CASE("decode: named situations", "[dialect][golden]") {
  CHECK(decoded_bits<dialect::ocp>(127, 7) == 0x40C00000u);   // 6
  CHECK(decoded_bits<dialect::ocp>(0, 1) == 0x00200000u);     // 2^-128, a subnormal
  CHECK(decoded_bits<dialect::ocp>(0, 15) == 0x81400000u);    // -6 * 2^-127 = -1.5 * 2^-125
  CHECK(decoded_bits<dialect::ocp>(254, 3) == 0x7F400000u);   // 1.5 * 2^127
  CHECK(decoded_bits<dialect::ocp>(254, 4) == 0x7F800000u);   // 2 * 2^127 overflows
  CHECK(decoded_bits<dialect::ocp>(253, 5) == 0x7F400000u);   // 3 * 2^126
  CHECK(decoded_bits<dialect::ocp>(253, 14) == 0xFF800000u);  // -4 * 2^126 overflows
  CHECK(decoded_bits<dialect::ocp>(252, 7) == 0x7F400000u);   // 6 * 2^125
  CHECK(decoded_bits<dialect::ocp>(200, 8) == 0x80000000u);   // -0
  CHECK(decoded_bits<dialect::ggml>(200, 8) == 0);            // ggml has no -0
  CHECK(decoded_bits<dialect::ggml>(255, 1) == 0x7F000000u);  // 2^127
  CHECK(decoded_bits<dialect::gpt_oss>(255, 0) == 0);         // transformers 5.24: 0, 2^127, -0, infinity
  CHECK(decoded_bits<dialect::gpt_oss>(255, 1) == 0x7F000000u);
  CHECK(decoded_bits<dialect::gpt_oss>(255, 2) == 0x7F800000u);
  CHECK(decoded_bits<dialect::gpt_oss>(255, 8) == 0x80000000u);
  CHECK(decoded_bits<dialect::gpt_oss>(255, 9) == 0xFF000000u);
  CHECK(decoded_bits<dialect::openvino>(0, 7) == 0);
  CHECK(decoded_bits<dialect::openvino>(0, 15) == 0x80000000u);
  CHECK(decoded_bits<dialect::openvino>(1, 1) == 0x00400000u);
  CHECK(decoded<f16, dialect::ocp>(127 + 13, 7) == f16{0x7A00});  // 49152
  CHECK(decoded<f16, dialect::ocp>(127 + 14, 6) == f16{0x7C00});  // 65536 overflows
  CHECK(decoded<f16, dialect::ocp>(127 - 24, 1) == f16{0});       // 2^-25 is a tie: even is 0
  CHECK(decoded<f16, dialect::ocp>(127 - 25, 3) == f16{1});       // 1.5 * 2^-25 rounds up to 2^-24
  CHECK(decoded<f16, dialect::ocp>(127 - 24, 3) == f16{2});       // 1.5 * 2^-24 is a tie: even is 2
  CHECK(std::string(dialect::ocp::name) == "ocp");
  CHECK(std::string(dialect::inf_at_255::name) == "inf_at_255");
  CHECK(std::string(dialect::ggml::name) == "ggml");
  CHECK(std::string(dialect::gpt_oss::name) == "gpt_oss");
  CHECK(std::string(dialect::openvino::name) == "openvino");
}

TEST_CASE("decode_block reads elements in order, in the dialect asked for", "[dialect][block][golden]") {
  block b{e8m0{128}, {}};
  for (int j = 0; j < 16; ++j)
    b.codes[j] = static_cast<std::uint8_t>(j % 8 * 2 | (j % 8 * 2 + 1) << 4);  // 0 1 2 .. 15 0 1 ..
  const float values[16] = {0, 1, 2, 3, 4, 6, 8, 12, -0.0f, -1, -2, -3, -4, -6, -8, -12};
  const auto ours = decode_block(b);
  float array[block_size];
  bf16 brain[block_size];
  f16 half[block_size];
  decode_block<dialect::ggml>(b, array);
  decode_block(b, brain);
  decode_block(b, half);
  for (std::size_t i = 0; i < block_size; ++i) {
    CAPTURE(i);
    CHECK(as_bits(ours[i]) == as_bits(values[i % 16]));
    CHECK(as_bits(array[i]) == (i % 16 == 8 ? 0u : as_bits(values[i % 16])));
    CHECK(as_bits(decode(brain[i])) == as_bits(values[i % 16]));
    CHECK(as_bits(decode(half[i])) == as_bits(values[i % 16]));
    CHECK(decode_block<bf16>(b)[i] == brain[i]);
  }
  b.scale = e8m0::nan;
  const auto ocp = decode_block(b), infinite = decode_block<float, dialect::inf_at_255>(b);
  CHECK(std::isnan(ocp[1]));
  CHECK(as_bits(infinite[1]) == 0x7F800000u);
  CHECK(as_bits(infinite[9]) == 0xFF800000u);
}
