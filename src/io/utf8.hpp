// src/io/utf8.hpp -- UTF-8 <-> code points.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io::utf8 {

struct code_point {
  std::uint32_t value = 0;
  std::size_t bytes = 0;  ///< 0: what stands there is no character
};

/// The character at byte `at` of `text`: neither overlong, nor a surrogate, nor past U+10FFFF.
[[nodiscard]] constexpr code_point decode(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return std::uint32_t{static_cast<unsigned char>(text[at + i])}; };
  const std::uint32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  const std::size_t length = first >> 5 == 6 ? 2 : first >> 4 == 14 ? 3 : first >> 3 == 30 ? 4 : 0;
  if (length == 0 || at + length > text.size()) return {};
  std::uint32_t value = first & (0x7Fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if (byte(i) >> 6 != 2) return {};
    value = value << 6 | (byte(i) & 0x3F);
  }
  constexpr std::uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  if (value < least[length] || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) return {};
  return {value, length};
}

/// The first byte that begins no character, or the size of the text.
[[nodiscard]] constexpr std::size_t first_error(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const code_point c = decode(text, at);
    if (c.bytes == 0) break;
    at += c.bytes;
  }
  return at;
}

}  // namespace mxfp4::io::utf8
