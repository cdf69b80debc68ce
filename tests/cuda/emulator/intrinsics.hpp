// tests/cuda/emulator/intrinsics.hpp -- device::* on the host: the same functions as cuda/device/ptx.cuh.
// SPDX-License-Identifier: Apache-2.0
//
// Included by mxfp4/cuda/device/intrinsics.cuh, whose comments and those of ptx.cuh say what each does. Here every
// misuse throws an emulator::fault.
#pragma once

#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "cuda/emulator/block.hpp"
#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::device {

/// Tests try each way.
template <int Arch, bool E2m1Convert, bool E4m3Convert, bool E4m3Mma, bool BlockScaledMma, bool Wgmma>
struct emulated_target {
  static constexpr int arch = Arch;
  static constexpr int family = Arch >= 1000 ? Arch : 0;
  static constexpr bool e2m1_convert = E2m1Convert;
  static constexpr bool e4m3_convert = E4m3Convert;
  static constexpr bool e4m3_mma = E4m3Mma;
  static constexpr bool block_scaled_mma = BlockScaledMma;
  static constexpr bool wgmma = Wgmma;
};
using sm_80 = emulated_target<800, false, false, false, false, false>;
using sm_89 = emulated_target<890, false, true, true, false, false>;
using sm_90a = emulated_target<900, false, true, false, false, true>;
using sm_100a = emulated_target<1000, true, true, false, false, false>;
using sm_120a = emulated_target<1200, true, true, true, true, false>;
/// What a kernel gets that names none.
using target = sm_80;

namespace detail {
[[nodiscard]] inline emulator::block& here() {
  if (emulator::running == nullptr) throw emulator::fault("a device function is called outside a kernel");
  return *emulator::running;
}
template <class T>
concept moves_in_one = std::is_trivially_copyable_v<T> &&
                       (sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16);

template <moves_in_one T>
[[nodiscard]] T load_as(const T* p, const char* what) {
  emulator::block& b = here();
  emulator::device_memory.read(p, sizeof(T), sizeof(T), b.here(), b.order(), what);
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}
template <moves_in_one T>
void store_as(T* p, const T& value, const char* what) {
  emulator::block& b = here();
  emulator::device_memory.write(p, sizeof(T), b.here(), b.order(), what);
  std::memcpy(p, &value, sizeof(T));
}
template <class F>
std::uint32_t atomic_as(std::uint32_t* p, F&& f) {
  emulator::block& b = here();
  emulator::device_memory.atomic(p, sizeof *p, b.here(), b.order());
  b.atomic();
  const std::uint32_t old = *p;
  *p = f(old);
  return old;
}
/// Every lane's value, once all 32 are there.
template <class T>
[[nodiscard]] std::array<T, 32> all_lanes(T value, const char* what) {
  struct call {
    T value;
    std::array<T, 32> all;
  } mine{value, {}};
  here().meet_warp(what, mine, [](const emulator::gathered<call>& lanes) {
    for (int i = 0; i < 32; ++i)
      for (int j = 0; j < 32; ++j) lanes[i].all[static_cast<std::size_t>(j)] = lanes[j].value;
  });
  return mine.all;
}
[[nodiscard]] inline std::size_t checked_lane(int lane) {
  if (lane < 0 || lane > 31) throw emulator::fault("lane " + std::to_string(lane) + ", expected 0 to 31");
  return static_cast<std::size_t>(lane);
}
}  // namespace detail

// ---- where a thread is ----------------------------------------------------------------------------------------------

inline int thread_index() { return detail::here().thread_index(); }
inline int lane_index() { return thread_index() % 32; }
inline int warp_index() { return thread_index() / 32; }
inline int block_threads() { return detail::here().count; }
inline int block_x() { return detail::here().index.x; }
inline int block_y() { return detail::here().index.y; }
inline int block_z() { return detail::here().index.z; }
inline int grid_x() { return detail::here().grid.x; }
inline int grid_y() { return detail::here().grid.y; }
inline int grid_z() { return detail::here().grid.z; }

// ---- memory ---------------------------------------------------------------------------------------------------------

inline std::uint8_t* shared_memory() { return reinterpret_cast<std::uint8_t*>(detail::here().shared.data()); }

template <class T>
[[nodiscard]] T load(const T* p) {
  return detail::load_as(p, "load");
}
template <class T>
[[nodiscard]] T load_constant(const T* p) {
  return detail::load_as(p, "load_constant");
}
template <class T>
[[nodiscard]] T load_streaming(const T* p) {
  return detail::load_as(p, "load_streaming");
}
template <class T>
void store(T* p, const T& value) {
  detail::store_as(p, value, "store");
}
template <class T>
void store_streaming(T* p, const T& value) {
  detail::store_as(p, value, "store_streaming");
}
template <detail::moves_in_one T>
[[nodiscard]] T load_shared(const T* p) {
  emulator::block& b = detail::here();
  b.shared.read(p, sizeof(T), b.here(), "load_shared");
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}
template <detail::moves_in_one T>
void store_shared(T* p, const T& value) {
  emulator::block& b = detail::here();
  b.shared.write(p, sizeof(T), b.here(), "store_shared");
  std::memcpy(p, &value, sizeof(T));
}

/// The bytes land at the wait; until then nobody may touch the place.
template <int Bytes>
void copy_async(void* shared, const void* global, bool valid = true) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  emulator::block& b = detail::here();
  b.shared.write(shared, Bytes, b.here(), "copy_async", true);
  if (valid) emulator::device_memory.read(global, Bytes, Bytes, b.here(), b.order(), "copy_async");
  b.self().open.push_back({shared, valid ? global : nullptr, Bytes});
}
template <int Bytes>
void copy_async_part(void* shared, const void* global, int bytes) {
  static_assert(Bytes == 4 || Bytes == 8);
  if (bytes < 0 || bytes > Bytes)
    throw emulator::fault("copy_async_part: " + std::to_string(bytes) + " bytes, expected 0 to " +
                          std::to_string(Bytes));
  if (reinterpret_cast<std::uintptr_t>(global) % Bytes != 0)
    throw emulator::fault("copy_async_part: address not aligned to " + std::to_string(Bytes) + " bytes");
  emulator::block& b = detail::here();
  b.shared.write(shared, Bytes, b.here(), "copy_async_part", true);
  for (int i = 0; i < Bytes; ++i) {  // in pieces, since zeros and the others land together
    const auto* const from = i < bytes ? static_cast<const std::byte*>(global) + i : nullptr;
    if (from != nullptr) emulator::device_memory.read(from, 1, 1, b.here(), b.order(), "copy_async_part");
    b.self().open.push_back({static_cast<std::byte*>(shared) + i, from, 1});
  }
}
inline void copy_async_commit() {
  auto& self = detail::here().self();
  self.groups.push_back(std::move(self.open));
  self.open.clear();
}
template <int Pending>
void copy_async_wait() {
  emulator::block& b = detail::here();
  auto& groups = b.self().groups;
  while (groups.size() > Pending) {
    for (const auto& c : groups.front()) b.shared.land(c.to, c.from, c.bytes, b.here());
    groups.pop_front();
  }
}

// ---- atomics --------------------------------------------------------------------------------------------------------

inline std::uint32_t atomic_add(std::uint32_t* p, std::uint32_t value) {
  return detail::atomic_as(p, [=](std::uint32_t old) { return old + value; });
}
inline std::uint32_t atomic_or(std::uint32_t* p, std::uint32_t value) {
  return detail::atomic_as(p, [=](std::uint32_t old) { return old | value; });
}
inline std::uint32_t atomic_max(std::uint32_t* p, std::uint32_t value) {
  return detail::atomic_as(p, [=](std::uint32_t old) { return old > value ? old : value; });
}
inline std::uint32_t atomic_exchange(std::uint32_t* p, std::uint32_t value) {
  return detail::atomic_as(p, [=](std::uint32_t) { return value; });
}
inline std::uint32_t atomic_add_shared(std::uint32_t* p, std::uint32_t value) {
  emulator::block& b = detail::here();
  b.shared.atomic(p, sizeof *p, b.here());
  const std::uint32_t old = *p;
  *p = old + value;
  return old;
}
inline void memory_fence() { detail::here().fence(); }

// ---- barriers and warp collectives ----------------------------------------------------------------------------------

inline void block_barrier() { detail::here().block_barrier(); }
inline void warp_barrier() { detail::here().warp_barrier(); }

template <class T>
[[nodiscard]] T shuffle_xor(T value, int mask) {
  return detail::all_lanes(value, "shuffle_xor")[detail::checked_lane(lane_index() ^ mask)];
}
template <class T>
[[nodiscard]] T shuffle(T value, int source) {
  return detail::all_lanes(value, "shuffle")[detail::checked_lane(source)];
}
template <class T>
[[nodiscard]] T shuffle_up(T value, int delta) {
  const auto all = detail::all_lanes(value, "shuffle_up");
  const int source = lane_index() - delta;
  return source >= 0 ? all[detail::checked_lane(source)] : value;
}
[[nodiscard]] inline std::uint32_t ballot(bool predicate) {
  const auto all = detail::all_lanes(predicate, "ballot");
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < 32; ++i) bits |= static_cast<std::uint32_t>(all[i]) << i;
  return bits;
}
[[nodiscard]] inline std::uint32_t warp_max(std::uint32_t value) {
  std::uint32_t most = 0;
  for (const std::uint32_t v : detail::all_lanes(value, "warp_max")) most = v > most ? v : most;
  return most;
}
[[nodiscard]] inline std::uint32_t warp_add(std::uint32_t value) {
  std::uint32_t sum = 0;
  for (const std::uint32_t v : detail::all_lanes(value, "warp_add")) sum += v;
  return sum;
}

}  // namespace mxfp4::cuda::device

#include "cuda/emulator/arithmetic.hpp"
#include "cuda/emulator/tensor_core.hpp"
#include "cuda/emulator/wgmma.hpp"
