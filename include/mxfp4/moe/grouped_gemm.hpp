// mxfp4/moe/grouped_gemm.hpp -- one product for each expert, of tokens that are sorted by expert: a grouped gemm.
// SPDX-License-Identifier: Apache-2.0
//
//   offsets   0    3  3       7      rows offsets[e] .. offsets[e + 1] of X and Y are expert e's
//   X, Y      0 0 0   2 2 2 2        expert 1 has none here
//
// For an engine that sorts tokens, and puts what it likes between the products; moe.hpp does all of it. The tasks are
// those of moe(): about as much work each, cut by the shape and the offsets alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "mxfp4/kernel/output.hpp"
#include "mxfp4/moe/expert.hpp"
#include "mxfp4/moe/f32.hpp"
#include "mxfp4/moe/int8.hpp"
#include "mxfp4/moe/plan_groups.hpp"
#include "mxfp4/moe/workspace.hpp"
#include "mxfp4/tensor/moe_options.hpp"
#include "mxfp4/tensor/output_view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {
namespace kernel {
inline namespace MXFP4_ISA_NS {

/// The products in f32: as gemv for an expert with one row, as gemm for others.
template <class Arch, class Table, class X, class W>
class grouped_f32 {
  using one_row = moe_f32_gemv<Arch, Table, X, W>;
  using rows = moe_f32_gemm<Arch, Table, X>;
  static_assert(rows::several_tokens.tokens > 1);

 public:
  static auto rule(const X&) noexcept { return rule_of_rows{rows::several_tokens}; }

  grouped_f32(const X& x, const mxfp4::detail::moe_memory& memory, const Table& table) noexcept
      : memory_(memory), one_(x, memory, 1, table), several_(x, memory, 1, table) {}

  void load(std::int64_t index) const noexcept {
    if (memory_.m_tiles[static_cast<std::size_t>(index)].width == 1) one_.load(index);
    else several_.load(index);
  }
  void multiply(const W& w, const moe_part& part, const dense_view<float>& y) const noexcept {
    if (part.expert.last - part.expert.first == 1) one_.multiply(w, part, y);
    else several_.multiply(w, part, y);
  }

 private:
  const mxfp4::detail::moe_memory& memory_;
  one_row one_;
  rows several_;
};

/// The products in int8.
template <class Arch>
class grouped_int8 : public moe_int8<Arch> {
 public:
  static auto rule(const int8_activations& x) noexcept {
    const mxfp4::detail::moe_m_tile_rule any = mxfp4::detail::int8_m_tile_rule(x.scaling());
    return rule_of_rows{any, any};
  }
  grouped_int8(const int8_activations& x, const mxfp4::detail::moe_memory& memory) noexcept
      : moe_int8<Arch>(x, memory, 1) {}
};

/// The two rounds of tasks: activations to M tiles; products, biases, rounding. The arguments are checked, the tasks
/// planned (plan_groups).
template <class Arch, class Products, class Weights>
void run_groups(const Weights& weights, const Products& products, const mxfp4::detail::moe_plan& plan,
                const mxfp4::detail::output_view& y, const grouped_gemm_options& options) {
  const mxfp4::detail::moe_memory& memory = plan.memory;
  if (memory.experts.empty() || y.cols == 0) return;
  const bool is_float = y.type == mxfp4::detail::output_type::f32;
  const dense_view<float> sums = is_float ? y.as<float>() : dense_view<float>{memory.products, y.rows, y.cols, y.cols};
  options.executor.run(memory.m_tiles.size(), [&](std::size_t i) { products.load(static_cast<std::int64_t>(i)); });
  const std::int64_t tiles = mxfp4::detail::ceil_div(y.cols, std::int64_t{tile_rows});
  options.executor.run(static_cast<std::size_t>(memory.experts.back().up_tasks), [&](std::size_t i) {
    const moe_part part = part_of(memory.experts, &mxfp4::detail::moe_expert::up_tasks, i, tiles);
    products.multiply(weights[static_cast<std::size_t>(part.expert.expert)], part, sums);
    if (is_float && options.bias.data == nullptr) return;
    const float* const bias = options.bias.data == nullptr ? nullptr : options.bias.row(part.expert.expert);
    const std::int64_t n = part.first * tile_rows, end = part.last * tile_rows;
    for (std::int64_t r = part.expert.first; r < part.expert.last; ++r)
      store_sums<Arch>(y, r, n, (end < y.cols ? end : y.cols) - n, sums.row(r) + n, bias);
  });
}

/// grouped_gemm() with products of one kind: grouped_f32 or grouped_int8.
template <class Arch, class Products, class W, class X, class... Table>
status grouped_with(std::span<const W> weights, std::span<const std::int64_t> offsets, const X& x,
                    const mxfp4::detail::output_view& y, moe_workspace& workspace, const grouped_gemm_options& options,
                    const Table&... table) {
  mxfp4::detail::moe_plan plan;
  using mxfp4::detail::operand_of;
  if (const status s = plan_groups(weights, offsets, operand_of(x, "x"), operand_of(y, "y"), options.bias, workspace,
                                   Products::rule(x), plan);
      !s.ok())
    return s;
  run_groups<Arch>(weights, Products(x, plan.memory, table...), plan, y, options);
  return {};
}

}  // namespace MXFP4_ISA_NS
}  // namespace kernel

inline namespace MXFP4_ISA_NS {

/// Y[m][n] = sum over k of X[m][k] * decode(W[e])[n][k] for the rows m of each expert e, offsets[e] <= m <
/// offsets[e + 1]: gemm of linalg.hpp, expert by expert, in one call.
///
/// @param weights  E matrices N x K; those of experts without rows are not read.
/// @param offsets  E + 1 row numbers, ascending, each in 0 .. M. Rows of Y that belong to no expert stay as they are.
/// @param x        M x K activations in data units, sorted by expert: float, bf16, f16 or e4m3, widened exactly.
/// @param y        M x N, float, bf16 or f16, rows in the order of x; must not overlap any input.
/// @param workspace  created for sizes at least these; one call at a time.
/// @return   ok, or what is wrong with the arguments (offsets and matrices: with the expert); y is not written then.
/// Accuracy, Special: of gemm; a bias and the rounding as in linalg/output.hpp.
/// Same bits as gemm for each expert's rows by themselves, which is gemv for a single row, on every ISA and for any
/// executor. Nothing is allocated.
template <decode_dialect Dialect = dialect::ocp, class Arch = simd::native_arch, weight_list R, class T,
          output_element Y>
status grouped_gemm(const R& weights, std::span<const std::int64_t> offsets, const dense_view<T>& x,
                    const dense_view<Y>& y, moe_workspace& workspace, const grouped_gemm_options& options = {}) {
  static_assert(element_type<std::remove_const_t<T>>);
  using matrix = mxfp4::detail::element_of_list<R>;
  using table = simd::static_weight_table<float, Dialect>;
  const std::span<const matrix> list(std::data(weights), static_cast<std::size_t>(std::size(weights)));
  return kernel::grouped_with<Arch, kernel::grouped_f32<Arch, table, dense_view<T>, matrix>>(
      list, offsets, x, mxfp4::detail::output_view(y), workspace, options, table{});
}

/// The same with the dialect chosen at run time; errc::unknown_dialect besides.
template <class Arch = simd::native_arch, weight_list R, class T, output_element Y>
status grouped_gemm(dialect_id dialect, const R& weights, std::span<const std::int64_t> offsets, const dense_view<T>& x,
                    const dense_view<Y>& y, moe_workspace& workspace, const grouped_gemm_options& options = {}) {
  return mxfp4::detail::with_dialect(
      dialect, [&]<class D>() { return mxfp4::grouped_gemm<D, Arch>(weights, offsets, x, y, workspace, options); });
}

/// The same in int8 (W4A8): gemm of linalg/int8.hpp, dialect ocp. @param weights  packed_matrix or views.
template <class Arch = simd::native_arch, weight_list R, output_element Y>
status grouped_gemm(const R& weights, std::span<const std::int64_t> offsets, const int8_activations& x,
                    const dense_view<Y>& y, moe_workspace& workspace, const grouped_gemm_options& options = {}) {
  using matrix = mxfp4::detail::element_of_list<R>;
  const std::span<const matrix> list(std::data(weights), static_cast<std::size_t>(std::size(weights)));
  return kernel::grouped_with<Arch, kernel::grouped_int8<Arch>>(list, offsets, x, mxfp4::detail::output_view(y),
                                                                workspace, options);
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4
