// mxfp4/simd/simd.hpp -- the primitives for every instruction set: the one header of this folder that kernels include.
// SPDX-License-Identifier: Apache-2.0
//
// A primitive's own header has its plain C++ version alone: a kernel that includes only that is right, and slow.
#pragma once

#include "mxfp4/simd/batch.hpp"
#include "mxfp4/simd/dequant_table.hpp"
#include "mxfp4/simd/dot.hpp"
#include "mxfp4/simd/encode.hpp"
#include "mxfp4/simd/fp8_table.hpp"
#include "mxfp4/simd/isa_files.hpp"
#include "mxfp4/simd/register_lookup.hpp"
#include "mxfp4/simd/widen.hpp"
#include "mxfp4/simd/words.hpp"
