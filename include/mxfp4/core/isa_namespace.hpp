// mxfp4/core/isa_namespace.hpp -- MXFP4_ISA_NS: the instruction set that the compiler's flags allow.
// SPDX-License-Identifier: Apache-2.0
//
// Written by `cmake -P cmake/isa_headers.cmake` from simd/isas.def: change that. Test isa.headers compares them.
#pragma once

/// Name of the inline namespace round every function that may stay out of line: one name for each set of flags that
/// changes its machine code, so that two translation units with different flags never define the same function.
#if defined(__AVX512BF16__) && defined(__AVX512VNNI__) && defined(__AVX512VBMI__) && defined(__AVX512BW__)
#define MXFP4_ISA_NS isa_avx512bf16
#elif defined(__AVX512VNNI__) && defined(__AVX512VBMI__) && defined(__AVX512BW__)
#define MXFP4_ISA_NS isa_avx512vnni
#elif defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define MXFP4_ISA_NS isa_avx512vnni_without_vbmi
#elif defined(__AVX512VBMI__) && defined(__AVX512BW__)
#define MXFP4_ISA_NS isa_avx512vbmi_without_vnni
#elif defined(__AVX512BW__)
#define MXFP4_ISA_NS isa_avx512bw
#elif defined(__AVX512F__)
#define MXFP4_ISA_NS isa_avx512f
#elif defined(__AVXVNNI__) && defined(__AVX2__) && defined(__FMA__)
#define MXFP4_ISA_NS isa_avxvnni
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define MXFP4_ISA_NS isa_avx2
#elif defined(__AVX2__) && defined(__FMA__)
#define MXFP4_ISA_NS isa_avx2_without_f16c
#elif defined(__AVX2__)
#define MXFP4_ISA_NS isa_avx2_without_fma
#elif defined(__AVX__)
#define MXFP4_ISA_NS isa_avx
#elif defined(__SSE4_1__)
#define MXFP4_ISA_NS isa_sse4_1
#elif defined(__SSE3__)
#define MXFP4_ISA_NS isa_sse3
#elif defined(__SSE2__)
#define MXFP4_ISA_NS isa_sse2
#elif defined(__aarch64__) && defined(__ARM_FEATURE_MATMUL_INT8)
#define MXFP4_ISA_NS isa_neon_i8mm
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#define MXFP4_ISA_NS isa_neon_dotprod
#elif defined(__aarch64__)
#define MXFP4_ISA_NS isa_neon
#else
#define MXFP4_ISA_NS isa_scalar
#endif
