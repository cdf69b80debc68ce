// mxfp4/core/aligned_buffer.hpp -- memory of one's own for the two types that own any.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "mxfp4/core/status.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace mxfp4::detail {

inline constexpr std::size_t cache_line = 64;
inline constexpr std::size_t huge_page = std::size_t{2} << 20;

struct aligned_delete {
  std::size_t alignment = cache_line;
  MXFP4_INLINE void operator()(std::uint8_t* p) const noexcept { ::operator delete[](p, std::align_val_t{alignment}); }
};

/// Uninitialised bytes at a multiple of 64; from 2 MiB on at a multiple of that, with huge pages asked for, because a
/// matrix read once per token costs a TLB miss every 4 KiB otherwise.
using aligned_buffer = std::unique_ptr<std::uint8_t[], aligned_delete>;

[[nodiscard]] MXFP4_INLINE aligned_buffer allocate(std::int64_t bytes) noexcept {
  const auto size = static_cast<std::size_t>(bytes);
  const std::size_t alignment = size >= huge_page ? huge_page : cache_line;
  void* const memory = ::operator new[](size, std::align_val_t{alignment}, std::nothrow);
#if defined(__linux__)
  if (memory != nullptr && alignment == huge_page)
    static_cast<void>(madvise(memory, size / huge_page * huge_page, MADV_HUGEPAGE));  // a hint: it may fail
#endif
  return aligned_buffer(static_cast<std::uint8_t*>(memory), aligned_delete{alignment});
}

}  // namespace mxfp4::detail
