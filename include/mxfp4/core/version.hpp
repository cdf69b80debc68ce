// mxfp4/core/version.hpp -- the version, in one place; CMake and the release script read it from here.
// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Name of the inline namespace round everything: another one for each release whose types or functions differ (before
/// 1.0 each minor version), so that a program may hold units with two of them. Test package.two_tus has such a one.
#define MXFP4_VERSION_NS v0_1

#define MXFP4_VERSION_MAJOR 0  ///< before 1.0 a new minor version may break source compatibility
#define MXFP4_VERSION_MINOR 1  ///< another one for every release with new or changed functions
#define MXFP4_VERSION_PATCH 0  ///< another one for every release with repairs alone
/// As one number, 10203 for 1.2.3: `#if MXFP4_VERSION >= 200` asks for 0.2.0.
#define MXFP4_VERSION (MXFP4_VERSION_MAJOR * 10000 + MXFP4_VERSION_MINOR * 100 + MXFP4_VERSION_PATCH)

namespace mxfp4::inline MXFP4_VERSION_NS {

inline constexpr int version_major = MXFP4_VERSION_MAJOR;  ///< the same as numbers
inline constexpr int version_minor = MXFP4_VERSION_MINOR;  ///< the same
inline constexpr int version_patch = MXFP4_VERSION_PATCH;  ///< the same

}  // namespace mxfp4
