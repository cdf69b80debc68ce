// tests/cuda/emulator/tensor_core.hpp -- ldmatrix and mma, by the fragment maps of the PTX ISA (see intrinsics.cuh).
// SPDX-License-Identifier: Apache-2.0
//
// Sums are taken in double and rounded once, where hardware may round, or truncate, at each step: bounds are proved on
// paper, not here. For e4m3, where hardware is known to keep few bits, a test may ask for no more.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cuda/emulator/arithmetic.hpp"
#include "cuda/emulator/block.hpp"
#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::emulator {

template <int Matrices, bool Transposed>
inline void load_matrices(std::uint32_t* d, const void* row, const char* what) {
  struct call {
    const void* row;
    std::uint32_t* d;
  } mine{row, d};
  block& b = *running;
  // The lane that names a row answers for it: the hardware reads it on that lane's behalf.
  if (b.thread_index() % 32 < 8 * Matrices) b.shared.read(row, 16, b.here(), what);
  b.meet_warp(what, mine, [](const gathered<call>& lanes) {
    for (int matrix = 0; matrix < Matrices; ++matrix) {
      std::uint16_t element[8][8];
      for (int i = 0; i < 8; ++i) std::memcpy(element[i], lanes[8 * matrix + i].row, 16);
      for (int lane = 0; lane < 32; ++lane) {
        const int g = lane / 4, t = lane % 4;
        const std::uint32_t low = Transposed ? element[2 * t][g] : element[g][2 * t];
        const std::uint32_t high = Transposed ? element[2 * t + 1][g] : element[g][2 * t + 1];
        lanes[lane].d[matrix] = low | high << 16;
      }
    }
  });
}

struct mma_call {
  float* d;
  const std::uint32_t *a, *b;
  std::uint32_t scale_a, scale_b;
};

/// d and the products, rounded once.
inline constexpr auto add_exactly = [](double d, const auto& products) {
  double sum = 0;
  for (const double p : products) sum += p;
  return d + sum;
};
/// Sixteen products at a time and what is there so far, each without its bits more than `bits` behind the point of the
/// largest, and the sum without its own beyond as many.
template <std::size_t Depth>
[[nodiscard]] double add_cutting_off(int bits, double d, const double (&products)[Depth]) {
  const auto cut = [bits](double v, int exponent) {
    return std::isfinite(v) ? std::ldexp(std::trunc(std::ldexp(v, bits - exponent)), exponent - bits) : v;
  };
  for (std::size_t first = 0; first < Depth; first += 16) {
    double largest = std::fabs(d);
    for (std::size_t i = first; i < first + 16; ++i) largest = std::fmax(largest, std::fabs(products[i]));
    if (largest == 0) continue;
    const int exponent = std::ilogb(largest);
    d = cut(d, exponent);
    for (std::size_t i = first; i < first + 16; ++i) d += cut(products[i], exponent);
    if (d != 0 && std::isfinite(d)) d = cut(d, std::ilogb(d));
  }
  return d;
}

/// d += a * b for 16 x 8 x K, K = 16 or 32; `bits` per element, 256 / K... of a register hold 32 / bits of them.
/// value_a, value_b: bits of one element -> double. scale_a(lanes, row), scale_b(lanes, column): factors. add(d, K
/// products): their sum.
template <int Bits, class ValueA, class ValueB, class ScaleA, class ScaleB, class Add = decltype(add_exactly)>
void multiply_matrices(const gathered<mma_call>& lanes, ValueA&& value_a, ValueB&& value_b, ScaleA&& scale_a,
                       ScaleB&& scale_b, Add&& add = {}) {
  constexpr int per_register = 32 / Bits, depth = 8 * per_register;
  constexpr std::uint32_t mask = (1u << Bits) - 1u;
  double a[16][static_cast<std::size_t>(depth)], b[static_cast<std::size_t>(depth)][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < per_register; ++i) {
      for (int r = 0; r < 4; ++r)
        a[g + 8 * (r & 1)][per_register * t + i + depth / 2 * (r >> 1)] =
            value_a(lanes[lane].a[r] >> (Bits * i) & mask);
      for (int r = 0; r < 2; ++r)
        b[per_register * t + i + depth / 2 * r][g] = value_b(lanes[lane].b[r] >> (Bits * i) & mask);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int c = 0; c < 4; ++c) {
      const int row = g + 8 * (c >> 1), column = 2 * t + (c & 1);
      const double scale = scale_a(lanes, row) * scale_b(lanes, column);
      double products[static_cast<std::size_t>(depth)];
      for (int k = 0; k < depth; ++k) products[k] = a[row][k] * b[k][column] * scale;
      float& d = lanes[lane].d[c];
      d = static_cast<float>(add(static_cast<double>(d), products));
    }
  }
}

inline constexpr auto no_scale = [](const gathered<mma_call>&, int) { return 1.0; };

}  // namespace mxfp4::cuda::emulator

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::device {

inline void ldmatrix_x4(std::uint32_t (&d)[4], const void* row) {
  emulator::load_matrices<4, false>(d, row, "ldmatrix_x4");
}
inline void ldmatrix_x4_trans(std::uint32_t (&d)[4], const void* row) {
  emulator::load_matrices<4, true>(d, row, "ldmatrix_x4_trans");
}
inline void ldmatrix_x2(std::uint32_t (&d)[2], const void* row) {
  emulator::load_matrices<2, false>(d, row, "ldmatrix_x2");
}

inline void mma_bf16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  using namespace emulator;
  mma_call mine{d, a, b, 0, 0};
  detail::here().meet_warp("mma_bf16", mine, [](const gathered<mma_call>& lanes) {
    multiply_matrices<16>(lanes, bf16_value, bf16_value, no_scale, no_scale);
  });
}
inline void mma_f16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  using namespace emulator;
  mma_call mine{d, a, b, 0, 0};
  detail::here().meet_warp("mma_f16", mine, [](const gathered<mma_call>& lanes) {
    multiply_matrices<16>(lanes, f16_value, f16_value, no_scale, no_scale);
  });
}
inline void mma_e4m3(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  using namespace emulator;
  mma_call mine{d, a, b, 0, 0};
  detail::here().meet_warp("mma_e4m3", mine, [](const gathered<mma_call>& lanes) {
    const int bits = device_settings.fp8_fraction_bits;
    if (bits == 0) return multiply_matrices<8>(lanes, e4m3_value, e4m3_value, no_scale, no_scale);
    multiply_matrices<8>(lanes, e4m3_value, e4m3_value, no_scale, no_scale,
                         [bits](double sum, const auto& products) { return add_cutting_off(bits, sum, products); });
  });
}

template <int ByteA, int ByteB>
void mma_e2m1_e4m3(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], std::uint32_t scale_a,
                   std::uint32_t scale_b) {
  using namespace emulator;
  static_assert(ByteA >= 0 && ByteA < 4 && ByteB >= 0 && ByteB < 4);
  for (const std::uint32_t r : a)
    if ((r & ~0x3C3C3C3Cu) != 0) throw fault("mma_e2m1_e4m3: a has bits outside bits 2 to 5 of its bytes");
  mma_call mine{d, a, b, scale_a, scale_b};
  detail::here().meet_warp("mma_e2m1_e4m3", mine, [](const gathered<mma_call>& lanes) {
    const auto multiply = [&lanes](auto&& add) {
      multiply_matrices<8>(
          lanes, [](std::uint32_t byte) { return e2m1_value(byte >> 2 & 15u); }, e4m3_value,
          [](const gathered<mma_call>& all, int row) {
            return ue8m0_value(all[row % 8 * 4 + row / 8].scale_a >> (8 * ByteA) & 0xFFu);
          },
          [](const gathered<mma_call>& all, int column) {
            return ue8m0_value(all[column * 4].scale_b >> (8 * ByteB) & 0xFFu);
          },
          add);
    };
    const int bits = device_settings.fp8_fraction_bits;
    if (bits == 0) return multiply(add_exactly);
    multiply([bits](double sum, const auto& products) { return add_cutting_off(bits, sum, products); });
  });
}

}  // namespace mxfp4::cuda::device
