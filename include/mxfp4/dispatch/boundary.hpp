// mxfp4/dispatch/boundary.hpp -- what dispatch.hpp hands to the library: views whose types are values.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "mxfp4/format/dialect.hpp"
#include "mxfp4/format/recipe_id.hpp"
#include "mxfp4/moe/expert.hpp"
#include "mxfp4/moe/router.hpp"
#include "mxfp4/moe/workspace.hpp"
#include "mxfp4/reference/error_statistics.hpp"
#include "mxfp4/tensor/activation.hpp"
#include "mxfp4/tensor/call_options.hpp"
#include "mxfp4/tensor/convert.hpp"
#include "mxfp4/tensor/encode_row.hpp"
#include "mxfp4/tensor/gemm_options.hpp"
#include "mxfp4/tensor/moe_options.hpp"
#include "mxfp4/tensor/mxfp8_activations.hpp"
#include "mxfp4/tensor/output_view.hpp"
#include "mxfp4/tensor/packed_matrix.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::dispatch {

/// The layouts that the library is compiled for: codes and scales apart with one row of scales for each of the matrix
/// (compressed_tensors and what derives from it without moving anything), and ggml's blocks.
template <class L>
concept built_layout = std::same_as<L, layout::ggml> ||
                       (std::derived_from<L, layout::compressed_tensors> && L::rows_per_band == 1 && !L::interleaved);

namespace detail {

enum class element : std::uint8_t { f32, bf16, f16, e4m3 };

template <element_type T>
inline constexpr element element_of = std::same_as<T, float>  ? element::f32
                                      : std::same_as<T, bf16> ? element::bf16
                                      : std::same_as<T, f16>  ? element::f16
                                                              : element::e4m3;

/// A dense_view; Void is void or const void.
template <class Void>
struct any_dense {
  Void* data;
  std::int64_t rows, cols, stride;
  element type;
};
using any_input = any_dense<const void>;
using any_output = any_dense<void>;

/// A basic_mx_view, its pointers and sizes in the separate layout's type.
template <class Byte>
struct any_mx {
  basic_mx_view<Byte> bytes;
  bool ggml;
};
using any_weights = any_mx<const std::uint8_t>;

template <class T>
[[nodiscard]] MXFP4_INLINE constexpr any_input input(const dense_view<T>& v) noexcept {
  return {v.data, v.rows, v.cols, v.stride, element_of<std::remove_const_t<T>>};
}
template <class Byte, built_layout Layout>
[[nodiscard]] MXFP4_INLINE constexpr any_weights weights(const basic_mx_view<Byte, Layout>& v) noexcept {
  return {{v.codes, v.scales, v.rows, v.cols, v.code_stride, v.scale_stride}, std::same_as<Layout, layout::ggml>};
}
template <built_layout Layout>
[[nodiscard]] MXFP4_INLINE constexpr any_mx<std::uint8_t> output(const mx_view<Layout>& v) noexcept {
  return {{v.codes, v.scales, v.rows, v.cols, v.code_stride, v.scale_stride}, std::same_as<Layout, layout::ggml>};
}

/// Experts as views: where the caller has them, and how to read the e-th of them, whatever the layout's name is and
/// whether the bytes are const.
struct view_experts {
  const void* list;
  std::size_t count;
  expert<const_mx_view<>> (*at)(const void* list, std::size_t e) noexcept;

  [[nodiscard]] MXFP4_INLINE std::size_t size() const noexcept { return count; }
  [[nodiscard]] MXFP4_INLINE expert<const_mx_view<>> operator[](std::size_t e) const noexcept { return at(list, e); }
};
using packed_experts = std::span<const expert<packed_matrix>>;

/// One matrix of each expert, likewise.
struct view_matrices {
  const void* list;
  std::size_t count;
  const_mx_view<> (*at)(const void* list, std::size_t e) noexcept;

  [[nodiscard]] MXFP4_INLINE std::size_t size() const noexcept { return count; }
  [[nodiscard]] MXFP4_INLINE const_mx_view<> operator[](std::size_t e) const noexcept { return at(list, e); }
};
using packed_matrices = std::span<const packed_matrix>;

template <class Byte, built_layout Layout>
[[nodiscard]] MXFP4_INLINE constexpr const_mx_view<> apart(const basic_mx_view<Byte, Layout>& v) noexcept {
  static_assert(!Layout::interleaved, "pack() experts that are in ggml's blocks");
  return weights(v).bytes;
}

inline namespace MXFP4_ISA_NS {
// Functions by name and not lambdas: those would be one function for all instruction sets.
template <class Value>
expert<const_mx_view<>> read_expert(const void* list, std::size_t e) noexcept {
  const Value& x = static_cast<const Value*>(list)[e];
  return {apart(x.gate), apart(x.up), apart(x.down), x.gate_bias, x.up_bias, x.down_bias};
}
template <class Value>
const_mx_view<> read_matrix(const void* list, std::size_t e) noexcept {
  return apart(static_cast<const Value*>(list)[e]);
}
}  // namespace MXFP4_ISA_NS

template <class value>
[[nodiscard]] MXFP4_INLINE auto experts(const std::span<const value>& all) noexcept {
  if constexpr (std::same_as<value, expert<packed_matrix>>) {
    return all;
  } else {
    return view_experts{all.data(), all.size(), &read_expert<value>};
  }
}
template <expert_list R>
[[nodiscard]] MXFP4_INLINE auto experts(const R& list) noexcept {
  return detail::experts(mxfp4::detail::span_of(list));
}

template <weight_list R>
[[nodiscard]] MXFP4_INLINE auto matrices(const R& list) noexcept {
  using value = mxfp4::detail::element_of_list<R>;
  const std::span<const value> all(std::data(list), static_cast<std::size_t>(std::size(list)));
  if constexpr (std::same_as<value, packed_matrix>) {
    return all;
  } else {
    return view_matrices{all.data(), all.size(), &read_matrix<value>};
  }
}

/// For each type a function of its own, so that a linker leaves out those that a program does not call.
status quantize(recipe_id recipe, const dense_view<const float>& w, const any_mx<std::uint8_t>& out,
                const quantize_options& options);
status quantize(recipe_id recipe, const dense_view<const bf16>& w, const any_mx<std::uint8_t>& out,
                const quantize_options& options);
status quantize(recipe_id recipe, const dense_view<const f16>& w, const any_mx<std::uint8_t>& out,
                const quantize_options& options);
status quantize(recipe_id recipe, const dense_view<const e4m3>& w, const any_mx<std::uint8_t>& out,
                const quantize_options& options);
status quantize_fp8(recipe_id recipe, const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                    const mx_view<>& out, const quantize_options& options);
status widen_fp8(const dense_view<const e4m3>& w, const dense_view<const float>& scales, const dense_view<bf16>& out,
                 const run_options& options);
status measure_error(const any_input& w, const const_mx_view<>& q, error_statistics& sum, const run_options& options);
status quantize_fp8_measured(recipe_id recipe, const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                             const mx_view<>& out, error_statistics& sum, const quantize_options& options);
status dequantize(const any_weights& w, const any_output& out, dialect_id dialect, const run_options& options);
result<packed_matrix> pack(const any_weights& w, const run_options& options);
status pack_rows(const any_weights& w, std::int64_t first, packed_matrix& packed, const run_options& options);
status quantize_activations(const any_input& x, int8_activations& out, const run_options& options);
status quantize_activations(const any_input& x, const mxfp8_view& out, mxfp8_scaling scaling,
                            const run_options& options);
status gemm(dialect_id dialect, const any_weights& w, const any_input& x, const dense_view<float>& y,
            const gemm_options& options);
status gemm(dialect_id dialect, const packed_view& w, const any_input& x, const dense_view<float>& y,
            const gemm_options& options);
status gemm(dialect_id dialect, const any_weights& w, const const_mxfp8_view& x, const dense_view<float>& y,
            const gemm_options& options);
status gemm(dialect_id dialect, const packed_view& w, const const_mxfp8_view& x, const dense_view<float>& y,
            const gemm_options& options);
status gemm(const any_weights& w, const int8_activations& x, const dense_view<float>& y, const gemm_options& options);

/// The same with outputs in bf16 or f16.
using mxfp4::detail::output_view;
status gemm(dialect_id dialect, const any_weights& w, const any_input& x, const output_view& y,
            const gemm_options& options);
status gemm(dialect_id dialect, const packed_view& w, const any_input& x, const output_view& y,
            const gemm_options& options);
status gemm(dialect_id dialect, const any_weights& w, const const_mxfp8_view& x, const output_view& y,
            const gemm_options& options);
status gemm(dialect_id dialect, const packed_view& w, const const_mxfp8_view& x, const output_view& y,
            const gemm_options& options);
status gemm(const any_weights& w, const int8_activations& x, const output_view& y, const gemm_options& options);
status gemm(const packed_matrix& w, const int8_activations& x, const output_view& y, const gemm_options& options);

/// The operands of a product with f32 arithmetic.
template <class Byte, built_layout Layout>
[[nodiscard]] MXFP4_INLINE constexpr any_weights f32_weights(const basic_mx_view<Byte, Layout>& w) noexcept {
  return weights(w);
}
[[nodiscard]] MXFP4_INLINE packed_view f32_weights(const packed_view& w) noexcept { return w; }
[[nodiscard]] MXFP4_INLINE packed_view f32_weights(const packed_matrix& w) noexcept { return w.view(); }
template <element_type T>
[[nodiscard]] MXFP4_INLINE constexpr any_input f32_input(const dense_view<T>& x) noexcept {
  return input(x);
}
template <element_type T>
[[nodiscard]] MXFP4_INLINE constexpr any_input f32_input(const dense_view<const T>& x) noexcept {
  return input(x);
}
template <class Byte>
[[nodiscard]] MXFP4_INLINE const_mxfp8_view f32_input(const basic_mxfp8_view<Byte>& x) noexcept {
  return x;
}
[[nodiscard]] MXFP4_INLINE const_mxfp8_view f32_input(const mxfp8_activations& x) noexcept { return x.view(); }

template <class W, class X>
concept f32_operands = requires(const W& w, const X& x) {
  detail::f32_weights(w);
  detail::f32_input(x);
};

/// How tokens go to experts and come back: moe's arguments after x.
struct moe_call {
  const dense_view<const std::int32_t>& indices;
  const dense_view<const float>& weights;
  const dense_view<float>& y;
  moe_workspace& workspace;
  const moe_options& options;
  dialect_id dialect = dialect_id::ocp;  ///< of the products in f32
};
/// Shared experts: those of one kind, the other list empty.
struct any_shared {
  packed_experts packed{};
  view_experts views{};
  dense_view<const float> weights{};
};
template <class W>
[[nodiscard]] MXFP4_INLINE any_shared shared_of(const shared_experts<W>& shared) noexcept {
  if constexpr (std::same_as<W, packed_matrix>) return {shared.experts, {}, shared.weights};
  else return {{}, detail::experts(shared.experts), shared.weights};
}
status moe(const packed_experts& experts, const any_input& x, const moe_call& call);
status moe(const view_experts& experts, const any_input& x, const moe_call& call);
status moe(const packed_experts& experts, const int8_activations& x, const moe_call& call);
status moe(const view_experts& experts, const int8_activations& x, const moe_call& call);
status moe(const packed_experts& experts, const any_shared& shared, const any_input& x, const moe_call& call);
status moe(const view_experts& experts, const any_shared& shared, const any_input& x, const moe_call& call);
status moe(const packed_experts& experts, const any_shared& shared, const int8_activations& x, const moe_call& call);
status moe(const view_experts& experts, const any_shared& shared, const int8_activations& x, const moe_call& call);

/// grouped_gemm's arguments after x.
struct grouped_call {
  std::span<const std::int64_t> offsets;
  output_view y;
  moe_workspace& workspace;
  const grouped_gemm_options& options;
  dialect_id dialect = dialect_id::ocp;  ///< of the products in f32
};
status grouped_gemm(const packed_matrices& weights, const any_input& x, const grouped_call& call);
status grouped_gemm(const view_matrices& weights, const any_input& x, const grouped_call& call);
status grouped_gemm(const packed_matrices& weights, const int8_activations& x, const grouped_call& call);
status grouped_gemm(const view_matrices& weights, const int8_activations& x, const grouped_call& call);

}  // namespace detail

}  // namespace mxfp4::dispatch
