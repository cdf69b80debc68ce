// mxfp4/simd/isa_files.hpp -- the file of each instruction set; empty where the compiler's flags do not allow it.
// SPDX-License-Identifier: Apache-2.0
//
// Written by `cmake -P cmake/isa_headers.cmake` from simd/isas.def: change that. Test isa.headers compares them.
#pragma once

#include "mxfp4/simd/avx2.hpp"
#include "mxfp4/simd/avx512bf16.hpp"
#include "mxfp4/simd/avx512bw.hpp"
#include "mxfp4/simd/avx512vnni.hpp"
#include "mxfp4/simd/avxvnni.hpp"
#include "mxfp4/simd/neon.hpp"
#include "mxfp4/simd/neon_dotprod.hpp"
#include "mxfp4/simd/neon_i8mm.hpp"
#include "mxfp4/simd/sse2.hpp"
