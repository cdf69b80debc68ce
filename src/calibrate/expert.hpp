// src/calibrate/expert.hpp -- the three matrices of an expert in MXFP4, after the inputs that they will meet.
// SPDX-License-Identifier: Apache-2.0
//
//   tokens that take the expert, x of the model so far, x' of the original one, router weight r
//     gate, up   inputs x,                             wanted: w x'
//     down       inputs a = glu(qgate x, qup x),       wanted: down a',   a' = glu(gate x', up x')
//   H = sum of r^2 x x^T,  D = sum of r^2 (x' - x) x^T:  the target of rounding is  w + w D H^-1
//
// That target is what the wanted products have in common with the inputs that will be there: the errors of what came
// before, of qgate and qup too, are made good as far as they repeat themselves. An expert with few tokens mixes in the
// H of all tokens of its layer, and goes less of the way to that target.
#pragma once

#include <cstdint>
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

inline constexpr std::int64_t tokens_at_once = 2048;  ///< of an expert, whose inputs are in memory together

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

struct expert_outcome {
  std::int64_t tokens = 0;  ///< that took it; without any the recipe's rounding is all there is
  matrix_outcome gate, up, down;
};

/// Over all tokens of a layer, for experts that see few of them.
struct layer_sums {
  input_sums all;               ///< of hessian
  std::vector<double> squares;  ///< of diagonal: the mean square of each column

  layer_sums(const model::token_rows& now, const expert_options& options);
};

/// What all experts of a layer see.
struct layer_inputs {
  const model::token_rows& now;       ///< normed, of the model so far
  const model::token_rows& original;  ///< of the original one
  const model::routing& routes;       ///< of the first
  const layer_sums& all;              ///< over all tokens of `now`
};

/// For messages.
struct matrix_names {
  std::string gate, up, down;
};

/// @throws io::file_error for weights that are not finite, std::domain_error for inputs that are not.
[[nodiscard]] expert_outcome calibrate_expert(const model::expert_weights& weights, std::int64_t index,
                                              const layer_inputs& inputs, const expert_options& options,
                                              const matrix_names& names);

}  // namespace mxfp4::calibrate
