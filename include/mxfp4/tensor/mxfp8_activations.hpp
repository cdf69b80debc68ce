// mxfp4/tensor/mxfp8_activations.hpp -- activations in MXFP8 that own their memory.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "mxfp4/core/aligned_buffer.hpp"
#include "mxfp4/tensor/mxfp8_view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// M x K numbers, movable; filled by quantize_activations (kernel/mxfp8.hpp). Rows of elements, then rows of scales.
class mxfp8_activations {
 public:
  MXFP4_INLINE mxfp8_activations() = default;  // declared, so that they are inlined too: see MXFP4_INLINE
  MXFP4_INLINE mxfp8_activations(mxfp8_activations&&) = default;
  MXFP4_INLINE mxfp8_activations& operator=(mxfp8_activations&&) = default;
  MXFP4_INLINE ~mxfp8_activations() = default;

  /// Zeros of shape rows x cols, cols a multiple of 32. One object serves any number of quantize_activations calls.
  [[nodiscard]] MXFP4_INLINE static result<mxfp8_activations> create(std::int64_t rows, std::int64_t cols) noexcept {
    if (const status s = detail::check_blocks(rows, cols, "mxfp8_activations"); !s.ok()) return s;
    if (cols > 0 && rows > detail::int64_max / 2 / cols)
      return status{errc::size_overflow, "rows * cols", rows, 0, "mxfp8_activations"};
    mxfp8_activations x;
    x.rows_ = rows;
    x.cols_ = cols;
    const std::int64_t bytes = rows * (cols + cols / block_size);
    x.memory_ = detail::allocate(bytes);
    if (x.memory_ == nullptr) return status{errc::out_of_memory, "mxfp8_activations", bytes};
    std::memset(x.memory_.get(), 0, static_cast<std::size_t>(bytes));
    return result<mxfp8_activations>(std::move(x));
  }

  /// M, tokens.
  [[nodiscard]] MXFP4_INLINE std::int64_t rows() const noexcept { return rows_; }
  /// K, elements of a token.
  [[nodiscard]] MXFP4_INLINE std::int64_t cols() const noexcept { return cols_; }
  /// To be written.
  [[nodiscard]] MXFP4_INLINE mxfp8_view view() noexcept {
    return {memory_.get(), scales(), rows_, cols_, cols_, cols_ / block_size};
  }
  /// To be read.
  [[nodiscard]] MXFP4_INLINE const_mxfp8_view view() const noexcept {
    return {memory_.get(), scales(), rows_, cols_, cols_, cols_ / block_size};
  }

 private:
  [[nodiscard]] MXFP4_INLINE std::uint8_t* scales() const noexcept { return memory_.get() + rows_ * cols_; }

  detail::aligned_buffer memory_;
  detail::owned_size rows_, cols_;
};

namespace detail {
[[nodiscard]] MXFP4_INLINE operand operand_of(const mxfp8_activations& x, const char* argument) noexcept {
  return operand_of(x.view(), argument);
}
}  // namespace detail

}  // namespace mxfp4
