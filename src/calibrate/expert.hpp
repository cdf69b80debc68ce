// src/calibrate/expert.hpp -- the three matrices of an expert in MXFP4, after the inputs that they will meet.
// SPDX-License-Identifier: Apache-2.0
//
//   tokens that take the expert, x of the model so far, x' of the original one, router weight r
//     gate, up   inputs x,                             wanted: w x'
//     down       inputs a = glu(qgate x, qup x),       wanted: down a',   a' = glu(gate x', up x')
//
// So down makes good what qgate and qup err (matrix.hpp). An expert with few tokens mixes in the H of all tokens of its
// layer, and goes less of the way to its target. The feed-forward block of a layer without experts is one expert that
// all tokens take with weight 1.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "calibrate/matrix.hpp"
#include "model/experts.hpp"

namespace mxfp4::calibrate {

inline constexpr std::int64_t tokens_at_once = 2048;  ///< of an expert, whose inputs are in memory together

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
  const layer_sums* all;              ///< over all tokens of `now`; null where the expert takes them all itself
};

/// For messages.
struct matrix_names {
  std::string gate, up, down;
};

/// @param executor  of its products and rows: the same bits for any.
/// @throws io::file_error for weights that are not finite, std::domain_error for inputs that are not.
[[nodiscard]] expert_outcome calibrate_expert(const model::expert_weights& weights, std::int64_t index,
                                              const layer_inputs& inputs, const expert_options& options,
                                              const matrix_names& names, executor_ref executor);

}  // namespace mxfp4::calibrate
