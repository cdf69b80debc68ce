// mxfp4/simd/neon.hpp -- registers of 16 bytes on aarch64; tbl looks up bytes among 16 to 64.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>
#include <cstring>

#include "mxfp4/simd/dequant_table.hpp"
#include "mxfp4/simd/dot.hpp"
#include "mxfp4/simd/register_lookup.hpp"
#include "mxfp4/simd/widen.hpp"

#if defined(__aarch64__)

namespace mxfp4::inline MXFP4_VERSION_NS::simd {
inline namespace MXFP4_ISA_NS {

template <has_neon64 Arch>
inline constexpr const char* isa_name<Arch> = "neon";

// ---- elements in memory <-> lanes ----

namespace detail {

template <has_neon64 Arch>
struct small_lanes<Arch> {
  template <class Small>
  [[nodiscard]] MXFP4_INLINE static words<Arch> load(const Small* from) noexcept {
    if constexpr (sizeof(Small) == 1) {
      std::uint32_t four;
      std::memcpy(&four, from, sizeof four);
      return vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)))));
    } else {
      return vmovl_u16(vld1_u16(reinterpret_cast<const std::uint16_t*>(from)));
    }
  }
  MXFP4_INLINE static void store(words<Arch> w, std::uint16_t* to) noexcept { vst1_u16(to, vmovn_u32(w)); }
};

template <has_neon64 Arch>
struct f16_lanes<Arch> {
  [[nodiscard]] MXFP4_INLINE static floats<Arch> load(const f16* x) noexcept {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const std::uint16_t*>(x))));
  }
  MXFP4_INLINE static void store(floats<Arch> x, f16* to) noexcept {
    vst1_u16(reinterpret_cast<std::uint16_t*>(to), vreinterpret_u16_f16(vcvt_f16_f32(x)));
  }
};

// ---- codes -> numbers: tbl looks up each byte of a number, so a code becomes the indices of its number's bytes ----

/// The 32 codes of a block in their order, one a byte.
template <nibble_order Order>
MXFP4_INLINE void load_code_bytes(const std::uint8_t* codes, uint8x16_t (&half)[2]) noexcept {
  const uint8x16_t bytes = vld1q_u8(codes), low = vandq_u8(bytes, vdupq_n_u8(15)), high = vshrq_n_u8(bytes, 4);
  half[0] = low;
  half[1] = high;
  if constexpr (std::same_as<Order, low_first>) {
    half[0] = vzip1q_u8(low, high);
    half[1] = vzip2q_u8(low, high);
  }
}

template <has_neon64 Arch>
struct code_decoder<Arch, 4> {
  template <nibble_order Order, store Store, element_type T>
  MXFP4_INLINE static void decode(const std::uint8_t* codes, const decode_row<T>& row, T* out) noexcept {
    uint8x16_t half[2];
    load_code_bytes<Order>(codes, half);
    auto* to = reinterpret_cast<std::uint8_t*>(out);
    const auto* const entries = reinterpret_cast<const std::uint8_t*>(row.value);
    for (const uint8x16_t& code : half) {
      const uint8x16x4_t table = vld1q_u8_x4(entries);
      const uint8x16_t first = vshlq_n_u8(code, 2), one = vdupq_n_u8(1);
      const uint8x16_t second = vaddq_u8(first, one), third = vaddq_u8(second, one), fourth = vaddq_u8(third, one);
      const uint16x8_t ab[2] = {vreinterpretq_u16_u8(vzip1q_u8(first, second)),
                                vreinterpretq_u16_u8(vzip2q_u8(first, second))};
      const uint16x8_t cd[2] = {vreinterpretq_u16_u8(vzip1q_u8(third, fourth)),
                                vreinterpretq_u16_u8(vzip2q_u8(third, fourth))};
      for (int part = 0; part < 2; ++part, to += 32) {
        vst1q_u8(to, vqtbl4q_u8(table, vreinterpretq_u8_u16(vzip1q_u16(ab[part], cd[part]))));
        vst1q_u8(to + 16, vqtbl4q_u8(table, vreinterpretq_u8_u16(vzip2q_u16(ab[part], cd[part]))));
      }
    }
  }
};

template <has_neon64 Arch>
struct code_decoder<Arch, 2> {
  template <nibble_order Order, store Store, element_type T>
  MXFP4_INLINE static void decode(const std::uint8_t* codes, const decode_row<T>& row, T* out) noexcept {
    uint8x16_t half[2];
    load_code_bytes<Order>(codes, half);
    auto* to = reinterpret_cast<std::uint8_t*>(out);
    const auto* const entries = reinterpret_cast<const std::uint8_t*>(row.value);
    for (const uint8x16_t& code : half) {
      const uint8x16x2_t table = vld1q_u8_x2(entries);
      const uint8x16_t first = vshlq_n_u8(code, 1), second = vaddq_u8(first, vdupq_n_u8(1));
      vst1q_u8(to, vqtbl2q_u8(table, vzip1q_u8(first, second)));
      vst1q_u8(to + 16, vqtbl2q_u8(table, vzip2q_u8(first, second)));
      to += 32;
    }
  }
};

}  // namespace detail

template <has_neon64 Arch>
class table16<Arch> {
 public:
  MXFP4_INLINE explicit table16(const float* entries) noexcept
      : bytes_(vld1q_u8_x4(reinterpret_cast<const std::uint8_t*>(entries))) {}
  [[nodiscard]] MXFP4_INLINE floats<Arch> operator[](words<Arch> index) const noexcept {
    const uint32x4_t code = vandq_u32(index, vdupq_n_u32(15));
    const uint32x4_t places = vmlaq_n_u32(vdupq_n_u32(0x03020100u), code, 0x04040404u);
    return vreinterpretq_f32_u8(vqtbl4q_u8(bytes_, vreinterpretq_u8_u32(places)));
  }

 private:
  uint8x16x4_t bytes_;
};

namespace detail {

template <has_neon64 Arch>
struct row_transposer<Arch> {
  MXFP4_INLINE static void transpose(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                                     const std::uint8_t* d, std::uint8_t* out) noexcept {
    const auto load = [](const std::uint8_t* p) { return vreinterpretq_u32_u8(vld1q_u8(p)); };
    const auto pair = [](uint32x4_t low, uint32x4_t high) {
      return uint64x2x2_t{{vreinterpretq_u64_u32(low), vreinterpretq_u64_u32(high)}};
    };
    const auto store = [out](int g, uint64x2_t line) { vst1q_u8(out + 64 * g, vreinterpretq_u8_u64(line)); };
    const uint32x4_t ra = load(a), rb = load(b), rc = load(c), rd = load(d);
    const uint64x2x2_t first = pair(vzip1q_u32(ra, rb), vzip1q_u32(rc, rd));
    const uint64x2x2_t second = pair(vzip2q_u32(ra, rb), vzip2q_u32(rc, rd));
    store(0, vzip1q_u64(first.val[0], first.val[1]));
    store(1, vzip2q_u64(first.val[0], first.val[1]));
    store(2, vzip1q_u64(second.val[0], second.val[1]));
    store(3, vzip2q_u64(second.val[0], second.val[1]));
  }
};

// ---- dot products ----

template <has_neon64 Arch>
struct quad_decoder<Arch> {
  MXFP4_INLINE static void decode(const std::uint8_t* line, byte_lanes<Arch>& low, byte_lanes<Arch>& high) noexcept {
    const uint8x16_t t = vld1q_u8(weight_table<Arch>.entry), codes = vld1q_u8(line);
    low = byte_lanes<Arch>(vqtbl1q_u8(t, vandq_u8(codes, vdupq_n_u8(15))));
    high = byte_lanes<Arch>(vqtbl1q_u8(t, vshrq_n_u8(codes, 4)));
  }
};

}  // namespace detail

template <has_neon64 Arch>
struct block_sum<Arch> {
  MXFP4_INLINE void start(std::int32_t) noexcept { pairs[0] = pairs[1] = vdupq_n_s16(0); }
  MXFP4_INLINE void add(int, const byte_lanes<Arch>& weights, std::int32_t quad) noexcept {
    const int8x16_t w = vreinterpretq_s8_u8(weights), x = vreinterpretq_s8_s32(vdupq_n_s32(quad));
    pairs[0] = vmlal_s8(pairs[0], vget_low_s8(w), vget_low_s8(x));
    pairs[1] = vmlal_high_s8(pairs[1], w, x);
  }
  [[nodiscard]] MXFP4_INLINE int_lanes<Arch> sum() const noexcept {
    return int_lanes<Arch>(vpaddq_s32(vpaddlq_s16(pairs[0]), vpaddlq_s16(pairs[1])));
  }

  int16x8_t pairs[2];
};

using bytes16 = batch<std::uint8_t, register128>;
[[nodiscard]] MXFP4_INLINE bytes16 min_bytes(const bytes16& a, const bytes16& b) noexcept { return simd::min(a, b); }
[[nodiscard]] MXFP4_INLINE bytes16 max_bytes(const bytes16& a, const bytes16& b) noexcept { return simd::max(a, b); }

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd

#endif
