// tests/support/cpu_check.cpp -- asks the CPU for what its program was compiled for, before other code of it runs.
// SPDX-License-Identifier: Apache-2.0
//
//   the system's libraries | this file, constructor 101 | static initialisers of the program | main
//                            the CPU lacks something: a sentence, exit code 4
//
// The code of a program for AVX-512 cannot ask whether there is AVX-512: its static initialisers use it before main. So
// this file is compiled for the architecture's base (cpu_check.cmake), and all functions that it calls are its own or
// the system's: a mergeable one could be replaced by the linker with another unit's copy. Exit code 4 is Catch2's for a
// run that skips all cases, and what ctest is told to count as skipped; a program for users has its own words and 1.
#include <unistd.h>

#include "../../src/dispatch/cpu.hpp"
#include "cpu_needs.hpp"

#if defined(__x86_64__) && (defined(__SSE3__) || defined(__BMI__) || defined(__MOVBE__))
#error "compiled for more than x86-64's base, see cpu_check.cmake"
#elif defined(__aarch64__) && defined(__linux__) && defined(__ARM_FEATURE_ATOMICS)
#error "compiled for more than Armv8's base, see cpu_check.cmake"
#endif

namespace {

namespace cpu = mxfp4::dispatch::detail::cpu;

#if defined(MXFP4_CPU_CHECK_INSTALLED)
constexpr const char* begin = "mxfp4: this program was compiled for what this CPU lacks: ";
constexpr const char* end = "; take a build for the processor's base, which has the others inside\n";
constexpr int exit_code = 1;
#else
constexpr const char* begin = "skipped: this program was compiled for what this CPU lacks: ";
constexpr const char* end = "\n";
constexpr int exit_code = 4;
#endif

std::uint64_t ask(cpu_register which) noexcept {
#if defined(__x86_64__)
  if (which == cpu_register::leaf1_ecx) return cpu::cpuid(1).ecx;
  if (which == cpu_register::leaf7_ebx) return cpu::cpuid(7).ebx;
  if (which == cpu_register::leaf7_ecx) return cpu::cpuid(7).ecx;
  if (which == cpu_register::leaf7_edx) return cpu::cpuid(7).edx;
  if (which == cpu_register::leaf7_1_eax) return cpu::cpuid(7, 1).eax;
  if (which == cpu_register::leaf7_1_edx) return cpu::cpuid(7, 1).edx;
  if (which == cpu_register::extended1_ecx) return cpu::cpuid(0x80000001u).ecx;
  if (which == cpu_register::xcr0) return cpu::xcr0();
#elif defined(__aarch64__) && defined(__linux__)
  if (which == cpu_register::hwcap) return getauxval(AT_HWCAP);
  if (which == cpu_register::hwcap2) return getauxval(AT_HWCAP2);
#endif
  static_cast<void>(which);
  return 0;
}

struct sentence {
  char text[1024];
  std::size_t length;
};

void add(sentence& to, const char* text) noexcept {
  for (; *text != 0 && to.length < sizeof to.text; ++text) to.text[to.length++] = *text;
}

// The lowest priority that is not the compiler's: before all static initialisers of the program.
[[gnu::constructor(101)]] void ask_the_cpu() noexcept {
  sentence lacks{};
  for (const cpu_need* need = mxfp4_cpu_needs; need != mxfp4_cpu_needs + mxfp4_cpu_need_count; ++need) {
    if (!need->wanted || (ask(need->in) >> need->bit & 1) != 0) continue;
    add(lacks, lacks.length == 0 ? begin : ", ");
    add(lacks, need->name);
  }
  if (lacks.length == 0) return;
  add(lacks, end);
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, lacks.text, lacks.length);
  _exit(exit_code);
}

}  // namespace
