// src/dispatch/cpu.hpp -- may this CPU run the unit compiled for an instruction set?
// SPDX-License-Identifier: Apache-2.0
//
// Each function asks for everything that the flags in cmake/dispatch.cmake let the compiler use, which is more than the
// kernels use by name; and whether the operating system saves the registers. Neither the compilers' cpu_supports nor
// xsimd's list know all of it (F16C and AVX-VNNI in clang 14; VBMI in xsimd 13.2).
// All is static and the struct has no constructor: a mergeable function could be replaced by the linker with the copy of
// a unit that was compiled for more than the CPU has.
// Source: Intel SDM vol. 2A CPUID, vol. 1 section 13 (XCR0); Linux <asm/hwcap.h>, Arm ARM ID_AA64ISAR0/1_EL1.
// Reads: nothing.  Read by: dispatch.cpp, tests/support/cpu_check.cpp.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace mxfp4::dispatch::detail::cpu {

[[nodiscard]] static constexpr bool has_all(std::uint64_t bits, std::uint64_t wanted) noexcept {
  return (bits & wanted) == wanted;
}
[[nodiscard]] static constexpr std::uint64_t bit(int index) noexcept { return std::uint64_t{1} << index; }

#if defined(__x86_64__)

struct leaf {
  unsigned eax, ebx, ecx, edx;
};
/// Zeros where the CPU has no such leaf.
[[nodiscard]] static inline leaf cpuid(unsigned number, unsigned part = 0) noexcept {
  leaf l{};
  if (__get_cpuid_count(number, part, &l.eax, &l.ebx, &l.ecx, &l.edx) == 0) return {};
  return l;
}

/// Which registers the operating system saves; 0 where it says nothing.
[[nodiscard]] static inline std::uint64_t xcr0() noexcept {
  if (!has_all(cpuid(1).ecx, bit(27))) return 0;  // OSXSAVE
  std::uint32_t low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}

[[nodiscard]] static inline bool runs_sse2() noexcept { return true; }  // every x86-64

/// AVX2, FMA, F16C and what they imply: SSE3, SSSE3, SSE4.1, SSE4.2, POPCNT, AVX.
[[nodiscard]] static inline bool runs_avx2() noexcept {
  constexpr std::uint64_t one = bit(0) | bit(9) | bit(12) | bit(19) | bit(20) | bit(23) | bit(28) | bit(29);
  return has_all(xcr0(), 0x6) && has_all(cpuid(1).ecx, one) && has_all(cpuid(7).ebx, bit(5));
}
[[nodiscard]] static inline bool runs_avxvnni() noexcept { return runs_avx2() && has_all(cpuid(7, 1).eax, bit(4)); }

/// AVX-512 F, DQ, CD, BW, VL.
[[nodiscard]] static inline bool runs_avx512bw() noexcept {
  return runs_avx2() && has_all(xcr0(), 0xE6) && has_all(cpuid(7).ebx, bit(16) | bit(17) | bit(28) | bit(30) | bit(31));
}
/// IFMA, VBMI and VNNI besides.
[[nodiscard]] static inline bool runs_avx512vnni() noexcept {
  return runs_avx512bw() && has_all(cpuid(7).ebx, bit(21)) && has_all(cpuid(7).ecx, bit(1) | bit(11));
}
/// And products of bf16.
[[nodiscard]] static inline bool runs_avx512bf16() noexcept {
  return runs_avx512vnni() && has_all(cpuid(7, 1).eax, bit(5));
}

#elif defined(__aarch64__)

[[nodiscard]] static inline bool runs_neon() noexcept { return true; }  // every aarch64

/// ARMv8.2: CRC32, LSE atomics, RDMA; and the dot products.
[[nodiscard]] static inline bool runs_neon_dotprod() noexcept {
#if defined(__linux__)
  return has_all(getauxval(AT_HWCAP), bit(7) | bit(8) | bit(12) | bit(20));
#else
  return false;
#endif
}
/// The matrix products of int8 besides.
[[nodiscard]] static inline bool runs_neon_i8mm() noexcept {
#if defined(__linux__)
  return runs_neon_dotprod() && has_all(getauxval(AT_HWCAP2), bit(13));
#else
  return false;
#endif
}

#else

[[nodiscard]] static inline bool runs_scalar() noexcept { return true; }  // the flags are those of the whole program

#endif

}  // namespace mxfp4::dispatch::detail::cpu
