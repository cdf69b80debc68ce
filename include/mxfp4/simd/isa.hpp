// mxfp4/simd/isa.hpp -- which instructions a kernel may use.
// SPDX-License-Identifier: Apache-2.0
//
// A kernel is a template on an xsimd architecture and lives in `inline namespace MXFP4_ISA_NS` (config.hpp says why
// both). A primitive asks here what its architecture has. Asking for more than the compiler's flags allow is a compile
// error in the primitive; asking for less runs the path of a lower ISA, bit for bit the same, which is how the tests
// reach them all.
#pragma once

#include <type_traits>

#include "mxfp4/core/config.hpp"
#include "mxfp4/simd/xsimd.hpp"  // keep: xsimd's own names

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace mxfp4::simd {
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
/// Its registers of 16 bytes, a block's codes.
using register128 = std::conditional_t<std::is_base_of_v<xsimd::neon64, native_arch>, xsimd::neon64, xsimd::sse2>;
#else
using native_arch = scalar_arch;
#endif

template <class Arch>
inline constexpr bool has_avx512bw = std::is_base_of_v<xsimd::avx512bw, Arch>;
template <class Arch>
inline constexpr bool has_avx2 = std::is_base_of_v<xsimd::avx2, Arch> || has_avx512bw<Arch>;
template <class Arch>
inline constexpr bool has_neon64 = std::is_base_of_v<xsimd::neon64, Arch>;
/// NEON's int8 matrix products.
template <class Arch>
inline constexpr bool has_mmla = std::is_base_of_v<xsimd::i8mm<xsimd::neon64>, Arch>;

/// vpermb and vpmultishiftqb: implied by no xsimd tag of 13.2 and 14 alike, so the flags decide for the native one.
template <class Arch>
inline constexpr bool has_avx512vbmi =
#if defined(__AVX512VBMI__)
    has_avx512bw<Arch> && std::is_same_v<Arch, native_arch>;
#else
    false;
#endif

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd
