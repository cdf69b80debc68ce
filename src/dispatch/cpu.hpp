// src/dispatch/cpu.hpp -- may this CPU run the unit compiled for an instruction set?
// SPDX-License-Identifier: Apache-2.0
//
// runs_<isa>() for each line of simd/isas.def, which names the bits. Neither the compilers' cpu_supports nor xsimd's
// list know all of them (F16C and AVX-VNNI in clang 14; VBMI in xsimd 13.2).
// All functions are static, and the struct has no constructor: of inline functions the linker keeps one copy, perhaps
// that of a unit that was compiled for more than the CPU has.
// Source: Intel SDM vol. 2A CPUID, vol. 1 section 13 (XCR0); Linux <asm/hwcap.h>, Arm ARM ID_AA64ISAR0/1_EL1.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace mxfp4::inline MXFP4_VERSION_NS::dispatch::detail::cpu {

/// Are all of these bits of a register set?
template <class... Index>
[[nodiscard]] static constexpr bool has(std::uint64_t bits, Index... index) noexcept {
  return ((bits >> index & 1) & ... & 1) != 0;
}

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
  if (!has(cpuid(1).ecx, 27)) return 0;  // OSXSAVE
  std::uint32_t low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}

#endif

/// What the lines of isas.def ask.
namespace ask {

#if defined(__x86_64__)

template <class... Bit>
[[nodiscard]] static inline bool leaf1_ecx(Bit... bit) noexcept {
  return has(cpuid(1).ecx, bit...);
}
template <class... Bit>
[[nodiscard]] static inline bool leaf7_ebx(Bit... bit) noexcept {
  return has(cpuid(7).ebx, bit...);
}
template <class... Bit>
[[nodiscard]] static inline bool leaf7_ecx(Bit... bit) noexcept {
  return has(cpuid(7).ecx, bit...);
}
template <class... Bit>
[[nodiscard]] static inline bool leaf7_1_eax(Bit... bit) noexcept {
  return has(cpuid(7, 1).eax, bit...);
}
/// Registers that the operating system saves: bits 1 and 2 for AVX, 5 to 7 for AVX-512.
template <class... Bit>
[[nodiscard]] static inline bool saved(Bit... bit) noexcept {
  return has(xcr0(), bit...);
}

#elif defined(__aarch64__)

// Linux says what the CPU has; on other systems only the base is used.
template <class... Bit>
[[nodiscard]] static inline bool hwcap([[maybe_unused]] Bit... bit) noexcept {
#if defined(__linux__)
  return has(getauxval(AT_HWCAP), bit...);
#else
  return false;
#endif
}
template <class... Bit>
[[nodiscard]] static inline bool hwcap2([[maybe_unused]] Bit... bit) noexcept {
#if defined(__linux__)
  return has(getauxval(AT_HWCAP2), bit...);
#else
  return false;
#endif
}

#endif

}  // namespace ask

[[nodiscard]] static inline bool runs_nothing() noexcept {
  return true;
}  // asked by lines of isas.def that extend nothing

#define MXFP4_ISA(name, extends, flags, macros, cpu)        \
  [[nodiscard]] static inline bool runs_##name() noexcept { \
    using namespace ask;                                    \
    return runs_##extends() && (cpu);                       \
  }
#include "mxfp4/simd/isas.def"
#undef MXFP4_ISA

}  // namespace mxfp4::dispatch::detail::cpu
