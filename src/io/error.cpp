// src/io/error.cpp -- the sentence of a fault, and names out of files, fit for a terminal.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/io/error.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "io/shown.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

namespace {

/// A character of UTF-8: its code point and its bytes. A byte that begins none stands alone, above all code points.
struct character {
  std::uint32_t code = 0;
  std::size_t bytes = 1;
};

constexpr std::uint32_t no_character = 0x110000;

[[nodiscard]] character first_character(std::string_view text) noexcept {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const std::uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const std::size_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  constexpr std::array<std::uint32_t, 5> least = {0, 0, 0x80, 0x800, 0x10000};
  if (lead < 0xC2 || lead > 0xF4 || text.size() < bytes) return {no_character, 1};
  std::uint32_t code = lead & (0x7Fu >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xC0u) != 0x80) return {no_character, 1};
    code = code << 6 | (byte(i) & 0x3Fu);
  }
  if (code < least[bytes] || code >= no_character || (code >= 0xD800 && code < 0xE000)) return {no_character, 1};
  return {code, bytes};
}

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
    const character c = first_character(text.substr(at));
    if (at + c.bytes > longest) break;
    if (is_unsafe(c.code)) {
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
