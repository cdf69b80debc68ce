// mxfp4/simd/neon_batch.hpp -- a NEON register of T, with the operations of xsimd::batch that the kernels use.
// SPDX-License-Identifier: Apache-2.0
//
// xsimd's own takes each operation from a table of functions, one for each T. In a large function g++ 12 finds out too
// late which one it is and calls it: an addition is then a call with the registers in memory, and the functions stay
// behind outside MXFP4_ISA_NS. Here an operation is the compiler's own on vectors, or an intrinsic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mxfp4/core/bits.hpp"

#if defined(__aarch64__)
#include <arm_neon.h>

namespace mxfp4::inline MXFP4_VERSION_NS::simd {
inline namespace MXFP4_ISA_NS {
namespace detail {

template <class T>
struct neon_register;
template <>
struct neon_register<std::uint8_t> {
  using type = uint8x16_t;
  [[nodiscard]] MXFP4_INLINE static type all(std::uint8_t x) noexcept { return vdupq_n_u8(x); }
};
template <>
struct neon_register<std::uint16_t> {
  using type = uint16x8_t;
  [[nodiscard]] MXFP4_INLINE static type all(std::uint16_t x) noexcept { return vdupq_n_u16(x); }
};
template <>
struct neon_register<std::uint32_t> {
  using type = uint32x4_t;
  [[nodiscard]] MXFP4_INLINE static type all(std::uint32_t x) noexcept { return vdupq_n_u32(x); }
};
template <>
struct neon_register<std::uint64_t> {
  using type = uint64x2_t;
  [[nodiscard]] MXFP4_INLINE static type all(std::uint64_t x) noexcept { return vdupq_n_u64(x); }
};
template <>
struct neon_register<std::int32_t> {
  using type = int32x4_t;
  [[nodiscard]] MXFP4_INLINE static type all(std::int32_t x) noexcept { return vdupq_n_s32(x); }
};
template <>
struct neon_register<float> {
  using type = float32x4_t;
  [[nodiscard]] MXFP4_INLINE static type all(float x) noexcept { return vdupq_n_f32(x); }
};

/// What a comparison of lanes of 32 bits gives: all bits or none.
struct neon_mask {
  uint32x4_t lanes;
};

template <class T>
class neon_batch {
 public:
  using register_type = typename neon_register<T>::type;
  static constexpr std::size_t size = 16 / sizeof(T);

  neon_batch() = default;
  MXFP4_INLINE neon_batch(register_type lanes) noexcept : data(lanes) {}
  MXFP4_INLINE explicit neon_batch(T value) noexcept : data(neon_register<T>::all(value)) {}
  MXFP4_INLINE operator register_type() const noexcept { return data; }

  [[nodiscard]] MXFP4_INLINE static neon_batch load_unaligned(const T* from) noexcept {
    neon_batch result;
    std::memcpy(&result.data, from, sizeof result.data);
    return result;
  }
  [[nodiscard]] MXFP4_INLINE static neon_batch load_aligned(const T* from) noexcept { return load_unaligned(from); }
  MXFP4_INLINE void store_unaligned(T* to) const noexcept { std::memcpy(to, &data, sizeof data); }
  MXFP4_INLINE void store_aligned(T* to) const noexcept { store_unaligned(to); }

  [[nodiscard]] MXFP4_INLINE friend neon_batch operator+(const neon_batch& a, const neon_batch& b) noexcept {
    return neon_batch(register_type(a.data + b.data));
  }
  MXFP4_INLINE neon_batch& operator+=(const neon_batch& b) noexcept { return *this = *this + b; }
  [[nodiscard]] MXFP4_INLINE friend neon_batch operator-(const neon_batch& a, const neon_batch& b) noexcept {
    return neon_batch(register_type(a.data - b.data));
  }
  [[nodiscard]] MXFP4_INLINE friend neon_batch operator-(const neon_batch& a) noexcept {
    return neon_batch(register_type(-a.data));
  }
  [[nodiscard]] MXFP4_INLINE friend neon_batch operator*(const neon_batch& a, const neon_batch& b) noexcept {
    return neon_batch(register_type(a.data * b.data));
  }
  [[nodiscard]] MXFP4_INLINE friend neon_batch operator/(const neon_batch& a, const neon_batch& b) noexcept {
    return neon_batch(register_type(a.data / b.data));
  }
  [[nodiscard]] MXFP4_INLINE friend neon_batch operator&(const neon_batch& a, const neon_batch& b) noexcept {
    return neon_batch(register_type(a.data & b.data));
  }
  [[nodiscard]] MXFP4_INLINE friend neon_batch operator|(const neon_batch& a, const neon_batch& b) noexcept {
    return neon_batch(register_type(a.data | b.data));
  }
  [[nodiscard]] MXFP4_INLINE friend neon_batch operator<<(const neon_batch& a, int bits) noexcept {
    return neon_batch(register_type(a.data << neon_register<T>::all(static_cast<T>(bits))));
  }
  [[nodiscard]] MXFP4_INLINE friend neon_batch operator>>(const neon_batch& a, int bits) noexcept {
    return neon_batch(register_type(a.data >> neon_register<T>::all(static_cast<T>(bits))));
  }
  [[nodiscard]] MXFP4_INLINE friend neon_mask operator<(const neon_batch& a, const neon_batch& b) noexcept {
    return {mxfp4::detail::bit_cast<uint32x4_t>(a.data < b.data)};
  }
  [[nodiscard]] MXFP4_INLINE friend neon_mask operator>(const neon_batch& a, const neon_batch& b) noexcept {
    return b < a;
  }
  [[nodiscard]] MXFP4_INLINE friend neon_mask operator<=(const neon_batch& a, const neon_batch& b) noexcept {
    return {mxfp4::detail::bit_cast<uint32x4_t>(a.data <= b.data)};
  }
  [[nodiscard]] MXFP4_INLINE friend neon_mask operator==(const neon_batch& a, const neon_batch& b) noexcept {
    return {mxfp4::detail::bit_cast<uint32x4_t>(a.data == b.data)};
  }

  register_type data;
};

}  // namespace detail

/// The bytes of a register as lanes of another type.
template <class To, class From>
[[nodiscard]] MXFP4_INLINE detail::neon_batch<To> bitwise_cast(const detail::neon_batch<From>& a) noexcept {
  using result = detail::neon_batch<To>;
  return result(mxfp4::detail::bit_cast<typename result::register_type>(a.data));
}
/// a * b + c, rounded once.
[[nodiscard]] MXFP4_INLINE detail::neon_batch<float> fma(const detail::neon_batch<float>& a,
                                                         const detail::neon_batch<float>& b,
                                                         const detail::neon_batch<float>& c) noexcept {
  return vfmaq_f32(c.data, a.data, b.data);
}
[[nodiscard]] MXFP4_INLINE detail::neon_batch<std::uint8_t> max(const detail::neon_batch<std::uint8_t>& a,
                                                                const detail::neon_batch<std::uint8_t>& b) noexcept {
  return vmaxq_u8(a.data, b.data);
}
[[nodiscard]] MXFP4_INLINE detail::neon_batch<std::uint8_t> min(const detail::neon_batch<std::uint8_t>& a,
                                                                const detail::neon_batch<std::uint8_t>& b) noexcept {
  return vminq_u8(a.data, b.data);
}
[[nodiscard]] MXFP4_INLINE detail::neon_batch<std::int32_t> max(const detail::neon_batch<std::int32_t>& a,
                                                                const detail::neon_batch<std::int32_t>& b) noexcept {
  return vmaxq_s32(a.data, b.data);
}
[[nodiscard]] MXFP4_INLINE detail::neon_batch<std::int32_t> min(const detail::neon_batch<std::int32_t>& a,
                                                                const detail::neon_batch<std::int32_t>& b) noexcept {
  return vminq_s32(a.data, b.data);
}
[[nodiscard]] MXFP4_INLINE detail::neon_batch<std::uint32_t> max(const detail::neon_batch<std::uint32_t>& a,
                                                                 const detail::neon_batch<std::uint32_t>& b) noexcept {
  return vmaxq_u32(a.data, b.data);
}
[[nodiscard]] MXFP4_INLINE detail::neon_batch<std::uint32_t> min(const detail::neon_batch<std::uint32_t>& a,
                                                                 const detail::neon_batch<std::uint32_t>& b) noexcept {
  return vminq_u32(a.data, b.data);
}
/// NaN where either is.
[[nodiscard]] MXFP4_INLINE detail::neon_batch<float> max(const detail::neon_batch<float>& a,
                                                         const detail::neon_batch<float>& b) noexcept {
  return vmaxq_f32(a.data, b.data);
}
[[nodiscard]] MXFP4_INLINE detail::neon_batch<float> min(const detail::neon_batch<float>& a,
                                                         const detail::neon_batch<float>& b) noexcept {
  return vminq_f32(a.data, b.data);
}
/// The nearest integers, ties to even; |a| < 2^31.
[[nodiscard]] MXFP4_INLINE detail::neon_batch<std::int32_t> nearbyint_as_int(
    const detail::neon_batch<float>& a) noexcept {
  return vcvtnq_s32_f32(a.data);
}
[[nodiscard]] MXFP4_INLINE detail::neon_batch<float> to_float(const detail::neon_batch<std::int32_t>& a) noexcept {
  return vcvtq_f32_s32(a.data);
}
/// Toward zero; |a| < 2^31.
[[nodiscard]] MXFP4_INLINE detail::neon_batch<std::int32_t> to_int(const detail::neon_batch<float>& a) noexcept {
  return vcvtq_s32_f32(a.data);
}
/// (lane 0 + lane 1) + (lane 2 + lane 3)
[[nodiscard]] MXFP4_INLINE float reduce_add(const detail::neon_batch<float>& a) noexcept { return vaddvq_f32(a.data); }
[[nodiscard]] MXFP4_INLINE std::int32_t reduce_add(const detail::neon_batch<std::int32_t>& a) noexcept {
  return vaddvq_s32(a.data);
}
[[nodiscard]] MXFP4_INLINE std::int32_t reduce_max(const detail::neon_batch<std::int32_t>& a) noexcept {
  return vmaxvq_s32(a.data);
}
/// Lanes of 32 bits.
template <class T>
[[nodiscard]] MXFP4_INLINE detail::neon_batch<T> select(const detail::neon_mask& mask, const detail::neon_batch<T>& yes,
                                                        const detail::neon_batch<T>& no) noexcept {
  const auto lanes = [](const detail::neon_batch<T>& a) noexcept { return bitwise_cast<std::uint32_t>(a).data; };
  return bitwise_cast<T>(detail::neon_batch<std::uint32_t>(vbslq_u32(mask.lanes, lanes(yes), lanes(no))));
}
[[nodiscard]] MXFP4_INLINE bool all(const detail::neon_mask& mask) noexcept { return vminvq_u32(mask.lanes) != 0; }

/// The lower halves of two registers, lane by lane in turns; the upper ones.
template <class T>
[[nodiscard]] MXFP4_INLINE detail::neon_batch<T> zip_lo(const detail::neon_batch<T>& a,
                                                        const detail::neon_batch<T>& b) noexcept {
  if constexpr (sizeof(T) == 1) return vzip1q_u8(a.data, b.data);
  else if constexpr (sizeof(T) == 2) return vzip1q_u16(a.data, b.data);
  else if constexpr (sizeof(T) == 4) return vzip1q_u32(a.data, b.data);
  else return vzip1q_u64(a.data, b.data);
}
template <class T>
[[nodiscard]] MXFP4_INLINE detail::neon_batch<T> zip_hi(const detail::neon_batch<T>& a,
                                                        const detail::neon_batch<T>& b) noexcept {
  if constexpr (sizeof(T) == 1) return vzip2q_u8(a.data, b.data);
  else if constexpr (sizeof(T) == 2) return vzip2q_u16(a.data, b.data);
  else if constexpr (sizeof(T) == 4) return vzip2q_u32(a.data, b.data);
  else return vzip2q_u64(a.data, b.data);
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd
#endif
