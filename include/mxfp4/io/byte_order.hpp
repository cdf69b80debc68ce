// mxfp4/io/byte_order.hpp -- files are little-endian, hosts need not be.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

/// Reverses the bytes of each element of `size` bytes.
inline void reverse_elements(std::span<std::byte> bytes, std::size_t size) noexcept {
  for (std::size_t at = 0; at + size <= bytes.size(); at += size)
    std::reverse(bytes.data() + at, bytes.data() + at + size);
}

/// Between the order of the file and that of the host, in place; the same function for both directions.
template <class T>
void swap_if_big_endian(std::span<T> elements) noexcept {
  if constexpr (std::endian::native == std::endian::big && sizeof(T) > 1)
    reverse_elements(std::as_writable_bytes(elements), sizeof(T));
}

/// A little-endian word of 64 bits.
[[nodiscard]] inline std::uint64_t load_u64(std::span<const std::byte, 8> bytes) noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = 8; i-- > 0;) value = value << 8 | std::to_integer<std::uint64_t>(bytes[i]);
  return value;
}

/// The same, written.
inline void store_u64(std::uint64_t value, std::span<std::byte, 8> bytes) noexcept {
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<std::byte>(value >> (8 * i) & 0xFF);
}

}  // namespace mxfp4::io
