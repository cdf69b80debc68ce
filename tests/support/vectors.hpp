// tests/support/vectors.hpp -- reads the recorded arrays of tests/vectors (see its README.md).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace mxfp4::test {

/// Bytes of an element, by the file's suffix: .u8, .bf16, .f32, ...
inline std::size_t element_bytes(const std::string& name) {
  const std::string type = name.substr(name.find_last_of('.') + 1);
  const bool wide = type == "f32" || type == "u32" || type == "i32", half = type.ends_with("f16") || type == "u16";
  return wide ? 4 : half ? 2 : 1;
}

/// The bytes of tests/vectors/<name>, whose elements are little-endian, in the order of this machine. An absent file is
/// an error, never a skipped test.
inline std::vector<std::uint8_t> load_bytes(const std::string& name) {
  const std::string path = std::string(MXFP4_TEST_VECTORS) + "/" + name;
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open the test vectors " + path);
  std::vector<std::uint8_t> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (std::endian::native == std::endian::big)
    for (auto at = bytes.begin(); at != bytes.end(); at += static_cast<std::ptrdiff_t>(element_bytes(name)))
      std::reverse(at, at + static_cast<std::ptrdiff_t>(element_bytes(name)));
  return bytes;
}

/// The same as elements of T.
template <class T>
std::vector<T> load(const std::string& name) {
  const std::vector<std::uint8_t> bytes = load_bytes(name);
  if (bytes.size() % sizeof(T) != 0)
    throw std::runtime_error("tests/vectors/" + name + " has " + std::to_string(bytes.size()) +
                             " bytes, expected a multiple of " + std::to_string(sizeof(T)));
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace mxfp4::test
