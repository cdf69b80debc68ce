// tests/support/cpu_needs.hpp -- what a program was compiled for, as rows that cpu_check.cpp compares with the CPU.
// SPDX-License-Identifier: Apache-2.0
//
// Includes nothing: what cpu_check.cpp can be linked to must be compiled for the architecture's base.
#pragma once

enum class cpu_register : unsigned char {
  leaf1_ecx,  // CPUID: leaf, part, register
  leaf7_ebx,
  leaf7_ecx,
  leaf7_edx,
  leaf7_1_eax,
  leaf7_1_edx,
  extended1_ecx,
  xcr0,   // what the operating system saves of the registers
  hwcap,  // Linux's word about an Arm CPU
  hwcap2,
};

struct cpu_need {
  char name[32];
  bool wanted;  ///< did the program's flags allow it?
  cpu_register in;
  unsigned char bit;
};

extern "C" const cpu_need mxfp4_cpu_needs[];
extern "C" const unsigned mxfp4_cpu_need_count;
