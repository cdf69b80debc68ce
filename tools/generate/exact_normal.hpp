// tools/generate/exact_normal.hpp -- normally distributed numbers, the same bits on every machine.
// SPDX-License-Identifier: Apache-2.0
//
// std::normal_distribution differs between standard libraries, and log and cos between C libraries. Here everything is
// integers: random 64-bit words are compared, and that decides exactly with the probabilities wanted.
// Source: C. F. F. Karney, "Sampling exactly from the normal distribution", ACM TOMS 42 (2016), algorithms N, H, P, B.
#pragma once

#include <cstdint>

namespace mxfp4::tools {

/// splitmix64: one word a step, any seed is good.
class random_words {
 public:
  explicit constexpr random_words(std::uint64_t seed) noexcept : state_(seed) {}
  constexpr std::uint64_t operator()() noexcept {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
  }

 private:
  std::uint64_t state_;
};

/// The standard normal distribution in units of 2^-32.
class exact_normal {
 public:
  explicit constexpr exact_normal(std::uint64_t seed) noexcept : random_(seed) {}

  constexpr std::int64_t operator()() noexcept {
    for (;;) {
      std::uint64_t k = 0;  // the integer part, geometric: probability exp(-k/2)
      while (accept_exp_half()) ++k;
      std::uint64_t wanted = k * (k - 1);  // accepted with exp(-k(k-1)/2); for k = 0 that is 0 too
      while (wanted > 0 && accept_exp_half()) --wanted;
      if (wanted > 0) continue;
      const std::uint64_t x = random_();  // the fraction, in units of 2^-64
      std::uint64_t trials = k + 1;       // accepted with exp(-x(2k+x)/2)
      while (trials > 0 && accept_fraction(k, x)) --trials;
      if (trials > 0) continue;
      const auto magnitude = static_cast<std::int64_t>(k << 32 | x >> 32);
      return (random_() & 1u) != 0 ? -magnitude : magnitude;
    }
  }

 private:
  /// True with probability exp(-1/2): the longest run 1/2 > u1 > u2 > ... of uniform numbers has even length.
  constexpr bool accept_exp_half() noexcept {
    std::uint64_t last = std::uint64_t{1} << 63;
    for (bool even = true;; even = !even) {
      const std::uint64_t u = random_();
      if (u >= last) return even;
      last = u;
    }
  }

  /// True with probability exp(-x(2k+x)/(2k+2)): as above from x, each step passed with probability (2k+x)/(2k+2).
  constexpr bool accept_fraction(std::uint64_t k, std::uint64_t x) noexcept {
    const std::uint64_t m = 2 * k + 2;
    std::uint64_t last = x;
    for (bool even = true;; even = !even) {
      const std::uint64_t u = random_();
      if (u >= last) return even;
      const std::uint64_t face = random_() % m;  // m is tiny: the bias of % is below 2^-59
      if (face == m - 1 || (face == m - 2 && random_() >= x)) return even;
      last = u;
    }
  }

  random_words random_;
};

}  // namespace mxfp4::tools
