// mxfp4/core/config.hpp -- the only macros of the library.
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Marks a function that runs on the host and, under a CUDA or HIP compiler, on the device too.
#if defined(__CUDACC__) || defined(__HIPCC__)
#define MXFP4_HD __host__ __device__
#else
#define MXFP4_HD
#endif

/// Leaf functions are always inlined, so that a translation unit compiled for a newer instruction set never leaves
/// behind a mergeable copy that another, older unit could be linked to.
#if defined(__CUDACC__)
#define MXFP4_INLINE __forceinline__
#elif defined(__GNUC__)
#define MXFP4_INLINE inline __attribute__((always_inline))
#else
#define MXFP4_INLINE inline
#endif

/// Before a loop over registers: unrolled in full, so that an array of them never becomes memory.
#if defined(__CUDACC__)
#define MXFP4_UNROLL _Pragma("unroll")
#elif defined(__clang__)
#define MXFP4_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define MXFP4_UNROLL _Pragma("GCC unroll 64")
#else
#define MXFP4_UNROLL
#endif

/// Before a loop that is to stay one, where a compiler would unroll it and run out of registers.
#if defined(__CUDACC__)
#define MXFP4_ROLLED _Pragma("unroll 1")
#else
#define MXFP4_ROLLED
#endif

/// Name of the inline namespace round every function that may stay out of line: one name for each set of flags that
/// changes its machine code, so that two translation units with different flags never define the same function. Each
/// line of simd/isas.def has its name here (tests isa.list.<isa>), and so has each set between two lines.
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
