// mxfp4/reference/quantize.hpp -- whole tensors, block by block, as plain loops: the oracle for every kernel.
// SPDX-License-Identifier: Apache-2.0
//
// Every function checks its views first and writes nothing unless all is well.
#pragma once

#include <cstdint>

#include "mxfp4/format/block.hpp"
#include "mxfp4/format/recipe_id.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4 {

/// What to do with a block that holds NaN or infinity.
enum class on_nonfinite : std::uint8_t {
  encode,  ///< as the recipe's docstring says: for most a NaN block
  refuse,  ///< errc::nonfinite with the index of the first such element; nothing is written
};

namespace detail {

/// Blocks are fetched by `load(row, first_col, x)`, which fills 32 values.
template <class Recipe, class T, block_layout Layout, class Load>
constexpr void quantize_blocks(std::int64_t rows, mx_view<Layout> out, Load load) noexcept {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t b = 0; b < out.blocks(); ++b) {
      T x[block_size]{};
      load(r, b * block_size, x);
      const block_codes encoded = encode_block_codes<Recipe>(x);
      pack_block<typename Layout::order>(encoded.code, out.block_codes(r, b));
      *out.block_scale(r, b) = static_cast<std::uint8_t>(encoded.scale);
    }
}

/// Row-major index of the first NaN or infinity among the values that `load` gives, or -1.
template <class T, class Load>
[[nodiscard]] MXFP4_INLINE constexpr std::int64_t find_nonfinite(std::int64_t rows, std::int64_t cols,
                                                                 Load load) noexcept {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; c += block_size) {
      T x[block_size]{};
      load(r, c, x);
      for (int i = 0; i < block_size; ++i)
        if ((float_bits(decode(x[i])) & f32_abs_mask) >= f32_inf) return r * cols + c + i;
    }
  return -1;
}

/// The values of a matrix as they are.
template <element_type T>
struct plain_loader {
  dense_view<const T> w;
  MXFP4_INLINE constexpr void operator()(std::int64_t r, std::int64_t c, T (&x)[block_size]) const noexcept {
    for (int i = 0; i < block_size; ++i) x[i] = w.row(r)[c + i];
  }
};

}  // namespace detail

/// W -> MXFP4: the bytes of `Recipe` for tensors of T, block by block.
/// @param w    rows x cols, cols a multiple of 32; float, bf16, f16 or e4m3 (taken at its face value).
/// @param out  the same shape, any layout; every byte of it that a block or padding owns is written; no overlap with w.
template <block_recipe Recipe = recipe::ocp, class T, block_layout Layout>
status quantize(dense_view<T> w, mx_view<Layout> out, on_nonfinite policy = on_nonfinite::encode) noexcept {
  using value = std::remove_const_t<T>;
  static_assert(element_type<value>);
  if (const status s = detail::check_same_shape(w, "w", out); !s.ok()) return s;
  if (detail::overlap(out, w) || detail::overlap_itself(out)) return {errc::overlap, "out"};
  if (w.rows == 0 || w.cols == 0) return {};
  const detail::plain_loader<value> load{w};
  if (policy == on_nonfinite::refuse)
    if (const std::int64_t at = detail::find_nonfinite<value>(w.rows, w.cols, load); at >= 0)
      return {errc::nonfinite, "w", at};
  detail::quantize_blocks<Recipe, value>(w.rows, out, load);
  detail::fill_padding(out);
  return {};
}

/// The same with the recipe chosen at run time.
template <class T, block_layout Layout>
status quantize(recipe_id recipe, dense_view<T> w, mx_view<Layout> out,
                on_nonfinite policy = on_nonfinite::encode) noexcept {
  status s{errc::unknown_recipe, "recipe", static_cast<std::int64_t>(recipe)};
  visit_recipe(recipe, [&]<class R>() { s = quantize<R>(w, out, policy); });
  return s;
}

inline constexpr std::int64_t fp8_block = 128;  ///< rows and columns of an FP8 checkpoint that share one scale

namespace detail {

[[nodiscard]] MXFP4_INLINE status check_fp8_scales(const dense_view<const e4m3>& w,
                                                   const dense_view<const float>& scales) noexcept {
  if (const status s = check(scales, "scales"); !s.ok()) return s;
  if (const auto n = ceil_div(w.rows, fp8_block); scales.rows != n)
    return {errc::shape_mismatch, "scales.rows", scales.rows, n};
  if (const auto n = ceil_div(w.cols, fp8_block); scales.cols != n)
    return {errc::shape_mismatch, "scales.cols", scales.cols, n};
  return {};
}

template <block_layout Layout>
[[nodiscard]] MXFP4_INLINE status check_fp8(const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                                            const mx_view<Layout>& out) noexcept {
  if (const status s = check_same_shape(w, "w", out); !s.ok()) return s;
  if (const status s = check_fp8_scales(w, scales); !s.ok()) return s;
  if (overlap(out, w) || overlap(out, scales) || overlap_itself(out)) return {errc::overlap, "out"};
  return {};
}

/// The weights of an FP8 matrix.
struct fp8_loader {
  dense_view<const e4m3> w;
  dense_view<const float> scales;
  MXFP4_INLINE constexpr void operator()(std::int64_t r, std::int64_t c, bf16 (&x)[block_size]) const noexcept {
    const float scale = scales.row(r / fp8_block)[c / fp8_block];  // 32 divides 128: one scale a block
    for (int i = 0; i < block_size; ++i) x[i] = decode_scaled(w.row(r)[c + i], scale);
  }
};

}  // namespace detail

/// FP8 -> MXFP4. A weight is bf16(w * scale[row / 128][col / 128]), nearest even, encoded by the bf16 recipe: the same
/// bytes as FP8 -> BF16 -> MXFP4.
/// @param scales  ceil(rows / 128) x ceil(cols / 128), to multiply with (`weight_scale_inv` in spite of its name).
/// Source: the FP8 checkpoints of DeepSeek-V3 and MiniMax-M2; design decision 12.
template <block_recipe Recipe = recipe::ocp, block_layout Layout>
status quantize_fp8(dense_view<const e4m3> w, dense_view<const float> scales, mx_view<Layout> out,
                    on_nonfinite policy = on_nonfinite::encode) noexcept {
  if (const status s = detail::check_fp8(w, scales, out); !s.ok()) return s;
  if (w.rows == 0 || w.cols == 0) return {};
  const detail::fp8_loader load{w, scales};
  if (policy == on_nonfinite::refuse)
    if (const std::int64_t at = detail::find_nonfinite<bf16>(w.rows, w.cols, load); at >= 0)
      return {errc::nonfinite, "w", at};
  detail::quantize_blocks<Recipe, bf16>(w.rows, out, load);
  detail::fill_padding(out);
  return {};
}

template <block_layout Layout>
status quantize_fp8(recipe_id recipe, dense_view<const e4m3> w, dense_view<const float> scales, mx_view<Layout> out,
                    on_nonfinite policy = on_nonfinite::encode) noexcept {
  status s{errc::unknown_recipe, "recipe", static_cast<std::int64_t>(recipe)};
  visit_recipe(recipe, [&]<class R>() { s = quantize_fp8<R>(w, scales, out, policy); });
  return s;
}

namespace detail {
[[nodiscard]] MXFP4_INLINE status check_widen_fp8(const dense_view<const e4m3>& w,
                                                  const dense_view<const float>& scales,
                                                  const dense_view<bf16>& out) noexcept {
  if (const status s = check_same_shape(w, "w", out); !s.ok()) return s;
  if (const status s = check_fp8_scales(w, scales); !s.ok()) return s;
  if (overlap(data_of(w), data_of(out)) || overlap(data_of(scales), data_of(out))) return {errc::overlap, "out"};
  return {};
}
}  // namespace detail

/// FP8 -> bf16, as every reader of such checkpoints widens it: decode_scaled(w, scale[row / 128][col / 128]).
/// @param out  the shape of w; must not overlap w or scales.
inline status widen_fp8(const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                        const dense_view<bf16>& out) noexcept {
  if (const status s = detail::check_widen_fp8(w, scales, out); !s.ok()) return s;
  if (w.rows == 0 || w.cols == 0) return {};
  for (std::int64_t r = 0; r < w.rows; ++r)
    for (std::int64_t c = 0; c < w.cols; ++c)
      out.row(r)[c] = decode_scaled(w.row(r)[c], scales.row(r / fp8_block)[c / fp8_block]);
  return {};
}

/// MXFP4 -> numbers, as `Dialect` reads them. Exact for float and bf16; f16 is rounded to nearest even.
/// @param w    rows x cols.  @param out  the same shape, overwritten; no overlap with w.
template <decode_dialect Dialect = dialect::ocp, class Byte, block_layout Layout, element_type T>
status dequantize(basic_mx_view<Byte, Layout> w, dense_view<T> out) noexcept {
  if (const status s = detail::check_same_shape(w, "w", out); !s.ok()) return s;
  if (detail::overlap(w, out)) return {errc::overlap, "out"};
  if (w.rows == 0 || w.cols == 0) return {};
  for (std::int64_t r = 0; r < w.rows; ++r)
    for (std::int64_t b = 0; b < w.blocks(); ++b) {
      const std::uint8_t* codes = w.block_codes(r, b);
      const auto scale = static_cast<e8m0>(*w.block_scale(r, b));
      for (int i = 0; i < block_size; ++i)
        out.row(r)[b * block_size + i] = decode_weight<T, Dialect>(get_code<typename Layout::order>(codes, i), scale);
    }
  return {};
}

/// n numbers -> ceil(n / 32) blocks, low_first: the one function that takes any length. What is missing in the last
/// block counts as zero and has code 0.
/// @param codes   16 * ceil(n / 32) bytes.  @param scales  ceil(n / 32) bytes.
template <block_recipe Recipe = recipe::ocp, element_type T>
constexpr status encode_row(const T* x, std::int64_t n, std::uint8_t* codes, std::uint8_t* scales) noexcept {
  if (n < 0) return {errc::negative_size, "n", n};
  if (n == 0) return {};
  if (x == nullptr) return {errc::null_pointer, "x", 0, n};
  if (codes == nullptr) return {errc::null_pointer, "codes", 0, detail::ceil_div(n, block_size) * block_code_bytes};
  if (scales == nullptr) return {errc::null_pointer, "scales", 0, detail::ceil_div(n, block_size)};
  for (std::int64_t first = 0; first < n; first += block_size) {
    const std::int64_t count = n - first < block_size ? n - first : block_size;
    T padded[block_size]{};
    for (std::int64_t i = 0; i < count; ++i) padded[i] = x[first + i];
    block_codes encoded = encode_block_codes<Recipe>(padded);
    for (std::int64_t i = count; i < block_size; ++i) encoded.code[i] = e2m1{0};
    pack_block<low_first>(encoded.code, codes + first / block_size * block_code_bytes);
    scales[first / block_size] = static_cast<std::uint8_t>(encoded.scale);
  }
  return {};
}

}  // namespace mxfp4
