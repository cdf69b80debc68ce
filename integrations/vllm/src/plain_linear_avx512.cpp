// integrations/vllm/src/plain_linear_avx512.cpp -- plain_linear.hpp's products, compiled for AVX-512.
// SPDX-License-Identifier: Apache-2.0
//
// Not by AVX-512's dot products of bfloat16: they flush subnormal numbers, and a core of a "Sapphire Rapids" Xeon does
// 86 GFLOP/s by them and 176 by FMAs of f32.
#if defined(__AVX512F__)

#include <immintrin.h>

#include "plain_linear_text.hpp"

namespace mxfp4::vllm {

namespace {

struct registers {
  static constexpr int width = 16, sums = 24;
  using floats = __m512;
  using words = __m512i;
  static floats zero() noexcept { return _mm512_setzero_ps(); }
  static floats load(const float* from) noexcept { return _mm512_loadu_ps(from); }
  static words load_words(const std::uint32_t* from) noexcept { return _mm512_loadu_si512(from); }
  static void store(float* to, floats v) noexcept { _mm512_storeu_ps(to, v); }
  static floats broadcast(const float* from) noexcept { return _mm512_set1_ps(*from); }
  static floats lower(words w) noexcept { return _mm512_castsi512_ps(_mm512_slli_epi32(w, 16)); }
  static floats upper(words w) noexcept {
    return _mm512_castsi512_ps(_mm512_and_si512(w, _mm512_set1_epi32(static_cast<int>(0xFFFF0000u))));
  }
  static floats add_product(floats sum, floats a, floats b) noexcept { return _mm512_fmadd_ps(a, b, sum); }
};

}  // namespace

const plain_kernels plain_avx512 = kernels<registers>;

}  // namespace mxfp4::vllm

#endif
