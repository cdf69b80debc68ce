// src/io/shown.hpp -- text out of files, fit for a terminal.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

/// At most `longest` bytes of `text`, cut between characters: what a terminal would obey, or show as other text than
/// there is (C0 and C1 controls, marks that set the direction of text, bytes that are no character), becomes \xNN.
[[nodiscard]] std::string shown(std::string_view text, std::size_t longest = 1000);

}  // namespace mxfp4::io
