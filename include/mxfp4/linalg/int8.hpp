// mxfp4/linalg/int8.hpp -- products of MXFP4 weights and int8 activations.
// SPDX-License-Identifier: Apache-2.0
//
// A task is some tiles of 16 rows; how many depends on the shape alone. It multiplies each with 8 groups of 16 lanes
// before the next. Tiles of a view are brought into tile order in cache, 32 blocks at a time, once for the 8 groups.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "mxfp4/core/executor_ref.hpp"
#include "mxfp4/kernel/activation.hpp"
#include "mxfp4/kernel/int8.hpp"
#include "mxfp4/kernel/int8_view.hpp"
#include "mxfp4/kernel/output.hpp"
#include "mxfp4/kernel/pack.hpp"
#include "mxfp4/tensor/activation.hpp"
#include "mxfp4/tensor/gemm_options.hpp"
#include "mxfp4/tensor/packed_matrix.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {
namespace kernel {
inline namespace MXFP4_ISA_NS {

inline constexpr std::int64_t blocks_at_once = 32;  ///< of a view's tile: 8.5 KiB in tile order
inline constexpr std::int64_t groups_at_once = 8;   ///< 128 lanes

/// Where tokens are multiplied in passes (int8_rows.hpp), a tile that several pass over goes this many blocks at a
/// time: 8 KiB of decoded weights stay in the nearest cache, together with a group of tokens.
inline constexpr std::int64_t decoded_at_once = 16;

/// Tiles of a packed matrix, where they are.
struct int8_packed_source {
  static constexpr bool in_place = true;
  const packed_matrix& w;
  [[nodiscard]] std::int64_t rows() const noexcept { return w.rows(); }
  [[nodiscard]] std::int64_t blocks() const noexcept { return w.blocks(); }
  [[nodiscard]] tile_ref tile(std::int64_t t, std::int64_t first, std::int64_t, std::uint8_t*) const noexcept {
    return {w.codes(t) + first * tile_block_bytes, w.scales(t) + first * tile_rows, w.range(t)};
  }
};

/// Tiles of a view, gathered into memory of the caller: 272 bytes a block.
template <class Byte, block_layout Layout>
struct int8_view_source {
  static constexpr bool in_place = false;
  const basic_mx_view<Byte, Layout>& w;
  [[nodiscard]] std::int64_t rows() const noexcept { return w.rows; }
  [[nodiscard]] std::int64_t blocks() const noexcept { return w.blocks(); }
  [[nodiscard]] tile_ref tile(std::int64_t t, std::int64_t first, std::int64_t blocks,
                              std::uint8_t* memory) const noexcept {
    std::uint8_t* const scales = memory + blocks_at_once * tile_block_bytes;
    gather_tile(w, t * tile_rows, first, blocks, memory, scales);
    const std::int64_t left = w.rows - t * tile_rows;
    const int rows = static_cast<int>(left < tile_rows ? left : tile_rows);
    return {memory, scales, tile_range(memory, scales, blocks, rows)};
  }
  /// The same blocks times one token without gathering them, if that can be done.
  template <class Arch>
  [[nodiscard]] bool multiply_token(std::int64_t t, std::int64_t first, std::int64_t blocks, const group_ref& x,
                                    group_sums& sums) const noexcept {
    if constexpr (multiplies_rows<Arch, Layout>)
      return multiply_int8_view<Arch, blocks_at_once>(w, t * tile_rows, first, blocks, x, sums);
    else return false;
  }
};

// X: int8_activations, or a class whose groups are stored elsewhere (m_tile_groups in moe/int8.hpp).
template <class X>
[[nodiscard]] group_ref group_of(const X& x, std::int64_t group, std::int64_t block) noexcept {
  return {x.block(group, block), x.width(group), x.scaling() == int8_scaling::f32, x.scale_exponents(group)};
}

/// Y whose elements are not float: what is added to it goes through floats, and a bias, or null, comes last.
struct rounded_output {
  mxfp4::detail::output_view view;
  const float* bias;
};

/// Rows n .. n + rows of a token's part of Y, m, as floats.
[[nodiscard]] MXFP4_INLINE const float* sums_of_y(const dense_view<float>& y, std::int64_t m, std::int64_t n, int,
                                                  float*) noexcept {
  return y.row(m) + n;
}
[[nodiscard]] inline const float* sums_of_y(const rounded_output& y, std::int64_t m, std::int64_t n, int rows,
                                            float* buffer) noexcept {
  load_sums(y.view, m, n, rows, buffer);
  return buffer;
}

/// The sums before the first block: 0, or Y with accumulate (of a token's first term; but scaling row, see
/// finish_sums). -0 becomes +0.
/// @tparam Y  dense_view<float> or rounded_output.
template <class X, class Y>
void start_sums(group_sums& sums, const X& x, std::int64_t group, Y y, std::int64_t n, int rows,
                bool accumulate) noexcept {
  const int width = x.width(group), tokens = accumulate && x.scaling() != int8_scaling::row ? x.rows_in(group) : 0;
  const int terms = terms_of(x.scaling());
  for (int lane = 0; lane < width; ++lane) std::memset(sums.at[lane], 0, sizeof sums.at[lane]);
  for (int t = 0; t < tokens; ++t) {
    float buffer[tile_rows];
    const float* const from = sums_of_y(y, x.first_row(group) + t, n, rows, buffer);
    for (int r = 0; r < rows; ++r) sums.at[t * terms][r] = from[r] + 0.0f;
  }
}

/// The sums of a token's terms: [0] + ([1] + [2]).
template <class Arch>
[[nodiscard]] MXFP4_INLINE simd::float_lanes<Arch> sum_of_terms(const float (*terms)[tile_rows], int count,
                                                                int r) noexcept {
  using floats = simd::float_lanes<Arch>;
  const floats first = floats::load_aligned(terms[0] + r);
  if (count == 1) return first;
  const floats second = floats::load_aligned(terms[1] + r);
  return first + (count == 2 ? second : second + floats::load_aligned(terms[2] + r));
}

/// Stores a token's 16 results, of which `rows` exist.
MXFP4_INLINE void store_result(const dense_view<float>& y, std::int64_t m, std::int64_t n, int rows,
                               const float (&result)[tile_rows]) noexcept {
  float* const out = y.row(m) + n;
  if (rows == tile_rows) std::memcpy(out, result, sizeof result);  // a size that is known is one store
  else std::memcpy(out, result, sizeof(float) * static_cast<std::size_t>(rows));
}

/// After the last block: stores sums * x.finish() to Y, or adds them by an FMA in scaling row with accumulate.
template <class Arch, class X, class Y>
void finish_sums(const group_sums& sums, const X& x, std::int64_t group, Y y, std::int64_t n, int rows,
                 bool accumulate) noexcept {
  using floats = simd::float_lanes<Arch>;
  const bool onto_y = accumulate && x.scaling() == int8_scaling::row;
  const int tokens = x.rows_in(group), terms = terms_of(x.scaling());
  const std::size_t bytes = sizeof(float) * static_cast<std::size_t>(rows);
  const floats nan(mxfp4::detail::float_from_bits(mxfp4::detail::f32_nan));
  for (int t = 0; t < tokens; ++t) {
    const std::int64_t m = x.first_row(group) + t;
    alignas(64) float result[tile_rows]{};
    if (onto_y) {
      float buffer[tile_rows];
      std::memcpy(result, sums_of_y(y, m, n, rows, buffer), bytes);
    }
    const floats scale(x.finish(group)[t]);
    for (int r = 0; r < tile_rows; r += static_cast<int>(floats::size)) {
      const floats sum = sum_of_terms<Arch>(sums.at + t * terms, terms, r);
      const floats value = onto_y ? simd::fma(sum, scale, floats::load_aligned(result + r)) : sum * scale;
      simd::select(value == value, value, nan).store_aligned(result + r);
    }
    if constexpr (std::is_same_v<Y, rounded_output>) kernel::store_sums<Arch>(y.view, m, n, rows, result, y.bias);
    else store_result(y, m, n, rows, result);
  }
}

/// One tile times groups [first, last), at most groups_at_once. A gathered piece of the tile serves all of them.
template <class Arch, class Source, class X, class Y>
void multiply_int8_tile(const Source& source, const X& x, Y y, std::int64_t tile, std::int64_t first, std::int64_t last,
                        bool accumulate) noexcept {
  alignas(64) std::uint8_t gathered[Source::in_place ? 1 : blocks_at_once * (tile_block_bytes + tile_rows)];
  alignas(64) std::uint8_t decoded[simd::holds_tile<Arch> ? decoded_at_once * decoded_block_bytes : 1];
  group_sums sums[groups_at_once];
  const bool decodes_once = simd::holds_tile<Arch> && (last - first > 1 || x.width(first) > tokens_of_pass);
  // Two terms of a token are faster by way of tiles: gathering them pays from two lanes on.
  const bool is_token = last - first == 1 && x.width(first) == 1;
  const std::int64_t n = tile * tile_rows, all = source.blocks();
  const std::int64_t step = decodes_once ? decoded_at_once : Source::in_place ? all : blocks_at_once;
  const int rows = static_cast<int>(source.rows() - n < tile_rows ? source.rows() - n : tile_rows);
  for (std::int64_t g = first; g < last; ++g) start_sums(sums[g - first], x, g, y, n, rows, accumulate);
  for (std::int64_t b = 0; b < all; b += step) {
    const std::int64_t blocks = all - b < step ? all - b : step;
    if constexpr (!Source::in_place)
      if (is_token && source.template multiply_token<Arch>(tile, b, blocks, group_of(x, first, b), sums[0])) continue;
    tile_ref w = source.tile(tile, b, blocks, gathered);
    if (decodes_once) w.decoded = decoded;
    for (std::int64_t g = first; g < last; ++g) multiply_int8<Arch>(w, group_of(x, g, b), blocks, sums[g - first]);
  }
  for (std::int64_t g = first; g < last; ++g) finish_sums<Arch>(sums[g - first], x, g, y, n, rows, accumulate);
}

/// Tiles [begin, end) in place times the only token of x: nothing but the tile changes from one to the next.
template <class Arch, class Source, class Y>
void multiply_int8_token(const Source& source, const int8_activations& x, Y y, std::int64_t begin, std::int64_t end,
                         bool accumulate) noexcept {
  const group_ref token = group_of(x, 0, 0);
  const std::int64_t blocks = source.blocks();
  group_sums sums;
  for (std::int64_t tile = begin; tile < end; ++tile) {
    const std::int64_t n = tile * tile_rows;
    const int rows = static_cast<int>(source.rows() - n < tile_rows ? source.rows() - n : tile_rows);
    start_sums(sums, x, 0, y, n, rows, accumulate);
    tile_ref w = source.tile(tile, 0, blocks, nullptr);
    multiply_int8<Arch>(w, token, blocks, sums);
    finish_sums<Arch>(sums, x, 0, y, n, rows, accumulate);
  }
}

/// Tiles a task takes: about a million products, at least one tile.
[[nodiscard]] constexpr std::int64_t tiles_per_task(std::int64_t cols, std::int64_t tokens) noexcept {
  constexpr std::int64_t products = std::int64_t{1} << 20;
  const std::int64_t tile = tile_rows * (cols > 0 ? cols : 1);
  return tile >= products || tokens >= products / tile ? 1 : products / tile / (tokens > 0 ? tokens : 1);
}

/// The arguments have been checked.
template <class Arch, class Source, class Y>
void gemm_int8(const Source& source, const int8_activations& x, const Y& y, const gemm_options& options) {
  if (x.rows() == 0 || source.rows() == 0) return;
  const std::int64_t tiles = mxfp4::detail::ceil_div(source.rows(), tile_rows);
  const std::int64_t per_task = tiles_per_task(x.cols(), x.rows() * x.terms());
  const auto task = [&](std::size_t i) {
    const std::int64_t begin = static_cast<std::int64_t>(i) * per_task;
    const std::int64_t end = begin + per_task < tiles ? begin + per_task : tiles;
    if constexpr (Source::in_place)
      if (x.rows() == 1) return multiply_int8_token<Arch>(source, x, y, begin, end, options.accumulate);
    for (std::int64_t g = 0; g < x.groups(); g += groups_at_once)
      for (std::int64_t t = begin; t < end; ++t)
        multiply_int8_tile<Arch>(source, x, y, t, g, g + groups_at_once < x.groups() ? g + groups_at_once : x.groups(),
                                 options.accumulate);
  };
  options.executor.run(static_cast<std::size_t>(mxfp4::detail::ceil_div(tiles, per_task)), task);
}

[[nodiscard]] inline int8_packed_source int8_source(const packed_matrix& w) noexcept { return {w}; }
template <class Byte, block_layout Layout>
[[nodiscard]] int8_view_source<Byte, Layout> int8_source(const basic_mx_view<Byte, Layout>& w) noexcept {
  return {w};
}

/// A product with int8 activations and outputs that are rounded. The caller has checked the arguments.
template <class Arch, class W>
void round_product_int8(const W& w, const int8_activations& x, const mxfp4::detail::output_view& y,
                        const gemm_options& options) {
  const float* const bias = options.bias.empty() ? nullptr : options.bias.data();
  gemm_int8<Arch>(int8_source(w), x, rounded_output{y, bias}, options);
}

/// The body of every product with int8 activations: checks the arguments, then multiplies.
/// @tparam Y  dense_view<float> or output_view.
template <class Arch, class W, class Y>
status product_int8(const W& w, const int8_activations& x, const Y& y, const gemm_options& options) {
  using mxfp4::detail::operand_of;
  if (const status s =
          mxfp4::detail::check_product(operand_of(w, "w"), operand_of(x, "x"), operand_of(y, "y"), options.bias);
      !s.ok())
    return s;
  if constexpr (std::is_same_v<Y, dense_view<float>>) {
    gemm_int8<Arch>(int8_source(w), x, y, options);
    if (!options.bias.empty()) add_bias<Arch>(y, options.bias.data(), options.executor);
  } else {
    round_product_int8<Arch>(w, x, y, options);
  }
  return {};
}

}  // namespace MXFP4_ISA_NS
}  // namespace kernel

inline namespace MXFP4_ISA_NS {

/// Y[m][n] = sum over k of X[m][k] * decode(W)[n][k], W4A8: see reference/int8.hpp for every rounding.
///
/// @param w  N x K weights, K a multiple of 32, any N; dialect ocp.
/// @param x  M x K int8 activations (quantize_activations).
/// @param y  M x N, row stride >= N, overwritten; accumulate: the sums start at Y (scaling row: are added by an FMA).
///           Must not overlap w, x or the bias, which is added last, with one rounding. bf16, f16: linalg/output.hpp.
/// @return   ok, or what is wrong with the arguments; nothing is written then.
/// Accuracy: block sums are exact; one rounding per block: |Y - exact| <= gamma(K/32) * sum |w*x| over the int8 values
///           of X, u = 2^-24, while every partial result is finite (one ulp more per block for f32, one in all for row;
///           residual2 and residual3: gamma(K/32 + terms - 1), over the values of all terms).
/// Special:  scale byte 0xFF, and NaN or infinity in the token's activations, give NaN (always 0x7FC00000); weights
///           that overflow follow IEEE, in each term: 0 times infinity is NaN. Tiles whose factors may be no normal
///           floats obey the same bound, and are slow.
/// Same bits for any executor, M, view or packed; scaling e8m0, residual2, residual3: on every ISA; f32, and row with
/// accumulate: on every ISA with FMA. Subnormals must not be flushed to zero.
template <class Arch = simd::native_arch>
status gemm(const packed_matrix& w, const int8_activations& x, const dense_view<float>& y,
            const gemm_options& options = {}) {
  return kernel::product_int8<Arch>(w, x, y, options);
}

/// The same from a checkpoint's own bytes, which are brought into tile order in cache.
template <class Arch = simd::native_arch, class Byte, block_layout Layout>
status gemm(const basic_mx_view<Byte, Layout>& w, const int8_activations& x, const dense_view<float>& y,
            const gemm_options& options = {}) {
  return kernel::product_int8<Arch>(w, x, y, options);
}

/// y[n] = sum over k of x[k] * decode(W)[n][k] for one token: gemm with M = 1. y: N floats, an array, a vector or a
/// span.
template <class Arch = simd::native_arch, number_row Y>
status gemv(const packed_matrix& w, const int8_activations& x, Y&& y, const gemm_options& options = {}) {
  return gemm<Arch>(w, x, detail::one_row(y), options);
}
template <class Arch = simd::native_arch, class Byte, block_layout Layout, number_row Y>
status gemv(const basic_mx_view<Byte, Layout>& w, const int8_activations& x, Y&& y, const gemm_options& options = {}) {
  return gemm<Arch>(w, x, detail::one_row(y), options);
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4
