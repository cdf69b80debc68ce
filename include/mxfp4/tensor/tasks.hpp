// mxfp4/tensor/tasks.hpp -- how a matrix of blocks is divided into tasks.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "mxfp4/core/config.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// Tasks of about 2048 blocks, several short rows or a part of a long one. They depend on the shape alone.
class block_tasks {
 public:
  /// Tasks of about 2048 blocks each.
  MXFP4_INLINE constexpr block_tasks(std::int64_t rows, std::int64_t blocks_a_row) noexcept
      : rows_(rows),
        blocks_(blocks_a_row),
        parts_(blocks_a_row / target + (blocks_a_row < target || blocks_a_row % target != 0 ? 1 : 0)),
        rows_a_task_(parts_ > 1 || blocks_a_row == 0 ? 1 : target / blocks_a_row) {}

  /// How many there are.
  [[nodiscard]] MXFP4_INLINE constexpr std::size_t count() const noexcept {
    if (blocks_ == 0) return 0;
    return static_cast<std::size_t>((rows_ / rows_a_task_ + (rows_ % rows_a_task_ != 0 ? 1 : 0)) * parts_);
  }

  /// Calls body(row, first block, last block) for each row of task `index`.
  template <class F>
  MXFP4_INLINE constexpr void for_each_row(std::size_t index, F&& body) const {
    const auto task = static_cast<std::int64_t>(index);
    const std::int64_t top = task / parts_ * rows_a_task_, part = task % parts_;
    const std::int64_t bottom = rows_ - top < rows_a_task_ ? rows_ : top + rows_a_task_;
    for (std::int64_t r = top; r < bottom; ++r) body(r, blocks_ * part / parts_, blocks_ * (part + 1) / parts_);
  }

 private:
  static constexpr std::int64_t target = 2048;
  std::int64_t rows_, blocks_, parts_, rows_a_task_;
};

}  // namespace mxfp4
