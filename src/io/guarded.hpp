// src/io/guarded.hpp -- where the libraries' inside, which throws, meets their public functions, which return.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#include "mxfp4/io/error.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

/// What `body` returns, or the file_error that it throws. Every public function that can fail is one of these.
template <class Body>
[[nodiscard]] file_result<std::invoke_result_t<Body>> guarded(Body&& body) {
  try {
    if constexpr (std::is_void_v<std::invoke_result_t<Body>>) {
      std::forward<Body>(body)();
      return {};
    } else {
      return std::forward<Body>(body)();
    }
  } catch (const file_error& error) {
    return error;
  } catch (const std::filesystem::filesystem_error& error) {
    return file_error({.file = error.path1().string(), .value = error.code().message()});
  }
}

/// What a function throws whose stop_function said so, while it worked on `file`.
[[nodiscard]] inline file_error stopped(const std::string& file) {
  return file_error({.file = file, .value = "interrupted, nothing was written", .interrupted = true});
}

/// Throws what the system says of a call. @param error  errno.
[[noreturn]] inline void fail_errno(const std::string& path, const std::string& what, int error) {
  throw file_error({.file = path, .value = what + ": " + std::generic_category().message(error)});
}

/// The value, or its error thrown on with the place that the callee did not know.
template <class T>
[[nodiscard]] T value_at(file_result<T> result, const std::string& file, const std::string& tensor = {}) {
  if (result) return *std::move(result);
  fault why = result.error().parts();
  if (why.file.empty()) why.file = file;
  if (why.tensor.empty()) why.tensor = tensor;
  throw file_error(std::move(why));
}

}  // namespace mxfp4::io
