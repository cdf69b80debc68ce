// mxfp4/io/file_error.hpp -- the one error of the file code: a sentence that names the file, the thing in it,
// its value, and what was expected.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace mxfp4::inline MXFP4_VERSION_NS::io {

class file_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A name out of a file, fit for a terminal: 'name', control characters as \xNN, cut after 200 bytes.
[[nodiscard]] std::string quote_name(std::string_view name);

}  // namespace mxfp4::inline MXFP4_VERSION_NS::io
