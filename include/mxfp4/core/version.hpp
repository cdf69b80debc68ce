// mxfp4/core/version.hpp -- the version, in one place; CMake reads it from here.
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Name of the inline namespace round everything: another one for each release whose types or functions differ (before
/// 1.0 each minor version), so that a program may hold units with two of them. Test package.two_tus has such a one.
#define MXFP4_VERSION_NS v0_1

namespace mxfp4::inline MXFP4_VERSION_NS {

inline constexpr int version_major = 0;  ///< before 1.0 a new minor version may break source compatibility
inline constexpr int version_minor = 1;
inline constexpr int version_patch = 0;

}  // namespace mxfp4
