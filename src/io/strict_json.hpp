// src/io/strict_json.hpp -- JSON files that say each thing once, within limits, and numbers that no double holds.
// SPDX-License-Identifier: Apache-2.0
//
// Python writes Infinity, -Infinity and NaN into JSON, and integers of any size; models carry them in config.json. Such
// a number is kept as its text: in a document it is a binary value, which JSON text cannot make otherwise, json_text
// writes it as it was.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <type_traits>

#include "mxfp4/io/file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

/// What a document may hold; whatever is beyond is no model's, and is refused before it takes the memory.
struct json_limits {
  std::uint64_t bytes = 256 << 20;     ///< of the file; an index has about 100 a tensor
  std::uint64_t values = 16'000'000;   ///< strings, numbers, objects, ...; a tokenizer of 250,000 words has 2 million
  std::uint64_t key_bytes = 64 << 10;  ///< of one key
  std::uint64_t string_bytes = 64 << 20;  ///< of one string
  int depth = 64;                         ///< objects and arrays inside each other
};

/// Of config.json, which is kept in memory as a whole and shown in messages.
inline constexpr json_limits config_limits = {.bytes = 16 << 20, .values = 1'000'000, .string_bytes = 16 << 20};

/// `text` as a document, in a time linear in it. Json: nlohmann::json (sorted keys, fast look-up) or ordered_json (the
/// file's order; each look-up goes through the keys of the object).
/// @param file  for messages.
/// @throws file_error for what is not JSON (but for the numbers above), for what is beyond the limits, for an object
/// that has a key twice, which a document would forget.
template <class Json>
[[nodiscard]] Json parse_json(const std::string& text, const std::string& file, const json_limits& limits = {});

/// The same, of an object's members those with one of these keys: the others take no memory.
[[nodiscard]] nlohmann::ordered_json parse_json_members(const std::string& text, const std::string& file,
                                                        std::initializer_list<std::string_view> keys);

/// The text of a JSON file. @throws file_error for a file that cannot be read or is too large.
[[nodiscard]] std::string read_json_text(const std::string& path, const json_limits& limits = {});

/// The file as a document. @throws file_error as parse_json and read_json_text.
template <class Json>
[[nodiscard]] Json read_json(const std::string& path, const json_limits& limits = {}) {
  return parse_json<Json>(read_json_text(path, limits), path, limits);
}

/// The document as text: nlohmann's dump(indent), with the numbers that are kept as text.
/// @param indent   blanks for each level; -1: all on one line.
/// @param longest  it ends some bytes after so many, for messages.
template <class Json>
[[nodiscard]] std::string json_text(const Json& value, int indent = -1,
                                    std::size_t longest = std::numeric_limits<std::size_t>::max());

/// A value in a message: its text, cut after 200 bytes, as quote_name cuts names.
template <class Json>
[[nodiscard]] std::string json_shown(const Json& value);

/// "object", "array", "string", "number", "boolean", "null".
template <class Json>
[[nodiscard]] std::string json_kind(const Json& value) {
  return value.is_binary() ? "number" : value.type_name();
}

/// A member of an object. @param place  where the object is in the file, for messages: "quantized[3]"; empty: the file.
/// @throws file_error naming file, place, key and value where it is not there.
[[nodiscard]] const nlohmann::ordered_json& json_member(const nlohmann::ordered_json& object, const char* key,
                                                        const std::string& file, const std::string& place);

/// A member, or null where there is none, or `object` is no object.
[[nodiscard]] nlohmann::ordered_json json_member_or_null(const nlohmann::ordered_json& object, const char* key);

/// A member that is a string; empty where there is none, or `object` is no object.
[[nodiscard]] std::string json_text_member(const nlohmann::ordered_json& object, const char* key);

/// Throws what is wrong with a member.
[[noreturn]] void fail_member(const nlohmann::ordered_json& value, const char* key, const char* expected,
                              const std::string& file, const std::string& place);

/// A member as a number or a string. @throws file_error where it is something else, or beyond the range of T.
template <class T>
[[nodiscard]] T json_value(const nlohmann::ordered_json& object, const char* key, const std::string& file,
                           const std::string& place) {
  const nlohmann::ordered_json& value = json_member(object, key, file, place);
  if constexpr (std::is_same_v<T, std::string>) {
    if (!value.is_string()) fail_member(value, key, "a string", file, place);
  } else if constexpr (std::is_floating_point_v<T>) {
    if (!value.is_number()) fail_member(value, key, "a number", file, place);
  } else {
    static_assert(sizeof(T) == 8, "the document holds integers of 64 bits");
    const bool fits = std::is_signed_v<T>
                          ? value.is_number_integer() &&
                                (!value.is_number_unsigned() || value.template get<std::uint64_t>() >> 63 == 0)
                          : value.is_number_unsigned();
    if (!fits) fail_member(value, key, std::is_signed_v<T> ? "an integer" : "an integer from 0 on", file, place);
  }
  return value.template get<T>();
}

/// A member that is an array.
[[nodiscard]] const nlohmann::ordered_json& json_array(const nlohmann::ordered_json& object, const char* key,
                                                       const std::string& file, const std::string& place);

}  // namespace mxfp4::io
