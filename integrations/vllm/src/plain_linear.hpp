// integrations/vllm/src/plain_linear.hpp -- linear layers that are bfloat16, on a CPU that has no instructions for it.
// SPDX-License-Identifier: Apache-2.0
//
// Attention and the head stay bfloat16 in a checkpoint whose experts are MXFP4. Where a CPU multiplies no bfloat16
// (AVX2), torch's products of it are so slow that they, not the experts, are most of the time. These widen the weights
// in registers:
//
//   packed   tile of 16 rows, column, 8 words of 32 bits: row j in the lower half of word j, row j + 8 in the upper.
//            A bfloat16 in the upper half of a word is a float; in the lower half it is one after a shift
#pragma once

#include <cstdint>
#include <vector>

#include "layers.hpp"

namespace mxfp4::vllm {

/// N x K weights in bfloat16, packed.
class plain_linear {
 public:
  /// Is this one of the CPUs it is for: x86-64 with AVX2 and FMA, without AVX-512's bfloat16?
  [[nodiscard]] static bool suits() noexcept;

  /// @param weights  N x K bfloat16, no gaps between rows.
  [[nodiscard]] static plain_linear create(const void* weights, std::int64_t rows, std::int64_t cols,
                                           const process_team& team);

  [[nodiscard]] std::int64_t rows() const noexcept { return rows_; }
  [[nodiscard]] std::int64_t cols() const noexcept { return cols_; }
  /// What it keeps, in bytes.
  [[nodiscard]] std::int64_t bytes() const noexcept { return static_cast<std::int64_t>(packed_.size()) * 4; }

  /// y = x W^T + bias, rounded once to bfloat16. x: M x K, y: M x N, both bfloat16. Only where suits().
  /// The products are exact; their sum is K FMAs in f32 in a row, column after column: the same bits for any M.
  /// @param bias  N floats or null.
  void run(const rows_in& x, const float* bias, const rows_out& y, workshop& shop) const;

 private:
  std::int64_t rows_ = 0, cols_ = 0;
  std::vector<std::uint32_t> packed_;
};

}  // namespace mxfp4::vllm
