// mxfp4/config.hpp -- floor 0: the only macros of the library.
// SPDX-License-Identifier: Apache-2.0
//
// Reads: nothing.  Read by: every other header.
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
