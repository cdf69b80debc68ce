// src/checkpoint/codec.hpp -- what encodes and decodes here: mxfp4::dispatch where it is built, else the plain loops.
// SPDX-License-Identifier: Apache-2.0
//
// The bytes are the same. The sums of error_statistics differ within the bounds of kernel/measure_error.hpp.
#pragma once

#if defined(MXFP4_CHECKPOINT_DISPATCH)
#include "mxfp4/dispatch.hpp"
#else
#include "mxfp4/quantize.hpp"
#endif

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint::codec {

#if defined(MXFP4_CHECKPOINT_DISPATCH)
using dispatch::dequantize, dispatch::measure_error, dispatch::quantize, dispatch::quantize_fp8,
    dispatch::quantize_fp8_measured, dispatch::widen_fp8;
#else
using mxfp4::dequantize, mxfp4::measure_error, mxfp4::quantize, mxfp4::quantize_fp8, mxfp4::quantize_fp8_measured,
    mxfp4::widen_fp8;
#endif

}  // namespace mxfp4::checkpoint::codec
