// src/io/strict_json.cpp -- the events of the JSON parser, made a document in linear time and within limits.
// SPDX-License-Identifier: Apache-2.0
#include "io/strict_json.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "io/foreign_file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

namespace {

using nlohmann::json;
using nlohmann::ordered_json;

// ---- numbers without a JSON text ------------------------------------------------------------------------------------

constexpr std::array<std::string_view, 3> nonfinite_numbers = {"Infinity", "-Infinity", "NaN"};

[[nodiscard]] bool is_word(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '+' ||
         c == '-' || c == '.';
}

/// The text with a number in place of each of nonfinite_numbers that stands outside strings: "0e", zeros, 1, 2 or 3.
/// There are more zeros than the text has in a row, so that no number of its own looks like that.
struct finite_text {
  std::string text;
  std::string begin;  ///< "0e0..0"; empty where nothing was replaced
};

[[nodiscard]] finite_text replace_nonfinite(const std::string& text) {
  if (text.find("Infinity") == std::string::npos && text.find("NaN") == std::string::npos) return {};
  std::size_t zeros = 0, longest = 0;
  for (const char c : text) {
    zeros = c == '0' ? zeros + 1 : 0;
    longest = std::max(longest, zeros);
  }
  finite_text made{{}, "0e" + std::string(longest + 1, '0')};
  if (made.begin.size() > 1000) return {};  // nobody's numbers: what is replaced would not fit the memory
  bool in_string = false;
  for (std::size_t at = 0; at < text.size();) {
    const char c = text[at];
    if (in_string && c == '\\' && at + 1 < text.size()) {
      made.text.append(text, at, 2);
      at += 2;
      continue;
    }
    if (c == '"') in_string = !in_string;
    std::size_t found = nonfinite_numbers.size();
    if (!in_string && (at == 0 || !is_word(text[at - 1])))
      for (std::size_t i = 0; i < nonfinite_numbers.size(); ++i) {
        const std::size_t end = at + nonfinite_numbers[i].size();
        if (text.compare(at, nonfinite_numbers[i].size(), nonfinite_numbers[i]) == 0 &&
            (end == text.size() || !is_word(text[end])))
          found = i;
      }
    if (found < nonfinite_numbers.size()) {
      made.text += made.begin + static_cast<char>('1' + found);
      at += nonfinite_numbers[found].size();
    } else {
      made.text += c;
      ++at;
    }
  }
  return made;
}

// ---- a document -----------------------------------------------------------------------------------------------------

[[nodiscard]] std::string place_in(const std::string& text, std::size_t position) {
  const std::string_view before = std::string_view(text).substr(0, std::min(position, text.size()));
  const std::size_t line_begin = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
  return "line " + std::to_string(1 + std::count(before.begin(), before.end(), '\n')) + ", column " +
         std::to_string(std::max<std::size_t>(before.size() - line_begin, 1));
}

template <class Json>
class document_builder final : public nlohmann::json_sax<Json> {
 public:
  /// @param wanted  of the members of the document; empty: all.
  document_builder(const std::string& text, const std::string& nonfinite, const std::string& file,
                   const json_limits& limits, std::span<const std::string_view> wanted)
      : text_(text), nonfinite_(nonfinite), file_(file), limits_(limits), wanted_(wanted) {}

  [[nodiscard]] Json take() { return std::move(document_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(typename Json::number_integer_t value) override { return add(value); }
  bool number_unsigned(typename Json::number_unsigned_t value) override { return add(value); }
  bool number_float(typename Json::number_float_t value, const std::string& text) override {
    if (!nonfinite_.empty() && text.starts_with(nonfinite_) && text.size() == nonfinite_.size() + 1)
      return add_text(nonfinite_numbers[static_cast<std::size_t>(text.back() - '1')]);
    const bool is_integer = text.find_first_of(".eE") == std::string::npos;
    return is_integer ? add_text(text) : add(value);
  }
  bool binary(typename Json::binary_t&) override { return false; }

  bool string(std::string& value) override {
    if (value.size() > limits_.string_bytes)
      fail("holds a string of " + std::to_string(value.size()) + " bytes", limits_.string_bytes);
    return add(std::move(value));
  }

  bool key(std::string& name) override {
    if (name.size() > limits_.key_bytes)
      fail("holds the key " + quote_name(name) + " of " + std::to_string(name.size()) + " bytes", limits_.key_bytes);
    if (skipped_ > 0) return true;
    if (open_.size() == 1 && !wanted_.empty() && std::find(wanted_.begin(), wanted_.end(), name) == wanted_.end()) {
      is_skipping_ = true;
      return true;
    }
    auto& object = open_.back()->template get_ref<typename Json::object_t&>();
    if constexpr (is_ordered) {
      object.emplace_back(std::move(name), nullptr);  // whether it is there already is asked once, at the end
      place_ = &object.back().second;
    } else {
      const auto [at, is_new] = object.emplace(std::move(name), nullptr);
      if (!is_new) fail_twice(at->first);
      place_ = &at->second;
    }
    return true;
  }

  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_array() override { return close(); }
  bool end_object() override {
    if (is_skipping_) return close();
    if constexpr (is_ordered) {
      std::vector<std::string_view> keys;
      for (const auto& [key, value] : open_.back()->template get_ref<const typename Json::object_t&>())
        keys.push_back(key);
      std::sort(keys.begin(), keys.end());
      if (const auto twice = std::adjacent_find(keys.begin(), keys.end()); twice != keys.end()) fail_twice(*twice);
    }
    return close();
  }

  bool parse_error(std::size_t position, const std::string& token, const json::exception& error) override {
    constexpr int out_of_range = 406;
    if (error.id == out_of_range)
      throw file_error({.file = file_,
                        .value = "the number " + quote_name(token) + " at " + place_in(text_, position) +
                                 " is beyond the range of a double",
                        .expected = "at most 1.8e308"});
    throw file_error({.file = file_,
                      .value = "is not JSON at " + place_in(text_, position) + ", near " + quote_name(token),
                      .expected = "JSON text"});
  }

 private:
  static constexpr bool is_ordered = std::is_same_v<Json, ordered_json>;

  [[noreturn]] void fail(const std::string& value, std::uint64_t most) const {
    throw file_error({.file = file_, .value = value, .expected = "at most " + std::to_string(most)});
  }
  [[noreturn]] void fail_twice(std::string_view key) const {
    throw file_error(
        {.file = file_, .value = "the key " + quote_name(key) + " is there twice in one object", .expected = "once"});
  }

  template <class Value>
  bool add(Value&& value) {
    if (++values_ > limits_.values)
      fail("holds more than " + std::to_string(limits_.values) + " values", limits_.values);
    if (is_skipping_) {
      is_skipping_ = skipped_ > 0;
    } else if (open_.empty()) {
      document_ = std::forward<Value>(value);
      place_ = &document_;
    } else if (open_.back()->is_array()) {
      auto& array = open_.back()->template get_ref<typename Json::array_t&>();
      array.emplace_back(std::forward<Value>(value));
      place_ = &array.back();
    } else {
      *place_ = std::forward<Value>(value);
    }
    return true;
  }

  bool add_text(std::string_view number) {
    return add(Json::binary(std::vector<std::uint8_t>(number.begin(), number.end())));
  }

  bool open(Json value) {
    if (std::ssize(open_) + skipped_ == limits_.depth)
      throw file_error(
          {.file = file_,
           .value = "holds objects and arrays inside each other " + std::to_string(limits_.depth + 1) + " deep",
           .expected = "at most " + std::to_string(limits_.depth)});
    if (is_skipping_) {
      ++skipped_;
    } else {
      add(std::move(value));
      open_.push_back(place_);
    }
    return true;
  }

  bool close() {
    if (is_skipping_) is_skipping_ = --skipped_ > 0;
    else open_.pop_back();
    return true;
  }

  const std::string& text_;
  const std::string& nonfinite_;
  const std::string& file_;
  const json_limits& limits_;
  std::span<const std::string_view> wanted_;
  Json document_;
  std::vector<Json*> open_;  // from the outermost to the innermost: only the innermost grows, so none of them moves
  Json* place_ = nullptr;    // of the value last added, or of the one whose key was read
  std::uint64_t values_ = 0;
  bool is_skipping_ = false;  // a member that is not wanted
  int skipped_ = 0;           // objects and arrays open in it
};

// ---- a text ---------------------------------------------------------------------------------------------------------

template <class Json>
void append_text(std::string& out, const Json& value, int indent, int level, std::size_t longest) {
  const auto new_line = [&](int at) {
    if (indent >= 0) out += '\n' + std::string(static_cast<std::size_t>(at * indent), ' ');
  };
  if (out.size() > longest) return;
  if (value.is_binary()) {
    const auto& text = value.get_binary();
    out.append(text.begin(), text.end());
  } else if (!value.is_structured()) {
    out += value.dump(-1, ' ', false, Json::error_handler_t::replace);
  } else if (value.empty()) {
    out += value.is_object() ? "{}" : "[]";
  } else {
    out += value.is_object() ? '{' : '[';
    bool first = true;
    for (auto at = value.begin(); at != value.end() && out.size() <= longest; ++at) {
      if (!first) out += ',';
      first = false;
      new_line(level + 1);
      if (value.is_object())
        out += Json(at.key()).dump(-1, ' ', false, Json::error_handler_t::replace) + (indent >= 0 ? ": " : ":");
      append_text(out, *at, indent, level + 1, longest);
    }
    new_line(level);
    out += value.is_object() ? '}' : ']';
  }
}

template <class Json>
Json parse(const std::string& text, const std::string& file, const json_limits& limits,
           std::span<const std::string_view> wanted) {
  if (const foreign_file* foreign = find_foreign_file(std::string_view(text).substr(0, foreign_file_bytes)))
    throw file_error({.file = file,
                      .value = std::string("is ") + foreign->kind,
                      .expected = "JSON text",
                      .advice = foreign->advice});
  // The parser takes a zero byte for the end of its input, and what follows would be read by nobody.
  if (const std::size_t zero = text.find('\0'); zero != std::string::npos)
    throw file_error(
        {.file = file, .value = "has a zero byte at its byte " + std::to_string(zero), .expected = "JSON text"});
  const finite_text finite = replace_nonfinite(text);
  const std::string& taken = finite.begin.empty() ? text : finite.text;
  document_builder<Json> builder(taken, finite.begin, file, limits, wanted);
  Json::sax_parse(taken, &builder);
  return builder.take();
}

}  // namespace

template <class Json>
Json parse_json(const std::string& text, const std::string& file, const json_limits& limits) {
  return parse<Json>(text, file, limits, {});
}

template json parse_json<json>(const std::string&, const std::string&, const json_limits&);
template ordered_json parse_json<ordered_json>(const std::string&, const std::string&, const json_limits&);

ordered_json parse_json_members(const std::string& text, const std::string& file,
                                std::initializer_list<std::string_view> keys) {
  return parse<ordered_json>(text, file, {}, std::span(keys.begin(), keys.size()));
}

std::string read_json_text(const std::string& path, const json_limits& limits) {
  const input_file file = input_file::open(path).value();
  if (file.size() > limits.bytes)
    throw file_error({.file = path,
                      .value = "holds " + std::to_string(file.size()) + " bytes",
                      .expected = "at most " + std::to_string(limits.bytes) + " of JSON"});
  std::string text(file.size(), '\0');
  file.read(0, std::as_writable_bytes(std::span(text))).value();
  return text;
}

template <class Json>
std::string json_text(const Json& value, int indent, std::size_t longest) {
  std::string text;
  append_text(text, value, indent, 0, longest);
  return text;
}

template std::string json_text<json>(const json&, int, std::size_t);
template std::string json_text<ordered_json>(const ordered_json&, int, std::size_t);

template <class Json>
std::string json_shown(const Json& value) {
  constexpr std::size_t longest = 200;
  std::string text = json_text(value, -1, longest);
  if (text.size() <= longest) return text;
  std::size_t end = longest;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0u) == 0x80) --end;  // not inside a character
  return text.substr(0, end) + "...";
}

template std::string json_shown<json>(const json&);
template std::string json_shown<ordered_json>(const ordered_json&);

void fail_member(const ordered_json& value, const char* key, const char* expected, const std::string& file,
                 const std::string& place) {
  throw file_error({.file = file,
                    .value = (place.empty() ? "" : place + ".") + key + " is " + json_shown(value),
                    .expected = expected});
}

const ordered_json& json_member(const ordered_json& object, const char* key, const std::string& file,
                                const std::string& place) {
  const std::string name = place.empty() ? "the document" : place;
  if (!object.is_object())
    throw file_error({.file = file, .value = name + " is " + json_shown(object), .expected = "an object"});
  const auto found = object.find(key);
  if (found == object.end())
    throw file_error({.file = file, .value = name + " has no " + quote_name(key), .expected = "one"});
  return *found;
}

ordered_json json_member_or_null(const ordered_json& object, const char* key) {
  return object.is_object() ? object.value(key, ordered_json()) : ordered_json();
}

std::string json_text_member(const ordered_json& object, const char* key) {
  if (!object.is_object()) return {};
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

const ordered_json& json_array(const ordered_json& object, const char* key, const std::string& file,
                               const std::string& place) {
  const ordered_json& value = json_member(object, key, file, place);
  if (!value.is_array()) fail_member(value, key, "an array", file, place);
  return value;
}

}  // namespace mxfp4::io
