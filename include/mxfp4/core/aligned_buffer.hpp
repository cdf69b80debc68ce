// mxfp4/core/aligned_buffer.hpp -- memory of one's own, or kept by another, and sizes that move with it.
// SPDX-License-Identifier: Apache-2.0
//
// Not std::unique_ptr: <memory> alone is 35,000 lines, and every unit that multiplies would read them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

#include "mxfp4/core/config.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace mxfp4::inline MXFP4_VERSION_NS::detail {

inline constexpr std::size_t cache_line = 64;
inline constexpr std::size_t huge_page = std::size_t{2} << 20;

/// Uninitialised bytes at a multiple of 64; from 2 MiB on at a multiple of that, with huge pages asked for, because a
/// matrix read once per token costs a TLB miss every 4 KiB otherwise. What was moved from has none.
class aligned_buffer {
 public:
  MXFP4_INLINE aligned_buffer() = default;
  /// Takes over what operator new[] gave for this alignment; 0: what somebody else keeps, which is not freed.
  MXFP4_INLINE aligned_buffer(std::uint8_t* data, std::size_t alignment) noexcept
      : data_(data), alignment_(alignment) {}
  MXFP4_INLINE aligned_buffer(aligned_buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), alignment_(other.alignment_) {}
  MXFP4_INLINE aligned_buffer& operator=(aligned_buffer&& other) noexcept {
    aligned_buffer taken(std::move(other));
    std::swap(data_, taken.data_);
    std::swap(alignment_, taken.alignment_);
    return *this;
  }
  MXFP4_INLINE ~aligned_buffer() {
    if (data_ != nullptr && alignment_ != 0) ::operator delete[](data_, std::align_val_t{alignment_});
  }

  [[nodiscard]] MXFP4_INLINE std::uint8_t* get() const noexcept { return data_; }

  MXFP4_INLINE friend bool operator==(const aligned_buffer& buffer, std::nullptr_t) noexcept {
    return buffer.data_ == nullptr;
  }

 private:
  std::uint8_t* data_ = nullptr;
  std::size_t alignment_ = cache_line;
};

/// A size beside an aligned_buffer: 0 in what was moved from, so that a class of both needs no move functions.
class owned_size {
 public:
  MXFP4_INLINE owned_size() = default;
  MXFP4_INLINE constexpr owned_size(std::int64_t value) noexcept
      : value_(value) {}  // NOLINT(google-explicit-constructor)
  MXFP4_INLINE constexpr owned_size(owned_size&& other) noexcept : value_(std::exchange(other.value_, 0)) {}
  MXFP4_INLINE constexpr owned_size& operator=(owned_size&& other) noexcept {
    const std::int64_t taken = std::exchange(other.value_, 0);
    value_ = taken;
    return *this;
  }
  MXFP4_INLINE constexpr operator std::int64_t() const noexcept {
    return value_;
  }  // NOLINT(google-explicit-constructor)

 private:
  std::int64_t value_ = 0;
};

[[nodiscard]] MXFP4_INLINE aligned_buffer allocate(std::int64_t bytes) noexcept {
  const auto size = static_cast<std::size_t>(bytes);
  const std::size_t alignment = size >= huge_page ? huge_page : cache_line;
  void* const memory = ::operator new[](size, std::align_val_t{alignment}, std::nothrow);
#if defined(__linux__)
  if (memory != nullptr && alignment == huge_page)
    static_cast<void>(madvise(memory, size / huge_page * huge_page, MADV_HUGEPAGE));  // a hint: it may fail
#endif
  return {static_cast<std::uint8_t*>(memory), alignment};
}

}  // namespace mxfp4::detail
