// src/calibrate/attention.hpp -- the four matrices of an attention in MXFP4, after the inputs that they will meet.
// SPDX-License-Identifier: Apache-2.0
//
//   q, k, v    inputs h = norm(x) of the model so far           wanted: w h' with h' of the original one
//   o          inputs: the heads that qq, qk and qv mix of h    wanted: o times the heads that q, k and v mix of h'
//
// Of each the sums are those over all tokens (matrix.hpp).
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "calibrate/matrix.hpp"
#include "model/attention.hpp"

namespace mxfp4::calibrate {

struct attention_outcome {
  std::int64_t tokens = 0;
  matrix_outcome q, k, v, o;
};

/// What an attention sees.
struct attention_inputs {
  const model::token_rows& now;       ///< hidden states of the model so far
  const model::token_rows& original;  ///< of the original one
  std::int64_t context;               ///< tokens of a window
  model::rotary_table& rotary;
  const model::product_options& product;         ///< its executor: the same bits for any
  const std::function<void()>& require_running;  ///< called at each window; may throw
};

/// @param block  as it is in the original, with q, k and v that are products with hidden states.
/// @param name   of the layer's attention, for messages: "model.layers.0.self_attn".
/// @throws io::file_error for weights that are not finite, std::domain_error for inputs that are not.
[[nodiscard]] attention_outcome calibrate_attention(const model::attention& block, const attention_inputs& inputs,
                                                    const expert_options& options, const std::string& name);

}  // namespace mxfp4::calibrate
