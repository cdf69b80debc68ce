// mxfp4/cuda/device/moe_route.cuh -- sorts routed tokens by their experts on the device.
// SPDX-License-Identifier: Apache-2.0
//
//   up to 4096 token slots     one block:   counts by group, adds up, places
//   more                       moe_count    each block counts its part           counts [block][group]
//                              moe_scan     one block adds up over blocks and groups, writes header and tiles
//                              moe_place    each block places its part
//
// A group is an expert's token slots, or those whose index names none. Within a group the order of the token slots is
// that in which the threads happen to come; no result depends on it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mxfp4/cuda/device/moe_plan.cuh"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

namespace kernel {

inline constexpr int moe_route_threads = 256;

struct moe_route_arguments {
  dense_view<const std::int32_t> indices;
  std::uint32_t token_slots;
  std::uint32_t slots_of_block;
  std::uint32_t token_step, slot_step;  ///< moe_route_threads token slots on: so many tokens and slots
  int experts;
  int tile_tokens;
  int blocks;
  device::word4 tag;
  detail::moe_header* header;
  device::word4* tiles;
  std::uint32_t* order;
  std::uint32_t* counts;

  [[nodiscard]] MXFP4_DEVICE int groups() const { return experts + 1; }
  /// A block's counts of each group and ~(its lowest bad token slot); moe_scan makes of them how many are before them.
  [[nodiscard]] MXFP4_DEVICE std::uint32_t* counts_of(int block) const {
    return counts + std::int64_t{block} * (experts + 2);
  }
};

}  // namespace kernel

namespace device {

/// Shared memory of a block, a word for each group and each warp.
struct moe_route_memory {
  std::uint32_t *count, *place, *tile;  ///< of a group: its token slots, the first of them in order, its first tile
  std::uint32_t* lowest;                ///< of a warp: ~(its lowest bad token slot), or 0

  static constexpr int bytes_of_group = 3 * 4, bytes_of_warps = kernel::moe_route_threads / warp_size * 4;
  [[nodiscard]] static constexpr int bytes(std::int64_t experts) {
    return bytes_of_group * (static_cast<int>(experts) + 1) + bytes_of_warps;
  }
  [[nodiscard]] MXFP4_DEVICE static moe_route_memory of(int groups) {
    auto* const words = reinterpret_cast<std::uint32_t*>(shared_memory());
    return {words, words + groups, words + 2 * groups, words + 3 * groups};
  }
};

/// f(token slot, group) for token slots begin .. end - 1, shared among the threads of a block. Several indices are
/// loaded before the first is used. Divides once.
template <class F>
MXFP4_DEVICE void for_each_token_slot(const kernel::moe_route_arguments& a, std::uint32_t begin, std::uint32_t end,
                                      F&& f) {
  constexpr std::uint32_t at_once = 4, step = kernel::moe_route_threads;
  const auto top_k = static_cast<std::uint32_t>(a.indices.cols);
  std::uint32_t p = begin + static_cast<std::uint32_t>(thread_index()), token = p / top_k, slot = p - token * top_k;
  MXFP4_ROLLED
  for (; p < end; p += at_once * step) {
    std::int32_t experts[at_once] = {};
    MXFP4_UNROLL
    for (std::uint32_t i = 0; i < at_once; ++i) {
      if (p + i * step < end) experts[i] = load_constant(a.indices.row(token) + slot);
      token += a.token_step;
      slot += a.slot_step;
      if (slot >= top_k) {
        slot -= top_k;
        ++token;
      }
    }
    MXFP4_UNROLL
    for (std::uint32_t i = 0; i < at_once; ++i) {
      const int expert = experts[i];
      if (p + i * step < end) f(p + i * step, expert >= 0 && expert < a.experts ? expert : a.experts);
    }
  }
}

/// Counts token slots begin .. end - 1 into m.count and m.lowest.
MXFP4_DEVICE void count_token_slots(const kernel::moe_route_arguments& a, const moe_route_memory& m,
                                    std::uint32_t begin, std::uint32_t end) {
  for (int g = thread_index(); g < a.groups(); g += kernel::moe_route_threads) store_shared(m.count + g, 0u);
  block_barrier();
  std::uint32_t bad = 0;  // the maximum over threads is taken; a thread's own token slots ascend
  for_each_token_slot(a, begin, end, [&](std::uint32_t p, int group) {
    atomic_add_shared(m.count + group, 1u);
    if (group == a.experts && bad == 0) bad = ~p;
  });
  bad = warp_max(bad);
  if (lane_index() == 0) store_shared(m.lowest + warp_index(), bad);
  block_barrier();
}

/// By one warp: the lowest bad token slot of the block.
MXFP4_DEVICE std::uint32_t lowest_of_warps(const moe_route_memory& m) {
  return warp_max(lane_index() < kernel::moe_route_threads / warp_size ? load_shared(m.lowest + lane_index()) : 0u);
}

/// By one warp: from m.count where each group's token slots and tiles begin. Returns the number of tiles.
MXFP4_DEVICE std::uint32_t add_up_groups(const kernel::moe_route_arguments& a, const moe_route_memory& m) {
  const auto most = static_cast<std::uint32_t>(a.tile_tokens);
  const auto shift = static_cast<unsigned>(most == 2 ? 1 : most == 8 ? 3 : 6);
  std::uint32_t slots_before = 0, tiles_before = 0;
  for (int first = 0; first < a.groups(); first += warp_size) {
    const int g = first + lane_index();
    const std::uint32_t slots = g < a.groups() ? load_shared(m.count + g) : 0u, tiles = (slots + most - 1) >> shift;
    std::uint32_t slot_sum = slots, tile_sum = tiles;
    for (int delta = 1; delta < warp_size; delta *= 2) {
      const std::uint32_t more_slots = shuffle_up(slot_sum, delta), more_tiles = shuffle_up(tile_sum, delta);
      if (lane_index() >= delta) {
        slot_sum += more_slots;
        tile_sum += more_tiles;
      }
    }
    if (g < a.groups()) {
      store_shared(m.place + g, slots_before + slot_sum - slots);
      store_shared(m.tile + g, tiles_before + tile_sum - tiles);
    }
    slots_before += shuffle(slot_sum, warp_size - 1);
    tiles_before += shuffle(tile_sum, warp_size - 1);
  }
  return tiles_before;
}

/// From m.count and m.lowest of all token slots: m.place, the header and the tiles.
MXFP4_DEVICE void plan_tiles(const kernel::moe_route_arguments& a, const moe_route_memory& m) {
  if (warp_index() == 0) {
    const std::uint32_t tiles = add_up_groups(a, m), lowest = lowest_of_warps(m);
    if (lane_index() == 0) {
      store(&a.header->counts, word4{load_shared(m.count + a.experts), lowest, tiles, 0});
      store(&a.header->tag, a.tag);
    }
  }
  block_barrier();
  const auto most = static_cast<std::uint32_t>(a.tile_tokens);
  for (int g = thread_index(); g < a.groups(); g += kernel::moe_route_threads) {
    const std::uint32_t slots = load_shared(m.count + g), first = load_shared(m.place + g);
    std::uint32_t t = load_shared(m.tile + g);
    for (std::uint32_t done = 0; done < slots; done += most)
      store(a.tiles + t++,
            word4{static_cast<std::uint32_t>(g), first + done, slots - done < most ? slots - done : most, 0});
  }
}

/// Writes token slots begin .. end - 1 where m.place says, which moves on.
MXFP4_DEVICE void place_token_slots(const kernel::moe_route_arguments& a, const moe_route_memory& m,
                                    std::uint32_t begin, std::uint32_t end) {
  for_each_token_slot(a, begin, end,
                      [&](std::uint32_t p, int group) { store(a.order + atomic_add_shared(m.place + group, 1u), p); });
}

}  // namespace device

namespace kernel {

/// A kernel of the routing: a block of moe_route_threads threads.
struct moe_route_kernel {
  using arguments = moe_route_arguments;
  static constexpr int threads = moe_route_threads;
  static constexpr int shared_bytes = device::moe_route_memory::bytes(moe_max_experts);

 protected:
  /// This block's part of the token slots.
  struct part {
    std::uint32_t begin, end;
  };
  static MXFP4_DEVICE part part_of_block(const arguments& a) {
    const std::uint32_t begin = static_cast<std::uint32_t>(device::block_x()) * a.slots_of_block;
    if (begin >= a.token_slots) return {a.token_slots, a.token_slots};
    return {begin, a.token_slots - begin < a.slots_of_block ? a.token_slots : begin + a.slots_of_block};
  }
};

struct moe_route : moe_route_kernel {
  static constexpr int blocks_per_processor = 1;
  static MXFP4_DEVICE void run(const arguments& a) {
    const auto m = device::moe_route_memory::of(a.groups());
    device::count_token_slots(a, m, 0, a.token_slots);
    device::plan_tiles(a, m);
    device::block_barrier();
    device::place_token_slots(a, m, 0, a.token_slots);
  }
};

struct moe_count : moe_route_kernel {
  static constexpr int blocks_per_processor = 4;
  static MXFP4_DEVICE void run(const arguments& a) {
    using namespace device;
    const auto m = moe_route_memory::of(a.groups());
    const part mine = part_of_block(a);
    count_token_slots(a, m, mine.begin, mine.end);
    std::uint32_t* const counts = a.counts_of(block_x());
    for (int g = thread_index(); g < a.groups(); g += threads) store(counts + g, load_shared(m.count + g));
    if (warp_index() != 0) return;
    const std::uint32_t lowest = lowest_of_warps(m);
    if (lane_index() == 0) store(counts + a.groups(), lowest);
  }
};

struct moe_scan : moe_route_kernel {
  static constexpr int blocks_per_processor = 1;
  static MXFP4_DEVICE void run(const arguments& a) {
    using namespace device;
    const auto m = moe_route_memory::of(a.groups());
    for (int g = thread_index(); g < a.groups(); g += threads) store_shared(m.count + g, sum_over_blocks(a, g));
    static_assert(cuda::detail::moe_route_most_blocks <= threads);
    const std::uint32_t bad = warp_max(thread_index() < a.blocks ? load(a.counts_of(thread_index()) + a.groups()) : 0u);
    if (lane_index() == 0) store_shared(m.lowest + warp_index(), bad);
    block_barrier();
    plan_tiles(a, m);
    for (int g = thread_index(); g < a.groups(); g += threads)
      store(a.counts_of(a.blocks) + g, load_shared(m.place + g));
  }

 private:
  /// Of a group. In place of each block's count comes the sum of those before it.
  static MXFP4_DEVICE std::uint32_t sum_over_blocks(const arguments& a, int group) {
    constexpr int at_once = 8;
    std::uint32_t sum = 0;
    MXFP4_ROLLED
    for (int b = 0; b < a.blocks; b += at_once) {
      std::uint32_t count[at_once] = {};
      MXFP4_UNROLL
      for (int i = 0; i < at_once; ++i)
        if (b + i < a.blocks) count[i] = device::load(a.counts_of(b + i) + group);
      MXFP4_UNROLL
      for (int i = 0; i < at_once; ++i)
        if (b + i < a.blocks) {
          device::store(a.counts_of(b + i) + group, sum);
          sum += count[i];
        }
    }
    return sum;
  }
};

struct moe_place : moe_route_kernel {
  static constexpr int blocks_per_processor = 4;
  static MXFP4_DEVICE void run(const arguments& a) {
    using namespace device;
    const auto m = moe_route_memory::of(a.groups());
    const std::uint32_t *const before = a.counts_of(block_x()), *const starts = a.counts_of(a.blocks);
    for (int g = thread_index(); g < a.groups(); g += threads)
      store_shared(m.place + g, load_constant(before + g) + load_constant(starts + g));
    block_barrier();
    const part mine = part_of_block(a);
    place_token_slots(a, m, mine.begin, mine.end);
  }
};

}  // namespace kernel

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
  using body = kernel::moe_route;
  const detail::moe_workspace_parts parts(shape);
  auto* const bytes = static_cast<std::uint8_t*>(workspace);
  const std::int64_t blocks = detail::moe_route_blocks(shape), slots = shape.token_slots();
  const kernel::moe_route_arguments arguments{indices,
                                              static_cast<std::uint32_t>(slots),
                                              static_cast<std::uint32_t>((slots + blocks - 1) / blocks),
                                              static_cast<std::uint32_t>(body::threads / shape.top_k),
                                              static_cast<std::uint32_t>(body::threads % shape.top_k),
                                              static_cast<int>(shape.experts),
                                              detail::moe_tile_tokens(shape),
                                              static_cast<int>(blocks),
                                              detail::moe_tag(shape.tokens, shape.top_k, shape.experts),
                                              reinterpret_cast<detail::moe_header*>(bytes),
                                              reinterpret_cast<device::word4*>(bytes + parts.header_bytes),
                                              reinterpret_cast<std::uint32_t*>(bytes + parts.order_at),
                                              reinterpret_cast<std::uint32_t*>(bytes + parts.counts_at)};
  const auto shared = static_cast<std::size_t>(device::moe_route_memory::bytes(shape.experts));
  if (blocks == 1) return launch<body>({1}, shared, stream, arguments);
  if (const cudaError_t error = launch<kernel::moe_count>({blocks}, shared, stream, arguments); error != cudaSuccess)
    return error;
  if (const cudaError_t error = launch<kernel::moe_scan>({1}, shared, stream, arguments); error != cudaSuccess)
    return error;
  return launch<kernel::moe_place>({blocks}, shared, stream, arguments);
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
