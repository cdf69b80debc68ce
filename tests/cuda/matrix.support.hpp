// tests/cuda/matrix.support.hpp -- device matrices for the emulated tests, and numbers for a quantiser's every path.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <stdexcept>
#include <vector>

#include "mxfp4/cuda/device/check.cuh"
#include "mxfp4/tensor/view.hpp"
#include "support/random.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::test {

using emulator::device_array;

/// Codes and scales on the device, never written, with `gap` bytes between the rows of codes.
template <block_layout Layout = layout::compressed_tensors>
struct device_mx {
  device_array<std::uint8_t> codes, scales;
  mx_view<Layout> view;

  device_mx(std::int64_t rows, std::int64_t cols, std::int64_t gap = 0)
      : codes(static_cast<std::size_t>(rows * (Layout::code_row_bytes(cols / block_size) + gap)), "codes"),
        scales(static_cast<std::size_t>(mxfp4::detail::ceil_div(rows, Layout::rows_per_band) *
                                        Layout::scale_band_bytes(cols / block_size)),
               "scales"),
        view{codes.data(),
             scales.data(),
             rows,
             cols,
             Layout::code_row_bytes(cols / block_size) + gap,
             Layout::scale_band_bytes(cols / block_size)} {}
};

/// The same on the host, filled with 0xA5 so that what nobody writes compares equal to nothing.
template <block_layout Layout = layout::compressed_tensors>
struct host_mx {
  std::vector<std::uint8_t> codes, scales;
  mx_view<Layout> view;

  host_mx(std::int64_t rows, std::int64_t cols)
      : codes(static_cast<std::size_t>(rows * Layout::code_row_bytes(cols / block_size)), 0xA5),
        scales(static_cast<std::size_t>(mxfp4::detail::ceil_div(rows, Layout::rows_per_band) *
                                        Layout::scale_band_bytes(cols / block_size)),
               0xA5),
        view{codes.data(),
             scales.data(),
             rows,
             cols,
             Layout::code_row_bytes(cols / block_size),
             Layout::scale_band_bytes(cols / block_size)} {}
};

/// Rows so far apart that their offsets need more than 32 bits. Only the rows themselves are device memory.
template <class T>
class far_rows {
 public:
  far_rows(std::int64_t rows, std::int64_t cols, std::int64_t stride, bool written) : rows_(rows), stride_(stride) {
    bytes_ = static_cast<std::size_t>((rows - 1) * stride + cols) * sizeof(T);
    void* const at = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) throw std::runtime_error("mmap of sparse memory failed");
    data_ = static_cast<T*>(at);
    for (std::int64_t r = 0; r < rows; ++r)
      emulator::device_memory.add(row(r), static_cast<std::size_t>(cols) * sizeof(T), written, "far row");
  }
  far_rows(const far_rows&) = delete;
  far_rows& operator=(const far_rows&) = delete;
  ~far_rows() {
    for (std::int64_t r = 0; r < rows_; ++r) emulator::device_memory.remove(row(r));
    munmap(data_, bytes_);
  }
  [[nodiscard]] T* data() const { return data_; }

 private:
  [[nodiscard]] std::byte* row(std::int64_t r) const { return reinterpret_cast<std::byte*>(data_ + r * stride_); }

  std::int64_t rows_, stride_;
  std::size_t bytes_;
  T* data_;
};

/// Blocks of many kinds in turn: one binade, all binades, ties of some scale, zeros of both signs, subnormals, the
/// largest numbers, a NaN or an infinity among others.
template <element_type T>
std::vector<T> numbers(std::size_t blocks, std::uint64_t seed) {
  mxfp4::test::splitmix random(seed);
  std::vector<T> x;
  for (std::size_t b = 0; b < blocks; ++b) {
    const int kind = static_cast<int>(b % 9), exponent = random.in(1, 254);
    for (int i = 0; i < block_size; ++i) {
      float v = 0;
      switch (kind) {
        case 0:
          v = random.with_exponent(exponent > 4 ? exponent - 4 : 0, exponent);
          break;
        case 1:
          v = random.with_exponent(0, 254);
          break;
        case 2:  // multiples of an eighth of some scale: every tie there is
          v = mxfp4::detail::multiply(static_cast<float>(random.in(-64, 64)),
                                      mxfp4::detail::float_from_bits(mxfp4::detail::pow2_bits(exponent - 130)));
          break;
        case 3:
          v = random.in(0, 1) == 0 ? 0.0f : -0.0f;
          break;
        case 4:
          v = random.with_exponent(0, 3);
          break;
        case 5:
          v = random.with_exponent(250, 254);
          break;
        case 6:
          v = random.with_exponent(110, 145);
          break;  // within f16
        default:
          v = random.with_exponent(120, 130);
          if (i == random.in(0, 31)) v = mxfp4::detail::float_from_bits(kind == 7 ? 0x7F800000u : 0xFFC00001u);
      }
      x.push_back(encode<T>(v));
    }
  }
  return x;
}

}  // namespace mxfp4::cuda::test
