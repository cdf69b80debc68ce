// mxfp4/kernel/quantize.hpp -- floor 7: numbers -> MXFP4, a block at a time in registers.
// SPDX-License-Identifier: Apache-2.0
//
// One kernel for every recipe: the scale is one compare against a table by exponent, the codes are cuts (rounding.hpp).
// Blocks with NaN, infinity or a scale at an end of the range go to the scalar floor, and so does all of min_mse.
// Reads: floors 0-6, executor.hpp.  Read by: tools, dispatch.
#pragma once

#include <array>
#include <cstdint>

#include "mxfp4/executor.hpp"
#include "mxfp4/quantize.hpp"
#include "mxfp4/simd/encode.hpp"
#include "mxfp4/tasks.hpp"
#include "mxfp4/view.hpp"

namespace mxfp4::detail {
template <scale_rule Rule>
[[nodiscard]] consteval std::array<scale_step, 255> make_scale_steps() noexcept {
  std::array<scale_step, 255> steps{};
  for (unsigned exponent = 0; exponent < 255; ++exponent) steps[exponent] = Rule::step(exponent);
  return steps;
}
/// The rule by exponent field: the same numbers for every path and device.
template <scale_rule Rule>
inline constexpr std::array<scale_step, 255> scale_steps = make_scale_steps<Rule>();

template <class R>
concept fixed_rule = requires { typename R::scale_rule_type; };
}  // namespace mxfp4::detail

namespace mxfp4::kernel {

inline namespace MXFP4_ISA_NS {

/// One block; returns its scale byte. The codes go to 16 bytes in `Order`.
template <class Resolved, class Arch, nibble_order Order, element_type T>
MXFP4_INLINE std::uint8_t quantize_block(const T* x, std::uint8_t* codes) noexcept {
  simd::block_bits<Arch, T> bits;
  bits.load(x);
  if constexpr (mxfp4::detail::fixed_rule<Resolved>) {
    const std::uint32_t amax = bits.amax();
    if (amax < mxfp4::detail::f32_inf) [[likely]] {
      const scale_step& step =
          mxfp4::detail::scale_steps<typename Resolved::scale_rule_type>[amax >> mxfp4::detail::f32_mantissa_bits];
      const scale_outcome outcome =
          (amax & mxfp4::detail::f32_mantissa_mask) < step.threshold ? step.below : step.above;
      if (outcome.byte >= simd::vector_scale_min && outcome.byte <= simd::vector_scale_max && !outcome.flush)
          [[likely]] {
        bits.template encode<typename Resolved::rounding_rule_type, typename Resolved::zero_rule_type, Order>(
            outcome.byte, codes);
        return outcome.byte;
      }
    }
  }
  std::uint32_t lanes[block_size];
  bits.store(lanes);
  const block_codes encoded = Resolved::encode(lanes);
  pack_block<Order>(encoded.code, codes);
  return static_cast<std::uint8_t>(encoded.scale);
}

/// Blocks [first, last) of a row. The view comes by value: see dequantize_row.
template <class Resolved, class Arch, element_type T, block_layout Layout>
void quantize_row(const T* x, mx_view<Layout> out, std::int64_t row, std::int64_t first, std::int64_t last) noexcept {
  std::uint8_t* codes = out.block_codes(row, first);
  for (std::int64_t b = first; b < last; ++b) {
    *out.block_scale(row, b) = quantize_block<Resolved, Arch, typename Layout::order>(x + b * block_size, codes);
    codes += Layout::code_offset(0, 1, 0);
  }
}

/// W -> MXFP4: the bytes of mxfp4::quantize, on every architecture and for any number of tasks.
///
/// @param w       rows x cols, cols a multiple of 32: float, bf16, f16 or e4m3 (taken at its face value), any stride.
/// @param out     the same shape, any layout; must not overlap w.
/// @param policy  what to do with NaN and infinity; `refuse` reads w once more before anything is written.
/// @param with    runs the tasks, which are cut by the shape alone.
/// @return        ok, or what is wrong with the arguments; nothing is written then.
template <block_recipe Recipe = recipe::ocp, class Arch = simd::native_arch, class T, block_layout Layout>
status quantize(const dense_view<T>& w, const mx_view<Layout>& out, on_nonfinite policy = on_nonfinite::encode,
                executor_ref with = {}) {
  using value = std::remove_const_t<T>;
  using resolved = typename Recipe::template for_input<value>;
  if (const status s = mxfp4::detail::check_same_shape(w, "w", out); !s.ok()) return s;
  if (mxfp4::detail::overlap(out, w) || mxfp4::detail::overlap_itself(out)) return {errc::overlap, "out"};
  if (w.rows == 0 || w.cols == 0) return {};
  if (policy == on_nonfinite::refuse)
    if (const std::int64_t at =
            mxfp4::detail::find_nonfinite<value>(w.rows, w.cols, mxfp4::detail::plain_loader<value>{w});
        at >= 0)
      return {errc::nonfinite, "w", at};
  const block_tasks tasks(w.rows, out.blocks());
  with.run(tasks.count(), [&](std::size_t index) noexcept {
    tasks.for_each_row(index, [&](std::int64_t r, std::int64_t first, std::int64_t last) noexcept {
      quantize_row<resolved, Arch>(w.row(r), out, r, first, last);
    });
  });
  mxfp4::detail::fill_padding(out);
  return {};
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
