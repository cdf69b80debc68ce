// mxfp4/moe/moe.hpp -- a mixture of experts, from routed tokens to their sum.
// SPDX-License-Identifier: Apache-2.0
//
//   y[m] = sum over slots s of weights[m][s] * down( silu(gate x[m]) * (up x[m]) )       of expert indices[m][s]
//
// and where an expert has biases, they are added to its products; in the place of silu others may stand: see
// reference/glu.hpp.
//
//   rounds of tasks                                                                         matrix
//   1  the tokens of x are copied to M tiles (workspace.hpp), in the order of their experts   x          M x H
//   2  products with gate and up, their biases, silu(gate) * up                               gate, up   I x H
//   3  the results, `hidden`, become M tiles                                                  hidden     M k x I
//   4  products with down, its bias                                                           down       H x I
//   5  weighted sums over the slots of a token                                                y          M x H
//
// An expert's weights are read once for all its tokens; those of an expert without tokens are not read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "mxfp4/kernel/moe.hpp"
#include "mxfp4/moe/expert.hpp"
#include "mxfp4/moe/f32.hpp"
#include "mxfp4/moe/int8.hpp"
#include "mxfp4/moe/plan.hpp"
#include "mxfp4/moe/workspace.hpp"
#include "mxfp4/tensor/moe_options.hpp"
#include "mxfp4/tensor/product_check.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

namespace kernel {
inline namespace MXFP4_ISA_NS {

/// The five rounds. The arguments are checked, the tokens sorted (plan_moe); experts[e] is expert e.
template <class Arch, class Products, class Experts>
void run_moe(const Experts& experts, const Products& products, const mxfp4::detail::moe_plan& plan,
             const dense_view<const float>& weights, const dense_view<float>& y, const moe_options& options) {
  using mxfp4::detail::moe_expert;
  const moe_shape& shape = plan.shape;
  const mxfp4::detail::moe_memory& memory = plan.memory;
  const auto permuted_rows = static_cast<std::int64_t>(memory.token_slot_at.size());
  const std::int64_t rows = shape.intermediate, hidden = shape.hidden;
  const dense_view<float> gate{memory.products, permuted_rows, rows, rows},
      up{gate.row(permuted_rows), permuted_rows, rows, rows};
  const dense_view<float> down{memory.products, permuted_rows, hidden,
                               hidden};  // in the memory of gate and up: those are in the M tiles by then
  const auto run = [&options](std::int64_t tasks, auto&& body) {
    options.executor.run(static_cast<std::size_t>(tasks), body);
  };
  const auto m_tiles = static_cast<std::int64_t>(memory.m_tiles.size());
  const auto expert_of = [&experts](const moe_part& part) -> decltype(auto) {
    return experts[static_cast<std::size_t>(part.expert.expert)];
  };
  run(m_tiles, [&](std::size_t index) { products.load(static_cast<std::int64_t>(index)); });
  run(memory.experts.empty() ? 0 : memory.experts.back().up_tasks, [&](std::size_t i) {
    const auto part = part_of(memory.experts, &moe_expert::up_tasks, i, rows / tile_rows);
    products.multiply(expert_of(part).gate, part, gate);
    products.multiply(expert_of(part).up, part, up);
    const std::int64_t first = part.first * tile_rows, count = (part.last - part.first) * tile_rows;
    const auto bias_of = [first](const float* bias) { return bias == nullptr ? bias : bias + first; };
    const float *const gate_bias = bias_of(expert_of(part).gate_bias), *const up_bias =
                                                                           bias_of(expert_of(part).up_bias);
    for (std::int64_t p = part.expert.first; p < part.expert.last; ++p) {
      add_bias(gate.row(p) + first, gate_bias, count);
      add_bias(up.row(p) + first, up_bias, count);
      activate<Arch>(gate.row(p) + first, up.row(p) + first, count, options);
    }
  });
  run(m_tiles, [&](std::size_t index) { products.load_hidden(static_cast<std::int64_t>(index), gate); });
  run(memory.experts.empty() ? 0 : memory.experts.back().down_tasks, [&](std::size_t i) {
    const auto part = part_of(memory.experts, &moe_expert::down_tasks, i, hidden / tile_rows);
    products.multiply(expert_of(part).down, part, down);
    const std::int64_t first = part.first * tile_rows, count = (part.last - part.first) * tile_rows;
    if (const float* const bias = expert_of(part).down_bias; bias != nullptr)
      for (std::int64_t p = part.expert.first; p < part.expert.last; ++p)
        add_bias(down.row(p) + first, bias + first, count);
  });
  run(shape.tokens, [&](std::size_t task) {
    const auto m = static_cast<std::int64_t>(task);
    combine<Arch>(down.data, hidden, memory.permuted_row_of.data() + m * shape.top_k, weights.row(m), shape.top_k,
                  hidden, options.accumulate, y.row(m));
  });
}

/// moe() with products of one kind: moe_f32_gemv, moe_f32_gemm or moe_int8.
/// @param table  the products' further argument: those in f32 read weights by the table of a dialect.
template <class Arch, class Products, class Expert, class X, class... Table>
status moe_with(std::span<const Expert> experts, const X& x, const dense_view<const std::int32_t>& indices,
                const dense_view<const float>& weights, const dense_view<float>& y, moe_workspace& workspace,
                const moe_options& options, const Table&... table) {
  mxfp4::detail::moe_plan plan;
  const mxfp4::detail::operand in = mxfp4::detail::operand_of(x, "x");
  if (const status s = plan_moe(experts, in, indices, weights, y, workspace, Products::rule(x), plan); !s.ok())
    return s;
  if (y.rows == 0 || y.cols == 0) return {};
  run_moe<Arch>(experts, Products(x, plan.memory, plan.shape.top_k, table...), plan, weights, y, options);
  return {};
}

/// The same, and experts that every token passes, which are added after the others.
template <class Arch, class Products, class SharedProducts, class Expert, class W, class X, class... Table>
status moe_with_shared(std::span<const Expert> experts, const shared_experts<W>& shared, const X& x,
                       const dense_view<const std::int32_t>& indices, const dense_view<const float>& weights,
                       const dense_view<float>& y, moe_workspace& workspace, const moe_options& options,
                       const Table&... table) {
  mxfp4::detail::moe_plan plan;
  const mxfp4::detail::operand in = mxfp4::detail::operand_of(x, "x");
  if (const status s = check_moe(in, indices, weights, y, static_cast<std::int64_t>(experts.size())); !s.ok()) return s;
  const auto plan_those = [&] {
    return plan_shared(shared.experts, shared.weights, y, workspace, SharedProducts::rule(x), plan);
  };
  if (const status s = plan_those(); !s.ok()) return s;
  if (const status s = plan_checked(experts, indices, y, workspace, Products::rule(x), plan); !s.ok()) return s;
  if (y.rows == 0 || y.cols == 0) return {};
  run_moe<Arch>(experts, Products(x, plan.memory, plan.shape.top_k, table...), plan, weights, y, options);
  if (shared.experts.empty()) return {};
  static_cast<void>(plan_those());
  moe_options added = options;
  added.accumulate = true;
  run_moe<Arch>(shared.experts, SharedProducts(x, plan.memory, plan.shape.top_k, table...), plan,
                weights_of_shared(y.rows, plan.shape.top_k, shared.weights), y, added);
  return {};
}

}  // namespace MXFP4_ISA_NS
}  // namespace kernel

inline namespace MXFP4_ISA_NS {

/// y[m] = sum over slots s of weights[m][s] * down( silu(gate x[m]) * (up x[m]) ), in f32. H is x.cols, I gate's rows.
///
/// @param experts  E experts: packed_matrix, packed_view or views; only those that indices name are read. With biases
///                 a product is W x + bias, and what the sum has is down's product + its bias.
/// @param x        M x H activations in data units: float, bf16, f16 or e4m3, widened exactly.
/// @param indices  M x k experts of each token, 0 .. E - 1, any order, repeats allowed (route_topk_sigmoid).
/// @param weights  M x k.
/// @param y        M x H, overwritten, or added to with options.accumulate; must not overlap any input.
/// @param workspace  created for sizes at least these; one call at a time.
/// @return   ok, or what is wrong with the arguments (an index out of range: errc::out_of_range with its token and
///           slot; a matrix of a wrong shape: with its expert); y is not written then.
/// @param options  options.act in the place of silu: gpt_oss with its alpha and limit, gelu_tanh.
/// Accuracy: the products as in gemv (M = 1) and gemm (M > 1), a bias added with one rounding, silu within 4 ulp (the
///           others: glu.hpp), silu * up rounded once; a term of the weighted sum, which takes the slots in order, is
///           rounded at most k times.
/// Special:  NaN and infinity follow IEEE, silu(-inf) is NaN; a NaN in y is always 0x7FC00000. An expert without tokens
///           has no influence, whatever its matrices hold. Subnormals must not be flushed to zero.
/// Same bits for any executor and per ISA; for M > 1 also for any M, any routing of the other tokens, view or packed.
/// Source:   huggingface/transformers minimax_m2: w1, w3, w2 and silu.
template <decode_dialect Dialect = dialect::ocp, class Arch = simd::native_arch, expert_list R, class T>
status moe(const R& experts, const dense_view<T>& x, const dense_view<const std::int32_t>& indices,
           const dense_view<const float>& weights, const dense_view<float>& y, moe_workspace& workspace,
           const moe_options& options = {}) {
  static_assert(element_type<std::remove_const_t<T>>);
  using matrix = decltype(mxfp4::detail::element_of_list<R>::gate);
  using table = simd::static_weight_table<float, Dialect>;
  const auto call = [&]<class Products>(std::type_identity<Products>) {
    return kernel::moe_with<Arch, Products>(mxfp4::detail::span_of(experts), x, indices, weights, y, workspace, options,
                                            table{});
  };
  if (x.rows == 1) return call(std::type_identity<kernel::moe_f32_gemv<Arch, table, dense_view<T>, matrix>>{});
  return call(std::type_identity<kernel::moe_f32_gemm<Arch, table, dense_view<T>>>{});
}

/// The same, and after it y[m] += sum over the shared experts s, in their order, of shared.weights[m][s] *
/// down( silu(gate x[m]) * (up x[m]) ): the bits of a second call for these, with accumulate.
///
/// @param shared     experts that every token passes, and their weights or 1; may be of another I and of another kind.
/// @param workspace  created for a shape with shared_experts and shared_intermediate.
template <decode_dialect Dialect = dialect::ocp, class Arch = simd::native_arch, expert_list R, class W, class T>
status moe(const R& experts, const shared_experts<W>& shared, const dense_view<T>& x,
           const dense_view<const std::int32_t>& indices, const dense_view<const float>& weights,
           const dense_view<float>& y, moe_workspace& workspace, const moe_options& options = {}) {
  static_assert(element_type<std::remove_const_t<T>>);
  using matrix = decltype(mxfp4::detail::element_of_list<R>::gate);
  using table = simd::static_weight_table<float, Dialect>;
  const auto call = [&]<class Products, class Shared>(std::type_identity<Products>, std::type_identity<Shared>) {
    return kernel::moe_with_shared<Arch, Products, Shared>(mxfp4::detail::span_of(experts), shared, x, indices, weights,
                                                           y, workspace, options, table{});
  };
  using several = std::type_identity<kernel::moe_f32_gemm<Arch, table, dense_view<T>>>;
  if (x.rows == 1)
    return call(std::type_identity<kernel::moe_f32_gemv<Arch, table, dense_view<T>, matrix>>{},
                std::type_identity<kernel::moe_f32_gemv<Arch, table, dense_view<T>, W>>{});
  return call(several{}, several{});
}

/// Both with the dialect chosen at run time; errc::unknown_dialect besides.
template <class Arch = simd::native_arch, expert_list R, class W, class T>
status moe(dialect_id dialect, const R& experts, const shared_experts<W>& shared, const dense_view<T>& x,
           const dense_view<const std::int32_t>& indices, const dense_view<const float>& weights,
           const dense_view<float>& y, moe_workspace& workspace, const moe_options& options = {}) {
  return mxfp4::detail::with_dialect(dialect, [&]<class D>() {
    return mxfp4::moe<D, Arch>(experts, shared, x, indices, weights, y, workspace, options);
  });
}
template <class Arch = simd::native_arch, expert_list R, class T>
status moe(dialect_id dialect, const R& experts, const dense_view<T>& x, const dense_view<const std::int32_t>& indices,
           const dense_view<const float>& weights, const dense_view<float>& y, moe_workspace& workspace,
           const moe_options& options = {}) {
  return mxfp4::detail::with_dialect(
      dialect, [&]<class D>() { return mxfp4::moe<D, Arch>(experts, x, indices, weights, y, workspace, options); });
}

/// The same in int8 (W4A8): x is quantised by the caller (quantize_activations), the hidden activations here, in x's
/// scaling. Each product is gemm's of linalg/int8.hpp, dialect ocp.
///
/// @param experts  packed_matrix or views.
/// Special:  NaN or infinity in a token's activations, hidden ones included, makes its y NaN, and no other token's.
/// Same bits for any executor, any M, any routing of the other tokens, view or packed; scaling f32: on every ISA with
/// FMA; all others: on every ISA. The rest is as above.
template <class Arch = simd::native_arch, expert_list R>
status moe(const R& experts, const int8_activations& x, const dense_view<const std::int32_t>& indices,
           const dense_view<const float>& weights, const dense_view<float>& y, moe_workspace& workspace,
           const moe_options& options = {}) {
  return kernel::moe_with<Arch, kernel::moe_int8<Arch>>(mxfp4::detail::span_of(experts), x, indices, weights, y,
                                                        workspace, options);
}
template <class Arch = simd::native_arch, expert_list R, class W>
status moe(const R& experts, const shared_experts<W>& shared, const int8_activations& x,
           const dense_view<const std::int32_t>& indices, const dense_view<const float>& weights,
           const dense_view<float>& y, moe_workspace& workspace, const moe_options& options = {}) {
  return kernel::moe_with_shared<Arch, kernel::moe_int8<Arch>, kernel::moe_int8<Arch>>(
      mxfp4::detail::span_of(experts), shared, x, indices, weights, y, workspace, options);
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4
