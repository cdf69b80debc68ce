// tests/cuda/emulator/arithmetic.hpp -- device::* on bytes and pairs of small floats, after the PTX ISA's text.
// SPDX-License-Identifier: Apache-2.0
//
// The numbers are taken apart here, not by the library's own conversions, so that a wrong one does not agree with
// itself.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "cuda/emulator/fibers.hpp"
#include "mxfp4/core/version.hpp"
#include "support/oracle.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::emulator {

/// A float of `exponent` and `mantissa` bits with IEEE's infinity and NaN, exact in double.
[[nodiscard]] inline double small_float(std::uint32_t bits, int exponent, int mantissa) {
  const std::uint32_t m = bits & ((1u << mantissa) - 1), e = bits >> mantissa & ((1u << exponent) - 1);
  const int bias = (1 << (exponent - 1)) - 1;
  double value = 0;
  if (e == (1u << exponent) - 1)
    value = m == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  else if (e == 0) value = std::ldexp(static_cast<double>(m), 1 - bias - mantissa);
  else value = std::ldexp(static_cast<double>(m | 1u << mantissa), static_cast<int>(e) - bias - mantissa);
  return (bits >> (exponent + mantissa) & 1u) != 0 ? -value : value;
}
[[nodiscard]] inline double bf16_value(std::uint32_t bits) { return small_float(bits & 0xFFFFu, 8, 7); }
[[nodiscard]] inline double f16_value(std::uint32_t bits) { return small_float(bits & 0xFFFFu, 5, 10); }
/// e4m3 has one NaN magnitude and no infinity: its top exponent holds numbers up to 448.
[[nodiscard]] inline double e4m3_value(std::uint32_t bits) {
  if ((bits & 0x7Fu) == 0x7Fu) return std::numeric_limits<double>::quiet_NaN();
  const double magnitude =
      (bits >> 3 & 15u) != 15u ? small_float(bits & 0x7Fu, 4, 3) : std::ldexp(static_cast<double>(8u + (bits & 7u)), 5);
  return (bits & 0x80u) != 0 ? -magnitude : magnitude;
}
[[nodiscard]] inline double e2m1_value(std::uint32_t code) { return test::weight(code, 127); }
[[nodiscard]] inline double ue8m0_value(std::uint32_t byte) {
  return byte == 255 ? std::numeric_limits<double>::quiet_NaN() : std::ldexp(1.0, static_cast<int>(byte) - 127);
}

/// The nearest float of that kind, ties to even; NaN gives the all-ones pattern 0x7FFF.
[[nodiscard]] inline std::uint32_t to_small_float(double x, int exponent, int mantissa) {
  if (std::isnan(x)) return 0x7FFFu;
  const std::uint32_t sign = std::signbit(x) ? 1u << (exponent + mantissa) : 0u;
  const int bias = (1 << (exponent - 1)) - 1;
  const double magnitude = std::fabs(x);
  if (magnitude == 0) return sign;
  int e = 0;
  (void)std::frexp(magnitude, &e);
  const int unit = (e - 1 < 1 - bias ? 1 - bias : e - 1) - mantissa;  // exponent of the last place
  const double steps = std::isinf(x) ? 0 : std::nearbyint(std::ldexp(magnitude, -unit));
  const double rounded = std::ldexp(steps, unit);
  const double overflow = std::ldexp(1.0, bias + 1);
  if (std::isinf(x) || rounded >= overflow) return sign | ((1u << exponent) - 1) << mantissa;
  if (rounded < std::ldexp(1.0, 1 - bias)) return sign | static_cast<std::uint32_t>(steps);
  (void)std::frexp(rounded, &e);
  const auto m = static_cast<std::uint32_t>(std::ldexp(rounded, mantissa - (e - 1)));
  return sign | ((static_cast<std::uint32_t>(e - 1 + bias) << mantissa) + (m - (1u << mantissa)));
}

}  // namespace mxfp4::cuda::emulator

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::device {

[[nodiscard]] inline std::uint32_t permute_bytes(std::uint32_t a, std::uint32_t b, std::uint32_t selector) {
  const std::uint64_t both = std::uint64_t{b} << 32 | a;
  std::uint32_t d = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const std::uint32_t pick = selector >> (4 * i) & 15u;
    auto byte = static_cast<std::uint32_t>(both >> (8 * (pick & 7u)) & 0xFFu);
    if ((pick & 8u) != 0) byte = (byte & 0x80u) != 0 ? 0xFFu : 0u;
    d |= byte << (8 * i);
  }
  return d;
}

[[nodiscard]] inline std::uint32_t multiply_bf16x2(std::uint32_t a, std::uint32_t b) {
  using namespace emulator;
  return to_small_float(bf16_value(a) * bf16_value(b), 8, 7) |
         to_small_float(bf16_value(a >> 16) * bf16_value(b >> 16), 8, 7) << 16;
}
[[nodiscard]] inline std::uint32_t multiply_add_bf16x2(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  using namespace emulator;  // std::fma in double: exact unless the terms lie 30 binades apart
  const auto one = [](std::uint32_t x, std::uint32_t y, std::uint32_t z) {
    return to_small_float(std::fma(bf16_value(x), bf16_value(y), bf16_value(z)), 8, 7);
  };
  return one(a, b, c) | one(a >> 16, b >> 16, c >> 16) << 16;
}
[[nodiscard]] inline std::uint32_t min_bf16x2(std::uint32_t a, std::uint32_t b) {
  const auto one = [](std::uint32_t x, std::uint32_t y) {
    if (std::isnan(emulator::bf16_value(x)) || std::isnan(emulator::bf16_value(y)))
      throw emulator::fault("min_bf16x2 of NaN");
    return (emulator::bf16_value(x) < emulator::bf16_value(y) ? x : y) & 0xFFFFu;
  };
  return one(a, b) | one(a >> 16, b >> 16) << 16;
}
[[nodiscard]] inline std::uint32_t max_bf16x2(std::uint32_t a, std::uint32_t b) {
  const auto one = [](std::uint32_t x, std::uint32_t y) {
    if (std::isnan(emulator::bf16_value(x)) || std::isnan(emulator::bf16_value(y))) return 0x7FFFu;
    return (emulator::bf16_value(x) > emulator::bf16_value(y) ? x : y) & 0xFFFFu;
  };
  return one(a, b) | one(a >> 16, b >> 16) << 16;
}
[[nodiscard]] inline std::uint32_t multiply_f16x2(std::uint32_t a, std::uint32_t b) {
  using namespace emulator;
  return to_small_float(f16_value(a) * f16_value(b), 5, 10) |
         to_small_float(f16_value(a >> 16) * f16_value(b >> 16), 5, 10) << 16;
}
[[nodiscard]] inline std::uint32_t convert_f32x2_f16x2(float low, float high) {
  return emulator::to_small_float(static_cast<double>(low), 5, 10) |
         emulator::to_small_float(static_cast<double>(high), 5, 10) << 16;
}
inline void convert_f16x2_f32x2(std::uint32_t pair, float& low, float& high) {
  const auto widen = [](double v) { return static_cast<float>(std::isnan(v) ? std::fabs(v) : v); };
  low = widen(emulator::f16_value(pair));
  high = widen(emulator::f16_value(pair >> 16));
}
[[nodiscard]] inline float multiply_f32(float a, float b) { return a * b; }
[[nodiscard]] inline float fused_multiply_add(float a, float b, float c) { return std::fma(a, b, c); }

inline void convert_e2m1x8_f16(std::uint32_t codes, std::uint32_t (&d)[4]) {
  using namespace emulator;
  for (unsigned j = 0; j < 4; ++j)
    d[j] = to_small_float(e2m1_value(codes >> (8 * j) & 15u), 5, 10) |
           to_small_float(e2m1_value(codes >> (8 * j + 4) & 15u), 5, 10) << 16;
}
[[nodiscard]] inline std::uint32_t convert_f32x8_e2m1(const float (&x)[8]) {
  std::uint32_t d = 0;
  for (unsigned i = 0; i < 8; ++i) {
    std::uint32_t nearest = 7;  // NaN, and from 5 on
    const double magnitude = std::fabs(static_cast<double>(x[i]));
    for (std::uint32_t c = 0; c < 7; ++c) {
      const double middle = (emulator::e2m1_value(c) + emulator::e2m1_value(c + 1)) / 2;
      if (magnitude < middle || (magnitude == middle && c % 2 == 0)) {
        nearest = c;
        break;
      }
    }
    d |= (nearest | (std::signbit(x[i]) && !std::isnan(x[i]) ? 8u : 0u)) << (4 * i);
  }
  return d;
}

[[nodiscard]] inline std::uint32_t convert_f32x4_e4m3(const float (&x)[4]) {
  std::uint32_t d = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const double magnitude = std::fabs(static_cast<double>(x[i]));
    std::uint32_t nearest = std::isnan(x[i]) ? 0x7Fu : 0x7Eu;  // 448 from there on
    for (std::uint32_t c = 0; c < 0x7Eu && nearest == 0x7Eu; ++c) {
      const double middle = (emulator::e4m3_value(c) + emulator::e4m3_value(c + 1)) / 2;
      if (magnitude < middle || (magnitude == middle && c % 2 == 0)) nearest = c;
    }
    d |= (nearest | (std::signbit(x[i]) && !std::isnan(x[i]) ? 0x80u : 0u)) << (8 * i);
  }
  return d;
}

}  // namespace mxfp4::cuda::device
