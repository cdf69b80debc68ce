// mxfp4/kernel/quantize.hpp -- numbers -> MXFP4, eight blocks at a time in registers.
// SPDX-License-Identifier: Apache-2.0
//
// One kernel for every recipe: the scale is one compare by exponent, the codes are boundaries (simd/words.hpp). Blocks
// with NaN, infinity, a scale at an end of the range or a word ambiguous go to the plain loop, and so do all of
// min_mse and of a recipe of the user's own whose boundaries do not fit 16 bits (simd/words.hpp, word_recipe). The
// recipe is an argument: constants that are compiled in (detail::static_words), or a value that was chosen at run time,
// for which one kernel does for all recipes (simd::recipe_words).
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
template <nibble_order Order, class Words, class Source>
[[gnu::noinline]] std::uint8_t encode_by_loop(Words recipe, const Source& from, std::int64_t b,
                                              std::uint8_t* codes) noexcept {
  std::uint32_t bits[block_size];
  from.bits(b, bits);
  const block_codes encoded = recipe.encode(bits);
  pack_block<Order>(encoded.code, codes);
  return static_cast<std::uint8_t>(encoded.scale);
}

/// One block, whatever is in it; returns its scale byte.
template <class Arch, nibble_order Order, class Words, class Source>
MXFP4_INLINE std::uint8_t quantize_block(const Words& recipe, const Source& from, std::int64_t b,
                                         const simd::word_block<Arch>& block, std::uint32_t amax,
                                         std::uint8_t* codes) noexcept {
  const simd::word_step& step = recipe.step(amax >> 7);
  const std::uint8_t byte = step.byte[amax >= step.boundary ? 1 : 0];
  bool sure = byte != 0 && amax != step.ambiguous;
  const simd::word_scale& scale = recipe.scale(byte);
  if (recipe.has_stray()) sure = sure && !block.has(static_cast<std::uint16_t>((scale.offset & 0xFFFFu) + 63));
  if (const std::uint16_t ambiguous = recipe.ambiguous_sign(byte); ambiguous != simd::no_word)
    sure = sure && !block.has(ambiguous);
  if (!sure) [[unlikely]]
    return encode_by_loop<Order>(recipe, from, b, codes);
  block.template encode<Order>(recipe, scale, codes);
  return byte;
}

/// Some blocks of a row as words, and what their scales are.
template <class Arch, std::size_t Count>
struct word_group {
  simd::word_block<Arch> block[Count];
  std::uint32_t amax[Count], byte[Count], irregular;

  /// Blocks [b, b + Count).
  template <class Words, class Source>
  MXFP4_INLINE void load(const Words& recipe, const Source& from, std::int64_t b) noexcept {
    const simd::word_rule rule = recipe.rule();
    const auto soon = reinterpret_cast<std::uintptr_t>(from.at(b)) + prefetch_bytes;  // an address, of no array
    MXFP4_UNROLL
    for (std::size_t i = 0; i < Count * block_size * sizeof(*from.x); i += 64)
      simd::prefetch_soon(reinterpret_cast<const void*>(soon + i));
    MXFP4_UNROLL
    for (std::size_t i = 0; i < Count; ++i) from.load(b + static_cast<std::int64_t>(i), block[i]);
    simd::word_block<Arch>::amax(block, amax);
    irregular = rule.first > rule.last || recipe.has_stray() ? 1u : 0u;
    MXFP4_UNROLL
    for (std::size_t i = 0; i < Count; ++i) {
      byte[i] = ((amax[i] + rule.carry) >> 7) - 2;
      irregular |= (amax[i] >> 7) - rule.first > rule.last - rule.first ? 1u : 0u;
    }
  }

  /// The codes of the first to `codes`.
  template <class Words, class Source, block_layout Layout>
  MXFP4_INLINE void encode(const Words& recipe, const Source& from, const mx_view<Layout>& out, std::int64_t row,
                           std::int64_t b, std::uint8_t* codes) const noexcept {
    using order = typename Layout::order;
    constexpr std::int64_t step = Layout::code_offset(0, 1, 0);  // blocks of a row follow one another in every layout
    if (irregular == 0) [[likely]] {
      MXFP4_UNROLL
      for (std::size_t i = 0; i < Count; ++i, ++b, codes += step) {
        block[i].template encode<order>(recipe, recipe.scale(byte[i]), codes);
        *out.block_scale(row, b) = static_cast<std::uint8_t>(byte[i]);
      }
    } else {
      for (std::size_t i = 0; i < Count; ++i, ++b, codes += step)
        *out.block_scale(row, b) = quantize_block<Arch, order>(recipe, from, b, block[i], amax[i], codes);
    }
  }
};

/// Blocks [b, b + Count) of a row, the codes of the first to `codes`.
template <class Arch, std::size_t Count, class Words, class Source, block_layout Layout>
MXFP4_INLINE void quantize_group(const Words& recipe, const Source& from, const mx_view<Layout>& out, std::int64_t row,
                                 std::int64_t b, std::uint8_t* codes) noexcept {
  word_group<Arch, Count> group;
  group.load(recipe, from, b);
  group.encode(recipe, from, out, row, b, codes);
}

/// All groups of [b, last), each of which is loaded before the one ahead of it is encoded: the scales of a group are
/// known only some 60 cycles after its last load. Returns the first block after them.
template <class Arch, std::size_t Count, class Words, class Source, block_layout Layout>
MXFP4_INLINE std::int64_t quantize_groups(const Words& recipe, const Source& from, const mx_view<Layout>& out,
                                          std::int64_t row, std::int64_t b, std::int64_t last) noexcept {
  constexpr auto count = static_cast<std::int64_t>(Count);
  if (b + count > last) return b;
  word_group<Arch, Count> groups[2];
  groups[0].load(recipe, from, b);
  for (std::size_t at = 0;; at ^= 1) {
    const std::int64_t next = b + count;
    const bool more = next + count <= last;
    if (more) groups[at ^ 1].load(recipe, from, next);
    groups[at].encode(recipe, from, out, row, b, out.block_codes(row, b));
    b = next;
    if (!more) return b;
  }
}

/// Blocks [first, last) of a row. The view comes by value: see dequantize_row.
/// @param recipe  detail::static_words, or simd::recipe_words made for Source::exact.
template <class Arch, class Words, class Source, block_layout Layout>
void quantize_row(Words recipe, Source from, mx_view<Layout> out, std::int64_t row, std::int64_t first,
                  std::int64_t last) noexcept {
  [[maybe_unused]] constexpr std::int64_t group = simd::blocks_together<Arch>;
  constexpr std::int64_t step = Layout::code_offset(0, 1, 0);
  std::uint8_t* codes = out.block_codes(row, first);
  std::int64_t b = first;
  if constexpr (Words::may_take_words) {
    if (recipe.takes_words()) {
      if constexpr (simd::looks_up_bytes<Arch>) {  // with AVX-512 a group stays in registers
        b = quantize_groups<Arch, simd::blocks_together<Arch>>(recipe, from, out, row, b, last);
        codes += (b - first) * step;
      } else if constexpr (group > 1) {
        for (; b + group <= last; b += group, codes += group * step)
          quantize_group<Arch, simd::blocks_together<Arch>>(recipe, from, out, row, b, codes);
      }
      for (; b < last; ++b, codes += step) quantize_group<Arch, 1>(recipe, from, out, row, b, codes);
      return;
    }
  }
  for (; b < last; ++b, codes += step)
    *out.block_scale(row, b) = encode_by_loop<typename Layout::order>(recipe, from, b, codes);
}

/// Calls f with the words of a recipe for numbers of T, or returns errc::unknown_recipe.
/// @tparam Exact  they have 16 bits.
template <element_type T, bool Exact, class F>
[[nodiscard]] status with_recipe_words(recipe_id recipe, F f) {
  status s{errc::unknown_recipe, "recipe", static_cast<std::int64_t>(recipe)};
  simd::recipe_words words;
  if (visit_recipe(recipe, [&words]<class R>() {
        using resolved = typename R::template for_input<T>;
        static constexpr simd::recipe_words all =
            mxfp4::detail::static_words<resolved, Exact>::value(&mxfp4::detail::encode_bits<resolved>);
        words = all;
      }))
    s = simd::visit_words(words, f);
  return s;
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
  if constexpr (group > 1)
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
template <class Arch, class Words, class T, block_layout Layout>
void quantize_checked(const Words& recipe, const dense_view<T>& w, const mx_view<Layout>& out, executor_ref with) {
  const block_tasks tasks(w.rows, out.blocks());
  with.run(tasks.count(), [&](std::size_t index) noexcept {
    tasks.for_each_row(index, [&](std::int64_t r, std::int64_t first, std::int64_t last) noexcept {
      quantize_row<Arch>(recipe, row_source<std::remove_const_t<T>>{w.row(r)}, out, r, first, last);
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
  using value = std::remove_const_t<T>;
  using words = mxfp4::detail::static_words<typename Recipe::template for_input<value>, row_source<value>::exact>;
  if (const status s = check_quantize<Arch>(w, out, options.nonfinite); !s.ok()) return s;
  if (w.rows > 0 && w.cols > 0) quantize_checked<Arch>(words{}, w, out, options.executor);
  return {};
}

/// The same with the recipe chosen at run time; errc::unknown_recipe besides.
template <class Arch = simd::native_arch, class T, block_layout Layout>
status quantize(recipe_id recipe, const dense_view<T>& w, const mx_view<Layout>& out,
                const quantize_options& options = {}) {
  using value = std::remove_const_t<T>;
  return with_recipe_words<value, row_source<value>::exact>(recipe, [&](const auto& words) {
    if (const status s = check_quantize<Arch>(w, out, options.nonfinite); !s.ok()) return s;
    if (w.rows > 0 && w.cols > 0) quantize_checked<Arch>(words, w, out, options.executor);
    return status{};
  });
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
