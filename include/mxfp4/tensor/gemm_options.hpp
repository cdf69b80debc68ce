// mxfp4/tensor/gemm_options.hpp -- what may be asked of a matrix product.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "mxfp4/core/executor_ref.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// How a product is run.
struct gemm_options {
  bool accumulate = false;        ///< add to Y instead of overwriting it
  executor_ref executor{};        ///< runs the tasks, which are cut by the shape alone
  std::span<const float> bias{};  ///< N floats, one for each row of W, added to the sums of every token; empty: none
};

}  // namespace mxfp4
