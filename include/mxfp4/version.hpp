// mxfp4/version.hpp -- the version of this library.
// SPDX-License-Identifier: Apache-2.0
//
// For the preprocessor, and for programs that print what they were built with.
//
// Example:
//
//   #if MXFP4_VERSION < 100  // 0.1.0
//   #error "mxfp4 0.1 or newer is needed"
//   #endif
//   std::printf("mxfp4 %d.%d.%d\n", mxfp4::version_major, mxfp4::version_minor, mxfp4::version_patch);
#pragma once

#include "mxfp4/core/version.hpp"
