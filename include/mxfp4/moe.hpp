// mxfp4/moe.hpp -- floor 8: a mixture of experts, from routed tokens to their sum.
// SPDX-License-Identifier: Apache-2.0
//
//   y[m] = sum over slots s of weights[m][s] * down( silu(gate x[m]) * (up x[m]) )       of expert indices[m][s]
//
//             x M x H                    gate, up I x H          hidden            down H x I
//   [tokens in the order of experts] --> [products, SwiGLU] --> [units again] --> [products] --> [weighted sums] --> y
//
// Five rounds of tasks; an expert's weights are read once for all its tokens, an expert without tokens is not touched.
// Reads: moe_plan.hpp, moe_int8.hpp, moe_f32.hpp, kernel/moe.hpp.  Read by: engines, with router.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <ranges>
#include <type_traits>

#include "mxfp4/gemm_options.hpp"
#include "mxfp4/kernel/moe.hpp"
#include "mxfp4/moe_f32.hpp"
#include "mxfp4/moe_int8.hpp"
#include "mxfp4/moe_plan.hpp"
#include "mxfp4/moe_workspace.hpp"
#include "mxfp4/product_check.hpp"

namespace mxfp4 {

/// One expert's matrices, all of one kind: packed_matrix, or views of a checkpoint's own bytes. In MiniMax-M2 they are
/// called w1, w3 and w2. Where gate and up are one matrix of 2 I rows, its halves are two views.
template <class W>
struct expert {
  W gate;  ///< I x H
  W up;    ///< I x H
  W down;  ///< H x I
};

/// expert<W>s in a row: a vector, an array or a span of them.
template <class R>
concept expert_list = std::ranges::contiguous_range<const R> && std::ranges::sized_range<const R> &&
                      requires(const std::ranges::range_value_t<R>& e) {
                        detail::operand_of(e.gate, "");
                        detail::operand_of(e.up, "");
                        detail::operand_of(e.down, "");
                      };

namespace detail {

/// Everything but the experts: the shape without I.
template <class X>
MXFP4_INLINE status check_moe(const X& x, const dense_view<const std::int32_t>& indices,
                              const dense_view<const float>& weights, const dense_view<float>& y,
                              std::int64_t experts) noexcept {
  const operand in = operand_of(x, "x"), out = operand_of(y, "y");
  if (!in.state.ok()) return in.state;
  if (!out.state.ok()) return out.state;
  if (const status s = check(indices, "indices"); !s.ok()) return s;
  if (const status s = check(weights, "weights"); !s.ok()) return s;
  if (in.cols % block_size != 0) return {errc::not_blocks, "cols", in.cols, 0, "x"};
  if (out.rows != in.rows) return {errc::shape_mismatch, "rows", out.rows, in.rows, "y"};
  if (out.cols != in.cols) return {errc::shape_mismatch, "cols", out.cols, in.cols, "y"};
  if (indices.rows != in.rows) return {errc::shape_mismatch, "rows", indices.rows, in.rows, "indices"};
  if (weights.rows != in.rows) return {errc::shape_mismatch, "rows", weights.rows, in.rows, "weights"};
  if (weights.cols != indices.cols) return {errc::shape_mismatch, "cols", weights.cols, indices.cols, "weights"};
  for (const byte_range& memory : {in.memory[0], data_of(indices), data_of(weights)})
    if (overlap(memory, out.memory[0])) return {errc::overlap, "y"};
  for (std::int64_t m = 0; m < indices.rows; ++m)
    for (std::int64_t s = 0; s < indices.cols; ++s)
      if (const std::int64_t e = indices.row(m)[s]; e < 0 || e >= experts)
        return {errc::out_of_range, "indices", e, experts - 1, "", m, s};
  return {};
}

/// The same, said of expert `e`.
[[nodiscard]] MXFP4_INLINE status of_expert(status s, std::int64_t e) noexcept {
  s.row = e;
  return s;
}

/// One matrix of expert `e`, against its shape and against y.
MXFP4_INLINE status check_expert(const operand& w, const char* name, std::int64_t e, std::int64_t rows,
                                 std::int64_t cols, byte_range y) noexcept {
  if (!w.state.ok()) return of_expert(w.state, e);
  if (w.rows != rows) return {errc::shape_mismatch, "rows", w.rows, rows, name, e};
  if (w.cols != cols) return {errc::shape_mismatch, "cols", w.cols, cols, name, e};
  for (const byte_range& memory : w.memory)
    if (overlap(memory, y)) return {errc::overlap, "y"};
  return {};
}

/// The experts in use, their matrices against the shape.
template <class R>
status check_experts(const R& experts, const moe_memory& memory, const moe_shape& shape, byte_range y) noexcept {
  const std::int64_t h = shape.hidden, i = shape.intermediate;
  for (const moe_expert& used : memory.experts) {
    const auto& [gate, up, down] = experts[static_cast<std::size_t>(used.expert)];
    if (const status s = check_expert(operand_of(gate, "gate"), "gate", used.expert, i, h, y); !s.ok()) return s;
    if (const status s = check_expert(operand_of(up, "up"), "up", used.expert, i, h, y); !s.ok()) return s;
    if (const status s = check_expert(operand_of(down, "down"), "down", used.expert, h, i, y); !s.ok()) return s;
  }
  return {};
}

}  // namespace detail

namespace kernel {
inline namespace MXFP4_ISA_NS {

/// The five rounds. Arguments are checked and sorted.
template <class Arch, class Products, class R>
void run_moe(const R& experts, const Products& products, const mxfp4::detail::moe_memory& memory,
             const moe_shape& shape, const dense_view<const float>& weights, const dense_view<float>& y,
             const gemm_options& options) {
  using mxfp4::detail::moe_expert;
  const auto places = static_cast<std::int64_t>(memory.pair_at.size());
  const std::int64_t rows = shape.intermediate, hidden = shape.hidden;
  const dense_view<float> gate{memory.products, places, rows, rows}, up{gate.row(places), places, rows, rows};
  const dense_view<float> down{memory.products, places, hidden, hidden};  // gate and up are in the units by then
  const auto run = [&options](std::int64_t tasks, auto&& body) {
    options.executor.run(static_cast<std::size_t>(tasks), body);
  };
  const auto units = static_cast<std::int64_t>(memory.units.size());
  const auto expert_of = [&experts](const mxfp4::detail::moe_part& part) -> const auto& {
    return experts[static_cast<std::size_t>(part.expert.expert)];
  };
  run(units, [&](std::size_t u) { products.load(static_cast<std::int64_t>(u)); });
  run(memory.experts.empty() ? 0 : memory.experts.back().up_tasks, [&](std::size_t i) {
    const auto part = mxfp4::detail::part_of(memory.experts, &moe_expert::up_tasks, i, rows / tile_rows);
    products.multiply(expert_of(part).gate, part, gate);
    products.multiply(expert_of(part).up, part, up);
    const std::int64_t first = part.first * tile_rows, count = (part.last - part.first) * tile_rows;
    for (std::int64_t p = part.expert.first; p < part.expert.last; ++p)
      swiglu<Arch>(gate.row(p) + first, up.row(p) + first, count);
  });
  run(units, [&](std::size_t u) { products.load_hidden(static_cast<std::int64_t>(u), gate); });
  run(memory.experts.empty() ? 0 : memory.experts.back().down_tasks, [&](std::size_t i) {
    const auto part = mxfp4::detail::part_of(memory.experts, &moe_expert::down_tasks, i, hidden / tile_rows);
    products.multiply(expert_of(part).down, part, down);
  });
  run(shape.tokens, [&](std::size_t task) {
    const auto m = static_cast<std::int64_t>(task);
    combine<Arch>(down.data, hidden, memory.place_of.data() + m * shape.top_k, weights.row(m), shape.top_k, hidden,
                  options.accumulate, y.row(m));
  });
}

/// Checks, sorts and runs, with the products of one kind.
template <class Arch, class Products, class R, class X>
status moe_with(const R& experts, const X& x, const dense_view<const std::int32_t>& indices,
                const dense_view<const float>& weights, const dense_view<float>& y, moe_workspace& workspace,
                const gemm_options& options) {
  namespace d = mxfp4::detail;
  const auto count = static_cast<std::int64_t>(std::ranges::size(experts));
  if (const status s = d::check_moe(x, indices, weights, y, count); !s.ok()) return s;
  moe_shape shape{y.rows, indices.cols, count, y.cols, 0};
  if (y.rows > 0 && indices.cols > 0) {  // I is as the first expert has it
    const std::int32_t e = indices.row(0)[0];
    const d::operand gate = d::operand_of(experts[static_cast<std::size_t>(e)].gate, "gate");
    if (!gate.state.ok()) return d::of_expert(gate.state, e);
    if (gate.rows % block_size != 0) return {errc::not_blocks, "rows", gate.rows, 0, "gate", e};
    shape.intermediate = gate.rows;
  }
  const std::int64_t need = d::offsets_of(shape).bytes;
  if (need < 0) return check(shape);
  if (workspace.bytes() < need) return {errc::buffer_too_small, "bytes", workspace.bytes(), need, "workspace"};
  d::moe_memory memory = workspace.parts(shape);
  d::sort_tokens(memory, indices, Products::unit_tokens, [](int tokens) { return Products::width(tokens); });
  d::count_tasks(memory.experts, shape.hidden, shape.intermediate);
  if (const status s = d::check_experts(experts, memory, shape, d::data_of(y)); !s.ok()) return s;
  run_moe<Arch>(experts, Products(x, memory, shape.top_k), memory, shape, weights, y, options);
  return {};
}

}  // namespace MXFP4_ISA_NS
}  // namespace kernel

inline namespace MXFP4_ISA_NS {

/// y[m] = sum over slots s of weights[m][s] * down( silu(gate x[m]) * (up x[m]) ), in f32. H is x.cols, I gate's rows.
///
/// @param experts  E experts: packed_matrix, packed_tiles or views, of which those that indices name are looked at.
/// @param x        M x H activations in data units: float, bf16, f16 or e4m3, widened exactly.
/// @param indices  M x k experts of each token, 0 .. E - 1, any order, repeats allowed (route_topk_sigmoid).
/// @param weights  M x k.
/// @param y        M x H, overwritten, or added to with options.accumulate; must not overlap any input.
/// @param workspace  created for sizes at least these; one call at a time.
/// @return   ok, or what is wrong with the arguments (an index out of range: errc::out_of_range with its token and slot;
///           a matrix of a wrong shape: with its expert); y is not written then.
/// Accuracy: the products as gemv (M = 1) and gemm (M > 1) do them, silu within 4 ulp, hidden one rounding more; the
///           weighted sum k roundings of a term at the most, slots in their order.
/// Special:  NaN and infinity follow IEEE, silu(-inf) is NaN; a NaN in y is always 0x7FC00000. What an expert without
///           tokens holds does not matter. Subnormals must not be flushed to zero.
/// Same bits for any executor and per ISA; for M > 1 also for any M, any routing of the other tokens, view or packed.
/// Source:   huggingface/transformers minimax_m2: w1, w3, w2 and silu.
template <decode_dialect Dialect = dialect::ocp, class Arch = simd::native_arch, expert_list R, class T>
status moe(const R& experts, const dense_view<T>& x, const dense_view<const std::int32_t>& indices,
           const dense_view<const float>& weights, const dense_view<float>& y, moe_workspace& workspace,
           const gemm_options& options = {}) {
  static_assert(element_type<std::remove_const_t<T>>);
  using matrix = std::remove_cvref_t<decltype(std::ranges::data(experts)->gate)>;
  if (x.rows == 1)
    return kernel::moe_with<Arch, kernel::moe_f32_gemv<Arch, Dialect, T, matrix>>(experts, x, indices, weights, y,
                                                                                  workspace, options);
  return kernel::moe_with<Arch, kernel::moe_f32_gemm<Arch, Dialect, T>>(experts, x, indices, weights, y, workspace,
                                                                        options);
}

/// The same in int8 (W4A8): x is quantised by the caller (quantize_activations), the hidden activations here, in x's
/// scaling. Each product is gemm's of linalg_int8.hpp, dialect ocp.
///
/// @param experts  packed_matrix or views.
/// Special:  NaN or infinity in a token's activations, hidden ones included, makes its y NaN, and no other token's.
/// Same bits for any executor, any M, any routing of the other tokens, view or packed; scaling e8m0 and row: on every ISA;
/// f32: on every ISA with FMA. The rest is as above.
template <class Arch = simd::native_arch, expert_list R>
status moe(const R& experts, const int8_activations& x, const dense_view<const std::int32_t>& indices,
           const dense_view<const float>& weights, const dense_view<float>& y, moe_workspace& workspace,
           const gemm_options& options = {}) {
  return kernel::moe_with<Arch, kernel::moe_int8<Arch>>(experts, x, indices, weights, y, workspace, options);
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4
