// tests/support/cpu_needs.cpp -- what the compiler may use with the flags of this file, which are those of its program.
// SPDX-License-Identifier: Apache-2.0
//
// Data alone: code here would already be compiled for the CPU that is to be asked for. The rows are what compilers emit
// of their own accord, so that they hold for -march=native too; what needs an intrinsic (AES, RDRAND, AMX) is left out
// unless vector code might have it.
// Source: GCC's and clang's predefined macros; Intel SDM vol. 2A CPUID, AMD APM vol. 3 appendix E, Linux <asm/hwcap.h>.
#include "cpu_needs.hpp"

namespace {
// A macro that is not defined remains its own name, one that is becomes a number.
[[maybe_unused]] consteval bool is_number(const char* text) { return text[0] >= '1' && text[0] <= '9'; }
}  // namespace
#define MXFP4_TEXT_OF(...) #__VA_ARGS__
#define MXFP4_NEED(name, macro, where, bit) \
  { name, is_number(MXFP4_TEXT_OF(macro)), cpu_register::where, bit }

constinit const cpu_need mxfp4_cpu_needs[] = {
#if defined(__x86_64__)
    MXFP4_NEED("SSE3", __SSE3__, leaf1_ecx, 0),
    MXFP4_NEED("PCLMULQDQ", __PCLMUL__, leaf1_ecx, 1),
    MXFP4_NEED("SSSE3", __SSSE3__, leaf1_ecx, 9),
    MXFP4_NEED("FMA", __FMA__, leaf1_ecx, 12),
    MXFP4_NEED("CMPXCHG16B", __GCC_HAVE_SYNC_COMPARE_AND_SWAP_16, leaf1_ecx, 13),
    MXFP4_NEED("SSE4.1", __SSE4_1__, leaf1_ecx, 19),
    MXFP4_NEED("SSE4.2", __SSE4_2__, leaf1_ecx, 20),
    MXFP4_NEED("MOVBE", __MOVBE__, leaf1_ecx, 22),
    MXFP4_NEED("POPCNT", __POPCNT__, leaf1_ecx, 23),
    MXFP4_NEED("AVX", __AVX__, leaf1_ecx, 28),
    MXFP4_NEED("F16C", __F16C__, leaf1_ecx, 29),
    MXFP4_NEED("BMI", __BMI__, leaf7_ebx, 3),
    MXFP4_NEED("AVX2", __AVX2__, leaf7_ebx, 5),
    MXFP4_NEED("BMI2", __BMI2__, leaf7_ebx, 8),
    MXFP4_NEED("ADX", __ADX__, leaf7_ebx, 19),
    MXFP4_NEED("SHA", __SHA__, leaf7_ebx, 29),
    MXFP4_NEED("AVX-512 F", __AVX512F__, leaf7_ebx, 16),
    MXFP4_NEED("AVX-512 DQ", __AVX512DQ__, leaf7_ebx, 17),
    MXFP4_NEED("AVX-512 IFMA", __AVX512IFMA__, leaf7_ebx, 21),
    MXFP4_NEED("AVX-512 PF", __AVX512PF__, leaf7_ebx, 26),
    MXFP4_NEED("AVX-512 ER", __AVX512ER__, leaf7_ebx, 27),
    MXFP4_NEED("AVX-512 CD", __AVX512CD__, leaf7_ebx, 28),
    MXFP4_NEED("AVX-512 BW", __AVX512BW__, leaf7_ebx, 30),
    MXFP4_NEED("AVX-512 VL", __AVX512VL__, leaf7_ebx, 31),
    MXFP4_NEED("AVX-512 VBMI", __AVX512VBMI__, leaf7_ecx, 1),
    MXFP4_NEED("AVX-512 VBMI2", __AVX512VBMI2__, leaf7_ecx, 6),
    MXFP4_NEED("GFNI", __GFNI__, leaf7_ecx, 8),
    MXFP4_NEED("VAES", __VAES__, leaf7_ecx, 9),
    MXFP4_NEED("VPCLMULQDQ", __VPCLMULQDQ__, leaf7_ecx, 10),
    MXFP4_NEED("AVX-512 VNNI", __AVX512VNNI__, leaf7_ecx, 11),
    MXFP4_NEED("AVX-512 BITALG", __AVX512BITALG__, leaf7_ecx, 12),
    MXFP4_NEED("AVX-512 VPOPCNTDQ", __AVX512VPOPCNTDQ__, leaf7_ecx, 14),
    MXFP4_NEED("AVX-512 4VNNIW", __AVX5124VNNIW__, leaf7_edx, 2),
    MXFP4_NEED("AVX-512 4FMAPS", __AVX5124FMAPS__, leaf7_edx, 3),
    MXFP4_NEED("AVX-512 VP2INTERSECT", __AVX512VP2INTERSECT__, leaf7_edx, 8),
    MXFP4_NEED("AVX-512 FP16", __AVX512FP16__, leaf7_edx, 23),
    MXFP4_NEED("AVX-VNNI", __AVXVNNI__, leaf7_1_eax, 4),
    MXFP4_NEED("AVX-512 BF16", __AVX512BF16__, leaf7_1_eax, 5),
    MXFP4_NEED("AVX-IFMA", __AVXIFMA__, leaf7_1_eax, 23),
    MXFP4_NEED("AVX-VNNI-INT8", __AVXVNNIINT8__, leaf7_1_edx, 4),
    MXFP4_NEED("AVX-NE-CONVERT", __AVXNECONVERT__, leaf7_1_edx, 5),
    MXFP4_NEED("AVX-VNNI-INT16", __AVXVNNIINT16__, leaf7_1_edx, 10),
    MXFP4_NEED("AVX10", __AVX10_1__, leaf7_1_edx, 19),
    MXFP4_NEED("APX", __APX_F__, leaf7_1_edx, 21),
    MXFP4_NEED("LAHF", __LAHF_SAHF__, extended1_ecx, 0),
    MXFP4_NEED("LZCNT", __LZCNT__, extended1_ecx, 5),
    MXFP4_NEED("SSE4a", __SSE4A__, extended1_ecx, 6),
    MXFP4_NEED("PREFETCHW", __PRFCHW__, extended1_ecx, 8),
    MXFP4_NEED("XOP", __XOP__, extended1_ecx, 11),
    MXFP4_NEED("FMA4", __FMA4__, extended1_ecx, 16),
    MXFP4_NEED("TBM", __TBM__, extended1_ecx, 21),
    MXFP4_NEED("xmm saved by the system", __AVX__, xcr0, 1),
    MXFP4_NEED("ymm saved by the system", __AVX__, xcr0, 2),
    MXFP4_NEED("masks saved by the system", __AVX512F__, xcr0, 5),
    MXFP4_NEED("zmm saved by the system", __AVX512F__, xcr0, 6),
    MXFP4_NEED("zmm16 on saved by the system", __AVX512F__, xcr0, 7),
    MXFP4_NEED("r16 on saved by the system", __APX_F__, xcr0, 19),
#elif defined(__aarch64__) && defined(__linux__)
    MXFP4_NEED("CRC32", __ARM_FEATURE_CRC32, hwcap, 7),
    MXFP4_NEED("LSE atomics", __ARM_FEATURE_ATOMICS, hwcap, 8),
    MXFP4_NEED("FP16", __ARM_FEATURE_FP16_SCALAR_ARITHMETIC, hwcap, 9),
    MXFP4_NEED("FP16 vectors", __ARM_FEATURE_FP16_VECTOR_ARITHMETIC, hwcap, 10),
    MXFP4_NEED("RDM", __ARM_FEATURE_QRDMX, hwcap, 12),
    MXFP4_NEED("JSCVT", __ARM_FEATURE_JCVT, hwcap, 13),
    MXFP4_NEED("FCMA", __ARM_FEATURE_COMPLEX, hwcap, 14),
    MXFP4_NEED("RCPC", __ARM_FEATURE_RCPC, hwcap, 15),
    MXFP4_NEED("SHA3", __ARM_FEATURE_SHA3, hwcap, 17),
    MXFP4_NEED("dot products", __ARM_FEATURE_DOTPROD, hwcap, 20),
    MXFP4_NEED("SVE", __ARM_FEATURE_SVE, hwcap, 22),
    MXFP4_NEED("FHM", __ARM_FEATURE_FP16_FML, hwcap, 23),
    MXFP4_NEED("SVE2", __ARM_FEATURE_SVE2, hwcap2, 1),
    MXFP4_NEED("FRINT", __ARM_FEATURE_FRINT, hwcap2, 8),
    MXFP4_NEED("SVE I8MM", __ARM_FEATURE_SVE_MATMUL_INT8, hwcap2, 9),
    MXFP4_NEED("SVE BF16", __ARM_FEATURE_SVE_BF16, hwcap2, 12),
    MXFP4_NEED("I8MM", __ARM_FEATURE_MATMUL_INT8, hwcap2, 13),
    MXFP4_NEED("BF16", __ARM_FEATURE_BF16_VECTOR_ARITHMETIC, hwcap2, 14),
    MXFP4_NEED("MOPS", __ARM_FEATURE_MOPS, hwcap2, 43),
#endif
    {"", false, cpu_register::hwcap, 0},  // an array has one element at least
};
constinit const unsigned mxfp4_cpu_need_count = sizeof mxfp4_cpu_needs / sizeof mxfp4_cpu_needs[0];
