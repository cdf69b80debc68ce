// tests/simd_avxvnni.equal.test.cpp -- the AVX-VNNI path of the int8 products, on a CPU that has AVX-512 VNNI.
// SPDX-License-Identifier: Apache-2.0
//
// vpdpbusd is one operation with two encodings, VEX (AVX-VNNI) and EVEX (AVX-512 VNNI with VL); CPUs that have the
// second only are common. So this unit is compiled for AVX2, says that it has AVX-VNNI, and gives the one intrinsic the
// other encoding. What stays untested is the encoding that the compiler chooses in a real AVX-VNNI unit.
#include <immintrin.h>

namespace {
[[gnu::target("avx512vnni,avx512vl")]] __m256i dpbusd_evex(__m256i sum, __m256i weights, __m256i quad) {
  return _mm256_dpbusd_epi32(sum, weights, quad);
}
}  // namespace
#define _mm256_dpbusd_avx_epi32 dpbusd_evex
#define __AVXVNNI__ 1  // NOLINT(bugprone-reserved-identifier)

#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "mxfp4/linalg/int8.hpp"
#include "support/product.hpp"

using namespace mxfp4;

static_assert(simd::has_avxvnni<simd::native_arch>);
static_assert(std::is_same_v<simd::native_arch, xsimd::fma3<xsimd::avx2>>, "or products are rounded twice");

TEST_CASE("AVX-VNNI: the scalar reference's bits, for every width of a group and every scale byte", "[simd][int8]") {
  if (__builtin_cpu_supports("avx512vnni") == 0 || __builtin_cpu_supports("avx512vl") == 0)
    SKIP("this CPU lacks the instruction in either encoding that this unit can run");
  constexpr std::int64_t n = 37, k = 256;
  test::splitmix random(12);
  for (const auto& bytes : {test::byte_range(110, 140), test::byte_range(0, 255)}) {
    test::mx_memory<layout::compressed_tensors> w(n, k);
    test::fill(w, n, k, bytes, random);
    const result<packed_matrix> packed = pack(w.view());
    REQUIRE(packed);
    for (const std::int64_t m : {1, 2, 3, 8, 11, 16, 21}) {
      test::tokens x(m, k);
      x.fill([&](std::int64_t, std::int64_t) { return random.with_exponent(118, 130); });
      for (const int8_scaling scaling : {int8_scaling::e8m0, int8_scaling::f32, int8_scaling::row,
                                         int8_scaling::residual2, int8_scaling::residual3}) {
        CAPTURE(m, static_cast<int>(scaling), bytes.size());
        const result<int8_activations> q = quantize_activations(x.view(), scaling);
        REQUIRE(q);
        std::vector<float> expected(static_cast<std::size_t>(m * n)), y(expected.size());
        REQUIRE(reference::gemm(w.view(), *q, dense_view<float>{expected.data(), m, n, n}).ok());
        REQUIRE(gemm(*packed, *q, dense_view<float>{y.data(), m, n, n}).ok());
        CHECK(test::same_bits(y, expected));
        REQUIRE(gemm(w.view(), *q, dense_view<float>{y.data(), m, n, n}).ok());
        CHECK(test::same_bits(y, expected));
      }
    }
  }
}
