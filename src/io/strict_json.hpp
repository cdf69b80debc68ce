// src/io/strict_json.hpp -- JSON files that say each thing once.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <unordered_set>
#include <vector>

#include "mxfp4/io/file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

inline constexpr std::uint64_t json_file_limit = 256 << 20;  ///< bytes; an index has about 100 a tensor

/// `text` as a document. Json: nlohmann::json (sorted keys, fast look-up) or ordered_json (the file's order; quadratic
/// in the keys of one object, so not for an index).
/// @param file  for messages.
/// @throws file_error for what is not JSON, and for an object that has a key twice, which a document would forget.
template <class Json>
[[nodiscard]] Json parse_json(const std::string& text, const std::string& file) {
  // The parser takes a zero byte for the end of its input, and what follows would be read by nobody.
  if (const std::size_t zero = text.find('\0'); zero != std::string::npos)
    throw file_error(
        {.file = file, .value = "has a zero byte at its byte " + std::to_string(zero), .expected = "JSON text"});
  using event = typename Json::parse_event_t;
  std::vector<std::unordered_set<std::string>> keys;  // of the objects that are open
  const auto check = [&keys, &file](int, event e, Json& value) {
    if (e == event::object_start) keys.emplace_back();
    if (e == event::object_end) keys.pop_back();
    if (e == event::key && !keys.back().insert(value.template get_ref<const std::string&>()).second)
      throw file_error({.file = file,
                        .value = "the key " + quote_name(value.template get_ref<const std::string&>()) +
                                 " is there twice in one object",
                        .expected = "once"});
    return true;
  };
  try {
    return Json::parse(text, check);
  } catch (const nlohmann::json::exception& error) {
    throw file_error({.file = file, .value = "is not JSON", .expected = "JSON text", .advice = error.what()});
  }
}

/// The text of a JSON file. @throws file_error for a file that cannot be read or is too large.
[[nodiscard]] inline std::string read_json_text(const std::string& path) {
  const input_file file = input_file::open(path).value();
  if (file.size() > json_file_limit)
    throw file_error({.file = path,
                      .value = "holds " + std::to_string(file.size()) + " bytes",
                      .expected = "at most " + std::to_string(json_file_limit) + " of JSON"});
  std::string text(file.size(), '\0');
  file.read(0, std::as_writable_bytes(std::span(text))).value();
  return text;
}

/// The file as a document. @throws file_error as parse_json and read_json_text.
template <class Json>
[[nodiscard]] Json read_json(const std::string& path) {
  return parse_json<Json>(read_json_text(path), path);
}

}  // namespace mxfp4::io
