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
#include "mxfp4/simd/register_lookup.hpp"
#include "mxfp4/simd/widen.hpp"
#include "mxfp4/simd/words.hpp"

// One for each line of isas.def. Each is empty where the compiler's flags do not allow it.
#include "mxfp4/simd/avx2.hpp"
#include "mxfp4/simd/avx512bf16.hpp"
#include "mxfp4/simd/avx512bw.hpp"
#include "mxfp4/simd/avx512vnni.hpp"
#include "mxfp4/simd/avxvnni.hpp"
#include "mxfp4/simd/neon.hpp"
#include "mxfp4/simd/neon_dotprod.hpp"
#include "mxfp4/simd/neon_i8mm.hpp"
#include "mxfp4/simd/sse2.hpp"
