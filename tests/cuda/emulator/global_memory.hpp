// tests/cuda/emulator/global_memory.hpp -- what cudaMalloc would give: arrays whose every access is checked.
// SPDX-License-Identifier: Apache-2.0
//
// A kernel may touch device arrays alone, within their bounds and aligned; it may not read what nobody wrote, nor what
// another block of the same launch wrote unless that block fenced and both met at an atomic, nor what another thread of
// its block wrote without a barrier since.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "cuda/emulator/memory.hpp"
#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::emulator {

/// One block's place among the blocks of a launch.
struct block_moment {
  std::uint32_t launch;
  std::int32_t block;
  bool acquired;  ///< has met other blocks at an atomic
};

class global_memory {
 public:
  static constexpr std::size_t alignment = 256;

  void add(std::byte* base, std::size_t bytes, bool written, const char* name) {
    all_.push_back({base, bytes, name, std::vector<cell>(bytes)});
    for (cell& c : all_.back().shadow) c.written = written;
  }
  void remove(const std::byte* base) {
    std::erase_if(all_, [base](const allocation& a) { return a.base == base; });
    latest_ = 0;
  }
  /// From now on the bytes count as written by the host.
  void written_by_host(const void* p, std::size_t bytes) {
    for_each(p, bytes, 1, "host", [](cell& c, std::size_t) {
      c = {};
      c.written = true;
    });
  }
  /// Host reads what kernels wrote: the first byte that none has written, or -1.
  [[nodiscard]] std::ptrdiff_t first_unwritten(const void* p, std::size_t bytes) {
    std::ptrdiff_t first = -1;
    for_each(p, bytes, 1, "host", [&](const cell& c, std::size_t i) {
      if (!c.written && first < 0) first = static_cast<std::ptrdiff_t>(i);
    });
    return first;
  }

  void read(const void* p, std::size_t bytes, std::size_t align, const moment& m, const block_moment& b,
            const char* what) {
    for_each(p, bytes, align, what, [&](const cell& c, std::size_t i) {
      if (!c.written) throw fault(place(what, i) + " is read and was never written");
      if (unordered(c, m, b)) throw fault(place(what, i) + " is read without order after " + writer(c));
    });
  }
  void write(void* p, std::size_t bytes, const moment& m, const block_moment& b, const char* what) {
    for_each(p, bytes, bytes, what, [&](cell& c, std::size_t i) {
      if (unordered(c, m, b)) throw fault(place(what, i) + " is written without order after " + writer(c));
      c = {true, false, static_cast<std::int16_t>(m.thread), b.launch, b.block, m.now, tick_};
    });
  }
  void atomic(void* p, std::size_t bytes, const moment& m, const block_moment& b) {
    for_each(p, bytes, bytes, "atomic", [&](cell& c, std::size_t i) {
      if (!c.written) throw fault(place("atomic", i) + " was never written");
      if (!c.atomic && unordered(c, m, b)) throw fault(place("atomic", i) + " comes without order after " + writer(c));
      c = {true, true, static_cast<std::int16_t>(m.thread), b.launch, b.block, m.now, tick_};
    });
  }
  /// A fence and then an atomic: blocks that come to an atomic later may read what this block has written.
  void release(const block_moment& b) {
    if (released_launch_ != b.launch) released_.clear();
    released_launch_ = b.launch;
    const auto i = static_cast<std::size_t>(b.block);
    if (released_.size() <= i) released_.resize(i + 1);
    released_[i] = ++tick_;
  }

 private:
  struct cell {
    bool written = false, atomic = false;
    std::int16_t thread = -1;
    std::uint32_t launch = 0;
    std::int32_t block = -1;
    std::uint32_t when = 0;
    std::uint32_t tick = 0;
  };
  struct allocation {
    std::byte* base;
    std::size_t bytes;
    const char* name;
    std::vector<cell> shadow;
  };

  [[nodiscard]] bool unordered(const cell& c, const moment& m, const block_moment& b) const noexcept {
    if (c.launch != b.launch || c.block < 0) return false;
    if (c.block != b.block) {
      const auto i = static_cast<std::size_t>(c.block);
      return !b.acquired || released_launch_ != b.launch || i >= released_.size() || released_[i] <= c.tick;
    }
    if (c.thread == m.thread || c.when < m.last_block_barrier) return false;
    return c.thread / 32 != m.thread / 32 || c.when >= m.last_warp_barrier;
  }

  template <class F>
  void for_each(const void* p, std::size_t bytes, std::size_t align, const char* what, F&& f) {
    allocation& a = find(p, bytes, what);
    if (reinterpret_cast<std::uintptr_t>(p) % align != 0)
      throw fault(std::string(what) + ": address not aligned to " + std::to_string(align) + " bytes");
    const std::size_t first = static_cast<std::size_t>(static_cast<const std::byte*>(p) - a.base);
    for (std::size_t i = first; i < first + bytes; ++i) f(a.shadow[i], i);
  }
  [[nodiscard]] allocation& find(const void* p, std::size_t bytes, const char* what) {
    const auto holds = [&](const allocation& a) {
      const auto offset = reinterpret_cast<std::uintptr_t>(p) - reinterpret_cast<std::uintptr_t>(a.base);
      return offset <= a.bytes && bytes <= a.bytes - offset;
    };
    if (latest_ < all_.size() && holds(all_[latest_])) return all_[latest_];
    for (latest_ = 0; latest_ < all_.size(); ++latest_)
      if (holds(all_[latest_])) return all_[latest_];
    throw fault(std::string(what) + ": " + std::to_string(bytes) + " bytes that are in no device array" + nearest(p));
  }
  [[nodiscard]] std::string nearest(const void* p) const {
    for (const allocation& a : all_) {
      const auto offset =
          static_cast<std::intptr_t>(reinterpret_cast<std::uintptr_t>(p) - reinterpret_cast<std::uintptr_t>(a.base));
      if (offset >= -4096 && offset <= static_cast<std::intptr_t>(a.bytes) + 4096)
        return ", at offset " + std::to_string(offset) + " of one of " + std::to_string(a.bytes) + " bytes (" + a.name +
               ")";
    }
    return "";
  }
  [[nodiscard]] static std::string place(const char* what, std::size_t i) {
    return std::string(what) + ": global byte " + std::to_string(i) + " of its array";
  }
  [[nodiscard]] static std::string writer(const cell& c) {
    return "thread " + std::to_string(c.thread) + " of block " + std::to_string(c.block) + " wrote it";
  }

  std::vector<allocation> all_;
  std::size_t latest_ = 0;
  std::uint32_t tick_ = 0;               ///< moved on by every release
  std::vector<std::uint32_t> released_;  ///< when each block of the launch last released
  std::uint32_t released_launch_ = 0;
};

inline global_memory device_memory;

/// n elements of device memory, 256-byte aligned. Made from host data, or poisoned and not to be read before a kernel
/// has written it.
template <class T>
class device_array {
 public:
  explicit device_array(std::size_t n, const char* name = "unnamed") : size_(n) { allocate(false, name); }
  explicit device_array(const std::vector<T>& host, const char* name = "unnamed") : size_(host.size()) {
    allocate(true, name);
    if (size_ != 0) std::memcpy(static_cast<void*>(data_), host.data(), bytes());
  }
  device_array(const device_array&) = delete;
  device_array& operator=(const device_array&) = delete;
  ~device_array() {
    device_memory.remove(reinterpret_cast<const std::byte*>(data_));
    ::operator delete(data_, std::align_val_t{global_memory::alignment});
  }

  [[nodiscard]] T* data() noexcept { return data_; }
  [[nodiscard]] const T* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return size_ * sizeof(T); }

  /// A copy on the host. Throws a fault if a byte was never written.
  [[nodiscard]] std::vector<T> host() const {
    const std::ptrdiff_t unwritten = device_memory.first_unwritten(data_, bytes());
    if (unwritten >= 0) throw fault("no kernel wrote byte " + std::to_string(unwritten) + " of the array");
    return raw();
  }
  /// The same, poison and all.
  [[nodiscard]] std::vector<T> raw() const { return std::vector<T>(data_, data_ + size_); }
  /// Whether no kernel wrote any of it since it was made without host data.
  [[nodiscard]] bool untouched() const {
    for (std::size_t i = 0; i < bytes(); ++i)
      if (device_memory.first_unwritten(reinterpret_cast<const std::byte*>(data_) + i, 1) < 0) return false;
    return true;
  }

 private:
  void allocate(bool written, const char* name) {
    data_ = static_cast<T*>(::operator new(bytes(), std::align_val_t{global_memory::alignment}));
    std::memset(static_cast<void*>(data_), static_cast<int>(poison), bytes());
    device_memory.add(reinterpret_cast<std::byte*>(data_), bytes(), written, name);
  }

  std::size_t size_;
  T* data_ = nullptr;
};

}  // namespace mxfp4::cuda::emulator
