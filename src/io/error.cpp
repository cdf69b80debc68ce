// src/io/error.cpp -- the sentence of a fault, and names out of files, fit for a terminal.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/io/error.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "io/shown.hpp"
#include "io/utf8.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

namespace {

constexpr std::uint32_t no_character = 0x110000;  // above all code points

/// Would a terminal obey it, or show other text than there is? Controls (C0, DEL, C1), line and paragraph separators,
/// the marks that set the direction of text (Unicode's Bidi_Control), and what is no character.
[[nodiscard]] bool is_unsafe(std::uint32_t code) noexcept {
  return code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0x61C || code == 0x200E || code == 0x200F ||
         (code >= 0x2028 && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069) || code == no_character;
}

}  // namespace

std::string shown(std::string_view text, std::size_t longest) {
  constexpr char digits[] = "0123456789abcdef";
  std::string out;
  std::size_t at = 0;
  while (at < text.size()) {
    utf8::code_point c = utf8::decode(text, at);
    if (c.bytes == 0) c = {no_character, 1};  // a byte alone
    if (at + c.bytes > longest) break;
    if (is_unsafe(c.value)) {
      for (const char raw : text.substr(at, c.bytes)) {
        const auto byte = static_cast<unsigned char>(raw);
        out += "\\x";
        out += digits[byte >> 4];
        out += digits[byte & 15];
      }
    } else {
      out += text.substr(at, c.bytes);
    }
    at += c.bytes;
  }
  if (at < text.size()) out += "...";
  return out;
}

namespace {

[[nodiscard]] std::string sentence_of(const fault& why) {
  std::string text;
  if (!why.file.empty()) text += shown(why.file) + ": ";
  if (!why.tensor.empty()) text += "tensor " + quote_name(why.tensor) + ": ";
  text += shown(why.value);
  if (!why.expected.empty()) text += ", expected " + shown(why.expected);
  if (!why.advice.empty()) text += ": " + shown(why.advice);
  return text;
}

}  // namespace

void detail::abort_without_value(const file_error& why) noexcept {
  std::fprintf(stderr, "mxfp4: a result was used that holds no value: %s\n", why.what());
  std::abort();
}

file_error::file_error(fault why) : fault_(std::move(why)), sentence_(sentence_of(fault_)) {}

std::string quote_name(std::string_view name) {
  constexpr std::size_t longest = 200;
  return "'" + shown(name, longest) + "'";
}

}  // namespace mxfp4::io
