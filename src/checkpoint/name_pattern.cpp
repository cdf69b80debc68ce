// src/checkpoint/name_pattern.cpp -- see name_pattern.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/name_pattern.hpp"

#include <re2/re2.h>

#include "mxfp4/io/error.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

[[nodiscard]] re2::RE2::Options quiet() {
  re2::RE2::Options options;
  options.set_log_errors(false);  // the caller has a message of its own
  return options;
}

[[nodiscard]] re2::StringPiece piece_of(std::string_view text) { return {text.data(), text.size()}; }

}  // namespace

struct name_pattern::compiled {
  explicit compiled(std::string_view expression) : program(piece_of(expression), quiet()) {}
  re2::RE2 program;
};

name_pattern::name_pattern(std::string_view expression) : compiled_(std::make_shared<const compiled>(expression)) {
  const re2::RE2& program = compiled_->program;
  if (program.ok()) return;
  problem_ = program.error();
  switch (program.error_code()) {
    case re2::RE2::ErrorBadEscape:        // \1, \Z
    case re2::RE2::ErrorRepeatSize:       // x{1001}
    case re2::RE2::ErrorBadPerlOp:        // (?=, (?!
    case re2::RE2::ErrorBadNamedCapture:  // (?<=, (?<!
    case re2::RE2::ErrorPatternTooLarge:
      is_beyond_re2_ = true;
      break;
    default:
      break;
  }
}

bool name_pattern::is_in(std::string_view name) const {
  return compiled_->program.Match(piece_of(name), 0, name.size(), re2::RE2::UNANCHORED, nullptr, 0);
}

bool name_pattern::begins(std::string_view name) const {
  return compiled_->program.Match(piece_of(name), 0, name.size(), re2::RE2::ANCHOR_START, nullptr, 0);
}

name_pattern require_pattern(const std::string& expression, const char* option) {
  name_pattern pattern(expression);
  if (!pattern.problem().empty())
    throw file_error({.value = option + std::string(" ") + quote_name(expression) +
                               " is not a regular expression of RE2: " + pattern.problem(),
                      .expected = pattern.is_beyond_re2() ? "one without look-around and references back" : "one"});
  return pattern;
}

}  // namespace mxfp4::checkpoint
