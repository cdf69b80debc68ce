// src/checkpoint/ggml_blocks.hpp -- codes and scales to ggml's blocks of 17 bytes and back, eight bytes at a time.
// SPDX-License-Identifier: Apache-2.0
//
// The bytes are those of mxfp4::convert, which goes code by code and takes most of the time of a whole checkpoint's way
// to GGUF. Of the 16 bytes of a block low_first has codes 0 to 15 in the first eight, half_split in the lower halves of
// all (format/nibble.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "mxfp4/format/nibble.hpp"
#include "mxfp4/io/byte_order.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// Nibble i, of the lower eight, to the lower half of byte i.
[[nodiscard]] constexpr std::uint64_t spread_nibbles(std::uint64_t x) noexcept {
  x &= 0xFFFFFFFF;
  x = (x | x << 16) & 0x0000FFFF0000FFFF;
  x = (x | x << 8) & 0x00FF00FF00FF00FF;
  return (x | x << 4) & 0x0F0F0F0F0F0F0F0F;
}

/// The lower half of byte i to nibble i: the inverse.
[[nodiscard]] constexpr std::uint64_t gather_nibbles(std::uint64_t x) noexcept {
  x &= 0x0F0F0F0F0F0F0F0F;
  x = (x | x >> 4) & 0x00FF00FF00FF00FF;
  x = (x | x >> 8) & 0x0000FFFF0000FFFF;
  return (x | x >> 16) & 0xFFFFFFFF;
}

/// Bytes as a number, the first the lowest.
[[nodiscard]] inline std::uint64_t load_word(const std::uint8_t* bytes) noexcept {
  std::uint64_t word = 0;
  std::memcpy(&word, bytes, sizeof word);
  io::swap_if_big_endian(std::span(&word, 1));
  return word;
}
inline void store_word(std::uint64_t word, std::uint8_t* bytes) noexcept {
  io::swap_if_big_endian(std::span(&word, 1));
  std::memcpy(bytes, &word, sizeof word);
}

/// @param codes   16 bytes a block, low_first.  @param scales  a byte a block.
/// @param blocks  17 bytes a block: the scale, then the codes half_split.
inline void to_ggml_blocks(std::span<const std::uint8_t> codes, std::span<const std::uint8_t> scales,
                           std::span<std::uint8_t> blocks) noexcept {
  for (std::size_t b = 0; b < scales.size(); ++b) {
    const std::uint8_t* in = codes.data() + b * block_code_bytes;
    std::uint8_t* out = blocks.data() + b * block_bytes;
    const std::uint64_t first = load_word(in), second = load_word(in + 8);
    out[0] = scales[b];
    store_word(spread_nibbles(first) | spread_nibbles(second) << 4, out + 1);
    store_word(spread_nibbles(first >> 32) | spread_nibbles(second >> 32) << 4, out + 9);
  }
}

/// The inverse.
inline void from_ggml_blocks(std::span<const std::uint8_t> blocks, std::span<std::uint8_t> codes,
                             std::span<std::uint8_t> scales) noexcept {
  for (std::size_t b = 0; b < scales.size(); ++b) {
    const std::uint8_t* in = blocks.data() + b * block_bytes;
    std::uint8_t* out = codes.data() + b * block_code_bytes;
    const std::uint64_t first = load_word(in + 1), second = load_word(in + 9);
    scales[b] = in[0];
    store_word(gather_nibbles(first) | gather_nibbles(second) << 32, out);
    store_word(gather_nibbles(first >> 4) | gather_nibbles(second >> 4) << 32, out + 8);
  }
}

}  // namespace mxfp4::checkpoint
