// tests/isa_probe.cpp -- a static initialiser that uses an instruction of each set that it is compiled for.
// SPDX-License-Identifier: Apache-2.0
//
// Compiled once for each instruction set, and run where the CPU lacks it (isa.cmake): there the program must end before
// the initialiser. Exit code 0: all right, 1: wrong numbers.
#include <cstdint>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace {

volatile int two = 2;  // not known to the compiler, or it would compute everything itself

/// 12 by the newest instruction there is: four products of the bytes 1 and 3, or what comes nearest to that.
int twelve() {
  const int one = two - 1, three = two + 1;
#if defined(__AVX512BF16__)
  const __m512 one_each = _mm512_set1_ps(static_cast<float>(one)),
               six_each = _mm512_set1_ps(static_cast<float>(2 * three));
  const __m512bh ones = _mm512_cvtne2ps_pbh(one_each, one_each), sixes = _mm512_cvtne2ps_pbh(six_each, six_each);
  return static_cast<int>(_mm512_cvtss_f32(_mm512_dpbf16_ps(_mm512_setzero_ps(), ones, sixes)));
#elif defined(__AVX512VNNI__)
  const __m512i ones = _mm512_set1_epi8(static_cast<char>(one)), threes = _mm512_set1_epi8(static_cast<char>(three));
  return _mm512_cvtsi512_si32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, threes));
#elif defined(__AVX512BW__)
  const __m512i ones = _mm512_set1_epi8(static_cast<char>(one)), threes = _mm512_set1_epi8(static_cast<char>(three));
  return 2 * (_mm512_cvtsi512_si32(_mm512_maddubs_epi16(ones, threes)) & 0xFF);
#elif defined(__AVXVNNI__)
  const __m256i ones = _mm256_set1_epi8(static_cast<char>(one)), threes = _mm256_set1_epi8(static_cast<char>(three));
  return _mm256_cvtsi256_si32(_mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), ones, threes));
#elif defined(__AVX2__)
  const __m256i ones = _mm256_set1_epi8(static_cast<char>(one)), threes = _mm256_set1_epi8(static_cast<char>(three));
  return 2 * (_mm256_cvtsi256_si32(_mm256_maddubs_epi16(ones, threes)) & 0xFF);
#elif defined(__ARM_FEATURE_MATMUL_INT8)
  const int8x16_t ones = vdupq_n_s8(static_cast<std::int8_t>(one)),
                  threes = vdupq_n_s8(static_cast<std::int8_t>(three));
  return vgetq_lane_s32(vmmlaq_s32(vdupq_n_s32(0), ones, threes), 0) / 2;
#elif defined(__ARM_FEATURE_DOTPROD)
  const int8x16_t ones = vdupq_n_s8(static_cast<std::int8_t>(one)),
                  threes = vdupq_n_s8(static_cast<std::int8_t>(three));
  return vgetq_lane_s32(vdotq_s32(vdupq_n_s32(0), ones, threes), 0);
#else
  return 4 * one * three;
#endif
}

const std::vector<int> before_main(1, twelve());

}  // namespace

int main() { return before_main[0] == 12 ? 0 : 1; }
