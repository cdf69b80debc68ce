// mxfp4/simd/isa.hpp -- which instructions a kernel may use.
// SPDX-License-Identifier: Apache-2.0
//
// A kernel is a template on an xsimd architecture and lives in `inline namespace MXFP4_ISA_NS` (config.hpp says why
// both). What differs between instruction sets is a primitive: a class template on the architecture. Its plain C++ is
// the primary template, in the header named after it; the file of an instruction set specialises the primitives for the
// architectures that have it, and of two files the one that asks for more is taken, as its concept implies the other's.
//
//   registers of   named by        files
//   16 bytes       has_sse2        sse2
//   32 bytes       has_avx2        avx2, avxvnni
//   64 bytes       has_avx512bw    avx512bw, avx512vnni, avx512vnni_fp8_table, avx512bf16
//   16 bytes       has_neon64      neon_batch, neon, neon_dotprod, neon_i8mm
//
// Asking for more than the compiler's flags allow is a compile error; asking for less runs the path of a lower set, bit
// for bit the same, which is how the tests reach them all.
#pragma once

#include <type_traits>

#include "mxfp4/core/isa_namespace.hpp"
#include "mxfp4/core/version.hpp"
#include "mxfp4/simd/xsimd.hpp"  // keep: xsimd's own names

#if defined(__AVX__)  // takes as long to parse as xsimd, so a unit without AVX does without it
#include <immintrin.h>
#elif defined(__SSE4_1__)
#include <smmintrin.h>
#elif defined(__SSSE3__)
#include <tmmintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace mxfp4::inline MXFP4_VERSION_NS::simd {
inline namespace MXFP4_ISA_NS {

/// The plain C++ path of every primitive.
struct scalar_arch {};

/// What the translation unit is compiled for: plain C++ where it is neither x86-64 nor aarch64. The dot products see
/// AVX-VNNI by its flag: xsimd 13.2's tag of that name has no FMA, and a kernel would round its products twice.
#if defined(__SSE2__) || defined(__aarch64__)
#if defined(__AVXVNNI__) && defined(__FMA__) && !defined(__AVX512F__)
using native_arch = xsimd::fma3<xsimd::avx2>;
#else
using native_arch = xsimd::default_arch;
#endif
/// The architecture with registers of 16 bytes, which hold the codes of a block.
using register128 = std::conditional_t<std::is_base_of_v<xsimd::neon64, native_arch>, xsimd::neon64, xsimd::sse2>;
#else
using native_arch = scalar_arch;
using register128 = scalar_arch;
#endif

/// SSE2 to SSE4.2. AVX without AVX2 has no integers in its registers and runs the plain path.
template <class Arch>
concept has_sse2 = std::is_base_of_v<xsimd::sse2, Arch> && !std::is_base_of_v<xsimd::avx, Arch>;
template <class Arch>
concept has_avx512bw = std::is_base_of_v<xsimd::avx512bw, Arch>;
/// True of AVX-512 too, which uses AVX2's version of a primitive where it has none of its own.
template <class Arch>
concept has_avx2 = std::is_base_of_v<xsimd::avx2, Arch> || has_avx512bw<Arch>;
template <class Arch>
concept has_neon64 = std::is_base_of_v<xsimd::neon64, Arch>;

/// The name in isas.def of the instruction set that runs.
template <class Arch>
inline constexpr const char* isa_name = "scalar";

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd
