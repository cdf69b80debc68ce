// mxfp4/io/error.hpp -- the one error of the file code: a sentence that names the file, the thing in it,
// its value, and what was expected.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

/// The one way in which mxfp4::io and mxfp4::checkpoint say that something is wrong with a file or a call. what() is a
/// sentence in parts with colons between: the file; the tensor, where there is one; the value that is there and what
/// was expected; what to do. A function that throws it has left its output as it was, or absent. A regular
/// expression that is none throws std::regex_error where it is given as text, and memory std::bad_alloc.
///
///   model-00002.safetensors: tensor 'w': is F16 [4, 32], expected F32 [4, 32]: download it again
class file_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A name out of a file, fit for a terminal: 'name', control characters as \xNN, cut after 200 bytes.
[[nodiscard]] std::string quote_name(std::string_view name);

}  // namespace mxfp4::io
