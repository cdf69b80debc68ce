// mxfp4/core/status.hpp -- how a function says what is wrong with its arguments.
// SPDX-License-Identifier: Apache-2.0
//
// No exceptions, no allocation: a status names the thing, its value and what was expected; message() makes the
// sentence.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "mxfp4/core/config.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// What is wrong; the names are those of struct status.
enum class errc : std::uint8_t {
  ok,
  null_pointer,      ///< `what` is null although its size is not zero
  negative_size,     ///< `what` is below zero
  not_blocks,        ///< `what` is not a multiple of 32
  size_overflow,     ///< `what` does not fit a signed 64-bit integer
  buffer_too_small,  ///< `what` holds `value` elements or bytes, `expected` are needed
  stride_too_small,  ///< `what` is shorter than a row
  shape_mismatch,    ///< `what` differs from what the other arguments ask for
  out_of_range,      ///< `what` is an index, `value`, expected 0 to `expected`; none where that is -1
  not_a_number,      ///< `what` is NaN
  overlap,           ///< `what` shares memory with an input
  nonfinite,         ///< the element with row-major index `value` is NaN or infinity
  unknown_recipe,    ///< `value` is not a recipe_id
  out_of_memory,     ///< `what` asked for `value` bytes and did not get them
  unknown_dialect,   ///< `value` is not a dialect_id
  misaligned,        ///< `what` is `value` bytes past a multiple of `expected`
  too_large,         ///< `what` is `value`, expected at most `expected`
  isa_unavailable,   ///< the environment's MXFP4_ISA is `what`; `argument` lists what this CPU and build have
  not_ascending,     ///< `what` is `value`, and the one before it `expected`, which is larger
};

/// What a call came to. `what` names the thing and `argument` what it belongs to, or is empty: "cols" of "out". Both
/// texts live as long as the program. Where one of many is meant, `row` says which, and in a matrix `col` too.
struct [[nodiscard]] status {
  errc code = errc::ok;       ///< what is wrong, or ok
  const char* what = "";      ///< the thing
  std::int64_t value = 0;     ///< what it is
  std::int64_t expected = 0;  ///< what it should be
  const char* argument = "";  ///< what it belongs to
  std::int64_t row = -1;      ///< which one; -1: does not apply
  std::int64_t col = -1;      ///< and in a matrix

  /// Nothing is wrong.
  [[nodiscard]] MXFP4_INLINE constexpr bool ok() const noexcept { return code == errc::ok; }
};

namespace detail {

inline constexpr std::size_t status_text_bytes = 241;  ///< the last one stays 0, so that the text ends

inline namespace MXFP4_ISA_NS {

/// Adds to a text of `size` characters; what does not fit is left out.
constexpr void append(char (&text)[status_text_bytes], std::size_t& size, std::string_view part) noexcept {
  for (const char c : part)
    if (size < status_text_bytes - 1) text[size++] = c;
}
constexpr void append(char (&text)[status_text_bytes], std::size_t& size, std::int64_t number) noexcept {
  char digits[20]{};
  int count = 0;
  auto rest = number < 0 ? ~static_cast<std::uint64_t>(number) + 1 : static_cast<std::uint64_t>(number);
  do {
    digits[count++] = static_cast<char>('0' + rest % 10);
    rest /= 10;
  } while (rest != 0);
  if (number < 0) append(text, size, std::string_view("-"));
  while (count > 0) append(text, size, std::string_view(&digits[--count], 1));
}

}  // namespace MXFP4_ISA_NS
}  // namespace detail

/// The text of a status, in a buffer of its own: message(s).view() lives as long as the object.
class status_text {
 public:
  /// The text.
  [[nodiscard]] MXFP4_INLINE constexpr std::string_view view() const noexcept { return {text_, size_}; }
  /// The same, with a zero at its end.
  [[nodiscard]] MXFP4_INLINE constexpr const char* c_str() const noexcept { return text_; }

  /// Adds to the text; what does not fit into 240 bytes is left out.
  MXFP4_INLINE constexpr status_text& operator<<(std::string_view part) noexcept {
    detail::append(text_, size_, part);
    return *this;
  }
  MXFP4_INLINE constexpr status_text& operator<<(std::int64_t number) noexcept {
    detail::append(text_, size_, number);
    return *this;
  }

 private:
  char text_[detail::status_text_bytes]{};
  std::size_t size_ = 0;
};

inline namespace MXFP4_ISA_NS {

/// One sentence: the argument, its value, what was expected, what to do.
[[nodiscard]] constexpr status_text message(const status& s) noexcept {
  status_text text;
  if (s.ok()) return text << "ok";
  if (s.code == errc::isa_unavailable)
    return text << "MXFP4_ISA is '" << s.what << "', expected one that this CPU and this build have: " << s.argument
                << "; or unset it";
  if (s.argument[0] != '\0') text << s.argument << ".";
  text << s.what;
  if (s.row >= 0 && s.col >= 0) text << " (row " << s.row << ", column " << s.col << ")";
  else if (s.row >= 0) text << " (number " << s.row << ")";
  switch (s.code) {
    case errc::ok:
    case errc::isa_unavailable:
      break;
    case errc::null_pointer:
      return text << " is null, expected memory for " << s.expected << " elements";
    case errc::negative_size:
      return text << " is " << s.value << ", expected 0 or more";
    case errc::not_blocks:
      return text << " is " << s.value << ", expected a multiple of 32: pad the rows, or leave this tensor as it is";
    case errc::size_overflow:
      return text << " does not fit 63 bits, with " << s.value << " as the first factor: split the matrix";
    case errc::buffer_too_small:
      return text << " holds " << s.value << ", expected at least " << s.expected << ": pass a larger buffer";
    case errc::stride_too_small:
      return text << " is " << s.value << ", expected at least " << s.expected << ", the length of a row";
    case errc::shape_mismatch:
      return text << " is " << s.value << ", expected " << s.expected;
    case errc::out_of_range:
      if (s.expected < 0) return text << " is " << s.value << ", expected none, as there is nothing to choose from";
      return text << " is " << s.value << ", expected 0 to " << s.expected;
    case errc::too_large:
      return text << " is " << s.value << ", expected at most " << s.expected;
    case errc::not_ascending:
      return text << " is " << s.value << ", expected at least " << s.expected << ", the one before it";
    case errc::not_a_number:
      return text << " is NaN, expected a number: repair the input";
    case errc::overlap:
      return text << " overlaps an input: pass separate memory";
    case errc::nonfinite:
      return text << " has a NaN or an infinity at element " << s.value
                  << " (row-major): repair it, or allow non-finite blocks";
    case errc::unknown_recipe:
      return text << " is " << s.value << ", expected one of the recipe_id enumerators";
    case errc::unknown_dialect:
      return text << " is " << s.value << ", expected one of the dialect_id enumerators";
    case errc::misaligned:
      return text << " is " << s.value << " bytes past a multiple of " << s.expected << ": align it";
    case errc::out_of_memory:
      return text << " asked for " << s.value << " bytes and did not get them: free memory, or split the matrix";
  }
  return text;
}

}  // namespace MXFP4_ISA_NS

static_assert(message({errc::shape_mismatch, "out.rows", -3, 4}).view() == "out.rows is -3, expected 4");

namespace detail {
inline namespace MXFP4_ISA_NS {

/// Prints the status that nobody looked at, and ends the program.
[[noreturn]] inline void abort_without_value(const status& why) noexcept {
  std::fprintf(stderr, "mxfp4: a result was used that holds no value: %s\n", message(why).c_str());
  std::abort();
}

}  // namespace MXFP4_ISA_NS
}  // namespace detail

/// A value, or a status that is not ok: why there is none. T is default-constructible; the value is T{} then.
///
/// `*r` and `r->` ask for a value that is there: ask `if (r)` first. Where there is none, a program with asserts on
/// (no NDEBUG) prints message(error()) and aborts, so that the call which gets the empty value is not blamed for it;
/// with NDEBUG the value is T{}. value_or_abort() aborts in either case: for programs that cannot go on, and examples.
template <class T>
class [[nodiscard]] result {
 public:
  /// A value.
  MXFP4_INLINE constexpr result(const T& value) noexcept  // NOLINT(google-explicit-constructor)
    requires std::copy_constructible<T>
      : value_(value) {}
  MXFP4_INLINE constexpr result(T&& value) noexcept
      : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor)
  /// No value; `why` is not ok.
  MXFP4_INLINE constexpr result(const status& why) noexcept  // NOLINT(google-explicit-constructor)
      : value_{}, status_(why) {}

  /// Is there a value?
  [[nodiscard]] MXFP4_INLINE constexpr explicit operator bool() const noexcept { return status_.ok(); }
  /// The value. Ask first whether there is one: see above.
  [[nodiscard]] MXFP4_INLINE constexpr const T& operator*() const& noexcept {
    assert_value();
    return value_;
  }
  [[nodiscard]] MXFP4_INLINE constexpr T&& operator*() && noexcept {
    assert_value();
    return std::move(value_);
  }
  /// A member of it.
  [[nodiscard]] MXFP4_INLINE constexpr const T* operator->() const noexcept {
    assert_value();
    return &value_;
  }
  /// Why there is no value; ok where there is one.
  [[nodiscard]] MXFP4_INLINE constexpr mxfp4::status error() const noexcept { return status_; }

  /// The value; without one the program prints message(error()) to stderr and aborts, with NDEBUG too.
  [[nodiscard]] MXFP4_INLINE constexpr const T& value_or_abort() const& noexcept {
    if (!status_.ok()) detail::abort_without_value(status_);
    return value_;
  }
  [[nodiscard]] MXFP4_INLINE constexpr T value_or_abort() && noexcept {
    if (!status_.ok()) detail::abort_without_value(status_);
    return std::move(value_);
  }

  // Declared, so that they are inlined too: see MXFP4_INLINE.
  MXFP4_INLINE result(const result&) = default;
  MXFP4_INLINE result(result&&) = default;
  MXFP4_INLINE result& operator=(const result&) = default;
  MXFP4_INLINE result& operator=(result&&) = default;
  MXFP4_INLINE ~result() = default;

 private:
  MXFP4_INLINE constexpr void assert_value() const noexcept {
#if !defined(NDEBUG)
    if (!status_.ok()) detail::abort_without_value(status_);
#endif
  }

  T value_;
  mxfp4::status status_{};
};

}  // namespace mxfp4
