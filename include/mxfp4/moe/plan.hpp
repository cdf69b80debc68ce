// mxfp4/moe/plan.hpp -- which tokens each expert gets, and how its products are divided into tasks.
// SPDX-License-Identifier: Apache-2.0
//
//   indices M x k --> counting sort --> permuted rows of each expert --> M tiles of up to 16 tokens
//                                                                    --> tasks: some tiles of W each
//
// Tasks take about the same time, if reading a weight takes as long as four products with it. They depend on the shape
// and on the routing, never on the executor.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "mxfp4/moe/check.hpp"
#include "mxfp4/moe/workspace.hpp"
#include "mxfp4/tensor/packed_view.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::kernel {
inline namespace MXFP4_ISA_NS {

/// Some tiles of an expert's matrix.
struct moe_part {
  const mxfp4::detail::moe_expert& expert;
  std::int64_t first, last;
};

/// Number of tasks for `matrices` matrices of `rows` x `cols` and `tokens` tokens: each is about eight million
/// products, or one tile. Smaller tasks read shorter runs of memory: with one token and a quarter of that work, 82 % of
/// the machine's read bandwidth was reached, with this 92 % (Zen 4, 2026-11-23).
[[nodiscard]] constexpr std::int64_t moe_tasks(std::int64_t matrices, std::int64_t rows, std::int64_t cols,
                                               std::int64_t tokens) noexcept {
  constexpr std::int64_t work = std::int64_t{1} << 23, reading = 4;
  const std::int64_t tiles = mxfp4::detail::ceil_div(rows, tile_rows);
  const std::int64_t cost = matrices * tile_rows * cols * std::max(tokens, reading);
  return std::clamp<std::int64_t>(mxfp4::detail::ceil_div(tiles * cost, work), 1, std::max<std::int64_t>(tiles, 1));
}

/// Task number `index`. `tasks`: moe_expert::up_tasks or down_tasks, by which they are counted.
[[nodiscard]] inline moe_part part_of(std::span<const mxfp4::detail::moe_expert> experts,
                                      std::int64_t mxfp4::detail::moe_expert::*tasks, std::size_t index,
                                      std::int64_t tiles) noexcept {
  const auto i = static_cast<std::int64_t>(index);
  std::size_t e = 0;
  while (experts[e].*tasks <= i) ++e;
  const std::int64_t before = e == 0 ? 0 : experts[e - 1].*tasks, parts = experts[e].*tasks - before;
  return {experts[e], tiles * (i - before) / parts, tiles * (i - before + 1) / parts};
}

/// The M tiles of experts whose permuted rows end at memory.ends and begin, the first of them, at `first`. Shortens the
/// spans of experts and M tiles to those that there are.
/// @param rule_of  gives the rule for an expert with so many rows.
template <class RuleOf>
void form_m_tiles(mxfp4::detail::moe_memory& memory, std::int64_t first, RuleOf rule_of) noexcept {
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  std::int64_t m_tiles = 0, experts = 0, offset = 0;
  for (std::size_t e = 0; e < memory.ends.size(); ++e) {
    const std::int64_t last = memory.ends[e], first_m_tile = m_tiles;
    const mxfp4::detail::moe_m_tile_rule rule = rule_of(last - first);
    const std::int64_t tiles = mxfp4::detail::ceil_div(last - first, std::int64_t{rule.tokens});
    for (std::int64_t i = 0; i < tiles; ++i) {
      const std::int64_t p = first + rule.before(last - first, i, tiles);
      const auto tokens = static_cast<int>(first + rule.before(last - first, i + 1, tiles) - p);
      memory.m_tiles[at(m_tiles++)] = {p, offset, tokens, rule.width(tokens), {}, {}, false};
      offset += rule.width(tokens);
    }
    if (last > first)
      memory.experts[at(experts++)] = {static_cast<std::int64_t>(e), first, last, first_m_tile, m_tiles, 0, 0};
    first = last;
  }
  memory.experts = memory.experts.first(at(experts));
  memory.m_tiles = memory.m_tiles.first(at(m_tiles));
}

/// Sorts the tokens by expert into `memory`, and shortens its spans of experts and M tiles to those that there are.
///
/// @param indices  M x k, each in [0, E).
inline void sort_tokens(mxfp4::detail::moe_memory& memory, const dense_view<const std::int32_t>& indices,
                        mxfp4::detail::moe_m_tile_rule rule) noexcept {
  const std::int64_t rows = indices.cols > 0 ? indices.rows : 0;
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  std::fill(memory.ends.begin(), memory.ends.end(), 0);
  const auto expert_of = [&](std::int64_t m, std::int64_t slot) { return at(indices.row(m)[slot]); };
  for (std::int64_t m = 0; m < rows; ++m)
    for (std::int64_t s = 0; s < indices.cols; ++s) ++memory.ends[expert_of(m, s)];
  std::int64_t permuted_row = 0;
  for (std::int64_t& end : memory.ends) {  // becomes where the expert's permuted rows begin; the next loop moves it on
    const std::int64_t count = end;
    end = permuted_row;
    permuted_row += count;
  }
  for (std::int64_t m = 0; m < rows; ++m)
    for (std::int64_t s = 0; s < indices.cols; ++s) {
      const std::int64_t next = memory.ends[expert_of(m, s)]++, token_slot = m * indices.cols + s;
      memory.token_slot_at[at(next)] = token_slot;
      memory.permuted_row_of[at(token_slot)] = next;
    }
  form_m_tiles(memory, 0, [&rule](std::int64_t) { return rule; });
}

/// Counts the tasks of the experts.
inline void count_tasks(std::span<mxfp4::detail::moe_expert> experts, std::int64_t hidden,
                        std::int64_t intermediate) noexcept {
  std::int64_t up = 0, down = 0;
  for (mxfp4::detail::moe_expert& e : experts) {
    e.up_tasks = up += moe_tasks(2, intermediate, hidden, e.last - e.first);
    e.down_tasks = down += moe_tasks(1, hidden, intermediate, e.last - e.first);
  }
}

/// plan_moe for tokens and indices that have been checked: the experts are.
template <class Experts>
status plan_checked(const Experts& experts, const dense_view<const std::int32_t>& indices, const dense_view<float>& y,
                    moe_workspace& workspace, mxfp4::detail::moe_m_tile_rule rule,
                    mxfp4::detail::moe_plan& plan) noexcept {
  using namespace mxfp4::detail;
  const auto count = static_cast<std::int64_t>(experts.size());
  moe_shape& shape = plan.shape;
  shape = {y.rows, indices.cols, count, y.cols, 0};
  if (y.rows > 0 && indices.cols > 0) {  // I is taken from the first expert in use; check_experts compares the others
    const std::int32_t e = indices.row(0)[0];
    const operand gate = operand_of(experts[static_cast<std::size_t>(e)].gate, "gate");
    if (!gate.state.ok()) return of_expert(gate.state, e);
    if (gate.rows % block_size != 0) return {errc::not_blocks, "rows", gate.rows, 0, "gate", e};
    shape.intermediate = gate.rows;
  }
  const std::int64_t need = bytes_of(shape);
  if (need < 0) return check(shape);
  if (workspace.bytes() < need) return {errc::buffer_too_small, "bytes", workspace.bytes(), need, "workspace"};
  plan.memory = workspace.parts(room_of(shape));
  sort_tokens(plan.memory, indices, rule);
  count_tasks(plan.memory.experts, shape.hidden, shape.intermediate);
  return check_experts(experts, plan, data_of(y));
}

/// Checks the arguments of moe(), sorts the tokens and counts the tasks. On an error `plan` is unspecified.
///
/// @param experts  [e] gives expert e, size() how many there are.
template <class Experts>
status plan_moe(const Experts& experts, const mxfp4::detail::operand& x, const dense_view<const std::int32_t>& indices,
                const dense_view<const float>& weights, const dense_view<float>& y, moe_workspace& workspace,
                mxfp4::detail::moe_m_tile_rule rule, mxfp4::detail::moe_plan& plan) noexcept {
  if (const status s = check_moe(x, indices, weights, y, static_cast<std::int64_t>(experts.size())); !s.ok()) return s;
  return plan_checked(experts, indices, y, workspace, rule, plan);
}

/// A call's shared experts as if routed: the weights that they have.
[[nodiscard]] inline dense_view<const float> weights_of_shared(std::int64_t tokens, std::int64_t experts,
                                                               const dense_view<const float>& weights) noexcept {
  if (weights.data != nullptr) return weights;
  return {shared_weights, tokens, experts, 0};
}

/// The same status, about a matrix of a shared expert.
[[nodiscard]] inline status of_shared(status s) noexcept {
  const std::string_view name = s.argument;
  s.argument = name == "gate"   ? "shared.gate"
               : name == "up"   ? "shared.up"
               : name == "down" ? "shared.down"
                                : s.argument;
  return s;
}

/// Checks and plans shared experts; the tokens have been checked, or are afterwards.
template <class Experts>
status plan_shared(const Experts& experts, const dense_view<const float>& weights, const dense_view<float>& y,
                   moe_workspace& workspace, mxfp4::detail::moe_m_tile_rule rule,
                   mxfp4::detail::moe_plan& plan) noexcept {
  const auto count = static_cast<std::int64_t>(experts.size());
  if (const status s = check_shared(count, weights, y); !s.ok()) return s;
  return of_shared(plan_checked(experts, dense_view<const std::int32_t>{shared_indices, y.rows, count, 0}, y, workspace,
                                rule, plan));
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
