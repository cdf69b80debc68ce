// tests/support/arches.hpp -- every architecture that this translation unit's flags allow, for kernels to be tried on.
// SPDX-License-Identifier: Apache-2.0
//
// A unit compiled for AVX-512 runs the AVX2 and SSE2 texts too, one for NEON's i8mm the dot products' too. Plain C++ is
// tried in the units of the lowest flags.
#pragma once

#include <catch2/reporters/catch_reporter_event_listener.hpp>
#include <catch2/reporters/catch_reporter_registrars.hpp>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <tuple>
#include <type_traits>

#include "../../src/dispatch/cpu.hpp"
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

/// Calls f.operator()<Arch>(name) for the plain C++ path and for each of `arches`.
template <class F>
void for_each_arch(F&& f) {
  f.template operator()<simd::scalar_arch>("scalar");
  const auto run = [&]<class Arch>(std::type_identity<Arch>) {
    if constexpr (!std::is_same_v<Arch, simd::scalar_arch>) f.template operator()<Arch>(Arch::name());
  };
  [&]<class... Arch>(std::tuple<Arch...>*) { (run(std::type_identity<Arch>{}), ...); }(static_cast<arches*>(nullptr));
}

/// Has this CPU what the translation unit was compiled for?
inline bool cpu_runs_this_unit() {
  namespace cpu = dispatch::detail::cpu;
#if defined(__AVX512BF16__) && defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
  return cpu::runs_avx512bf16();
#elif defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
  return cpu::runs_avx512vnni();
#elif defined(__AVX512BW__)
  return cpu::runs_avx512bw();
#elif defined(__AVXVNNI__)
  return cpu::runs_avxvnni();
#elif defined(__AVX2__)
  return cpu::runs_avx2();
#elif defined(__ARM_FEATURE_MATMUL_INT8)
  return cpu::runs_neon_i8mm();
#elif defined(__ARM_FEATURE_DOTPROD)
  return cpu::runs_neon_dotprod();
#else
  return true;
#endif
}

/// Where it has not, the whole program counts as skipped: exit code 4, as Catch2's own for a run that skips all cases.
class skip_without_isa : public Catch::EventListenerBase {
 public:
  using EventListenerBase::EventListenerBase;
  void testRunStarting(const Catch::TestRunInfo&) override {
    if (cpu_runs_this_unit()) return;
    std::puts("skipped: this CPU lacks the instructions that the program was compiled for");
    std::exit(4);
  }
};
CATCH_REGISTER_LISTENER(skip_without_isa)

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
