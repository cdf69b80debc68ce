// tests/support/vectors.hpp -- reads the recorded arrays of tests/vectors (see its README.md).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace mxfp4::test {

/// The bytes of tests/vectors/<name>; an absent file is an error, never a skipped test.
inline std::vector<std::uint8_t> load_bytes(const std::string& name) {
  const std::string path = std::string(MXFP4_TEST_VECTORS) + "/" + name;
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open the test vectors " + path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// The same as little-endian elements of T.
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
