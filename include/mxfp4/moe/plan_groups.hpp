// mxfp4/moe/plan_groups.hpp -- what grouped_gemm() asks of its arguments, and how it is divided into tasks.
// SPDX-License-Identifier: Apache-2.0
//
// Of moe()'s plan what comes after sorting: the rows of an expert are given by offsets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "mxfp4/moe/check.hpp"
#include "mxfp4/moe/plan.hpp"
#include "mxfp4/moe/workspace.hpp"
#include "mxfp4/tensor/product_check.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::kernel {
inline namespace MXFP4_ISA_NS {

/// The rule of M tiles for an expert with so many rows: a single one is multiplied by other kernels than several.
struct rule_of_rows {
  mxfp4::detail::moe_m_tile_rule several;
  mxfp4::detail::moe_m_tile_rule single{1, true};

  [[nodiscard]] MXFP4_INLINE mxfp4::detail::moe_m_tile_rule operator()(std::int64_t rows) const noexcept {
    return rows == 1 ? single : several;
  }
};

/// Checks offsets and shapes; the matrices are not looked at.
inline status check_groups(std::int64_t experts, std::span<const std::int64_t> offsets, const mxfp4::detail::operand& x,
                           const mxfp4::detail::operand& y, const dense_view<const float>& bias) noexcept {
  using namespace mxfp4::detail;
  if (!x.state.ok()) return x.state;
  if (!y.state.ok()) return y.state;
  if (x.cols % block_size != 0) return {errc::not_blocks, "cols", x.cols, 0, "x"};
  if (y.rows != x.rows) return {errc::shape_mismatch, "rows", y.rows, x.rows, "y"};
  const auto size = static_cast<std::int64_t>(offsets.size());
  if (size != experts + 1) return {errc::shape_mismatch, "size", size, experts + 1, "offsets"};
  for (std::size_t e = 0; e < offsets.size(); ++e) {
    if (offsets[e] < 0 || offsets[e] > x.rows)
      return {errc::out_of_range, "offsets", offsets[e], x.rows, "", static_cast<std::int64_t>(e)};
    if (e > 0 && offsets[e] < offsets[e - 1])
      return {errc::not_ascending, "offsets", offsets[e], offsets[e - 1], "", static_cast<std::int64_t>(e)};
  }
  byte_range added{};
  if (bias.data != nullptr) {
    if (const status s = check(bias, "bias"); !s.ok()) return s;
    if (bias.rows != experts) return {errc::shape_mismatch, "rows", bias.rows, experts, "bias"};
    if (bias.cols != y.cols) return {errc::shape_mismatch, "cols", bias.cols, y.cols, "bias"};
    added = data_of(bias);
  }
  const byte_range sorted{offsets.data(), size * std::int64_t{sizeof(std::int64_t)}};
  for (const byte_range& input : {x.memory[0], x.memory[1], sorted, added})
    if (overlap(input, y.memory[0])) return {errc::overlap, "y"};
  return {};
}

/// Checks all arguments of grouped_gemm(), and plans the tasks into `plan`, unspecified on an error.
///
/// @param weights  [e] gives the matrix of expert e, size() how many there are.
template <class Weights>
status plan_groups(const Weights& weights, std::span<const std::int64_t> offsets, const mxfp4::detail::operand& x,
                   const mxfp4::detail::operand& y, const dense_view<const float>& bias, moe_workspace& workspace,
                   const rule_of_rows& rule_of, mxfp4::detail::moe_plan& plan) noexcept {
  using namespace mxfp4::detail;
  const auto experts = static_cast<std::int64_t>(weights.size());
  if (const status s = check_groups(experts, offsets, x, y, bias); !s.ok()) return s;
  for (std::int64_t e = 0; e < experts; ++e) {
    const auto at = static_cast<std::size_t>(e);
    if (offsets[at] == offsets[at + 1]) continue;
    if (const status s =
            check_expert(operand_of(weights[at], "weights"), nullptr, "weights", e, y.cols, x.cols, y.memory[0]);
        !s.ok())
      return s;
  }
  const grouped_gemm_shape shape{x.rows, experts, y.cols, x.cols};
  if (const status s = check(shape); !s.ok()) return s;
  const std::int64_t need = bytes_of(room_of(shape));
  if (workspace.bytes() < need) return {errc::buffer_too_small, "bytes", workspace.bytes(), need, "workspace"};
  plan.shape = {x.rows, 1, experts, x.cols, 0};
  plan.memory = workspace.parts(room_of(shape));
  for (std::int64_t m = 0; m < x.rows; ++m) plan.memory.token_slot_at[static_cast<std::size_t>(m)] = m;
  for (std::int64_t e = 0; e < experts; ++e)
    plan.memory.ends[static_cast<std::size_t>(e)] = offsets[static_cast<std::size_t>(e) + 1];
  form_m_tiles(plan.memory, offsets[0], rule_of);
  std::int64_t tasks = 0;
  for (moe_expert& e : plan.memory.experts) e.up_tasks = tasks += moe_tasks(1, y.cols, x.cols, e.last - e.first);
  return {};
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
