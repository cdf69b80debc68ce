// tests/support/arches.hpp -- every architecture that this translation unit's flags allow, for kernels to be tried on.
// SPDX-License-Identifier: Apache-2.0
//
// A unit compiled for AVX-512 runs the AVX2 and SSE2 texts too, one for NEON's i8mm the dot products' too. Plain C++ is
// tried in the units of the lowest flags.
#pragma once

#include <cstddef>
#include <tuple>
#include <type_traits>

#include "mxfp4/simd/simd.hpp"

namespace mxfp4::test {

#if defined(__AVX512BW__)
using arches = std::tuple<xsimd::sse2, xsimd::fma3<xsimd::avx2>, xsimd::avx512bw, simd::native_arch>;
#elif defined(__AVX2__) && defined(__FMA__)
using arches = std::tuple<xsimd::sse2, simd::native_arch>;
#elif defined(__ARM_FEATURE_MATMUL_INT8)
using arches = std::tuple<xsimd::neon64, simd::native_arch>;
#elif defined(__SSE2__) || defined(__aarch64__)
using arches = std::tuple<simd::native_arch, simd::scalar_arch>;
#else
using arches = std::tuple<simd::scalar_arch>;
#endif

using simd::fuses;

/// Calls f.operator()<Arch>(name) for each of a list.
template <class... Arch, class F>
void for_each_of(std::tuple<Arch...>, F&& f) {
  (f.template operator()<Arch>(simd::isa_name<Arch>), ...);
}

/// The same for the plain C++ path and for each of `arches`.
template <class F>
void for_each_arch(F&& f) {
  f.template operator()<simd::scalar_arch>("scalar");
  for_each_of(arches{}, [&]<class Arch>(const char* name) {
    if constexpr (!std::is_same_v<Arch, simd::scalar_arch>) f.template operator()<Arch>(name);
  });
}

}  // namespace mxfp4::test
