// refused: mxfp4 needs xsimd 13.2 or newer (13.x, 14.x): the one on the include path is older
// SPDX-License-Identifier: Apache-2.0
// lines: 20
#ifdef MXFP4_CONTROL
#include "old_xsimd/xsimd/xsimd.hpp"
#else
#include "mxfp4/simd/isa.hpp"
#endif
