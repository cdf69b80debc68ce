// mxfp4/tensor/moe_options.hpp -- what may be asked of a mixture of experts.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "mxfp4/core/executor_ref.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// What an expert makes of its gate and up products (reference/glu.hpp): config.json's "hidden_act".
enum class hidden_act : std::uint8_t {
  silu,      ///< silu(gate) * up
  gpt_oss,   ///< both cut to a limit, gate * sigmoid(alpha gate) * (up + 1)
  gelu_tanh  ///< gelu(gate) * up, gelu by its tanh formula: "gelu_pytorch_tanh"
};

/// How moe() is run, and what its experts do between their products.
struct moe_options {
  bool accumulate = false;            ///< add to y instead of overwriting it: a y filled before is a shared expert's
  executor_ref executor{};            ///< runs the tasks, which are cut by the shape and the routing alone
  hidden_act act = hidden_act::silu;  ///< of gate and up, after their biases
  float alpha = 1.702f;               ///< of hidden_act::gpt_oss
  float limit = 7.0f;                 ///< of hidden_act::gpt_oss: swiglu_limit, above 0
};

/// How grouped_gemm() is run.
struct grouped_gemm_options {
  dense_view<const float> bias{};  ///< E x N, added to the sums of an expert's rows; no data: none
  executor_ref executor{};         ///< runs the tasks, which are cut by the shape and the offsets alone
};

}  // namespace mxfp4
