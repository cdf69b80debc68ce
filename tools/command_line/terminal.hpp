// tools/command_line/terminal.hpp -- colours, where a person sees them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <string>

namespace mxfp4::tools {

/// Is what goes to this descriptor shown in colour? On a terminal that is not dumb, and where the environment has no
/// NO_COLOR (no-color.org: set and not empty).
[[nodiscard]] inline bool shows_colours(int descriptor) {
  const char* const no_color = std::getenv("NO_COLOR");
  const char* const terminal = std::getenv("TERM");
  return ::isatty(descriptor) != 0 && (no_color == nullptr || *no_color == '\0') && terminal != nullptr &&
         std::string(terminal) != "dumb";
}

enum class colour { error = 31, warning = 33 };  ///< red, yellow: the numbers of ECMA-48's SGR

/// The text in bold and colour, or as it is.
[[nodiscard]] inline std::string coloured(const std::string& text, colour c, int descriptor) {
  if (!shows_colours(descriptor)) return text;
  return "\x1b[1;" + std::to_string(static_cast<int>(c)) + "m" + text + "\x1b[0m";
}

}  // namespace mxfp4::tools
