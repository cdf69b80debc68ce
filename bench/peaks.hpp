// bench/peaks.hpp -- loops that multiply and add as fast as the machine can, and touch no memory.
// SPDX-License-Identifier: Apache-2.0
//
// A chain is a sum that every step adds to. There are as many as hide the latency of one, and no more than stay in
// registers: with chains in memory the limit would be below what a kernel reaches (test machine_code).
#pragma once

#include <cstdint>
#include <type_traits>

#include "mxfp4/simd/simd.hpp"

namespace mxfp4::bench {
inline namespace MXFP4_ISA_NS {

/// The compiler forgets what is in a register, and so does the work with it each time, in the order of the text.
template <class Register>
MXFP4_INLINE void forget_register(Register& x) {
#if defined(__SSE2__)
  asm volatile("" : "+v"(x));
#elif defined(__aarch64__)
  asm volatile("" : "+w"(x));
#endif
}
template <class Batch>
MXFP4_INLINE void forget(Batch& x) {
  if constexpr (requires { x.data; }) forget_register(x.data);
}
/// Of the sums of a block, those that add(half, ...) adds to.
template <class Arch>
MXFP4_INLINE void forget_sum(simd::block_sum<Arch>& x, int half) {
  constexpr bool by_halves = simd::has_avx2<Arch>;  // otherwise both registers take a part of every quad
  if constexpr (requires { x.pairs; }) {
    if (!by_halves || half == 0) forget_register(x.pairs[0]);
    if (!by_halves || half == 1) forget_register(x.pairs[1]);
  } else if constexpr (!std::is_same_v<Arch, simd::scalar_arch>) {
    forget_register(x.lanes);
  }
}

inline constexpr int fma_chains = 12;

/// Not inlined, nor is the other: among the registers of a caller g++ 12 spills the sums, and tests/machine_code.def
/// looks at the function alone.
template <class Arch>
[[gnu::noinline]] void multiply_add_floats(std::int64_t steps) {
  using floats = simd::float_lanes<Arch>;
  floats x(0.5f), sums[fma_chains];
  MXFP4_UNROLL
  for (int c = 0; c < fma_chains; ++c) sums[c] = floats(static_cast<float>(c));
  for (std::int64_t i = 0; i < steps; ++i) {
    forget(x);
    MXFP4_UNROLL
    for (floats& sum : sums) sum = simd::fma(sum, x, x);
  }
  MXFP4_UNROLL
  for (floats& sum : sums) forget(sum);
}

/// Sums of one register are those of an instruction with a latency of up to five cycles, of which two ports begin ten
/// in that time. Where there are two, the addition alone waits for the one before: on x86 for a cycle.
template <class Arch>
inline constexpr int dot_chains = [] {
  constexpr bool one_register = sizeof(simd::block_sum<Arch>) == sizeof(simd::byte_lanes<Arch>);
  if (simd::has_avx512bw<Arch> || simd::has_neon64<Arch>) return one_register ? 12 : 8;  // of 32 registers
  return one_register ? 10 : simd::has_sse2<Arch> ? 3 : 4;
}();

/// Two quads a step and chain, one to each half.
template <class Arch>
[[gnu::noinline]] void multiply_add_bytes(std::int64_t steps) {
  simd::block_sum<Arch> sums[dot_chains<Arch>];
  simd::byte_lanes<Arch> weights(std::uint8_t{3});
  MXFP4_UNROLL
  for (int c = 0; c < dot_chains<Arch>; ++c) sums[c].start(c);
  for (std::int64_t i = 0; i < steps; ++i) {
    MXFP4_UNROLL
    for (int half = 0; half < 2; ++half) {
      MXFP4_UNROLL
      for (auto& sum : sums) {
        forget(weights);
        sum.add(half, weights, 0x01010101);
        forget_sum(sum, half);
      }
    }
  }
  MXFP4_UNROLL
  for (auto& sum : sums) {
    simd::int_lanes<Arch> lanes = sum.sum();
    forget(lanes);
  }
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::bench
