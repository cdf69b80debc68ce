// src/calibrate/rounding.hpp -- MXFP4 codes for the rows of a matrix that change its products least.
// SPDX-License-Identifier: Apache-2.0
//
//   e = w - q        what rounding adds to a row, K numbers
//   e H e^T          what the row's products with the inputs behind H lose by it: the objective of a row
//   H = R R^T        R upper triangular, so that  e H e^T = sum over c of (sum over j <= c of R[j][c] e[j])^2
//
// The first pass takes the columns one after the other. Of the sum in the bracket all is known but the term of column c
// itself, so its code is the one nearest to  w[c] + (sum over j < c of R[j][c] e[j]) / R[c][c]. A block's scale is one
// of three, with which its 32 terms add up to the least, or chosen before, by the error of each column times R[c][c].
// Later passes take whole blocks again, with the errors of all other columns as they are, and keep what has become
// better; the last one looks for pairs of columns too that gain by changing together.
//
// Rows do not see each other and the sums of each have one order: the same bits for any executor.
// Source: Frantar et al., GPTQ (2022), with Babai's nearest plane in the place of the inverse, which is the same:
// Chen et al., The Geometry of LLM Quantization (2025).
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "mxfp4/executor.hpp"
#include "mxfp4/view.hpp"

namespace mxfp4::calibrate {

enum class column_order : std::uint8_t {
  natural,          ///< from left to right; scales are chosen on the way
  falling_diagonal  ///< those with the largest inputs first; scales are chosen before
};

struct rounding_options {
  column_order order = column_order::falling_diagonal;  ///< of the first pass
  bool keep_scales = false;                             ///< those that the rows have already
  int passes = 4;         ///< in all, at least 1; fewer where a later one is of no use any more
  bool pairs = true;      ///< the last of several passes tries other codes for two columns of a block at a time
  double damping = 0.01;  ///< times the mean of the diagonal: what is added to each element of it
};

/// Over all rows, what they lose: see above. H has its damping on the diagonal.
struct rounding_result {
  double before = 0, after = 0;
  std::int64_t kept = 0;  ///< rows in which nothing was better than what was there
};

/// H, taken apart once for all rows.
class rounder {
 public:
  static constexpr std::int64_t lanes = 32;  ///< rows of a task

  /// @param hessian  K x K, symmetric, of which the lower triangle is read: sums of x[i] * x[j] over inputs x.
  /// @throws std::domain_error where it is not finite, or no damping up to 1 makes it positive definite.
  rounder(std::vector<float> hessian, std::int64_t cols, const rounding_options& options);

  /// Rounds `target`, rows x K finite numbers.
  /// @param out  MXFP4 of the same shape, low_first: a row that does not get better stays.
  rounding_result round(dense_view<const float> target, mx_view<> out, executor_ref executor) const;

  /// What each row of `w - decode(q)` costs, in double.
  [[nodiscard]] std::vector<double> objectives(dense_view<const float> w, const_mx_view<> q) const;

  /// X with X H = b, for rows x K numbers.
  void solve(dense_view<float> b) const;

  [[nodiscard]] double damping() const noexcept { return damping_; }  ///< that it was in the end: the option's or more

 private:
  struct tile;  // some rows, side by side

  rounding_result round_tile(dense_view<const float> target, mx_view<> out, std::int64_t first,
                             std::int64_t rows) const;
  [[nodiscard]] std::array<double, lanes> measure(tile& t) const;
  void pass_in_order(tile& t) const;
  void pass_by_diagonal(tile& t) const;
  [[nodiscard]] bool pass_again(tile& t, bool pairs) const;
  void write_row(const tile& t, std::int64_t r, mx_view<> out, std::int64_t row) const;

  std::int64_t cols_;
  rounding_options options_;
  double damping_ = 0;
  std::vector<std::int32_t> order_;    // of the columns; empty: natural
  std::vector<float> hessian_, root_;  // H with its damping in natural order; R in that of the columns
  std::vector<float> block_roots_;     // R of each block's 32 x 32 of H, natural order
};

}  // namespace mxfp4::calibrate
