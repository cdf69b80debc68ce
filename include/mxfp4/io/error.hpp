// mxfp4/io/error.hpp -- the one way in which file code says what is wrong: file, tensor, value, what was expected.
// SPDX-License-Identifier: Apache-2.0
//
//   auto weights = io::safetensors_reader::open("model.safetensors");
//   if (!weights) return report(weights.error());        // error().file(), .tensor(), .value(), .expected(), .what()
//   weights->header() ...
//
//   auto weights = io::safetensors_reader::open("model.safetensors").value();     // or: throws that file_error
#pragma once

#include <exception>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

/// What is wrong, in parts; each may be empty. The sentence is
///   file: tensor 'tensor': value, expected expected: advice
struct fault {
  std::string file = {};      ///< as it was given, or found inside the directory that was given
  std::string tensor = {};    ///< its name in that file
  std::string value = {};     ///< what is there, with the key that holds it: "dtype is F16", "ends at byte 12"
  std::string expected = {};  ///< what should be there
  std::string advice = {};    ///< what to do, or why it matters
  bool interrupted = false;   ///< nothing is wrong: a stop_function said so
};

/// A fault and its sentence. Functions of mxfp4::io and mxfp4::checkpoint return it in a file_result; whoever prefers
/// exceptions gets it from file_result::value(). A function that failed has left its output as it was, or absent, or,
/// where its description says so, marked as unfinished. Memory that is not there is std::bad_alloc, as everywhere.
///
///   model-00002.safetensors: tensor 'w': is F16 [4, 32], expected F32 [4, 32]: download it again
class file_error : public std::exception {
 public:
  /// Makes the sentence of the parts.
  explicit file_error(fault why);

  /// One line, fit for a terminal: control characters and marks that turn the text around are escaped, and a part of
  /// more than 1000 bytes is cut.
  [[nodiscard]] const char* what() const noexcept override { return sentence_.c_str(); }

  /// As fault::file.
  [[nodiscard]] const std::string& file() const noexcept { return fault_.file; }
  /// As fault::tensor.
  [[nodiscard]] const std::string& tensor() const noexcept { return fault_.tensor; }
  /// As fault::value.
  [[nodiscard]] const std::string& value() const noexcept { return fault_.value; }
  /// As fault::expected.
  [[nodiscard]] const std::string& expected() const noexcept { return fault_.expected; }
  /// As fault::advice.
  [[nodiscard]] const std::string& advice() const noexcept { return fault_.advice; }
  /// As fault::interrupted.
  [[nodiscard]] bool interrupted() const noexcept { return fault_.interrupted; }

  /// The parts, to add to: a caller that knows the file where the callee knew the tensor only.
  [[nodiscard]] const fault& parts() const noexcept { return fault_; }

 private:
  fault fault_;
  std::string sentence_;
};

namespace detail {

/// Prints the sentence of an error that nobody asked for to stderr, and aborts.
[[noreturn]] void abort_without_value(const file_error& why) noexcept;

}  // namespace detail

/// A value, or the file_error that says why there is none. Unlike mxfp4::result it needs no empty T, and its error
/// owns its text.
///
/// `*r` and `r->` ask for a value that is there, error() for an error: ask `if (r)` first. Where there is no value, a
/// program with asserts on (no NDEBUG) prints the error and aborts; with NDEBUG that is undefined, as is error() where
/// there is a value. value() throws the error in either case.
template <class T>
class [[nodiscard]] file_result {
 public:
  /// A value.
  file_result(T value) : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT(google-explicit-*)
  /// No value.
  file_result(file_error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-*)

  [[nodiscard]] explicit operator bool() const noexcept { return state_.index() == 0; }  ///< Is there a value?

  /// The value. Ask first whether there is one: see above.
  [[nodiscard]] T& operator*() & noexcept { return *operator->(); }
  [[nodiscard]] const T& operator*() const& noexcept { return *operator->(); }
  [[nodiscard]] T&& operator*() && noexcept { return std::move(*operator->()); }
  /// A member of it.
  [[nodiscard]] T* operator->() noexcept { return assert_value(), std::get_if<0>(&state_); }
  [[nodiscard]] const T* operator->() const noexcept { return assert_value(), std::get_if<0>(&state_); }

  /// Why there is none. Only where there is none.
  [[nodiscard]] const file_error& error() const noexcept { return *std::get_if<1>(&state_); }

  /// The value, or throws error().
  T& value() & { return require(), **this; }
  const T& value() const& { return require(), **this; }
  T value() && { return require(), std::move(**this); }

 private:
  void require() const {
    if (!*this) throw error();
  }
  void assert_value() const noexcept {
#if !defined(NDEBUG)
    if (!*this) detail::abort_without_value(error());
#endif
  }

  std::variant<T, file_error> state_;
};

/// Done, or the file_error that says why not.
template <>
class [[nodiscard]] file_result<void> {
 public:
  file_result() = default;
  /// It failed.
  file_result(file_error error) : state_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] explicit operator bool() const noexcept { return state_.index() == 0; }  ///< Did it succeed?
  /// Why it failed. Only where it did.
  [[nodiscard]] const file_error& error() const noexcept { return *std::get_if<1>(&state_); }
  /// Nothing, or throws error().
  void value() const {
    if (!*this) throw error();
  }

 private:
  std::variant<std::monostate, file_error> state_;
};

/// A name out of a file, fit for a terminal: 'name', control characters as \xNN, cut after 200 bytes.
[[nodiscard]] std::string quote_name(std::string_view name);

}  // namespace mxfp4::io
