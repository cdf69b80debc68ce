// src/model/kernels.hpp -- products with MXFP4 weights: mxfp4::dispatch where it is built, else the headers.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#if defined(MXFP4_MODEL_DISPATCH)
#include "mxfp4/dispatch.hpp"
#else
#include "mxfp4/linalg.hpp"
#include "mxfp4/router.hpp"
#endif

namespace mxfp4::model::kernels {

#if defined(MXFP4_MODEL_DISPATCH)
using dispatch::gemm, dispatch::pack, dispatch::pack_rows, dispatch::quantize_activations, dispatch::route_topk;
#else
using mxfp4::gemm, mxfp4::pack, mxfp4::pack_rows, mxfp4::quantize_activations, mxfp4::route_topk;
#endif

}  // namespace mxfp4::model::kernels
