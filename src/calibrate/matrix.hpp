// src/calibrate/matrix.hpp -- a matrix in MXFP4, after sums over the inputs that it will meet.
// SPDX-License-Identifier: Apache-2.0
//
//   inputs x of the model so far, x' of the original one, each token's with a weight r
//   H = sum of r^2 x x^T,  D = sum of r^2 (x' - x) x^T:  the target of rounding is  w + w D H^-1
//
// That target is what the wanted products w x' have in common with the inputs that will be there: the errors of what
// came before are made good as far as they repeat themselves.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "calibrate/rounding.hpp"
#include "model/experts.hpp"

namespace mxfp4::calibrate {

/// Sums over the inputs of a layer: K x K each.
struct input_sums {
  std::int64_t cols = 0, tokens = 0;
  std::vector<float> squares;  ///< H
  std::vector<float> drift;    ///< D; empty: none

  input_sums(std::int64_t k, bool with_drift);
  /// @param x  tokens x K, each times its weight.  @param drift  (x' - x) in the same way; empty: none.
  void add(const model::token_rows& x, const model::token_rows& drift);
  /// Upper triangles become what the lower ones are. Called once, after the last add().
  void finish();
  [[nodiscard]] double mean_square() const;  ///< of an element
};

/// How much of what the inputs tell is used.
enum class rounding_method : std::uint8_t {
  hessian,  ///< H and D
  diagonal  ///< H's diagonal alone: the squared errors of a column count as its inputs are large
};
[[nodiscard]] const char* method_name(rounding_method method) noexcept;  ///< as the enumerator is written

struct expert_options {
  rounding_method method = rounding_method::hessian;
  rounding_options rounding;
  double own_tokens = 2;               ///< for each column: with so many tokens half of H is the expert's own
  double drift_tokens = 2;             ///< for each column: with so many tokens it goes half of the way to the target
  double own_tokens_of_diagonal = 64;  ///< with so many tokens half of the diagonal is the expert's own
  recipe_id plain = recipe_id::compressed_tensors;
};

/// What became of a matrix.
struct matrix_outcome {
  model::linear weights;
  rounding_result rounding;
  double damping = 0;
};

/// The part of a sum over `tokens` that is the expert's own, where `half` of them make a half.
[[nodiscard]] double own_part(std::int64_t tokens, double half) noexcept;

/// H and the way to the target, mixed and scaled so that the mean of H's diagonal is 1.
class matrix_rounder {
 public:
  /// @param own  finished.  @param all  over all tokens of the layer; null: the matrix sees them all.
  /// @throws std::domain_error where sums are not finite.
  matrix_rounder(const input_sums& own, const input_sums* all, const expert_options& options);

  /// @param name  for messages.  @throws io::file_error for weights that are not finite.
  [[nodiscard]] matrix_outcome round(const model::linear& w, recipe_id plain, const std::string& name,
                                     executor_ref executor) const;

 private:
  std::int64_t cols_;
  rounder rounder_;
  std::vector<float> drift_;
};

/// Mean squares of columns, each token's by its weight's square.
class column_squares {
 public:
  explicit column_squares(std::int64_t cols) : sums_(static_cast<std::size_t>(cols)) {}

  void add(const model::token_rows& x, std::span<const model::routed_token> tokens);
  void add(const model::token_rows& x);  ///< with weights of 1
  /// So much of them as is their own, the rest of what all tokens have; each with a mean of 1.
  /// @throws std::domain_error where one is not finite.
  [[nodiscard]] std::vector<float> mixed(const std::vector<double>& all, double own, double damping) const;

 private:
  void add_row(const float* row, float weight);

  std::vector<double> sums_;
};

/// Scales and nearest codes by how much each column counts.
/// @param name  for messages.  @throws io::file_error for weights that are not finite.
[[nodiscard]] matrix_outcome round_by_importance(const model::linear& w, std::span<const float> importance,
                                                 const expert_options& options, const std::string& name);

}  // namespace mxfp4::calibrate
