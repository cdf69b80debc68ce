// tools/mxfp4/version.cpp -- what mxfp4 --version says beyond the number.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/version.hpp"

#include <algorithm>
#include <string>

#include "command.hpp"
#include "recipe_notes.hpp"

#if defined(MXFP4_TOOLS_DISPATCH)
#include "mxfp4/dispatch.hpp"
#endif

namespace mxfp4::tools {

namespace {

[[nodiscard]] std::string isa_text() {
#if defined(MXFP4_TOOLS_DISPATCH)
  const result<const char*> name = dispatch::isa();
  if (!name) return std::string(message(name.error()).view());
  std::string text = std::string(*name) + ", of";
  for (const char* const isa : dispatch::available_isas()) text += std::string(" ") + isa;
  return text;
#else
  return "plain loops: built without mxfp4::dispatch";
#endif
}

/// The last day on which the bytes of a recipe's peer were recorded.
[[nodiscard]] std::string last_recording() {
  std::string last;
  for (const recipe_note& note : recipe_notes) {
    std::string day = note.recorded;
    if (day.starts_with("by ")) day.erase(0, 3);
    if (day == "none") continue;
    last = std::max(last, day);
  }
  return "recorded from their peers, the last on " + last + "; each: mxfp4 recipes";
}

}  // namespace

std::string version_text() {
#if defined(__clang__)
  const std::string compiler = "clang++ " __clang_version__;
#else
  const std::string compiler = "g++ " __VERSION__;
#endif
  return std::to_string(version_major) + "." + std::to_string(version_minor) + "." + std::to_string(version_patch) +
         "\nISA      " + isa_text() + "\nbuild    " MXFP4_TOOLS_BUILD ", " + compiler + "\nrecipes  " +
         last_recording();
}

}  // namespace mxfp4::tools
