// mxfp4/mxfp4.hpp -- the umbrella of the format; the kernels are linalg.hpp and moe.hpp, and want xsimd.
// SPDX-License-Identifier: Apache-2.0
//
// MXFP4 (OCP Microscaling): 32 E2M1 codes share one E8M0 scale; 17 bytes hold 32 weights. Start at block.hpp for one
// block, at quantize.hpp for tensors, at recipe.hpp for whose bytes you want.
#pragma once

#include "mxfp4/block.hpp"           // 32 numbers <-> 17 bytes
#include "mxfp4/convert.hpp"         // one layout -> another
#include "mxfp4/layout.hpp"          // where codes and scales live
#include "mxfp4/quantize.hpp"        // tensors <-> MXFP4
#include "mxfp4/recipe.hpp"          // whose bytes
#include "mxfp4/reference/gemm.hpp"  // matrix products in double: the oracle
#include "mxfp4/status.hpp"          // what is wrong with an argument
#include "mxfp4/version.hpp"
#include "mxfp4/view.hpp"  // matrices that somebody else owns
