// src/io/content_hash.hpp -- the hash by which bytes are known again: XXH3, 128 bits.
// SPDX-License-Identifier: Apache-2.0
//
// It finds every flipped bit and every other accident, and no forgery: who changes a file on purpose can give it any
// hash. The text is what `xxhsum -H2` prints, the same on every CPU.
// Source: Y. Collet, xxHash 0.8, XXH3_128bits without seed, in its canonical (big-endian) form.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

/// The hash of bytes that come in pieces; where they are cut makes no difference.
class content_hash {
 public:
  content_hash() noexcept;
  void add(std::span<const std::byte> bytes) noexcept;
  void add(std::string_view text) noexcept { add(std::as_bytes(std::span(text))); }
  [[nodiscard]] std::string text() const;  ///< of all so far: 32 hexadecimal digits

 private:
  alignas(64) std::array<std::byte, 576> state_;  // an XXH3_state_t, whose header stays in the sources
};

inline constexpr std::size_t hash_digits = 32;  ///< characters of content_hash::text

[[nodiscard]] std::string hash_of(std::string_view text);

/// @throws file_error for a file that cannot be read.
[[nodiscard]] std::string hash_of_file(const std::string& path);

}  // namespace mxfp4::io
