// src/io/hash.hpp -- a number from a text, for seeds and digests; files are known again by content_hash.hpp.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

/// FNV-1a, 64 bits.
/// Source: G. Fowler, L. C. Noll, K.-P. Vo, the offset basis and the prime for 64 bits.
[[nodiscard]] constexpr std::uint64_t fnv1a(std::string_view text) noexcept {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return hash;
}
static_assert(fnv1a("") == 0xCBF29CE484222325u && fnv1a("a") == 0xAF63DC4C8601EC8Cu);

[[nodiscard]] inline std::string hash_text(std::uint64_t hash) {
  constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (int shift = 60; shift >= 0; shift -= 4) text += digits[hash >> shift & 15];
  return text;
}

}  // namespace mxfp4::io
