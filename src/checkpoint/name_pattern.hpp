// src/checkpoint/name_pattern.hpp -- regular expressions over the names of tensors and modules, in linear time: RE2.
// SPDX-License-Identifier: Apache-2.0
//
// Whatever the expression, a match takes a time linear in the name and bounded memory; what would need a matcher that
// backtracks (look-around, references back) RE2 does not have. Its syntax: https://github.com/google/re2/wiki/Syntax.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

class name_pattern {
 public:
  /// Any text: ask problem() before the rest.
  explicit name_pattern(std::string_view expression);

  /// What is wrong with the expression; empty where nothing is.
  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }
  /// It may be right elsewhere: it asks for what RE2 leaves out, or for more memory than a pattern may take.
  [[nodiscard]] bool is_beyond_re2() const noexcept { return is_beyond_re2_; }

  [[nodiscard]] bool is_in(std::string_view name) const;   ///< anywhere
  [[nodiscard]] bool begins(std::string_view name) const;  ///< at the start, open at the end: Python's re.match

 private:
  struct compiled;
  std::shared_ptr<const compiled> compiled_;
  std::string problem_;
  bool is_beyond_re2_ = false;
};

/// The pattern that a user gave as `option`. @throws io::file_error naming both where RE2 does not take it.
[[nodiscard]] name_pattern require_pattern(const std::string& expression, const char* option);

}  // namespace mxfp4::checkpoint
