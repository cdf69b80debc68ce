// tests/support/oracle.hpp -- the formats defined a second time: by values and distances, with nothing from include/.
// SPDX-License-Identifier: Apache-2.0
//
// Distances are doubles and exact where it matters: between two neighbours lo <= m <= hi with hi <= 2 lo both
// differences are exact (Sterbenz); with lo = 0 the difference hi - m is rounded only where m is far from the middle.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace mxfp4::test {

inline float as_float(std::uint32_t bits) {
  float x = 0;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline std::uint32_t as_bits(float x) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

// ---- FP4 ------------------------------------------------------------------------------------------------------------

inline constexpr double fp4_values[8] = {0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0};  // OCP MX v1.0

enum class tie { even, away, toward_zero, truncate };

/// Where a magnitude lies: its lower neighbour, and whether the upper one is farther (-1), as far (0) or nearer (+1).
struct fp4_place {
  unsigned lower;
  int nearer_upper;
};

inline fp4_place place_fp4(double magnitude) {
  if (!(magnitude < 6.0)) return {7, -1};
  unsigned lower = 0;
  while (magnitude >= fp4_values[lower + 1]) ++lower;
  const double down = magnitude - fp4_values[lower], up = fp4_values[lower + 1] - magnitude;
  return {lower, down < up ? -1 : down > up ? 1 : 0};
}

inline unsigned round_fp4(fp4_place p, tie how) {
  if (how == tie::truncate || p.nearer_upper < 0) return p.lower;
  if (p.nearer_upper > 0 || how == tie::away) return p.lower + 1;
  return how == tie::even && p.lower % 2 != 0 ? p.lower + 1 : p.lower;
}

/// Value of a code under a scale byte that means a number, as a double: always exact.
inline double weight(unsigned code, int byte) {
  const double magnitude = std::ldexp(fp4_values[code & 7u], byte - 127);
  return (code & 8u) != 0 ? -magnitude : magnitude;
}

/// How far a magnitude below 6 is on the way from its lower neighbour to its upper one: exact for any float under any
/// scale, since the difference has at most 24 significant bits and the gap is a power of two.
inline double fp4_fraction(double magnitude) {
  const unsigned lower = place_fp4(magnitude).lower;
  return (magnitude - fp4_values[lower]) / (fp4_values[lower + 1] - fp4_values[lower]);
}

/// Up iff frac * 2^32 > random.
inline unsigned stochastic_fp4(double magnitude, std::uint32_t random) {
  if (magnitude >= 6.0) return 7;
  const bool up = std::ldexp(fp4_fraction(magnitude), 32) > static_cast<double>(random);
  return place_fp4(magnitude).lower + (up ? 1u : 0u);
}

// ---- the small floating-point formats -------------------------------------------------------------------------------

/// All non-negative values of a format by its field formula, and one more beyond the largest: a number nearer to that
/// one has overflowed.
inline std::vector<double> small_values(int mantissa_bits, int bias, unsigned largest_code) {
  std::vector<double> values;
  for (unsigned code = 0; code <= largest_code + 1; ++code) {
    const int exponent = static_cast<int>(code >> mantissa_bits);
    const double fraction = std::ldexp(static_cast<double>(code & ((1u << mantissa_bits) - 1u)), -mantissa_bits);
    values.push_back(exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1.0 + fraction, exponent - bias));
  }
  return values;
}
inline const std::vector<double>& bf16_values() {
  static const std::vector<double> v = small_values(7, 127, 0x7F7F);
  return v;
}
inline const std::vector<double>& f16_values() {
  static const std::vector<double> v = small_values(10, 15, 0x7BFF);
  return v;
}
inline const std::vector<double>& e4m3_values() {
  static const std::vector<double> v = small_values(3, 7, 0x7E);
  return v;
}
/// The number that a byte of e4m3 means; not for its two NaN.
inline double e4m3_number(unsigned byte) {
  const double magnitude = e4m3_values()[byte & 0x7Fu];
  return (byte & 0x80u) != 0 ? -magnitude : magnitude;
}

/// Index of the nearest value, ties to the even index, searching from `start` (at most the right answer) upward; the
/// last index means overflow.
inline std::size_t nearest_index(const std::vector<double>& values, double magnitude, std::size_t start) {
  std::size_t lower = start;
  while (lower + 1 < values.size() && values[lower + 1] <= magnitude) ++lower;
  if (lower + 1 == values.size()) return lower;
  const double down = magnitude - values[lower], up = values[lower + 1] - magnitude;
  if (down != up) return down < up ? lower : lower + 1;
  return lower % 2 == 0 ? lower : lower + 1;
}
inline std::size_t lower_index(const std::vector<double>& values, double magnitude) {
  return static_cast<std::size_t>(std::upper_bound(values.begin(), values.end(), magnitude) - values.begin()) - 1;
}
inline std::size_t nearest_index(const std::vector<double>& values, double magnitude) {
  return nearest_index(values, magnitude, lower_index(values, magnitude));
}

}  // namespace mxfp4::test
