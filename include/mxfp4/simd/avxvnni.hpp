// mxfp4/simd/avxvnni.hpp -- vpdpbusd in AVX's encoding, for CPUs without AVX-512.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>

#include "mxfp4/simd/avx2.hpp"
#include "mxfp4/simd/dot.hpp"

#if defined(__AVXVNNI__)

namespace mxfp4::inline MXFP4_VERSION_NS::simd {
inline namespace MXFP4_ISA_NS {

/// The flags decide, as xsimd's tag has no FMA in 13.2 (isa.hpp).
template <class Arch>
concept has_avxvnni = has_avx2<Arch> && !has_avx512bw<Arch> && std::same_as<Arch, native_arch>;

template <has_avxvnni Arch>
inline constexpr const char* isa_name<Arch> = "avxvnni";

template <has_avxvnni Arch>
struct block_sum<Arch> {
  MXFP4_INLINE void start(std::int32_t initial_sum) noexcept { lanes = _mm256_set1_epi32(initial_sum); }
  MXFP4_INLINE void add(int, const byte_lanes<Arch>& weights, std::int32_t quad) noexcept {
    lanes = _mm256_dpbusd_avx_epi32(lanes, weights, _mm256_set1_epi32(quad));
  }
  [[nodiscard]] MXFP4_INLINE int_lanes<Arch> sum() const noexcept { return int_lanes<Arch>(lanes); }

  __m256i lanes;
};

template <has_avxvnni Arch>
struct part_sum<Arch> {
  static constexpr int parts_per_block = 1;
  [[nodiscard]] MXFP4_INLINE static __m256i first(__m256i weights, __m256i quad, __m256i before) noexcept {
    return _mm256_dpbusd_avx_epi32(before, weights, quad);
  }
  [[nodiscard]] MXFP4_INLINE static __m256i add(__m256i sum, __m256i weights, __m256i quad) noexcept {
    return _mm256_dpbusd_avx_epi32(sum, weights, quad);
  }
  [[nodiscard]] MXFP4_INLINE static __m256i sum(__m256i sum, __m256i) noexcept { return sum; }
  MXFP4_INLINE static void hold(__m256i& sum) noexcept { asm volatile("" : "+x"(sum)); }
};

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd

#endif
