// mxfp4/gemm_options.hpp -- floor 7: what may be asked of a matrix product.
// SPDX-License-Identifier: Apache-2.0
//
// Reads: executor.hpp.  Read by: linalg_f32.hpp, linalg_int8.hpp.
#pragma once

#include "mxfp4/executor.hpp"

namespace mxfp4 {

struct gemm_options {
  bool accumulate = false;  ///< add to Y instead of overwriting it: a bias is a Y filled before
  executor_ref executor{};  ///< runs the tasks, which are cut by the shape alone
};

}  // namespace mxfp4
