// mxfp4/format/nibble.hpp -- two codes in a byte; which one is where.
// SPDX-License-Identifier: Apache-2.0
//
//   low_first     byte j = code[2j]  | code[2j+1] << 4    compressed-tensors, gpt-oss, torchao, triton, ModelOpt, MLX
//   high_first    byte j = code[2j+1]| code[2j]   << 4    the other way round; no checkpoint format here uses it
//   half_split    byte j = code[j]   | code[j+16] << 4    ggml and ik_llama block_mxfp4, within a block of 32
//
// Source: OCP MX v1.0 leaves the order open; the files and programs named above. This library's own is low_first.
#pragma once

#include <concepts>
#include <cstdint>

#include "mxfp4/core/e2m1.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

inline constexpr int block_size = 32;        ///< elements that share a scale
inline constexpr int block_code_bytes = 16;  ///< their codes
inline constexpr int block_bytes = 17;       ///< their codes and the scale

/// A nibble order says in which byte of a block element i lives, 0 <= i < 32, and whether in its upper half.
template <class N>
concept nibble_order = requires(int i) {
  { N::byte_of(i) } noexcept -> std::same_as<int>;
  { N::is_high(i) } noexcept -> std::same_as<bool>;
};

/// Element 2j in the low nibble of byte j, 2j + 1 in the high one: compressed-tensors, gpt-oss, MLX, CUDA.
struct low_first {
  /// The byte of element i.
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr int byte_of(int i) noexcept { return i / 2; }
  /// Is it the upper nibble?
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr bool is_high(int i) noexcept { return i % 2 != 0; }
};

/// Element 2j in the high nibble of byte j, 2j + 1 in the low one.
struct high_first {
  /// The byte of element i.
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr int byte_of(int i) noexcept { return i / 2; }
  /// Is it the upper nibble?
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr bool is_high(int i) noexcept { return i % 2 == 0; }
};

/// Element j in the low nibble of byte j, j + 16 in the high one: ggml.
struct half_split {
  /// The byte of element i.
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr int byte_of(int i) noexcept { return i % block_code_bytes; }
  /// Is it the upper nibble?
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr bool is_high(int i) noexcept { return i >= block_code_bytes; }
};

/// Code of element i of a block.
template <nibble_order Order>
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr e2m1 get_code(const std::uint8_t* bytes, int i) noexcept {
  return static_cast<e2m1>(Order::is_high(i) ? bytes[Order::byte_of(i)] >> 4 : bytes[Order::byte_of(i)] & 0x0F);
}

/// 32 codes into 16 bytes, every bit of which is written. The upper half of each code is ignored.
template <nibble_order Order>
MXFP4_HD MXFP4_INLINE constexpr void pack_block(const e2m1 (&codes)[block_size], std::uint8_t* bytes) noexcept {
  for (int j = 0; j < block_code_bytes; ++j) bytes[j] = 0;
  for (int i = 0; i < block_size; ++i) {
    const unsigned nibble = static_cast<unsigned>(codes[i]) & 0x0Fu;
    bytes[Order::byte_of(i)] |= static_cast<std::uint8_t>(Order::is_high(i) ? nibble << 4 : nibble);
  }
}

/// The inverse of pack_block.
template <nibble_order Order>
MXFP4_HD MXFP4_INLINE constexpr void unpack_block(const std::uint8_t* bytes, e2m1 (&codes)[block_size]) noexcept {
  for (int i = 0; i < block_size; ++i) codes[i] = get_code<Order>(bytes, i);
}

/// n codes into (n + 1) / 2 bytes, low_first; an odd end is padded with code 0. The arrays must not overlap.
MXFP4_HD MXFP4_INLINE constexpr void pack_codes(const e2m1* codes, std::int64_t n, std::uint8_t* bytes) noexcept {
  for (std::int64_t i = 0; i < n; i += 2) {
    const unsigned low = static_cast<unsigned>(codes[i]) & 0x0Fu;
    const unsigned high = i + 1 < n ? static_cast<unsigned>(codes[i + 1]) & 0x0Fu : 0u;
    bytes[i / 2] = static_cast<std::uint8_t>(low | high << 4);
  }
}

/// The inverse of pack_codes: reads (n + 1) / 2 bytes, writes n codes.
MXFP4_HD MXFP4_INLINE constexpr void unpack_codes(const std::uint8_t* bytes, std::int64_t n, e2m1* codes) noexcept {
  for (std::int64_t i = 0; i < n; ++i)
    codes[i] = static_cast<e2m1>(i % 2 != 0 ? bytes[i / 2] >> 4 : bytes[i / 2] & 0x0F);
}

}  // namespace mxfp4
