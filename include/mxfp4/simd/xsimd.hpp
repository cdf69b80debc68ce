// mxfp4/simd/xsimd.hpp -- xsimd, if it is new enough.
// SPDX-License-Identifier: Apache-2.0
//
// A project with an older xsimd of its own gets one sentence from here instead of pages of errors.
#pragma once

#include <xsimd/config/xsimd_config.hpp>

#if XSIMD_VERSION_MAJOR < 13 || (XSIMD_VERSION_MAJOR == 13 && XSIMD_VERSION_MINOR < 2)
#error "mxfp4 needs xsimd 13.2 or newer (13.x, 14.x): the one on the include path is older"
#include <xsimd_13.2_or_newer>  // an include that is not there ends the compilation, which #error does not
#endif

#include <xsimd/xsimd.hpp>
