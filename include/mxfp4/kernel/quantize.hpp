// mxfp4/kernel/quantize.hpp -- numbers -> MXFP4, eight blocks at a time in registers.
// SPDX-License-Identifier: Apache-2.0
//
// One kernel for every recipe: the scale is one compare by exponent, the codes are boundaries (simd/words.hpp). Blocks
// with NaN, infinity, a scale at an end of the range or a word ambiguous go to the plain loop, and so do all of
// min_mse and of a recipe of the user's own whose boundaries do not fit 16 bits (simd/words.hpp, word_recipe).
#pragma once

#include <cstdint>

#include "mxfp4/core/executor_ref.hpp"
#include "mxfp4/format/block.hpp"
#include "mxfp4/format/recipe_id.hpp"
#include "mxfp4/simd/simd.hpp"
#include "mxfp4/tensor/call_options.hpp"
#include "mxfp4/tensor/tasks.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::kernel {

/// How far ahead memory is prefetched, into the second-level cache: 24.6 GB/s from memory. Prefetched into the first
/// level, which can wait for fewer lines at a time, 4 KiB ahead give 18.2 and 8 KiB ahead 22.0 GB/s (Zen 4).
inline constexpr std::int64_t prefetch_bytes = 8192;

inline namespace MXFP4_ISA_NS {

/// A source gives the blocks of a row: as words (simd/words.hpp) for the kernel, as f32 bits for the plain loop.
/// `exact`: a word is the number itself, not its upper half. This one reads a row of numbers.
template <element_type T>
struct row_source {
  static constexpr bool exact = std::same_as<T, bf16> || std::same_as<T, e4m3>;
  const T* x;

  [[nodiscard]] MXFP4_INLINE const T* at(std::int64_t b) const noexcept { return x + b * block_size; }
  template <class Arch>
  MXFP4_INLINE void load(std::int64_t b, simd::word_block<Arch>& block) const noexcept {
    if constexpr (std::same_as<T, e4m3>) block.load(at(b), simd::fp8_words_of_one);
    else block.load(at(b));
  }
  void bits(std::int64_t b, std::uint32_t (&to)[block_size]) const noexcept {
    for (int i = 0; i < block_size; ++i) to[i] = mxfp4::detail::float_bits(decode(at(b)[i]));
  }
};

/// One block by the plain loop; returns its scale byte.
template <class Resolved, nibble_order Order, class Source>
[[gnu::noinline]] std::uint8_t encode_by_loop(const Source& from, std::int64_t b, std::uint8_t* codes) noexcept {
  std::uint32_t bits[block_size];
  from.bits(b, bits);
  const block_codes encoded = Resolved::encode(bits);
  pack_block<Order>(encoded.code, codes);
  return static_cast<std::uint8_t>(encoded.scale);
}

/// One block, whatever is in it; returns its scale byte.
template <class Resolved, class Arch, nibble_order Order, class Source>
MXFP4_INLINE std::uint8_t quantize_block(const Source& from, std::int64_t b, const simd::word_block<Arch>& block,
                                         std::uint32_t amax, std::uint8_t* codes) noexcept {
  using round = typename Resolved::rounding_rule_type;
  using zero = typename Resolved::zero_rule_type;
  const simd::word_step& step = mxfp4::detail::word_steps<typename Resolved::scale_rule_type, Source::exact>[amax >> 7];
  const std::uint8_t byte = step.byte[amax >= step.boundary ? 1 : 0];
  bool sure = byte != 0 && amax != step.ambiguous;
  const simd::word_scale& scale = mxfp4::detail::word_scales<round, zero>[byte];
  if constexpr (mxfp4::detail::has_stray<round, Source::exact>)
    sure = sure && !block.has(static_cast<std::uint16_t>((scale.offset & 0xFFFFu) + 63));
  if constexpr (!Source::exact && !std::same_as<zero, keep_sign>) {
    const std::uint16_t ambiguous = mxfp4::detail::ambiguous_signs<round, zero>[byte];
    sure = sure && (ambiguous == simd::no_word || !block.has(ambiguous));
  }
  if (!sure) [[unlikely]]
    return encode_by_loop<Resolved, Order>(from, b, codes);
  block.template encode<round, zero, Order>(scale, codes);
  return byte;
}

/// Blocks [b, b + Count) of a row, the codes of the first to `codes`.
template <class Resolved, class Arch, std::size_t Count, class Source, block_layout Layout>
MXFP4_INLINE void quantize_group(const Source& from, const mx_view<Layout>& out, std::int64_t row, std::int64_t b,
                                 std::uint8_t* codes) noexcept {
  using round = typename Resolved::rounding_rule_type;
  using zero = typename Resolved::zero_rule_type;
  using order = typename Layout::order;
  constexpr simd::word_rule rule =
      mxfp4::detail::make_word_rule<typename Resolved::scale_rule_type, round, zero, Source::exact>();
  constexpr std::int64_t step = Layout::code_offset(0, 1, 0);  // blocks of a row follow one another in every layout
  const char* soon = reinterpret_cast<const char*>(from.at(b)) + prefetch_bytes;
  MXFP4_UNROLL
  for (std::size_t i = 0; i < Count * block_size * sizeof(*from.x); i += 64) simd::prefetch_soon(soon + i);
  simd::word_block<Arch> block[Count];
  MXFP4_UNROLL
  for (std::size_t i = 0; i < Count; ++i) from.load(b + static_cast<std::int64_t>(i), block[i]);
  std::uint32_t amax[Count];
  simd::word_block<Arch>::amax(block, amax);
  if constexpr (rule.first > rule.last || mxfp4::detail::has_stray<round, Source::exact>) {
    MXFP4_UNROLL
    for (std::size_t i = 0; i < Count; ++i, ++b, codes += step)
      *out.block_scale(row, b) = quantize_block<Resolved, Arch, order>(from, b, block[i], amax[i], codes);
  } else {
    std::uint32_t byte[Count], irregular = 0;
    MXFP4_UNROLL
    for (std::size_t i = 0; i < Count; ++i) {
      byte[i] = ((amax[i] + rule.carry) >> 7) - 2;
      irregular |= (amax[i] >> 7) - rule.first > rule.last - rule.first ? 1u : 0u;
    }
    if (irregular == 0) [[likely]] {
      MXFP4_UNROLL
      for (std::size_t i = 0; i < Count; ++i, ++b, codes += step) {
        block[i].template encode<round, zero, order>(mxfp4::detail::word_scales<round, zero>[byte[i]], codes);
        *out.block_scale(row, b) = static_cast<std::uint8_t>(byte[i]);
      }
    } else {
      for (std::size_t i = 0; i < Count; ++i, ++b, codes += step)
        *out.block_scale(row, b) = quantize_block<Resolved, Arch, order>(from, b, block[i], amax[i], codes);
    }
  }
}

/// Blocks [first, last) of a row. The view comes by value: see dequantize_row.
template <class Resolved, class Arch, class Source, block_layout Layout>
void quantize_row(Source from, mx_view<Layout> out, std::int64_t row, std::int64_t first, std::int64_t last) noexcept {
  constexpr std::int64_t group = simd::blocks_together<Arch>, step = Layout::code_offset(0, 1, 0);
  std::uint8_t* codes = out.block_codes(row, first);
  std::int64_t b = first;
  if constexpr (mxfp4::detail::word_recipe<Resolved>) {
    for (; b + group <= last; b += group, codes += group * step)
      quantize_group<Resolved, Arch, simd::blocks_together<Arch>>(from, out, row, b, codes);
    for (; b < last; ++b, codes += step) quantize_group<Resolved, Arch, 1>(from, out, row, b, codes);
  } else {
    for (; b < last; ++b, codes += step)
      *out.block_scale(row, b) = encode_by_loop<Resolved, typename Layout::order>(from, b, codes);
  }
}

/// Is there a NaN or an infinity in blocks [b, b + Count) of a row?
template <class Arch, std::size_t Count, class Source>
[[nodiscard]] MXFP4_INLINE bool has_nonfinite(const Source& from, std::int64_t b) noexcept {
  simd::word_block<Arch> block[Count];
  for (std::size_t i = 0; i < Count; ++i) from.load(b + static_cast<std::int64_t>(i), block[i]);
  std::uint32_t amax[Count], found = 0;
  simd::word_block<Arch>::amax(block, amax);
  for (const std::uint32_t a : amax) found |= a >= simd::word_inf ? 1u : 0u;
  return found != 0;
}

/// Column of the first NaN or infinity in blocks [first, last) of a row, or -1.
template <class Arch, class Source>
[[nodiscard]] std::int64_t find_nonfinite(Source from, std::int64_t first, std::int64_t last) noexcept {
  constexpr std::int64_t group = simd::blocks_together<Arch>;
  std::int64_t b = first;
  while (b + group <= last && !has_nonfinite<Arch, simd::blocks_together<Arch>>(from, b)) b += group;
  for (; b < last; ++b) {
    if (!has_nonfinite<Arch, 1>(from, b)) continue;
    std::uint32_t bits[block_size];
    from.bits(b, bits);
    for (int i = 0; i < block_size; ++i)
      if ((bits[i] & mxfp4::detail::f32_abs_mask) >= mxfp4::detail::f32_inf) return b * block_size + i;
  }
  return -1;
}

/// What is wrong with the arguments of quantize: asked once for all recipes.
template <class Arch, class T, block_layout Layout>
[[nodiscard]] status check_quantize(const dense_view<T>& w, const mx_view<Layout>& out, on_nonfinite policy) noexcept {
  using value = std::remove_const_t<T>;
  if (const status s = mxfp4::detail::check_same_shape(w, "w", out); !s.ok()) return s;
  if (mxfp4::detail::overlap(out, w) || mxfp4::detail::overlap_itself(out)) return {errc::overlap, "out"};
  if (policy == on_nonfinite::refuse && w.cols > 0)
    for (std::int64_t r = 0; r < w.rows; ++r)
      if (const std::int64_t at = find_nonfinite<Arch>(row_source<value>{w.row(r)}, 0, out.blocks()); at >= 0)
        return {errc::nonfinite, "w", r * w.cols + at};
  return {};
}

/// quantize, its arguments checked.
template <class Resolved, class Arch, class T, block_layout Layout>
void quantize_checked(const dense_view<T>& w, const mx_view<Layout>& out, executor_ref with) {
  const block_tasks tasks(w.rows, out.blocks());
  with.run(tasks.count(), [&](std::size_t index) noexcept {
    tasks.for_each_row(index, [&](std::int64_t r, std::int64_t first, std::int64_t last) noexcept {
      quantize_row<Resolved, Arch>(row_source<std::remove_const_t<T>>{w.row(r)}, out, r, first, last);
    });
  });
  mxfp4::detail::fill_padding(out);
}

/// W -> MXFP4: the bytes of reference::quantize, on every architecture and for any number of tasks.
///
/// @param w       rows x cols, cols a multiple of 32: float, bf16, f16 or e4m3 (taken at its face value), any stride.
/// @param out     the same shape, any layout; must not overlap w.
/// @return        ok, or what is wrong with the arguments; nothing is written then.
template <block_recipe Recipe = recipe::ocp, class Arch = simd::native_arch, class T, block_layout Layout>
status quantize(const dense_view<T>& w, const mx_view<Layout>& out, const quantize_options& options = {}) {
  using resolved = typename Recipe::template for_input<std::remove_const_t<T>>;
  if (const status s = check_quantize<Arch>(w, out, options.nonfinite); !s.ok()) return s;
  if (w.rows > 0 && w.cols > 0) quantize_checked<resolved, Arch>(w, out, options.executor);
  return {};
}

/// The same with the recipe chosen at run time; errc::unknown_recipe besides.
template <class Arch = simd::native_arch, class T, block_layout Layout>
status quantize(recipe_id recipe, const dense_view<T>& w, const mx_view<Layout>& out,
                const quantize_options& options = {}) {
  return mxfp4::detail::with_recipe(recipe, [&]<class R>() { return kernel::quantize<R, Arch>(w, out, options); });
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
