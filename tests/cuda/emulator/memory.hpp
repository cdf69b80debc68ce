// tests/cuda/emulator/memory.hpp -- device memory that knows who wrote what, and when.
// SPDX-License-Identifier: Apache-2.0
//
// Time is a counter of the launch that each barrier moves on. An access is ordered after an earlier one of another
// thread if a barrier that both have passed lies between: of the block, or of the warp where both threads are in the
// same. Where neither does, the two race. So a missing barrier is found in every order of the threads, not only in the
// unlucky.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "cuda/emulator/fibers.hpp"
#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::emulator {

inline constexpr std::byte poison{0xCD};

/// One thread's place in time.
struct moment {
  int thread;
  std::uint32_t now;                 ///< moved on by every barrier of the block
  std::uint32_t last_block_barrier;  ///< times before it are ordered before this moment
  std::uint32_t last_warp_barrier;   ///< likewise for the threads of the same warp
  std::uint32_t proxy_fences;        ///< how many the thread has made
};
inline constexpr int no_thread = 32 * 1000;  ///< in place of one: of no thread's warp

/// The latest access of one kind to a byte; several threads of one warp, or of several, may share it.
struct access {
  static constexpr std::int16_t nobody = -1, several_warps = -2, several_of_warp = -64;  // -64 - warp
  std::int16_t who = nobody;
  std::uint32_t when = 0;

  [[nodiscard]] bool races_with(const moment& m) const noexcept {
    if (who == nobody || who == m.thread || when < m.last_block_barrier) return false;
    if (who == several_warps) return true;
    const int warp = who <= several_of_warp ? several_of_warp - who : who / 32;
    return warp != m.thread / 32 || when >= m.last_warp_barrier;
  }
  void by(const moment& m) noexcept {
    who = static_cast<std::int16_t>(m.thread);
    when = m.now;
  }
  /// Readers add up until a barrier of the block: whoever writes must be ordered after all of them.
  void also_by(const moment& m) noexcept {
    const bool alone = who == nobody || who == m.thread || when < m.last_block_barrier;
    if (alone) return by(m);
    const int warp = who == several_warps ? -1 : who <= several_of_warp ? several_of_warp - who : who / 32;
    if (warp != m.thread / 32) who = several_warps;
    else if (when >= m.last_warp_barrier) who = static_cast<std::int16_t>(several_of_warp - warp);
    else who = static_cast<std::int16_t>(m.thread);
    when = m.now;
  }
};

/// Shared memory of one block: poisoned at the start, every byte with its latest writer and readers.
class shared_memory {
 public:
  /// 1024-byte aligned, as the device's.
  explicit shared_memory(std::size_t bytes) : storage_(bytes + alignment), shadow_(bytes), bytes_(bytes) {
    base_ = storage_.data();
    while (reinterpret_cast<std::uintptr_t>(base_) % alignment != 0) ++base_;
    reset();
  }
  void reset() {
    std::fill(storage_.begin(), storage_.end(), poison);
    std::fill(shadow_.begin(), shadow_.end(), cell{});
  }
  [[nodiscard]] std::byte* data() noexcept { return base_; }

  /// Checks a read of `bytes` at p, before it happens.
  void read(const void* p, std::size_t bytes, const moment& m, const char* what) {
    const std::size_t first = offset(p, bytes, what);
    for (std::size_t i = first; i < first + bytes; ++i) {
      cell& c = shadow_[i];
      if (c.in_flight) throw fault(place(what, i) + " is read while an asynchronous copy to it is under way");
      if (c.write.who == access::nobody) throw fault(place(what, i) + " is read and was never written");
      if (c.write.races_with(m))
        throw fault(place(what, i) + " is read without a barrier after the write" + by(c.write));
      c.atomic = false;
      c.read.also_by(m);
    }
  }
  /// Checks a write; `in_flight`: it only starts, and read() and write() refuse the bytes until land().
  void write(const void* p, std::size_t bytes, const moment& m, const char* what, bool in_flight = false) {
    const std::size_t first = offset(p, bytes, what);
    for (std::size_t i = first; i < first + bytes; ++i) {
      cell& c = shadow_[i];
      if (c.in_flight) throw fault(place(what, i) + " is written while an asynchronous copy to it is under way");
      if (c.wgmmas > 0) throw fault(place(what, i) + " is written while a wgmma that reads it is under way");
      if (c.write.races_with(m))
        throw fault(place(what, i) + " is written without a barrier after the write" + by(c.write));
      if (c.read.races_with(m))
        throw fault(place(what, i) + " is written without a barrier after the read" + by(c.read));
      c.in_flight = in_flight;
      c.atomic = false;
      c.write.by(m);
      c.proxy_fences = m.proxy_fences;
    }
  }
  /// A wgmma that reads `bytes` is started. fenced(thread, fences): see block::proxy_fenced.
  template <class F>
  void begin_wgmma(std::size_t first, std::size_t bytes, int warps, const moment& m, F&& fenced) {
    read(base_ + checked(first, bytes), bytes, m, "wgmma");
    for (std::size_t i = first; i < first + bytes; ++i) {
      cell& c = shadow_[i];
      if (c.write.who < 0 || !fenced(c.write.who, c.proxy_fences))
        throw fault(place("wgmma", i) + " is read without async_proxy_fence and a barrier after the write" +
                    by(c.write));
      c.wgmmas = static_cast<std::uint8_t>(c.wgmmas + warps);
    }
  }
  /// A warp has waited for it.
  void end_wgmma(std::size_t first, std::size_t bytes, const moment& m) {
    for (std::size_t i = first; i < first + bytes; ++i) {
      --shadow_[i].wgmmas;
      shadow_[i].read.also_by(m);
    }
  }
  void land(void* p, const void* source, std::size_t bytes, const moment& m) {
    const std::size_t first = offset(p, bytes, "copy_async");
    for (std::size_t i = first; i < first + bytes; ++i) {
      shadow_[i].in_flight = false;
      shadow_[i].write.by(m);
      shadow_[i].proxy_fences = m.proxy_fences;
    }
    if (source != nullptr) std::memcpy(p, source, bytes);
    else std::memset(p, 0, bytes);
  }
  /// An atomic operation races with plain accesses only.
  void atomic(const void* p, std::size_t bytes, const moment& m) {
    const std::size_t first = offset(p, bytes, "atomic");
    for (std::size_t i = first; i < first + bytes; ++i) {
      cell& c = shadow_[i];
      if (c.write.who == access::nobody) throw fault(place("atomic", i) + " was never written");
      if (!c.atomic && (c.write.races_with(m) || c.read.races_with(m)))
        throw fault(place("atomic", i) + " follows a plain access" + by(c.write) + " without a barrier");
      c.atomic = true;
      c.write.also_by(m);
    }
  }
  /// Whether a copy that was never waited for is still under way.
  [[nodiscard]] bool any_in_flight() const noexcept {
    return std::any_of(shadow_.begin(), shadow_.end(), [](const cell& c) { return c.in_flight; });
  }

 private:
  static constexpr std::size_t alignment = 1024;
  struct cell {
    access write, read;
    std::uint32_t proxy_fences = 0;  ///< that the writer had made
    std::uint8_t wgmmas = 0;         ///< warps that may still read it by wgmma, once for each
    bool in_flight = false;
    bool atomic = false;
  };

  [[nodiscard]] std::size_t checked(std::size_t first, std::size_t bytes) const {
    if (first >= bytes_ || bytes > bytes_ - first)
      throw fault("wgmma: " + std::to_string(bytes) + " bytes at offset " + std::to_string(first) +
                  " are outside the " + std::to_string(bytes_) + " bytes of shared memory");
    return first;
  }

  [[nodiscard]] std::size_t offset(const void* p, std::size_t bytes, const char* what) const {
    const auto first = reinterpret_cast<std::uintptr_t>(p) - reinterpret_cast<std::uintptr_t>(base_);
    if (first >= bytes_ || bytes > bytes_ - first)
      throw fault(std::string(what) + ": " + std::to_string(bytes) + " bytes at offset " +
                  std::to_string(static_cast<std::intptr_t>(first)) + " are outside the " + std::to_string(bytes_) +
                  " bytes of shared memory");
    if (reinterpret_cast<std::uintptr_t>(p) % bytes != 0)
      throw fault(std::string(what) + ": shared offset " + std::to_string(first) + " is not aligned to " +
                  std::to_string(bytes) + " bytes");
    return first;
  }
  [[nodiscard]] static std::string place(const char* what, std::size_t i) {
    return std::string(what) + ": shared byte " + std::to_string(i);
  }
  [[nodiscard]] static std::string by(const access& a) {
    return a.who == no_thread ? " by a wgmma"
           : a.who >= 0       ? " by thread " + std::to_string(a.who)
                              : " by several threads";
  }

  std::vector<std::byte> storage_;
  std::vector<cell> shadow_;
  std::byte* base_ = nullptr;
  std::size_t bytes_;
};

}  // namespace mxfp4::cuda::emulator
