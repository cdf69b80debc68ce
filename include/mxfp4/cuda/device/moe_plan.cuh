// mxfp4/cuda/device/moe_plan.cuh -- routed tokens in the order of their experts, sorted on the device.
// SPDX-License-Identifier: Apache-2.0
//
//   indices  M x k            token slots p = m * k + slot, by expert      tiles of at most `tile_tokens` token slots
//   [3 0] [0 5] [3 1]   -->   | 1 2 | 5 | 0 4 | 3 |                  -->   {expert, first, count} each
//                               e 0  e 1  e 3  e 5
//
// One block of threads counts, adds up and places the token slots. The host does not learn the result, so nothing
// waits. Indices that name no expert form a group of their own behind the last expert; its results are NaN.
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

/// Where the parts of the workspace begin: the header, the tiles, the token slots in the order of their experts.
struct moe_workspace_parts {
  static constexpr std::int64_t header_bytes = sizeof(moe_header);
  std::int64_t most_tiles;
  std::int64_t order_at;
  std::int64_t bytes;

  explicit constexpr moe_workspace_parts(const routing_shape& shape) noexcept
      : most_tiles(shape.token_slots() / moe_tile_tokens(shape) +
                   (shape.token_slots() < shape.experts + 1 ? shape.token_slots() : shape.experts + 1)),
        order_at(header_bytes + 16 * most_tiles),
        bytes(order_at + 4 * shape.token_slots()) {}
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

namespace kernel {

struct moe_route {
  static constexpr int threads = 256;
  static constexpr int blocks_per_processor = 1;
  struct arguments {
    dense_view<const std::int32_t> indices;
    int token_slots;
    int experts;
    int tile_tokens;
    device::word4 tag;
    detail::moe_header* header;
    device::word4* tiles;
    std::uint32_t* order;
  };
  /// For each expert and for the bad group: the count, where it begins, its first tile; and a word for each warp.
  static constexpr int bytes_of_group = 4 * 3, bytes_of_warps = 4 * threads / 32;
  static constexpr int shared_bytes = bytes_of_group * (static_cast<int>(moe_max_experts) + 1) + bytes_of_warps;

  static MXFP4_DEVICE void run(const arguments& a) {
    using namespace device;
    const int groups = a.experts + 1, thread = thread_index(), lane = lane_index();
    auto* const count = reinterpret_cast<std::uint32_t*>(shared_memory());
    std::uint32_t *const place = count + groups, *const tile = place + groups, *const lowest = tile + groups;
    for (int g = thread; g < groups; g += threads) store_shared(count + g, 0u);
    block_barrier();
    std::uint32_t bad = 0;  // ~(lowest bad token slot), of which the maximum over threads is taken; 0: there is none
    for (int p = thread; p < a.token_slots; p += threads) {
      const int group = group_of(a, p);
      atomic_add_shared(count + group, 1u);
      if (group == a.experts && bad == 0) bad = ~static_cast<std::uint32_t>(p);
    }
    bad = warp_max(bad);
    if (lane == 0) store_shared(lowest + warp_index(), bad);
    block_barrier();
    if (warp_index() == 0) {
      const std::uint32_t tiles = add_up(a, groups, count, place, tile);
      const std::uint32_t highest = warp_max(lane < threads / 32 ? load_shared(lowest + lane) : 0u);
      if (lane == 0) {
        store(&a.header->counts, word4{load_shared(count + a.experts), highest, tiles, 0});
        store(&a.header->tag, a.tag);
      }
    }
    block_barrier();
    for (int g = thread; g < groups; g += threads) {
      const std::uint32_t slots = load_shared(count + g), first = load_shared(place + g);
      const auto most = static_cast<std::uint32_t>(a.tile_tokens);
      std::uint32_t t = load_shared(tile + g);
      for (std::uint32_t done = 0; done < slots; done += most)
        store(a.tiles + t++,
              word4{static_cast<std::uint32_t>(g), first + done, slots - done < most ? slots - done : most, 0});
    }
    block_barrier();
    for (int p = thread; p < a.token_slots; p += threads)
      store(a.order + atomic_add_shared(place + group_of(a, p), 1u), static_cast<std::uint32_t>(p));
  }

 private:
  static MXFP4_DEVICE int group_of(const arguments& a, int token_slot) {
    const int top_k = static_cast<int>(a.indices.cols);
    const int expert = device::load_constant(a.indices.row(token_slot / top_k) + token_slot % top_k);
    return expert >= 0 && expert < a.experts ? expert : a.experts;
  }
  /// Computes, by one warp, where each group's token slots and tiles begin. Returns the number of tiles.
  static MXFP4_DEVICE std::uint32_t add_up(const arguments& a, int groups, const std::uint32_t* count,
                                           std::uint32_t* place, std::uint32_t* tile) {
    using namespace device;
    const auto most = static_cast<std::uint32_t>(a.tile_tokens);
    std::uint32_t slots_before = 0, tiles_before = 0;
    for (int first = 0; first < groups; first += warp_size) {
      const int g = first + lane_index();
      const std::uint32_t slots = g < groups ? load_shared(count + g) : 0u, tiles = (slots + most - 1) / most;
      std::uint32_t slot_sum = slots, tile_sum = tiles;
      for (int delta = 1; delta < warp_size; delta *= 2) {
        const std::uint32_t more_slots = shuffle_up(slot_sum, delta), more_tiles = shuffle_up(tile_sum, delta);
        if (lane_index() >= delta) {
          slot_sum += more_slots;
          tile_sum += more_tiles;
        }
      }
      if (g < groups) {
        store_shared(place + g, slots_before + slot_sum - slots);
        store_shared(tile + g, tiles_before + tile_sum - tiles);
      }
      slots_before += shuffle(slot_sum, warp_size - 1);
      tiles_before += shuffle(tile_sum, warp_size - 1);
    }
    return tiles_before;
  }
};

}  // namespace kernel

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

/// Sorts the token slots by expert into the workspace, for any number of calls of moe_gemm with the same shape after
/// it.
///
/// @param indices    M x k experts of each token, 0 .. E - 1, device memory, any order, repeats allowed.
/// @param workspace  at least moe_workspace_bytes(shape), 16-byte aligned; need not be cleared.
/// @return   cudaSuccess, or why there is no launch, as check_moe_route names it; nothing is written then.
/// Indices that name no expert are counted (moe_status), and the results of their token slots are NaN.
[[nodiscard]] inline cudaError_t moe_route(const routing_shape& shape, const dense_view<const std::int32_t>& indices,
                                           void* workspace, std::int64_t workspace_bytes, cudaStream_t stream) {
  if (const status s = check_moe_route(shape, indices, workspace, workspace_bytes); !s.ok()) return detail::error_of(s);
  const detail::moe_workspace_parts parts(shape);
  auto* const bytes = static_cast<std::uint8_t*>(workspace);
  const int experts = static_cast<int>(shape.experts);
  using body = kernel::moe_route;
  const int shared = body::bytes_of_group * (experts + 1) + body::bytes_of_warps;
  return launch<body>(
      {1}, static_cast<std::size_t>(shared), stream,
      {indices, static_cast<int>(shape.token_slots()), experts, detail::moe_tile_tokens(shape),
       detail::moe_tag(shape.tokens, shape.top_k, shape.experts), reinterpret_cast<detail::moe_header*>(bytes),
       reinterpret_cast<device::word4*>(bytes + parts.header_bytes),
       reinterpret_cast<std::uint32_t*>(bytes + parts.order_at)});
}

/// Whether moe_route has sorted tokens of this shape into the workspace, and whether one of them named an expert that
/// is not there. Waits for the stream.
/// @param report  written if the result is cudaSuccess.
/// @return cudaErrorInvalidValue for a shape or workspace that moe_route refuses; cudaErrorStreamCaptureUnsupported
///         where the stream is being captured, which goes on; else what the runtime says.
[[nodiscard]] inline cudaError_t moe_status(const routing_shape& shape, const void* workspace, cudaStream_t stream,
                                            moe_report& report) {
  if (!detail::check_moe(shape).ok() || workspace == nullptr) return cudaErrorInvalidValue;
  cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
  cudaError_t error = cudaStreamIsCapturing(stream, &capturing);
  if (error != cudaSuccess) return error;
  if (capturing != cudaStreamCaptureStatusNone) return cudaErrorStreamCaptureUnsupported;
  detail::moe_header header{};
  error = cudaMemcpyAsync(&header, workspace, sizeof header, cudaMemcpyDeviceToHost, stream);
  if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
  if (error != cudaSuccess) return error;
  report = {};
  report.routed = detail::same_tag(header.tag, detail::moe_tag(shape.tokens, shape.top_k, shape.experts));
  if (!report.routed) return cudaSuccess;
  report.bad_token_slots = std::int64_t{header.counts.x};
  if (report.bad_token_slots != 0) report.first_bad = static_cast<std::int64_t>(~header.counts.y);
  return cudaSuccess;
}

}  // namespace mxfp4::cuda
