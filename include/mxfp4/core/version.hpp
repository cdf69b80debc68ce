// mxfp4/core/version.hpp -- the version, in one place; CMake reads it from here.
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace mxfp4 {

inline constexpr int version_major = 0;  ///< before 1.0 a new minor version may break source compatibility
inline constexpr int version_minor = 1;
inline constexpr int version_patch = 0;

}  // namespace mxfp4
