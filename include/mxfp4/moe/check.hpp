// mxfp4/moe/check.hpp -- what moe() asks of its arguments.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "mxfp4/moe/expert.hpp"
#include "mxfp4/moe/workspace.hpp"
#include "mxfp4/tensor/product_check.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::kernel {
inline namespace MXFP4_ISA_NS {

/// Checks all arguments but the experts; the intermediate size I is not known yet.
inline status check_moe(const mxfp4::detail::operand& x, const dense_view<const std::int32_t>& indices,
                        const dense_view<const float>& weights, const dense_view<float>& y,
                        std::int64_t experts) noexcept {
  using namespace mxfp4::detail;
  const operand out = operand_of(y, "y");
  if (!x.state.ok()) return x.state;
  if (!out.state.ok()) return out.state;
  if (const status s = check(indices, "indices"); !s.ok()) return s;
  if (const status s = check(weights, "weights"); !s.ok()) return s;
  if (x.cols % block_size != 0) return {errc::not_blocks, "cols", x.cols, 0, "x"};
  if (out.rows != x.rows) return {errc::shape_mismatch, "rows", out.rows, x.rows, "y"};
  if (out.cols != x.cols) return {errc::shape_mismatch, "cols", out.cols, x.cols, "y"};
  if (indices.rows != x.rows) return {errc::shape_mismatch, "rows", indices.rows, x.rows, "indices"};
  if (weights.rows != x.rows) return {errc::shape_mismatch, "rows", weights.rows, x.rows, "weights"};
  if (weights.cols != indices.cols) return {errc::shape_mismatch, "cols", weights.cols, indices.cols, "weights"};
  const byte_range inputs[] = {x.memory[0], data_of(indices), data_of(weights)};
  for (const byte_range& memory : inputs)
    if (overlap(memory, out.memory[0])) return {errc::overlap, "y"};
  if (indices.cols == 0) return {};
  for (std::int64_t m = 0; m < indices.rows; ++m)
    for (std::int64_t s = 0; s < indices.cols; ++s)
      if (const std::int64_t e = indices.row(m)[s]; e < 0 || e >= experts)
        return {errc::out_of_range, "indices", e, experts - 1, "", m, s};
  return {};
}

inline constexpr std::int64_t most_shared = 8;  ///< experts that every token passes
/// As if the shared experts had been chosen by a router: each by every token, with weight 1.
inline constexpr std::int32_t shared_indices[most_shared] = {0, 1, 2, 3, 4, 5, 6, 7};
inline constexpr float shared_weights[most_shared] = {1, 1, 1, 1, 1, 1, 1, 1};

/// Checks the number of shared experts and their weights; the rest of the arguments is check_moe's.
inline status check_shared(std::int64_t experts, const dense_view<const float>& weights,
                           const dense_view<float>& y) noexcept {
  if (experts > most_shared) return {errc::too_large, "experts", experts, most_shared, "shared"};
  if (weights.data == nullptr) return {};
  if (const status s = mxfp4::check(weights, "shared.weights"); !s.ok()) return s;
  if (weights.rows != y.rows) return {errc::shape_mismatch, "rows", weights.rows, y.rows, "shared.weights"};
  if (weights.cols != experts) return {errc::shape_mismatch, "cols", weights.cols, experts, "shared.weights"};
  if (mxfp4::detail::overlap(mxfp4::detail::data_of(weights), mxfp4::detail::data_of(y))) return {errc::overlap, "y"};
  return {};
}

/// The same status with `e` as its row: it is about expert e.
[[nodiscard]] inline status of_expert(status s, std::int64_t e) noexcept {
  s.row = e;
  return s;
}

/// Checks one matrix of expert `e` and its bias, which may be null: its shape, and that they share no byte with y.
inline status check_expert(const mxfp4::detail::operand& w, const float* bias, const char* name, std::int64_t e,
                           std::int64_t rows, std::int64_t cols, mxfp4::detail::byte_range y) noexcept {
  if (!w.state.ok()) return of_expert(w.state, e);
  if (w.rows != rows) return {errc::shape_mismatch, "rows", w.rows, rows, name, e};
  if (w.cols != cols) return {errc::shape_mismatch, "cols", w.cols, cols, name, e};
  for (const mxfp4::detail::byte_range& memory : w.memory)
    if (mxfp4::detail::overlap(memory, y)) return {errc::overlap, "y"};
  if (bias != nullptr && mxfp4::detail::overlap({bias, rows * std::int64_t{sizeof(float)}}, y))
    return {errc::overlap, "y"};
  return {};
}

/// Checks the matrices of the experts that have tokens.
template <class Experts>
status check_experts(const Experts& experts, const mxfp4::detail::moe_plan& plan,
                     mxfp4::detail::byte_range y) noexcept {
  using mxfp4::detail::operand_of;
  const std::int64_t h = plan.shape.hidden, i = plan.shape.intermediate;
  for (const mxfp4::detail::moe_expert& used : plan.memory.experts) {
    const std::int64_t e = used.expert;
    const auto& x = experts[static_cast<std::size_t>(e)];
    if (const status s = check_expert(operand_of(x.gate, "gate"), x.gate_bias, "gate", e, i, h, y); !s.ok()) return s;
    if (const status s = check_expert(operand_of(x.up, "up"), x.up_bias, "up", e, i, h, y); !s.ok()) return s;
    if (const status s = check_expert(operand_of(x.down, "down"), x.down_bias, "down", e, h, i, y); !s.ok()) return s;
  }
  return {};
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
