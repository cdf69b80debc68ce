// mxfp4/core/config.hpp -- the only macros of the library, with those of isa_namespace.hpp and version.hpp.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mxfp4/core/isa_namespace.hpp"  // keep: MXFP4_ISA_NS, round every function that may stay out of line
#include "mxfp4/core/version.hpp"        // keep: every header names its MXFP4_VERSION_NS

/// Are the plain names (mxfp4::quantize and its kin) the kernels, or the plain loops of mxfp4::reference? Target
/// mxfp4::mxfp4 says 1; mxfp4::format alone says 0 by MXFP4_FORMAT; without CMake it is whether xsimd is found.
#if !defined(MXFP4_KERNELS)
#if defined(MXFP4_FORMAT)
#define MXFP4_KERNELS 0
#elif defined(__has_include)
#if __has_include(<xsimd/xsimd.hpp>) && !defined(__CUDACC__)
#define MXFP4_KERNELS 1
#else
#define MXFP4_KERNELS 0
#endif
#endif
#endif

/// Marks a function that runs on the host and, under a CUDA or HIP compiler, on the device too.
#if defined(__CUDACC__) || defined(__HIPCC__)
#define MXFP4_HD __host__ __device__
#else
#define MXFP4_HD
#endif

/// A function of this library is always inlined, or it is in the inline namespace MXFP4_ISA_NS: a translation unit that
/// is compiled for a newer instruction set then leaves no function behind that the linker could give to an older one.
/// Types are in no such namespace, since they pass from unit to unit; so their members are always inlined. What is left
/// to the compiler are the implicit members of aggregates, and what the standard library makes of our types.
/// Tests package.two_tus and header_only.symbol_gate hold us to it.
#if defined(__CUDACC__)
#define MXFP4_INLINE __forceinline__
#elif defined(__GNUC__)
#define MXFP4_INLINE inline __attribute__((always_inline))
#else
#define MXFP4_INLINE inline
#endif

/// On a function whose loop needs every register: elsewhere than in a caller, whose variables would take some.
#if defined(__GNUC__) || defined(__CUDACC__)
#define MXFP4_NOINLINE __attribute__((noinline))
#else
#define MXFP4_NOINLINE
#endif

/// On a type: its objects may be read and written through pointers to other types, as bytes may through `char`.
#if defined(__GNUC__)
#define MXFP4_MAY_ALIAS __attribute__((may_alias))
#else
#define MXFP4_MAY_ALIAS
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

/// Before a loop that must not be unrolled: the unrolled one needs more registers than there are.
#if defined(__CUDACC__)
#define MXFP4_ROLLED _Pragma("unroll 1")
#else
#define MXFP4_ROLLED
#endif
