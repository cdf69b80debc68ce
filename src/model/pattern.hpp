// src/model/pattern.hpp -- a regular expression that knows Unicode, as tokenizer.json has them: by Oniguruma.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace mxfp4::model {

class pattern {
 public:
  struct range {
    std::size_t begin = 0, end = 0;  ///< bytes of the text
  };

  /// @param where  begins the messages: the file and the place in it.
  /// @throws file_error for an expression that Oniguruma refuses, and always where this program was built without it.
  pattern(std::string_view expression, const std::string& where);

  /// The matches in `text`, left to right, none of them empty. @param text  valid UTF-8.
  /// @throws file_error where the matching gives up: an expression that backtracks without end.
  [[nodiscard]] std::vector<range> matches(std::string_view text) const;

 private:
  struct compiled;
  std::shared_ptr<const compiled> compiled_;  // shared, so that a tokenizer can be copied
};

}  // namespace mxfp4::model
