// mxfp4/simd/batch.hpp -- a register of T for any architecture: xsimd's batch, NEON's own, or plain C++.
// SPDX-License-Identifier: Apache-2.0
//
// Kernels use simd::batch<T, Arch> and simd::fma, simd::select, ...: the same source, whether xsimd knows the
// processor's instruction set or not (s390x, RISC-V, ...). Where it does not, a batch is an array and an operation a
// loop of known length, which a compiler turns into vector instructions where there are any.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mxfp4/simd/isa.hpp"
#include "mxfp4/simd/neon_batch.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::simd {
inline namespace MXFP4_ISA_NS {

/// Does simd::fma round once? On x86 only AVX2 and later have the instruction, and xsimd does not use it under the name
/// avxvnni; plain C++ uses fma where the compiler's flags allow the instruction, and otherwise multiplies and adds: a
/// library call for each product would take a hundred times as long.
template <class Arch>
inline constexpr bool fuses =
    has_avx512bw<Arch> || std::is_base_of_v<xsimd::fma3<xsimd::avx2>, Arch> || has_neon64<Arch>;
template <>
inline constexpr bool fuses<scalar_arch> =
#if defined(__FP_FAST_FMAF)
    true;
#else
    false;
#endif

namespace detail {

/// What a comparison of plain batches gives.
template <std::size_t N>
struct plain_mask {
  bool lane[N];
};

/// The operations of xsimd::batch that the kernels use, lane by lane.
template <class T>
class plain_batch {
 public:
  static constexpr std::size_t size = 16 / sizeof(T);

  plain_batch() = default;
  MXFP4_INLINE explicit plain_batch(T value) noexcept {
    for (T& v : lane) v = value;
  }
  template <class F>
  [[nodiscard]] MXFP4_INLINE static plain_batch make(F&& value) noexcept {
    plain_batch result;
    for (std::size_t i = 0; i < size; ++i) result.lane[i] = static_cast<T>(value(i));
    return result;
  }
  [[nodiscard]] MXFP4_INLINE static plain_batch load_unaligned(const T* from) noexcept {
    plain_batch result;
    std::memcpy(result.lane, from, sizeof result.lane);
    return result;
  }
  [[nodiscard]] MXFP4_INLINE static plain_batch load_aligned(const T* from) noexcept { return load_unaligned(from); }
  MXFP4_INLINE void store_unaligned(T* to) const noexcept { std::memcpy(to, lane, sizeof lane); }
  MXFP4_INLINE void store_aligned(T* to) const noexcept { store_unaligned(to); }

  [[nodiscard]] MXFP4_INLINE friend plain_batch operator+(const plain_batch& a, const plain_batch& b) noexcept {
    return make([&](std::size_t i) { return a.lane[i] + b.lane[i]; });
  }
  MXFP4_INLINE plain_batch& operator+=(const plain_batch& b) noexcept { return *this = *this + b; }
  [[nodiscard]] MXFP4_INLINE friend plain_batch operator-(const plain_batch& a, const plain_batch& b) noexcept {
    return make([&](std::size_t i) { return a.lane[i] - b.lane[i]; });
  }
  [[nodiscard]] MXFP4_INLINE friend plain_batch operator-(const plain_batch& a) noexcept {
    return make([&](std::size_t i) { return -a.lane[i]; });
  }
  [[nodiscard]] MXFP4_INLINE friend plain_batch operator*(const plain_batch& a, const plain_batch& b) noexcept {
    return make([&](std::size_t i) { return a.lane[i] * b.lane[i]; });
  }
  [[nodiscard]] MXFP4_INLINE friend plain_batch operator&(const plain_batch& a, const plain_batch& b) noexcept {
    return make([&](std::size_t i) { return a.lane[i] & b.lane[i]; });
  }
  [[nodiscard]] MXFP4_INLINE friend plain_batch operator|(const plain_batch& a, const plain_batch& b) noexcept {
    return make([&](std::size_t i) { return a.lane[i] | b.lane[i]; });
  }
  [[nodiscard]] MXFP4_INLINE friend plain_batch operator<<(const plain_batch& a, int bits) noexcept {
    return make([&](std::size_t i) { return a.lane[i] << bits; });
  }
  [[nodiscard]] MXFP4_INLINE friend plain_batch operator>>(const plain_batch& a, int bits) noexcept {
    return make([&](std::size_t i) { return a.lane[i] >> bits; });
  }
  [[nodiscard]] MXFP4_INLINE friend plain_mask<size> operator<(const plain_batch& a, const plain_batch& b) noexcept {
    plain_mask<size> result;
    for (std::size_t i = 0; i < size; ++i) result.lane[i] = a.lane[i] < b.lane[i];
    return result;
  }
  [[nodiscard]] MXFP4_INLINE friend plain_mask<size> operator>(const plain_batch& a, const plain_batch& b) noexcept {
    return b < a;
  }
  [[nodiscard]] MXFP4_INLINE friend plain_mask<size> operator<=(const plain_batch& a, const plain_batch& b) noexcept {
    plain_mask<size> result;
    for (std::size_t i = 0; i < size; ++i) result.lane[i] = a.lane[i] <= b.lane[i];
    return result;
  }
  [[nodiscard]] MXFP4_INLINE friend plain_mask<size> operator==(const plain_batch& a, const plain_batch& b) noexcept {
    plain_mask<size> result;
    for (std::size_t i = 0; i < size; ++i) result.lane[i] = a.lane[i] == b.lane[i];
    return result;
  }

  alignas(16) T lane[size];
};

template <class T, class Arch>
struct batch_of {
  using type = xsimd::batch<T, Arch>;
};
template <class T>
struct batch_of<T, scalar_arch> {
  using type = plain_batch<T>;
};
#if defined(__aarch64__)
template <class T, class Arch>
  requires has_neon64<Arch>
struct batch_of<T, Arch> {
  using type = neon_batch<T>;
};
#endif

}  // namespace detail

template <class T, class Arch>
using batch = typename detail::batch_of<T, Arch>::type;

// ---- functions: xsimd's for its batches; neon_batch.hpp has NEON's; ours for plain ones ---------------------------

#if defined(__SSE2__)
using xsimd::all;
using xsimd::bitwise_cast;
using xsimd::fma;
using xsimd::max;
using xsimd::min;
using xsimd::nearbyint_as_int;
using xsimd::reduce_add;
using xsimd::reduce_max;
using xsimd::select;
using xsimd::to_float;
using xsimd::to_int;
using xsimd::zip_hi;
using xsimd::zip_lo;
#endif

/// The bytes of a register as lanes of another type.
template <class To, class From>
[[nodiscard]] MXFP4_INLINE detail::plain_batch<To> bitwise_cast(const detail::plain_batch<From>& a) noexcept {
  detail::plain_batch<To> result;
  std::memcpy(result.lane, a.lane, sizeof result.lane);
  return result;
}
/// a * b + c, rounded once where `fuses<scalar_arch>`.
[[nodiscard]] MXFP4_INLINE detail::plain_batch<float> fma(const detail::plain_batch<float>& a,
                                                          const detail::plain_batch<float>& b,
                                                          const detail::plain_batch<float>& c) noexcept {
  return detail::plain_batch<float>::make([&](std::size_t i) {
    if constexpr (fuses<scalar_arch>) return std::fma(a.lane[i], b.lane[i], c.lane[i]);
    else return a.lane[i] * b.lane[i] + c.lane[i];
  });
}
template <class T>
[[nodiscard]] MXFP4_INLINE detail::plain_batch<T> max(const detail::plain_batch<T>& a,
                                                      const detail::plain_batch<T>& b) noexcept {
  return detail::plain_batch<T>::make([&](std::size_t i) { return a.lane[i] < b.lane[i] ? b.lane[i] : a.lane[i]; });
}
template <class T>
[[nodiscard]] MXFP4_INLINE detail::plain_batch<T> min(const detail::plain_batch<T>& a,
                                                      const detail::plain_batch<T>& b) noexcept {
  return detail::plain_batch<T>::make([&](std::size_t i) { return b.lane[i] < a.lane[i] ? b.lane[i] : a.lane[i]; });
}
/// The nearest integers in the current rounding mode; |a| < 2^31.
[[nodiscard]] MXFP4_INLINE detail::plain_batch<std::int32_t> nearbyint_as_int(
    const detail::plain_batch<float>& a) noexcept {
  return detail::plain_batch<std::int32_t>::make([&](std::size_t i) { return std::nearbyint(a.lane[i]); });
}
[[nodiscard]] MXFP4_INLINE detail::plain_batch<float> to_float(const detail::plain_batch<std::int32_t>& a) noexcept {
  return detail::plain_batch<float>::make([&](std::size_t i) { return a.lane[i]; });
}
/// Toward zero; |a| < 2^31.
[[nodiscard]] MXFP4_INLINE detail::plain_batch<std::int32_t> to_int(const detail::plain_batch<float>& a) noexcept {
  return detail::plain_batch<std::int32_t>::make([&](std::size_t i) { return a.lane[i]; });
}
template <class T>
[[nodiscard]] MXFP4_INLINE T reduce_add(const detail::plain_batch<T>& a) noexcept {
  T sum = a.lane[0];
  for (std::size_t i = 1; i < a.size; ++i) sum += a.lane[i];
  return sum;
}
template <class T>
[[nodiscard]] MXFP4_INLINE T reduce_max(const detail::plain_batch<T>& a) noexcept {
  T largest = a.lane[0];
  for (std::size_t i = 1; i < a.size; ++i) largest = largest < a.lane[i] ? a.lane[i] : largest;
  return largest;
}
template <class T, std::size_t N>
[[nodiscard]] MXFP4_INLINE detail::plain_batch<T> select(const detail::plain_mask<N>& mask,
                                                         const detail::plain_batch<T>& yes,
                                                         const detail::plain_batch<T>& no) noexcept {
  return detail::plain_batch<T>::make([&](std::size_t i) { return mask.lane[i] ? yes.lane[i] : no.lane[i]; });
}
template <std::size_t N>
[[nodiscard]] MXFP4_INLINE bool all(const detail::plain_mask<N>& mask) noexcept {
  for (const bool lane : mask.lane)
    if (!lane) return false;
  return true;
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd
