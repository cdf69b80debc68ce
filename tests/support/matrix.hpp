// tests/support/matrix.hpp -- memory for matrices that shows every stray write, and where each layout keeps its bytes.
// SPDX-License-Identifier: Apache-2.0
//
// The places are written down a second time here, from the formats' own descriptions and without calling layout.hpp.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <tuple>
#include <vector>

#include "mxfp4/core/float_types.hpp"
#include "mxfp4/tensor/layout.hpp"
#include "mxfp4/tensor/view.hpp"
#include "support/random.hpp"

namespace mxfp4::test {

template <class T>
T from_bits(std::uint64_t bits) {
  if constexpr (sizeof(T) == 4) return std::bit_cast<T>(static_cast<std::uint32_t>(bits));
  else if constexpr (sizeof(T) == 2) return static_cast<T>(static_cast<std::uint16_t>(bits));
  else return static_cast<T>(static_cast<std::uint8_t>(bits));
}

inline constexpr std::uint8_t poison = 0xA5;

/// `size` poisoned bytes, `shift` bytes away from the strictest alignment, between two poisoned margins.
class guarded_bytes {
 public:
  explicit guarded_bytes(std::int64_t size, std::int64_t shift = 0)
      : size_(static_cast<std::size_t>(size)),
        begin_(margin + static_cast<std::size_t>(shift)),
        bytes_(begin_ + size_ + margin, poison) {}

  std::uint8_t* data() { return bytes_.data() + begin_; }
  const std::uint8_t* data() const { return bytes_.data() + begin_; }
  std::int64_t size() const { return static_cast<std::int64_t>(size_); }
  std::uint8_t operator[](std::int64_t i) const { return bytes_[begin_ + static_cast<std::size_t>(i)]; }
  std::uint8_t& operator[](std::int64_t i) { return bytes_[begin_ + static_cast<std::size_t>(i)]; }

  void fill_randomly(splitmix& random) {
    for (std::size_t i = 0; i < size_; ++i) bytes_[begin_ + i] = random.byte();
  }
  bool margins_are_intact() const {
    const auto clean = [](std::uint8_t b) { return b == poison; };
    return std::all_of(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(begin_), clean) &&
           std::all_of(bytes_.begin() + static_cast<std::ptrdiff_t>(begin_ + size_), bytes_.end(), clean);
  }
  bool is_untouched() const {
    return std::all_of(bytes_.begin(), bytes_.end(), [](std::uint8_t b) { return b == poison; });
  }

 private:
  static constexpr std::size_t margin = 1024;  // more than a tile of swizzled scales
  std::size_t size_;
  std::size_t begin_;
  std::vector<std::uint8_t> bytes_;
};

/// `count` elements that end where a page without access begins: touching the next byte ends the program.
template <class T>
class page_end {
 public:
  explicit page_end(std::int64_t count) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    const std::size_t open = (bytes + page - 1) / page * page;
    length_ = open + page;
    void* const memory = mmap(nullptr, length_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    base_ = static_cast<std::byte*>(memory);
    if (mprotect(base_ + open, page, PROT_NONE) != 0) throw std::bad_alloc();
    data_ = reinterpret_cast<T*>(base_ + open - bytes);
  }
  page_end(const page_end&) = delete;
  page_end& operator=(const page_end&) = delete;
  ~page_end() { munmap(base_, length_); }

  T* data() const { return data_; }

 private:
  std::byte* base_ = nullptr;
  std::size_t length_ = 0;
  T* data_ = nullptr;
};

/// Every layout, for tests of all of them.
using layouts =
    std::tuple<layout::compressed_tensors, layout::gpt_oss, layout::mlx, layout::swizzled_128x4, layout::ggml>;

// ---- where a layout keeps what --------------------------------------------------------------------------------------

/// compressed-tensors, gpt-oss and MLX: rows of 16-byte blocks, element 2j in the low half of byte j.
template <class Layout>
struct place {
  static constexpr bool has_scale_buffer = true;
  static std::int64_t code_row(std::int64_t blocks) { return 16 * blocks; }
  static std::int64_t scale_line(std::int64_t blocks) { return blocks; }
  static std::int64_t scale_lines(std::int64_t rows) { return rows; }
  static std::int64_t code_byte(std::int64_t r, std::int64_t k, std::int64_t stride) { return r * stride + k / 2; }
  static bool in_high_half(std::int64_t k) { return k % 2 == 1; }
  static std::int64_t scale_byte(std::int64_t r, std::int64_t b, std::int64_t stride) { return r * stride + b; }
};

/// Scales as cuBLAS and CUTLASS want them: 512-byte tiles of 128 rows x 4 blocks, in each 32 runs of 16 bytes.
template <>
struct place<layout::swizzled_128x4> : place<layout::compressed_tensors> {
  static std::int64_t scale_line(std::int64_t blocks) { return (blocks + 3) / 4 * 512; }
  static std::int64_t scale_lines(std::int64_t rows) { return (rows + 127) / 128; }
  static std::int64_t scale_byte(std::int64_t r, std::int64_t b, std::int64_t stride) {
    return r / 128 * stride + b / 4 * 512 + (r % 32) * 16 + (r % 128) / 32 * 4 + b % 4;
  }
};

/// struct block_mxfp4 { uint8_t e; uint8_t qs[16]; }: low halves hold elements 0..15, high halves 16..31.
template <>
struct place<layout::ggml> {
  static constexpr bool has_scale_buffer = false;
  static std::int64_t code_row(std::int64_t blocks) { return 17 * blocks; }
  static std::int64_t scale_line(std::int64_t blocks) { return 17 * blocks; }
  static std::int64_t scale_lines(std::int64_t rows) { return rows; }
  static std::int64_t code_byte(std::int64_t r, std::int64_t k, std::int64_t stride) {
    return r * stride + k / 32 * 17 + 1 + k % 16;
  }
  static bool in_high_half(std::int64_t k) { return k % 32 >= 16; }
  static std::int64_t scale_byte(std::int64_t r, std::int64_t b, std::int64_t stride) { return r * stride + b * 17; }
};

/// A matrix of any layout in guarded memory, with `gap` spare bytes after each row and `shift` bytes off alignment.
template <class Layout>
class mx_memory {
 public:
  using at = place<Layout>;

  mx_memory(std::int64_t rows, std::int64_t cols, std::int64_t gap = 0, std::int64_t shift = 0)
      : rows_(rows),
        cols_(cols),
        code_stride_(at::code_row(cols / 32) + gap),
        scale_stride_(at::scale_line(cols / 32) + gap),
        codes_(end_of(rows, at::code_row(cols / 32), code_stride_), shift),
        scales_(at::has_scale_buffer ? end_of(at::scale_lines(rows), at::scale_line(cols / 32), scale_stride_) : 0,
                shift) {}

  mx_view<Layout> view() {
    if (at::has_scale_buffer) return {codes_.data(), scales_.data(), rows_, cols_, code_stride_, scale_stride_};
    return {codes_.data() + 1, codes_.data(), rows_, cols_, code_stride_, code_stride_};
  }

  /// Every code and scale byte that exists; gaps, padding and margins stay poisoned.
  void fill_randomly(splitmix& random) {
    for (std::int64_t r = 0; r < rows_; ++r) {
      for (std::int64_t k = 0; k < cols_; ++k) set_code(r, k, static_cast<unsigned>(random.byte() & 15u));
      for (std::int64_t b = 0; b < cols_ / 32; ++b) scale(r, b) = random.byte();
    }
  }

  unsigned code(std::int64_t r, std::int64_t k) const {
    const std::uint8_t byte = codes_[at::code_byte(r, k, code_stride_)];
    return at::in_high_half(k) ? byte >> 4 : byte & 15u;
  }
  void set_code(std::int64_t r, std::int64_t k, unsigned code) {
    std::uint8_t& byte = codes_[at::code_byte(r, k, code_stride_)];
    byte = static_cast<std::uint8_t>(at::in_high_half(k) ? (byte & 0x0Fu) | code << 4 : (byte & 0xF0u) | code);
  }
  std::uint8_t& scale(std::int64_t r, std::int64_t b) {
    return at::has_scale_buffer ? scales_[at::scale_byte(r, b, scale_stride_)]
                                : codes_[at::scale_byte(r, b, code_stride_)];
  }

  bool is_untouched() const { return codes_.is_untouched() && scales_.is_untouched(); }

  /// Margins and gaps still hold the poison; in swizzled tiles every place without a scale holds byte 0.
  bool only_its_own_bytes_were_written() const {
    if (!codes_.margins_are_intact() || !scales_.margins_are_intact()) return false;
    std::vector<bool> code_owned(static_cast<std::size_t>(codes_.size())),
        scale_owned(static_cast<std::size_t>(scales_.size()));
    std::vector<bool>& owner_of_scales = at::has_scale_buffer ? scale_owned : code_owned;
    const std::int64_t stride = at::has_scale_buffer ? scale_stride_ : code_stride_;
    for (std::int64_t r = 0; r < rows_; ++r) {
      for (std::int64_t k = 0; k < cols_; ++k)
        code_owned[static_cast<std::size_t>(at::code_byte(r, k, code_stride_))] = true;
      for (std::int64_t b = 0; b < cols_ / 32; ++b)
        owner_of_scales[static_cast<std::size_t>(at::scale_byte(r, b, stride))] = true;
    }
    for (std::int64_t i = 0; i < codes_.size(); ++i)
      if (!code_owned[static_cast<std::size_t>(i)] && codes_[i] != poison) return false;
    for (std::int64_t i = 0; i < scales_.size(); ++i) {
      if (scale_owned[static_cast<std::size_t>(i)]) continue;
      const bool in_gap = i % scale_stride_ >= at::scale_line(cols_ / 32);
      if (scales_[i] != (in_gap ? poison : 0)) return false;  // what is neither a scale nor a gap is padding
    }
    return true;
  }

 private:
  static std::int64_t end_of(std::int64_t lines, std::int64_t line, std::int64_t stride) {
    return lines == 0 || line == 0 ? 0 : (lines - 1) * stride + line;
  }

  std::int64_t rows_, cols_, code_stride_, scale_stride_;
  guarded_bytes codes_, scales_;
};

}  // namespace mxfp4::test
