// mxfp4/simd/avx512bf16.hpp -- products of bf16 without widening.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mxfp4/simd/avx512vnni.hpp"
#include "mxfp4/simd/avx512vnni_fp8_table.hpp"

#if defined(__AVX512BF16__) && defined(__AVX512VNNI__) && defined(__AVX512VBMI__) && defined(__AVX512BW__)

namespace mxfp4::inline MXFP4_VERSION_NS::simd {
inline namespace MXFP4_ISA_NS {

/// The "&& true" makes this concept more constrained than the two that it names, so that its specialisations win.
template <class Arch>
concept has_avx512bf16 = has_avx512vbmi<Arch> && has_avx512vnni<Arch> && true;

template <has_avx512bf16 Arch>
inline constexpr const char* isa_name<Arch> = "avx512bf16";

namespace detail {

/// vdpbf16ps flushes subnormals to zero; the smallest number here is 2^-13, so nothing is lost.
template <has_avx512bf16 Arch>
struct bf16_squares<Arch> {
  [[nodiscard]] MXFP4_INLINE static __m512 of(__m512i low, __m512i high) noexcept {
    const __m512bh first = reinterpret_cast<__m512bh>(low), second = reinterpret_cast<__m512bh>(high);
    return _mm512_dpbf16_ps(_mm512_dpbf16_ps(_mm512_setzero_ps(), first, first), second, second);
  }
};

}  // namespace detail

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd

#endif
