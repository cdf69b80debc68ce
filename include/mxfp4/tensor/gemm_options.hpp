// mxfp4/tensor/gemm_options.hpp -- what may be asked of a matrix product.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mxfp4/core/executor_ref.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// How a product is run.
struct gemm_options {
  bool accumulate = false;  ///< add to Y instead of overwriting it: a bias is a Y filled before
  executor_ref executor{};  ///< runs the tasks, which are cut by the shape alone
};

}  // namespace mxfp4
