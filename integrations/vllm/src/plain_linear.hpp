// integrations/vllm/src/plain_linear.hpp -- linear layers that are bfloat16, on a CPU that has no AMX for it.
// SPDX-License-Identifier: Apache-2.0
//
// Attention and the head stay bfloat16 in a checkpoint whose experts are MXFP4. Where a CPU multiplies no bfloat16
// (AVX2), torch's products of it are so slow that they, not the experts, are most of the time; oneDNN's, by AVX-512's
// dot products, have half of the rate of f32. These widen the weights in registers:
//
//   packed   tile of 16 rows, column, 8 words of 32 bits: row j in the lower half of word j, row j + 8 in the upper.
//            A bfloat16 in the upper half of a word is a float; in the lower half it is one after a shift.
//            With AVX-512 a tile is 32 rows, and a column of it 16 words
#pragma once

#include <cstdint>
#include <mxfp4/core/aligned_buffer.hpp>
#include <string_view>

#include "layers.hpp"
#include "plain_kernels.hpp"

namespace mxfp4::vllm {

/// N x K weights in bfloat16, packed.
class plain_linear {
 public:
  /// Are they faster here than AVX-512's dot products of bfloat16, or are there none of these? They are on Intel's CPUs,
  /// and are not by the tables of AMD's (Zen 4 and 5).
  [[nodiscard]] static bool beats_dot_products() noexcept;

  /// The kernels of an instruction set, by mxfp4::dispatch's name for it; null: it has none.
  [[nodiscard]] static const plain_kernels* kernels_of(std::string_view isa) noexcept;

  /// @param weights  N x K bfloat16, no gaps between rows.
  /// @param kernels  those of an instruction set that the CPU has.
  /// @return         errc::out_of_memory if there is none for bytes().
  [[nodiscard]] static result<plain_linear> create(const void* weights, std::int64_t rows, std::int64_t cols,
                                                   const plain_kernels& kernels, const process_team& team);

  [[nodiscard]] std::int64_t rows() const noexcept { return rows_; }
  [[nodiscard]] std::int64_t cols() const noexcept { return cols_; }
  /// What it keeps, in bytes.
  [[nodiscard]] std::int64_t bytes() const noexcept { return groups() * plain_group_rows * cols_ * 2; }

  /// y = x W^T + bias, rounded once to bfloat16. x: M x K, y: M x N, both bfloat16.
  /// The products are exact; their sum is K FMAs in f32 in a row, column after column: the same bits for any M, and on
  /// any instruction set.
  /// @param bias  N floats or null.
  void run(const rows_in& x, const float* bias, const rows_out& y, workshop& shop) const;

 private:
  [[nodiscard]] std::int64_t groups() const noexcept { return (rows_ + plain_group_rows - 1) / plain_group_rows; }

  mxfp4::detail::owned_size rows_, cols_;
  const plain_kernels* kernels_ = nullptr;
  mxfp4::detail::aligned_buffer packed_;  // of words; huge pages, where it has that size
};

}  // namespace mxfp4::vllm
