// mxfp4/kernel/int8_operands.hpp -- what the int8 kernels multiply: a tile of weights, a group of tokens, their sums.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "mxfp4/reference/int8.hpp"
#include "mxfp4/simd/simd.hpp"
#include "mxfp4/tensor/activation.hpp"
#include "mxfp4/tensor/packed_matrix.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::kernel {
inline namespace MXFP4_ISA_NS {

/// Some blocks of a tile in tile order, and the range of their scale bytes.
struct tile_ref {
  const std::uint8_t* codes;
  const std::uint8_t* scales;
  scale_range range;
  std::uint8_t* decoded =
      nullptr;              ///< memory for its weights, decoded_block_bytes a block, if several passes are to come
  bool is_decoded = false;  ///< a pass has put them there
};

/// The same blocks of a group of tokens.
struct group_ref {
  const std::uint8_t* blocks;
  int width;
  bool multiply_scales;  ///< scales are floats (f32), else exponents to add (e8m0, row)
  mxfp4::detail::scale_exponent_range scale_exponents;
};

/// The sums of a group: [token][row].
struct alignas(64) group_sums {
  float at[token_group][tile_rows];
};

/// The smallest scale byte of a block with nonzero weights under which a group's factors are normal floats. At least 1,
/// because 2^(byte - 127) itself is a factor in scaling f32.
[[nodiscard]] MXFP4_INLINE int smallest_byte(mxfp4::detail::scale_exponent_range scale_exponents) noexcept {
  const int byte = mxfp4::detail::factor_field_min - scale_exponents.low;
  return byte < 1 ? 1 : byte;
}

/// Are all factors of this tile and this group normal floats, so that one fma rounds as int8_step does? Otherwise the
/// tile goes through int8_step itself.
[[nodiscard]] MXFP4_INLINE bool is_regular(scale_range weights,
                                           mxfp4::detail::scale_exponent_range scale_exponents) noexcept {
  using namespace mxfp4::detail;
  return weights.high <= finite_scale_max && weights.high + scale_exponents.high <= factor_field_max &&
         scale_exponents.high - scale_exponents.low <= factor_field_max - factor_field_min &&
         weights.low >= smallest_byte(scale_exponents);
}

/// With few tokens the kernel waits for weights from memory, so they are prefetched this many bytes ahead. Zen 4,
/// 2026-11-23, 4096 bytes: 5 to 15 % faster for two to eight tokens with the weights in cache, 20 % for an expert with
/// two or four tokens whose weights are not. "Emerald Rapids", 2026-12-01, one token's experts from memory: 2048 take
/// 0.86 of 4096's time (1536, 2560, 3072: 0.97 to 0.99), and as long with another 8 or 16 KiB ahead fetched into the
/// second level.
inline constexpr int prefetch_distance = 2048;
inline constexpr int prefetch_width = 8;

MXFP4_INLINE void prefetch_block(const std::uint8_t* codes) noexcept {
  MXFP4_UNROLL
  for (int g = 0; g < tile_lines; ++g) __builtin_prefetch(codes + g * tile_line_bytes + prefetch_distance);
}

/// 2^(byte - 127) * scale: the exponents are added (scaling e8m0, row) or the floats multiplied (f32).
template <class Arch, bool MultiplyScales>
[[nodiscard]] MXFP4_INLINE simd::float_lanes<Arch> factor(const simd::int_lanes<Arch>& weight_scale,
                                                          const simd::int_lanes<Arch>& word) noexcept {
  if constexpr (MultiplyScales) return simd::bitwise_cast<float>(weight_scale) * simd::bitwise_cast<float>(word);
  else return simd::bitwise_cast<float>(weight_scale + word);
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
