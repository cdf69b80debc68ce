// tests/header_only.dispatch.cpp -- what a unit with -m flags that calls mxfp4::dispatch leaves behind for the linker.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <mxfp4/dispatch.hpp>
#include <vector>

using namespace mxfp4;

status all_experts(const std::vector<expert<const_mx_view<>>>& experts, const dense_view<const float>& x,
                   const dense_view<const std::int32_t>& indices, const dense_view<const float>& weights,
                   const dense_view<float>& y, moe_workspace& workspace) {
  return dispatch::moe(experts, x, indices, weights, y, workspace);
}

status all_groups(const std::vector<const_mx_view<>>& matrices, const dense_view<const float>& x,
                  const std::vector<std::int64_t>& offsets, const dense_view<float>& y, moe_workspace& workspace) {
  return dispatch::grouped_gemm(matrices, offsets, x, y, workspace);
}
