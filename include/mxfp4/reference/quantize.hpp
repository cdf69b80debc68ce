// mxfp4/reference/quantize.hpp -- whole matrices as plain loops over blocks: what every kernel equals, bit for bit.
// SPDX-License-Identifier: Apache-2.0
//
// Every function checks its views first and writes nothing unless all is well. Where no kernels are to be had, these
// are what mxfp4::quantize and its kin call (mxfp4/quantize.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "mxfp4/format/block.hpp"
#include "mxfp4/format/recipe_id.hpp"
#include "mxfp4/tensor/call_options.hpp"
#include "mxfp4/tensor/fp8.hpp"
#include "mxfp4/tensor/tasks.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::reference {
inline namespace MXFP4_ISA_NS {

namespace detail {

/// The values of a matrix as they are. A loader fills x with 32 values from column c of row r on.
template <element_type T>
struct plain_loader {
  dense_view<const T> w;
  MXFP4_INLINE constexpr void operator()(std::int64_t r, std::int64_t c, T (&x)[block_size]) const noexcept {
    for (int i = 0; i < block_size; ++i) x[i] = w.row(r)[c + i];
  }
};

/// The weights of an FP8 matrix.
struct fp8_loader {
  dense_view<const e4m3> w;
  dense_view<const float> scales;
  MXFP4_INLINE constexpr void operator()(std::int64_t r, std::int64_t c, bf16 (&x)[block_size]) const noexcept {
    const float scale = scales.row(r / fp8_block)[c / fp8_block];  // 32 divides 128: a block has one scale
    for (int i = 0; i < block_size; ++i) x[i] = decode_scaled(w.row(r)[c + i], scale);
  }
};

/// Row-major index of the first NaN or infinity among the values that `load` gives, or -1.
template <class T, class Load>
[[nodiscard]] MXFP4_INLINE std::int64_t find_nonfinite(std::int64_t rows, std::int64_t cols, Load load) noexcept {
  if (cols == 0) return -1;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; c += block_size) {
      T x[block_size]{};
      load(r, c, x);
      for (int i = 0; i < block_size; ++i)
        if ((mxfp4::detail::float_bits(decode(x[i])) & mxfp4::detail::f32_abs_mask) >= mxfp4::detail::f32_inf)
          return r * cols + c + i;
    }
  return -1;
}

/// The plain loop of a recipe, by its address: what follows is compiled once for all recipes, and next to encoding a
/// block the call takes no time.
using encoder = block_codes (*)(const std::uint32_t (&bits)[block_size]) noexcept;
template <block_recipe Recipe, element_type T>
inline constexpr encoder encoder_of = &mxfp4::detail::encode_bits<typename Recipe::template for_input<T>>;

/// Every block that `load` gives, encoded into `out`; the arguments are checked.
template <class T, block_layout Layout, class Load>
status quantize_blocks(encoder encode, const mx_view<Layout>& out, Load load, const quantize_options& options) {
  if (options.nonfinite == on_nonfinite::refuse)
    if (const std::int64_t at = find_nonfinite<T>(out.rows, out.cols, load); at >= 0) return {errc::nonfinite, "w", at};
  const block_tasks tasks(out.rows, out.blocks());
  options.executor.run(tasks.count(), [&](std::size_t index) noexcept {
    tasks.for_each_row(index, [&](std::int64_t r, std::int64_t first, std::int64_t last) noexcept {
      for (std::int64_t b = first; b < last; ++b) {
        T x[block_size]{};
        load(r, b * block_size, x);
        std::uint32_t bits[block_size];
        for (int i = 0; i < block_size; ++i) bits[i] = mxfp4::detail::float_bits(decode(x[i]));
        const block_codes encoded = encode(bits);
        pack_block<typename Layout::order>(encoded.code, out.block_codes(r, b));
        *out.block_scale(r, b) = static_cast<std::uint8_t>(encoded.scale);
      }
    });
  });
  mxfp4::detail::fill_padding(out);
  return {};
}

/// quantize, whatever the recipe.
template <class T, block_layout Layout>
status quantize_values(encoder encode, const dense_view<T>& w, const mx_view<Layout>& out,
                       const quantize_options& options) {
  using value = std::remove_const_t<T>;
  if (const status s = mxfp4::detail::check_same_shape(w, "w", out); !s.ok()) return s;
  if (mxfp4::detail::overlap(out, w) || mxfp4::detail::overlap_itself(out)) return {errc::overlap, "out"};
  return quantize_blocks<value>(encode, out, plain_loader<value>{w}, options);
}

/// quantize_fp8, whatever the recipe.
template <block_layout Layout>
status quantize_fp8_values(encoder encode, const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                           const mx_view<Layout>& out, const quantize_options& options) {
  if (const status s = mxfp4::detail::check_fp8(w, scales, out); !s.ok()) return s;
  return quantize_blocks<bf16>(encode, out, fp8_loader{w, scales}, options);
}

}  // namespace detail

/// W -> MXFP4: the bytes of `Recipe` for tensors of T, block by block.
/// @param w    rows x cols, cols a multiple of 32; float, bf16, f16 or e4m3 (taken at its face value).
/// @param out  the same shape, any layout; every byte of it that a block or padding owns is written; no overlap with w.
template <block_recipe Recipe = recipe::ocp, class T, block_layout Layout>
status quantize(const dense_view<T>& w, const mx_view<Layout>& out, const quantize_options& options = {}) {
  using value = std::remove_const_t<T>;
  static_assert(element_type<value>);
  return detail::quantize_values(detail::encoder_of<Recipe, value>, w, out, options);
}

/// The same with the recipe chosen at run time; errc::unknown_recipe besides.
template <class T, block_layout Layout>
status quantize(recipe_id recipe, const dense_view<T>& w, const mx_view<Layout>& out,
                const quantize_options& options = {}) {
  return mxfp4::detail::with_recipe(recipe, [&]<class R>() { return reference::quantize<R>(w, out, options); });
}

/// FP8 -> MXFP4. A weight is bf16(w * scale[row / 128][col / 128]), nearest even, encoded by the bf16 recipe: the same
/// bytes as FP8 -> BF16 -> MXFP4.
/// @param w       rows x cols, cols a multiple of 32.
/// @param scales  ceil(rows / 128) x ceil(cols / 128), to multiply with (`weight_scale_inv` in spite of its name).
/// @param out     the shape of w, any layout; no overlap with w or scales.
/// Source: the FP8 checkpoints of DeepSeek-V3 and MiniMax-M2.
template <block_recipe Recipe = recipe::ocp, block_layout Layout>
status quantize_fp8(const dense_view<const e4m3>& w, const dense_view<const float>& scales, const mx_view<Layout>& out,
                    const quantize_options& options = {}) {
  return detail::quantize_fp8_values(detail::encoder_of<Recipe, bf16>, w, scales, out, options);
}

/// The same with the recipe chosen at run time; errc::unknown_recipe besides.
template <block_layout Layout>
status quantize_fp8(recipe_id recipe, const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                    const mx_view<Layout>& out, const quantize_options& options = {}) {
  return mxfp4::detail::with_recipe(recipe,
                                    [&]<class R>() { return reference::quantize_fp8<R>(w, scales, out, options); });
}

/// FP8 -> bf16, as vLLM and transformers read such checkpoints: decode_scaled(w, scale[row / 128][col / 128]).
/// @param w    rows x cols, not only multiples of 32.  @param scales  as above.
/// @param out  the shape of w; must not overlap w or scales.
inline status widen_fp8(const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                        const dense_view<bf16>& out, const run_options& options = {}) {
  if (const status s = mxfp4::detail::check_widen_fp8(w, scales, out); !s.ok()) return s;
  options.executor.run(w.cols == 0 ? 0 : static_cast<std::size_t>(scales.rows), [&](std::size_t band) noexcept {
    const std::int64_t top = static_cast<std::int64_t>(band) * fp8_block;
    for (std::int64_t r = top; r < top + fp8_block && r < w.rows; ++r)
      for (std::int64_t c = 0; c < w.cols; ++c)
        out.row(r)[c] = decode_scaled(w.row(r)[c], scales.row(r / fp8_block)[c / fp8_block]);
  });
  return {};
}

/// MXFP4 -> numbers, as `Dialect` reads them. Exact for float and bf16; f16 is rounded to nearest even.
/// @param w    rows x cols, any layout.  @param out  the same shape, overwritten; no overlap with w.
template <decode_dialect Dialect = dialect::ocp, class Byte, block_layout Layout, element_type T>
status dequantize(const basic_mx_view<Byte, Layout>& w, const dense_view<T>& out, const run_options& options = {}) {
  if (const status s = mxfp4::detail::check_same_shape(w, "w", out); !s.ok()) return s;
  if (mxfp4::detail::overlap(w, out)) return {errc::overlap, "out"};
  const block_tasks tasks(w.rows, w.blocks());
  options.executor.run(tasks.count(), [&](std::size_t index) noexcept {
    tasks.for_each_row(index, [&](std::int64_t r, std::int64_t first, std::int64_t last) noexcept {
      for (std::int64_t b = first; b < last; ++b) {
        const std::uint8_t* codes = w.block_codes(r, b);
        const auto scale = static_cast<e8m0>(*w.block_scale(r, b));
        for (int i = 0; i < block_size; ++i)
          out.row(r)[b * block_size + i] = decode_weight<T, Dialect>(get_code<typename Layout::order>(codes, i), scale);
      }
    });
  });
  return {};
}

/// The same with the dialect chosen at run time; errc::unknown_dialect besides.
template <class Byte, block_layout Layout, element_type T>
status dequantize(dialect_id dialect, const basic_mx_view<Byte, Layout>& w, const dense_view<T>& out,
                  const run_options& options = {}) {
  return mxfp4::detail::with_dialect(dialect, [&]<class D>() { return reference::dequantize<D>(w, out, options); });
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::reference
