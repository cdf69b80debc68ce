// mxfp4/cuda/device/moe_plan.cuh -- routed tokens in the order of their experts: what lies where in a workspace.
// SPDX-License-Identifier: Apache-2.0
//
//   indices  M x k            token slots p = m * k + slot, by expert      tiles of at most `tile_tokens` token slots
//   [3 0] [0 5] [3 1]   -->   | 1 2 | 5 | 0 4 | 3 |                  -->   {expert, first, count} each
//                               e 0  e 1  e 3  e 5
//
// Indices that name no expert form a group of their own behind the last expert; its results are NaN. The host does not
// learn the result, so nothing waits.
#pragma once

#include <cstdint>

#include "mxfp4/cuda/device/product.cuh"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

inline constexpr std::int64_t moe_max_experts = 2048;

/// All that the host has to know of a routing: its sizes.
struct routing_shape {
  std::int64_t tokens = 0;   ///< M
  std::int64_t top_k = 0;    ///< experts of a token
  std::int64_t experts = 0;  ///< E, up to moe_max_experts

  [[nodiscard]] MXFP4_HD constexpr std::int64_t token_slots() const noexcept { return tokens * top_k; }
};

/// What moe_status reads.
struct moe_report {
  bool routed = false;               ///< by moe_route, with this shape. Otherwise all results of moe_gemm are NaN
  std::int64_t bad_token_slots = 0;  ///< how many indices name no expert
  std::int64_t first_bad = -1;       ///< the lowest token slot of them: token first_bad / top_k, slot first_bad % top_k

  [[nodiscard]] constexpr bool ok() const noexcept { return routed && bad_token_slots == 0; }
};

namespace detail {

[[nodiscard]] inline status check_moe(const routing_shape& shape) noexcept {
  if (shape.tokens <= 0) return {errc::shape_mismatch, "tokens", shape.tokens, 1, "shape"};
  if (shape.top_k <= 0) return {errc::shape_mismatch, "top_k", shape.top_k, 1, "shape"};
  if (shape.experts <= 0) return {errc::shape_mismatch, "experts", shape.experts, 1, "shape"};
  if (shape.experts > moe_max_experts) return {errc::too_large, "experts", shape.experts, moe_max_experts, "shape"};
  if (shape.tokens > max_lines / shape.top_k)
    return {errc::too_large, "tokens * top_k", shape.tokens, max_lines / shape.top_k, "shape"};
  return {};
}

/// Token slots that one block multiplies. Depends on the shape alone, since the host does not see the routing: two
/// where most experts have one token slot, eight where they have a few, else 64, a tile of gemm.
[[nodiscard]] constexpr int moe_tile_tokens(const routing_shape& shape) noexcept {
  if (shape.token_slots() <= shape.experts) return 2;
  return shape.token_slots() <= 8 * shape.experts ? 8 : 64;
}

/// What a workspace begins with.
struct moe_header {
  device::word4 counts;  ///< number of bad token slots, ~(lowest of them), tiles, 0
  device::word4 tag;     ///< of the shape that it was routed for
};
/// What is there by chance, or after a routing of another shape, is not this.
[[nodiscard]] MXFP4_HD constexpr device::word4 moe_tag(std::int64_t tokens, std::int64_t top_k,
                                                       std::int64_t experts) noexcept {
  return {0x4D6F4531u, static_cast<std::uint32_t>(tokens), static_cast<std::uint32_t>(top_k),
          static_cast<std::uint32_t>(experts)};
}
[[nodiscard]] MXFP4_HD constexpr bool same_tag(const device::word4& a, const device::word4& b) noexcept {
  return ((a.x ^ b.x) | (a.y ^ b.y) | (a.z ^ b.z) | (a.w ^ b.w)) == 0;
}

inline constexpr std::int64_t moe_route_most_blocks = 64;
/// Blocks of threads that sort the token slots: one alone needs no second launch, and more keep the device busy.
[[nodiscard]] constexpr std::int64_t moe_route_blocks(const routing_shape& shape) noexcept {
  constexpr std::int64_t of_block = 2048;
  const std::int64_t blocks = (shape.token_slots() + of_block - 1) / of_block;
  return blocks <= 2 ? 1 : blocks < moe_route_most_blocks ? blocks : moe_route_most_blocks;
}

/// Where the parts of the workspace begin: the header, the tiles, the token slots in the order of their experts and,
/// for several blocks, what they count: [block][experts + 2], with a row more for where each group begins.
struct moe_workspace_parts {
  static constexpr std::int64_t header_bytes = sizeof(moe_header);
  std::int64_t most_tiles;
  std::int64_t order_at;
  std::int64_t counts_at;
  std::int64_t bytes;

  explicit constexpr moe_workspace_parts(const routing_shape& shape) noexcept
      : most_tiles(shape.token_slots() / moe_tile_tokens(shape) +
                   (shape.token_slots() < shape.experts + 1 ? shape.token_slots() : shape.experts + 1)),
        order_at(header_bytes + 16 * most_tiles),
        counts_at(order_at + 4 * shape.token_slots()),
        bytes(counts_at +
              (moe_route_blocks(shape) == 1 ? 0 : 4 * (moe_route_blocks(shape) + 1) * (shape.experts + 2))) {}
};

[[nodiscard]] inline status check_workspace(const routing_shape& shape, const void* workspace,
                                            std::int64_t bytes) noexcept {
  const std::int64_t need = moe_workspace_parts(shape).bytes;
  if (workspace == nullptr) return {errc::null_pointer, "workspace", 0, need};
  if (bytes < need) return {errc::buffer_too_small, "workspace", bytes, need};
  return check_alignment(workspace, 16, "workspace", "");
}
[[nodiscard]] inline mxfp4::detail::byte_range workspace_of(const routing_shape& shape,
                                                            const void* workspace) noexcept {
  return {workspace, moe_workspace_parts(shape).bytes};
}

}  // namespace detail

/// Bytes of device memory, 16-byte aligned, that a routing of this shape needs; 0 for a shape that is refused.
[[nodiscard]] inline std::int64_t moe_workspace_bytes(const routing_shape& shape) noexcept {
  return detail::check_moe(shape).ok() ? detail::moe_workspace_parts(shape).bytes : 0;
}

/// Is this a routing that moe_route takes?
[[nodiscard]] inline status check_moe_route(const routing_shape& shape, const dense_view<const std::int32_t>& indices,
                                            const void* workspace, std::int64_t workspace_bytes) noexcept {
  if (const status s = detail::check_moe(shape); !s.ok()) return s;
  if (const status s = check(indices, "indices"); !s.ok()) return s;
  if (indices.rows != shape.tokens) return {errc::shape_mismatch, "rows", indices.rows, shape.tokens, "indices"};
  if (indices.cols != shape.top_k) return {errc::shape_mismatch, "cols", indices.cols, shape.top_k, "indices"};
  if (const status s = detail::check_alignment(indices.data, 4, "data", "indices"); !s.ok()) return s;
  if (const status s = detail::check_workspace(shape, workspace, workspace_bytes); !s.ok()) return s;
  if (mxfp4::detail::overlap(mxfp4::detail::data_of(indices), detail::workspace_of(shape, workspace)))
    return {errc::overlap, "workspace"};
  return {};
}

}  // namespace mxfp4::cuda
