// mxfp4/mxfp4.hpp -- the umbrella: the whole public page, with the products where kernels are to be had.
// SPDX-License-Identifier: Apache-2.0
//
// MXFP4 (OCP Microscaling): 32 E2M1 codes share one E8M0 scale; 17 bytes hold 32 weights. Start at block.hpp for one
// block, at quantize.hpp for matrices, at recipe.hpp for whose bytes you want.
//
// Includes the other pages but dispatch.hpp. A translation unit that needs one of them compiles sooner with that alone:
// bench/README.md says what each costs.
//
// Example:
//
//   static_assert(mxfp4::decode_weight(mxfp4::e2m1{7}, mxfp4::e8m0{128}) == 12.0f);  // code 7 is 6, byte 128 is 2^1
#pragma once

#include "mxfp4/block.hpp"           // 32 numbers <-> 17 bytes
#include "mxfp4/convert.hpp"         // one layout -> another
#include "mxfp4/executor.hpp"        // who runs the tasks
#include "mxfp4/layout.hpp"          // where codes and scales live
#include "mxfp4/quantize.hpp"        // matrices <-> MXFP4
#include "mxfp4/recipe.hpp"          // whose bytes
#include "mxfp4/reference/gemm.hpp"  // matrix products in double: the oracle
#include "mxfp4/status.hpp"          // what is wrong with an argument
#include "mxfp4/version.hpp"
#include "mxfp4/view.hpp"  // matrices that somebody else owns

#if MXFP4_KERNELS
#include "mxfp4/linalg.hpp"  // gemm, gemv, pack, quantize_activations
#include "mxfp4/moe.hpp"     // a mixture of experts
#include "mxfp4/router.hpp"  // which experts a token goes to
#endif
