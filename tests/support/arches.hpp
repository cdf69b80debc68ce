// tests/support/arches.hpp -- every architecture that this translation unit's flags allow, for kernels to be tried on.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mxfp4/simd/isa.hpp"

namespace mxfp4::test {

/// Calls f.operator()<Arch>(name) for each: the scalar path, the lower ones of x86, and the native one.
template <class F>
void for_each_arch(F&& f) {
  f.template operator()<simd::scalar_arch>("scalar");
#if defined(__AVX2__)
  f.template operator()<xsimd::fma3<xsimd::avx2>>("avx2");
#endif
#if defined(__AVX512BW__)
  f.template operator()<xsimd::avx512bw>("avx512bw");
#endif
  f.template operator()<simd::native_arch>(simd::native_arch::name());
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
