// tests/simd_widen.equal.test.cpp -- load_widened and store_narrowed against decode() and encode() of every input.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/simd/simd.hpp"

#include <bit>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <tuple>
#include <vector>

#include "support/matrix.hpp"

namespace {

using namespace mxfp4;
using arch = simd::native_arch;
using mxfp4::test::from_bits;
using mxfp4::test::page_end;
constexpr std::size_t lanes = simd::floats<arch>::size;

std::uint32_t bits_of(float x) { return std::bit_cast<std::uint32_t>(x); }

template <class T>
std::vector<float> widened(const T* in) {
  std::vector<float> out(lanes);
  simd::load_widened<arch>(in).store_unaligned(out.data());
  return out;
}

/// f16 alone may come back quiet.
template <class T>
bool widened_right(std::uint32_t in, float out) {
  const std::uint32_t expected = bits_of(decode(from_bits<T>(in)));
  if (bits_of(out) == expected) return true;
  return std::same_as<T, f16> && (expected & 0x7FFFFFFFu) > 0x7F800000u && bits_of(out) == (expected | 0x00400000u);
}

/// How many of the floats with bits first, first + step ... differ from encode().
template <class T>
std::int64_t narrowing_errors(std::uint64_t first, std::uint64_t step) {
  std::int64_t wrong = 0;
  float in[lanes];
  T out[lanes];
  std::uint64_t next = first;
  while (next <= 0xFFFFFFFFu) {
    for (float& x : in) {
      x = std::bit_cast<float>(static_cast<std::uint32_t>(next));
      next += step;
    }
    simd::store_narrowed<arch>(simd::floats<arch>::load_unaligned(in), out);
    for (std::size_t i = 0; i < lanes; ++i) wrong += out[i] != encode<T>(in[i]);
  }
  return wrong;
}

}  // namespace

TEMPLATE_TEST_CASE("load_widened: every bf16, f16 and e4m3", "[simd][exhaustive]", bf16, f16, e4m3) {
  constexpr std::uint32_t count = 1u << (8 * sizeof(TestType));
  std::int64_t wrong = 0;
  for (std::uint32_t first = 0; first < count; first += static_cast<std::uint32_t>(lanes)) {
    TestType in[lanes];
    float out[lanes];
    for (std::size_t i = 0; i < lanes; ++i) in[i] = from_bits<TestType>(first + i);
    simd::load_widened<arch>(in).store_unaligned(out);
    for (std::size_t i = 0; i < lanes; ++i)
      wrong += !widened_right<TestType>(first + static_cast<std::uint32_t>(i), out[i]);
  }
  CHECK(wrong == 0);
}

TEST_CASE("load_widened: literal values", "[simd][golden]") {
  std::vector<e4m3> small(lanes, e4m3{0x01});  // 2^-9, a subnormal
  CHECK(widened(small.data()).front() == 0x1p-9f);
  small.back() = e4m3{0xFE};
  CHECK(widened(small.data()).back() == -448.0f);
  const std::vector<f16> half(lanes, f16{0x8001});
  CHECK(widened(half.data()).front() == -0x1p-24f);
  const std::vector<float> plain(lanes, 0x1p-149f);
  CHECK(bits_of(widened(plain.data()).back()) == 1u);
}

TEMPLATE_TEST_CASE("store_narrowed: floats in steps, and round every boundary", "[simd][equal]", bf16, f16) {
  CHECK(narrowing_errors<TestType>(0, 4099) == 0);
  for (const std::uint64_t at : {0x33000000u, 0x387FC000u, 0x38800000u, 0x477FE000u, 0x477FF000u, 0x47800000u,
                                 0x7F7F7000u, 0x7F800000u, 0x7FC00000u, 0xB3000000u, 0xC77FF000u, 0xFF800000u}) {
    std::int64_t wrong = 0;
    for (std::uint64_t near = at - 64; near < at + 64; near += lanes) {
      float in[lanes];
      TestType out[lanes];
      for (std::size_t i = 0; i < lanes; ++i) in[i] = std::bit_cast<float>(static_cast<std::uint32_t>(near + i));
      simd::store_narrowed<arch>(simd::floats<arch>::load_unaligned(in), out);
      for (std::size_t i = 0; i < lanes; ++i) wrong += out[i] != encode<TestType>(in[i]);
    }
    CAPTURE(at);
    CHECK(wrong == 0);
  }
}

TEMPLATE_TEST_CASE("store_narrowed: all 2^32 floats", "[simd][exhaustive][.slow]", bf16, f16) {
  CHECK(narrowing_errors<TestType>(0, 1) == 0);
}

TEMPLATE_TEST_CASE("load_widened and store_narrowed touch their own elements only", "[simd][property]", float, bf16,
                   f16) {
  const page_end<TestType> in(lanes), out(lanes);
  for (std::size_t i = 0; i < lanes; ++i) in.data()[i] = encode<TestType>(1.5f);
  simd::store_narrowed<arch>(simd::load_widened<arch>(in.data()), out.data());
  CHECK(decode(out.data()[lanes - 1]) == 1.5f);
  const page_end<e4m3> bytes(lanes);
  for (std::size_t i = 0; i < lanes; ++i) bytes.data()[i] = e4m3{0x3C};
  CHECK(widened(bytes.data()).back() == 1.5f);
}
