// integrations/vllm/src/plain_linear_avx2.cpp -- plain_linear.hpp's products, compiled for AVX2 and FMA.
// SPDX-License-Identifier: Apache-2.0
#if defined(__AVX2__)

#include <immintrin.h>

#include "plain_linear_text.hpp"

namespace mxfp4::vllm {

namespace {

struct registers {
  static constexpr int width = 8, sums = 12;
  using floats = __m256;
  using words = __m256i;
  static floats zero() noexcept { return _mm256_setzero_ps(); }
  static floats load(const float* from) noexcept { return _mm256_loadu_ps(from); }
  static words load_words(const std::uint32_t* from) noexcept {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  }
  static void store(float* to, floats v) noexcept { _mm256_storeu_ps(to, v); }
  static floats broadcast(const float* from) noexcept { return _mm256_broadcast_ss(from); }
  static floats lower(words w) noexcept { return _mm256_castsi256_ps(_mm256_slli_epi32(w, 16)); }
  static floats upper(words w) noexcept {
    return _mm256_castsi256_ps(_mm256_and_si256(w, _mm256_set1_epi32(static_cast<int>(0xFFFF0000u))));
  }
  static floats add_product(floats sum, floats a, floats b) noexcept { return _mm256_fmadd_ps(a, b, sum); }
};

}  // namespace

const plain_kernels plain_avx2 = kernels<registers>;

}  // namespace mxfp4::vllm

#endif
