// tests/support/random.hpp -- a small generator with a fixed seed: the same numbers on every machine.
// SPDX-License-Identifier: Apache-2.0
//
// Source: SplitMix64, G. L. Steele, D. Lea, C. H. Flood, OOPSLA 2014.
#pragma once

#include <cstdint>
#include <cstring>

namespace mxfp4::test {

class splitmix {
 public:
  explicit splitmix(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  std::uint32_t bits() { return static_cast<std::uint32_t>(next() >> 32); }

  std::uint8_t byte() { return static_cast<std::uint8_t>(next() >> 56); }

  /// An integer in [low, high].
  int in(int low, int high) { return static_cast<int>(between(low, high)); }
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(high - low + 1));
  }

  /// A finite float with a uniform mantissa, either sign and its exponent field in [low, high].
  float with_exponent(int low, int high) {
    const auto exponent = static_cast<std::uint32_t>(in(low, high));
    const std::uint32_t pattern = (bits() & 0x807FFFFFu) | exponent << 23;
    float x = 0;
    std::memcpy(&x, &pattern, sizeof x);
    return x;
  }

 private:
  std::uint64_t state_;
};

}  // namespace mxfp4::test
