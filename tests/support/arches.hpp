// tests/support/arches.hpp -- every architecture that this translation unit's flags allow, for kernels to be tried on.
// SPDX-License-Identifier: Apache-2.0
//
// A unit compiled for AVX-512 runs the AVX2 and SSE2 texts too. Plain C++ is tried in the units of the lowest flags.
#pragma once

#include <cstddef>
#include <tuple>
#include <type_traits>

#include "mxfp4/simd/batch.hpp"

namespace mxfp4::test {

#if defined(__AVX512BW__)
using arches = std::tuple<xsimd::sse2, xsimd::fma3<xsimd::avx2>, xsimd::avx512bw, simd::native_arch>;
#elif defined(__AVX2__) && defined(__FMA__)
using arches = std::tuple<xsimd::sse2, simd::native_arch>;
#elif defined(__SSE2__) || defined(__aarch64__)
using arches = std::tuple<simd::native_arch, simd::scalar_arch>;
#else
using arches = std::tuple<simd::scalar_arch>;
#endif

using simd::fuses;

/// Calls f.operator()<Arch>(name) for the plain C++ path and for each of `arches`.
template <class F>
void for_each_arch(F&& f) {
  f.template operator()<simd::scalar_arch>("scalar");
  const auto run = [&]<class Arch>(std::type_identity<Arch>) {
    if constexpr (!std::is_same_v<Arch, simd::scalar_arch>) f.template operator()<Arch>(Arch::name());
  };
  [&]<class... Arch>(std::tuple<Arch...>*) { (run(std::type_identity<Arch>{}), ...); }(static_cast<arches*>(nullptr));
}

/// Has this CPU what the translation unit was compiled for? If not, the test has nothing to run on.
inline bool cpu_runs_this_unit() {
#if defined(__AVX512VNNI__)
  return __builtin_cpu_supports("avx512vnni") != 0;
#elif defined(__AVX512BW__)
  return __builtin_cpu_supports("avx512bw") != 0;
#elif defined(__AVX2__)
  return __builtin_cpu_supports("avx2") != 0;
#else
  return true;
#endif
}

/// Runs the tasks backwards and counts them.
struct backward_executor {
  std::size_t tasks = 0;
  template <class Body>
  void run(std::size_t count, Body body) {
    tasks += count;
    for (std::size_t i = count; i-- > 0;) body(i);
  }
};

}  // namespace mxfp4::test
