// mxfp4/simd/neon_dotprod.hpp -- sdot: four products of signed bytes, added to a lane.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "mxfp4/simd/dot.hpp"
#include "mxfp4/simd/neon.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::simd {
inline namespace MXFP4_ISA_NS {

/// All of NEON's architectures, where the flags allow it. The "&& true" makes this concept more constrained than
/// has_neon64, so that its specialisations win.
template <class Arch>
concept has_neon_dotprod =
#if defined(__ARM_FEATURE_DOTPROD)
    has_neon64<Arch> && true;
#else
    false;
#endif

#if defined(__ARM_FEATURE_DOTPROD)

template <has_neon_dotprod Arch>
inline constexpr const char* isa_name<Arch> = "neon_dotprod";

template <has_neon_dotprod Arch>
struct block_sum<Arch> {
  MXFP4_INLINE void start(std::int32_t) noexcept { lanes = vdupq_n_s32(0); }
  MXFP4_INLINE void add(int, const byte_lanes<Arch>& weights, std::int32_t quad) noexcept {
    lanes = vdotq_s32(lanes, vreinterpretq_s8_u8(weights), vreinterpretq_s8_s32(vdupq_n_s32(quad)));
  }
  [[nodiscard]] MXFP4_INLINE int_lanes<Arch> sum() const noexcept { return int_lanes<Arch>(lanes); }

  int32x4_t lanes;
};

namespace detail {

/// Two or four tokens: sdot takes a lane for all rows, so one load serves them, and no quad is copied.
template <has_neon_dotprod Arch>
struct quad_adder<Arch> {
  template <std::size_t Tokens>
  MXFP4_INLINE static void add(block_sum<Arch> (&dot)[Tokens], int half, const byte_lanes<Arch>& weights,
                               const std::uint8_t* codes) noexcept {
    const int8x16_t w = vreinterpretq_s8_u8(weights);
    if constexpr (Tokens == 2) {
      const int8x8_t x = vreinterpret_s8_u8(vld1_u8(codes));
      dot[0].lanes = vdotq_lane_s32(dot[0].lanes, w, x, 0);
      dot[1].lanes = vdotq_lane_s32(dot[1].lanes, w, x, 1);
    } else if constexpr (Tokens == 4) {
      const int8x16_t x = vreinterpretq_s8_u8(vld1q_u8(codes));
      dot[0].lanes = vdotq_laneq_s32(dot[0].lanes, w, x, 0);
      dot[1].lanes = vdotq_laneq_s32(dot[1].lanes, w, x, 1);
      dot[2].lanes = vdotq_laneq_s32(dot[2].lanes, w, x, 2);
      dot[3].lanes = vdotq_laneq_s32(dot[3].lanes, w, x, 3);
    } else {
      MXFP4_UNROLL
      for (std::size_t t = 0; t < Tokens; ++t) dot[t].add(half, weights, load_quad(codes + 4 * t));
    }
  }
};

}  // namespace detail

#endif

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::simd
