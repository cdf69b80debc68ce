// mxfp4/kernel/measure_error.hpp -- the error of quantised weights, eight blocks at a time in registers.
// SPDX-License-Identifier: Apache-2.0
//
//   block scales     2^(s - 127); `top` is the largest s of the eight blocks
//   in registers     x = w / 2^(top - 127)         exact
//                    e = x - v * 2^(s - top)       rounded once; v is the value of the code
//   sixteen lanes    sum x^2, sum e^2, max |e| in float; after eight blocks added to doubles, times 4^(top - 127)
//
// The plain loop (reference/error_statistics.hpp) takes blocks with scale byte < 4 or > 252, blocks whose codes are all
// zeros, and groups with a weight that is NaN, infinite, or so large that the sum of squares could overflow.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "mxfp4/reference/error_statistics.hpp"
#include "mxfp4/simd/simd.hpp"
#include "mxfp4/tensor/call_options.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::detail {

inline constexpr std::int64_t measured_together = 8;     ///< blocks of a group, which is summed in floats
inline constexpr std::int64_t largest_part = 2048;       ///< blocks of a task, or more where that would make more than
inline constexpr std::int64_t most_measured_parts = 16;  ///< tasks, each of which has 2.5 KiB of sums on the stack
inline constexpr int measured_lanes = 16;                ///< sums, whatever the width of a register
inline constexpr int least_scale = 4, largest_scale = 252, widest_spread = 60;  ///< bounds of a group's scale bytes

/// The sums of a task. finish() adds up the lanes, from the first to the last.
struct lane_statistics {
  error_statistics counts;
  alignas(64) double squared_weights[measured_lanes]{}, squared_error[measured_lanes]{}, max_error[measured_lanes]{};

  MXFP4_INLINE void finish(error_statistics& to) const noexcept {
    to += counts;
    for (int lane = 0; lane < measured_lanes; ++lane) {
      to.squared_weights += squared_weights[lane];
      to.squared_error += squared_error[lane];
      to.max_error = max_error[lane] > to.max_error ? max_error[lane] : to.max_error;
    }
  }
};

/// 2^(exponent - 127) for an exponent field of a normal float.
[[nodiscard]] MXFP4_INLINE constexpr float power_of_field(int exponent) noexcept {
  return float_from_bits(static_cast<std::uint32_t>(exponent) << f32_mantissa_bits);
}

/// Does a block of low_first codes hold anything but zeros?
[[nodiscard]] MXFP4_INLINE bool any_code(const std::uint8_t* codes) noexcept {
  std::uint64_t half[2];
  std::memcpy(half, codes, sizeof half);
  return ((half[0] | half[1]) & 0x7777777777777777u) != 0;
}

}  // namespace mxfp4::detail

namespace mxfp4::inline MXFP4_VERSION_NS::kernel {

inline namespace MXFP4_ISA_NS {

/// What is measured in registers: codes and scales apart, low nibble first; weights of float, bf16 or f16.
template <class T, class Layout>
concept measures_in_lanes = !std::same_as<std::remove_const_t<T>, e4m3> &&
                            std::same_as<typename Layout::order, low_first> && Layout::rows_per_band == 1;

/// One block by the plain loop. Sums by an explicit fma, so the result does not depend on whether the compiler
/// contracts a * b + c; a weight's square is exact in double.
template <class T>
[[gnu::noinline]] void measure_by_loop(const T* x, const std::uint8_t* codes, std::uint8_t scale,
                                       mxfp4::detail::lane_statistics& to) noexcept {
  std::uint32_t bits[block_size];
  e2m1 code[block_size];
  for (int i = 0; i < block_size; ++i) {
    bits[i] = mxfp4::detail::float_bits(decode(x[i]));
    code[i] = get_code<low_first>(codes, i);
  }
  mxfp4::detail::measure_block(bits, code, scale, to.counts, [&to](int i, double w, double q) {
    const double error = w < q ? q - w : w - q;
    const int lane = i % mxfp4::detail::measured_lanes;
    to.squared_weights[lane] = w * w + to.squared_weights[lane];
    to.squared_error[lane] = std::fma(error, error, to.squared_error[lane]);
    to.max_error[lane] = error > to.max_error[lane] ? error : to.max_error[lane];
  });
}

/// The lanes of a group, stored.
struct error_lanes {
  alignas(64) float squared_weights[mxfp4::detail::measured_lanes],
      squared_error[mxfp4::detail::measured_lanes], max_error[mxfp4::detail::measured_lanes];
};

/// Adds a group to the doubles. The products with powers of two are exact, so it does not matter whether they are
/// fused. Not inlined: compilers would then convert the registers to double lane by lane.
[[gnu::noinline]] inline void add_error_lanes(const error_lanes& lane, int top,
                                              mxfp4::detail::lane_statistics& to) noexcept {
  const auto scale = static_cast<double>(mxfp4::detail::power_of_field(top)), square = scale * scale;
  for (int i = 0; i < mxfp4::detail::measured_lanes; ++i)
    to.squared_weights[i] += static_cast<double>(lane.squared_weights[i]) * square;
  for (int i = 0; i < mxfp4::detail::measured_lanes; ++i)
    to.squared_error[i] += static_cast<double>(lane.squared_error[i]) * square;
  for (int i = 0; i < mxfp4::detail::measured_lanes; ++i) {
    const double largest = static_cast<double>(lane.max_error[i]) * scale;
    to.max_error[i] = largest > to.max_error[i] ? largest : to.max_error[i];
  }
}

/// The sums of a group in sixteen lanes, over as many registers as they take.
template <class Arch>
class error_sums {
 public:
  using floats = simd::floats<Arch>;
  using ints = simd::batch<std::int32_t, Arch>;
  static constexpr std::size_t lanes = floats::size, registers = mxfp4::detail::measured_lanes / lanes;

  MXFP4_INLINE error_sums() noexcept {
    MXFP4_UNROLL
    for (std::size_t i = 0; i < registers; ++i) weights_[i] = error_[i] = largest_[i] = floats(0.0f);
    counts_ = ints(0);
  }

  /// Adds a block.  @param unit  2^(127 - top), which makes x of w.  @param scale  2^(s - top).
  template <class T>
  MXFP4_INLINE void add(const T* w, const std::uint8_t* codes, float unit, float scale) noexcept {
    const simd::table16<Arch> table(e2m1_values.data());
    simd::words<Arch> code[block_size / lanes];
    simd::load_codes<Arch>(codes, code);
    const ints abs(0x7FFFFFFF), zero(0), bound(static_cast<std::int32_t>(mxfp4::detail::float_bits(6.0f * scale)));
    const floats units(unit), minus_scale(-scale);
    MXFP4_UNROLL
    for (std::size_t i = 0; i < block_size / lanes; ++i) {
      const floats weight = simd::load_widened<Arch>(w + i * lanes), number = table[code[i]], x = weight * units;
      const floats e = simd::fma(number, minus_scale, x);  // the product is exact
      const auto magnitude = [&abs](const floats& f) noexcept { return simd::bitwise_cast<std::int32_t>(f) & abs; };
      weights_[i % registers] = simd::fma(x, x, weights_[i % registers]);
      error_[i % registers] = simd::fma(e, e, error_[i % registers]);
      largest_[i % registers] = simd::max(largest_[i % registers], simd::bitwise_cast<float>(magnitude(e)));
      const ints zeroed = simd::select(magnitude(weight) == zero, zero, ints(one_zeroed));
      const ints saturated = simd::select(magnitude(x) > bound, ints(one_saturated), zero);
      counts_ += simd::select(magnitude(number) == zero, zeroed, saturated);
    }
  }

  /// Were all weights finite, and none so large that a square could overflow?
  [[nodiscard]] MXFP4_INLINE bool in_range() const noexcept {
    floats all = weights_[0];
    for (std::size_t i = 1; i < registers; ++i) all = all + weights_[i];  // NaN stays NaN
    return simd::all(all < floats(0x1p100f));
  }

  /// @param top  largest scale byte of the group: sums are in units of 2^(top - 127).
  MXFP4_INLINE void flush(int top, mxfp4::detail::lane_statistics& to) const noexcept {
    error_lanes lane;
    for (std::size_t i = 0; i < registers; ++i) {
      weights_[i].store_aligned(lane.squared_weights + i * lanes);
      error_[i].store_aligned(lane.squared_error + i * lanes);
      largest_[i].store_aligned(lane.max_error + i * lanes);
    }
    add_error_lanes(lane, top, to);
    const std::int32_t counts = simd::reduce_add(counts_);
    to.counts.zeroed += counts % one_saturated;
    to.counts.saturated += counts / one_saturated;
  }

 private:
  static constexpr std::int32_t one_zeroed = 1, one_saturated = 1 << 16;  // a group has 256 weights

  floats weights_[registers], error_[registers], largest_[registers];
  ints counts_;
};

/// May a block be added up in registers?
[[nodiscard]] MXFP4_INLINE bool is_groupable(const std::uint8_t* codes, std::uint8_t scale) noexcept {
  return scale >= mxfp4::detail::least_scale && scale <= mxfp4::detail::largest_scale && mxfp4::detail::any_code(codes);
}

/// At most eight blocks for which is_groupable. False, and nothing is added, where a weight is out of range.
template <class Arch, class T>
MXFP4_INLINE bool measure_group(const T* x, const std::uint8_t* codes, const std::uint8_t* scales, std::int64_t count,
                                int top, mxfp4::detail::lane_statistics& to) noexcept {
  const float unit = mxfp4::detail::power_of_field(254 - top);
  error_sums<Arch> sums;
  for (std::int64_t b = 0; b < count; ++b)
    sums.add(x + b * block_size, codes + b * block_code_bytes, unit,
             mxfp4::detail::power_of_field(127 + scales[b] - top));
  if (!sums.in_range()) return false;
  sums.flush(top, to);
  to.counts.weights += count * block_size;
  for (std::int64_t b = 0; b < count; ++b) ++to.counts.scales[scales[b]];
  return true;
}

/// `count` blocks side by side in memory.
template <class Arch, class T>
void measure_blocks(const T* x, const std::uint8_t* codes, const std::uint8_t* scales, std::int64_t count,
                    mxfp4::detail::lane_statistics& to) noexcept {
  using namespace mxfp4::detail;  // the bounds of a group
  constexpr std::int64_t together = measured_together;
  for (std::int64_t first = 0; first < count; first += together) {
    const std::int64_t n = std::min(together, count - first);
    bool codes_in_all = true;
    int least = 255, top = 0;
    for (std::int64_t b = first; b < first + n; ++b) {
      codes_in_all = codes_in_all & mxfp4::detail::any_code(codes + b * block_code_bytes);
      least = scales[b] < least ? scales[b] : least;
      top = scales[b] > top ? scales[b] : top;
    }
    if (codes_in_all && least >= least_scale && top <= largest_scale && top - least <= widest_spread) [[likely]]
      if (measure_group<Arch>(x + first * block_size, codes + first * block_code_bytes, scales + first, n, top, to))
        continue;
    for (std::int64_t b = first; b < first + n; ++b) {
      const T* const w = x + b * block_size;
      const std::uint8_t* const c = codes + b * block_code_bytes;
      if (!is_groupable(c, scales[b]) || !measure_group<Arch>(w, c, scales + b, 1, scales[b], to))
        measure_by_loop(w, c, scales[b], to);
    }
  }
}

/// Adds to `sum` what `q` lost of `w`: reference::measure_error, whose counts and scales these are.
///
/// @param w     rows x cols: float, bf16 or f16, any stride; e4m3 by the plain loop.
/// @param q     the same shape, codes and scales apart (compressed_tensors, gpt_oss, mlx); other layouts by the plain
///              loop.
/// @param sum   added to.
/// @return      ok, or what is wrong with the arguments; `sum` is untouched then.
/// Accuracy: an error w - q is rounded once, and is exact where q is the FP4 number nearest to w and |w| <= 12 scales;
///           max_error has a relative error of 2^-24 at most. The sums of squares add numbers >= 0, at
///           most sixteen to a float lane: relative error up to 20 * 2^-24 + weights * 2^-53, and up to
///           2^-126 * weights * (largest scale)^2 for squares that underflow. A machine that flushes subnormals to zero
///           counts subnormal weights as zero.
/// The same bits for any executor, and on every instruction set where simd::fuses; without, within the bound.
template <class Arch = simd::native_arch, class T, class Byte, block_layout Layout>
  requires measures_in_lanes<T, Layout>
status measure_error(const dense_view<T>& w, const basic_mx_view<Byte, Layout>& q, error_statistics& sum,
                     const run_options& options = {}) {
  if (const status s = mxfp4::detail::check_measure(w, q); !s.ok()) return s;
  const std::int64_t blocks = q.blocks(), total = w.rows * blocks;
  if (total == 0) return {};
  const std::int64_t parts =
      std::clamp<std::int64_t>(total / mxfp4::detail::largest_part, 1, mxfp4::detail::most_measured_parts);
  mxfp4::detail::lane_statistics found[mxfp4::detail::most_measured_parts];
  options.executor.run(static_cast<std::size_t>(parts), [&](std::size_t index) noexcept {
    const auto part = static_cast<std::int64_t>(index);
    const std::int64_t step = total / parts, last = part + 1 == parts ? total : (part + 1) * step;
    for (std::int64_t at = part * step; at < last;) {
      const std::int64_t r = at / blocks, b = at % blocks, count = std::min(blocks - b, last - at);
      measure_blocks<Arch>(w.row(r) + b * block_size, q.block_codes(r, b), q.block_scale(r, b), count, found[index]);
      at += count;
    }
  });
  for (std::int64_t part = 0; part < parts; ++part) found[part].finish(sum);
  return {};
}
template <class Arch = simd::native_arch, class T, class Byte, block_layout Layout>
status measure_error(const dense_view<T>& w, const basic_mx_view<Byte, Layout>& q, error_statistics& sum,
                     const run_options& options = {}) {
  return reference::measure_error(w, q, sum, options);
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
