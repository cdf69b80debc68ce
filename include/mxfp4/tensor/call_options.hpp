// mxfp4/tensor/call_options.hpp -- the options of a whole-matrix function that is not a product.
// SPDX-License-Identifier: Apache-2.0
//
// Every whole-matrix function takes its options as its last argument, and an executor only there:
//
//   dequantize(w, out, {.executor = pool});          quantize(w, out, {.nonfinite = on_nonfinite::refuse});
//
// Products have gemm_options (gemm_options.hpp), the router route_options (moe/router.hpp).
#pragma once

#include <cstdint>

#include "mxfp4/core/executor_ref.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// How a call is run.
struct run_options {
  executor_ref executor{};  ///< runs the tasks, which are cut by the shape alone
};

/// What to do with a block that holds NaN or infinity.
enum class on_nonfinite : std::uint8_t {
  encode,  ///< as the recipe's docstring says: for most a NaN block
  refuse,  ///< errc::nonfinite with the index of the first such element; nothing is written
};

/// How quantize, quantize_fp8 and quantize_fp8_measured are run.
struct quantize_options {
  on_nonfinite nonfinite = on_nonfinite::encode;  ///< `refuse` reads the weights once more before anything is written
  executor_ref executor{};                        ///< runs the tasks, which are cut by the shape alone
};

}  // namespace mxfp4
