// src/model/tokenizer_json.cpp -- reads what tokenizer.hpp understands of a tokenizer.json.
// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <nlohmann/json.hpp>

#include "io/strict_json.hpp"
#include "io/utf8.hpp"
#include "model/tokenizer.hpp"
#include "mxfp4/io/error.hpp"

namespace mxfp4::model {

using namespace io;
namespace {

using nlohmann::json;

// What GPT-2's ByteLevel splits by when it is asked to.
constexpr const char* byte_level_pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

constexpr bool stands_for_itself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/// The character of each byte in a vocabulary: a byte that is not visible takes the next one from U+0100 on.
constexpr std::array<std::uint32_t, 256> byte_characters = [] {
  std::array<std::uint32_t, 256> characters{};
  std::uint32_t next = 256;
  for (int byte = 0; byte < 256; ++byte)
    characters[static_cast<std::size_t>(byte)] = stands_for_itself(byte) ? static_cast<std::uint32_t>(byte) : next++;
  return characters;
}();

/// A token as the bytes it stands for; as it is written where a character of it stands for no byte, as in added tokens.
std::string bytes_of(const std::string& token) {
  static const std::array<int, 512> byte_of = [] {
    std::array<int, 512> table;
    table.fill(-1);
    for (std::size_t byte = 0; byte < 256; ++byte) table[byte_characters[byte]] = static_cast<int>(byte);
    return table;
  }();
  std::string bytes;
  for (std::size_t at = 0; at < token.size();) {
    const utf8::code_point c = utf8::decode(token, at);
    if (c.bytes == 0 || c.value >= byte_of.size() || byte_of[c.value] < 0) return token;
    bytes.push_back(static_cast<char>(byte_of[c.value]));
    at += c.bytes;
  }
  return bytes;
}

}  // namespace

namespace {

/// The token of a byte where characters are merged: "<0x0A>".
std::string byte_token(std::size_t byte) {
  constexpr const char* digits = "0123456789ABCDEF";
  return std::string("<0x") + digits[byte / 16] + digits[byte % 16] + ">";
}

/// What such a token stands for.
std::string spelled_out(const std::string& token) {
  static const std::unordered_map<std::string, char> bytes = [] {
    std::unordered_map<std::string, char> all;
    for (std::size_t byte = 0; byte < 256; ++byte) all.emplace(byte_token(byte), static_cast<char>(byte));
    return all;
  }();
  if (const auto byte = bytes.find(token); byte != bytes.end()) return std::string(1, byte->second);
  std::string text;
  for (std::size_t at = 0; at < token.size();) {
    const bool blank = std::string_view(token).substr(at).starts_with(blank_character);
    text += blank ? ' ' : token[at];
    at += blank ? blank_character.size() : 1;
  }
  return text;
}

}  // namespace

struct tokenizer::reader {
  const std::string& file;
  tokenizer out{};

  [[noreturn]] void refuse(const std::string& place, const json& value, const std::string& expected) const {
    throw file_error({.file = file, .value = place + " is " + json_shown(value), .expected = expected});
  }

  /// A member of an object, null where it is not there.
  static const json& at(const json& object, const char* key) {
    static const json null;
    const auto found = object.find(key);
    return found == object.end() ? null : *found;
  }

  template <class T>
  T get(const json& object, const char* key, const std::string& place, const char* expected) const {
    const json& value = at(object, key);
    try {
      return value.get<T>();
    } catch (const json::exception&) {
      refuse(place + "." + key, value, expected);
    }
  }

  bool flag(const json& object, const char* key, const std::string& place, bool otherwise) const {
    return at(object, key).is_null() ? otherwise : get<bool>(object, key, place, "true or false");
  }

  /// Keys that change the tokens and that we do not follow: only these values of theirs are let through.
  void require_unset(const json& object, const char* key, const std::string& place) const {
    const json& value = at(object, key);
    if (!value.is_null() && value != false && value != "" && value != 0.0)
      refuse(place + "." + key, value, "none: this reader knows byte-level BPE without it");
  }

  const json& object_at(const json& parent, const char* key) const {
    const json& value = at(parent, key);
    if (!value.is_object()) refuse(key, value.is_null() ? json("missing") : value, "an object");
    return value;
  }

  void read_vocabulary(const json& model) {
    const json& vocabulary = at(model, "vocab");
    if (!vocabulary.is_object())
      throw file_error({.file = file, .value = "model.vocab is not an object of tokens and ids"});
    for (const auto& [token, id] : vocabulary.items()) {
      if (!id.is_number_unsigned() || id.get<std::uint64_t>() > INT32_MAX)
        refuse("model.vocab." + quote_name(token), id, "an id from 0 to 2^31 - 1");
      add(token, id.get<std::int64_t>());
      out.ids_.emplace(spelling(token), id.get<std::int64_t>());
    }
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const auto found = out.ids_.find(out.characters_ ? byte_token(byte) : std::string(1, static_cast<char>(byte)));
      if (found == out.ids_.end())
        throw file_error({.file = file,
                          .value = "model.vocab has no token for byte " + std::to_string(byte),
                          .expected = "one for each of the 256"});
      out.byte_ids_[byte] = found->second;
    }
  }

  /// A token as merges and texts have it.
  [[nodiscard]] std::string spelling(const std::string& token) const {
    return out.characters_ ? token : bytes_of(token);
  }

  void add(const std::string& token, std::int64_t id) {
    const std::string bytes = out.characters_ ? spelled_out(token) : bytes_of(token);
    const auto [place, is_new] = out.bytes_.emplace(id, bytes);
    if (!is_new && place->second != bytes)
      throw file_error({.file = file,
                        .value = "id " + std::to_string(id) + " is that of " + quote_name(place->second) + " and of " +
                                 quote_name(token),
                        .expected = "one token"});
  }

  std::int64_t id_of(const std::string& bytes, const std::string& place) const {
    const auto found = out.ids_.find(bytes);
    if (found == out.ids_.end())
      throw file_error(
          {.file = file, .value = place + " speaks of " + quote_name(bytes) + ", which is not in the vocabulary"});
    return found->second;
  }

  void read_merges(const json& model) {
    const json& merges = at(model, "merges");
    if (!merges.is_array()) throw file_error({.file = file, .value = "model.merges is not an array of pairs"});
    std::int64_t rank = 0;
    for (const json& pair : merges) {
      const std::string place = "model.merges[" + std::to_string(rank) + "]";
      std::string left, right;
      if (pair.is_string()) {  // "a b"; a blank inside a token is written as another character
        const std::string& both = pair.get_ref<const std::string&>();
        const std::size_t blank = both.find(' ');
        if (blank == std::string::npos) refuse(place, pair, "two tokens");
        left = both.substr(0, blank), right = both.substr(blank + 1);
      } else if (pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_string()) {
        left = pair[0], right = pair[1];
      } else {
        refuse(place, pair, "two tokens");
      }
      left = spelling(left), right = spelling(right);
      const std::int64_t a = id_of(left, place), b = id_of(right, place);
      const merge made{rank, id_of(left + right, place)};
      out.merges_.insert_or_assign(static_cast<std::uint64_t>(a) << 32 | static_cast<std::uint64_t>(b), made);
      ++rank;
    }
  }

  void read_model(const json& model) {
    if (at(model, "type") != "BPE") refuse("model.type", at(model, "type"), "\"BPE\"");
    for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"})
      require_unset(model, key, "model");
    out.characters_ = flag(model, "byte_fallback", "model", false);
    if (!out.characters_) require_unset(model, "unk_token", "model");  // with all bytes at hand no text asks for it
    out.ignore_merges_ = flag(model, "ignore_merges", "model", false);
    read_vocabulary(model);
    read_merges(model);
  }

  void read_split(const json& part, const std::string& place) {
    const json& separator = at(part, "pattern");
    const auto found = separator.is_object() ? separator.find("Regex") : separator.end();
    if (!separator.is_object() || found == separator.end() || !found->is_string())
      refuse(place + ".pattern", separator, "{\"Regex\": an expression}");
    const bool invert = flag(part, "invert", place, false);
    const json& behavior = at(part, "behavior");
    if (!(behavior == "Isolated" && !invert) && !(behavior == "Removed" && invert))
      refuse(place + ".behavior", behavior, "\"Isolated\", or \"Removed\" with invert");
    out.splits_.push_back({pattern(found->get_ref<const std::string&>(), file + ": " + place + ".pattern"), invert});
  }

  /// @return whether bytes become characters here, after which nothing may be split any more.
  bool read_pre_tokenizer(const json& part, const std::string& place) {
    const json& type = at(part, "type");
    if (type == "Sequence") {
      const json& parts = at(part, "pretokenizers");
      if (!parts.is_array()) refuse(place + ".pretokenizers", parts, "an array");
      bool done = false;
      for (std::size_t i = 0; i < parts.size(); ++i) {
        const std::string name = place + ".pretokenizers[" + std::to_string(i) + "]";
        if (done) refuse(name, at(parts[i], "type"), "nothing after ByteLevel");
        done = read_pre_tokenizer(parts[i], name);
      }
      return done;
    }
    if (type == "Split") return read_split(part, place), false;
    if (type != "ByteLevel") refuse(place + ".type", type, "\"ByteLevel\", \"Split\" or \"Sequence\"");
    if (flag(part, "add_prefix_space", place, true)) refuse(place + ".add_prefix_space", true, "false");
    if (flag(part, "use_regex", place, true)) out.splits_.push_back({pattern(byte_level_pattern, file), false});
    return true;
  }

  /// The tokens that TemplateProcessing puts before and behind a text; ByteLevel, which moves offsets, adds none.
  void read_post_processor(const json& part, const std::string& place) {
    if (part.is_null()) return;
    const json type = part.is_object() ? at(part, "type") : part;
    if (type == "ByteLevel") return;
    if (type == "Sequence") {
      const json& parts = at(part, "processors");
      if (!parts.is_array()) refuse(place + ".processors", parts, "an array");
      for (std::size_t i = 0; i < parts.size(); ++i)
        read_post_processor(parts[i], place + ".processors[" + std::to_string(i) + "]");
      return;
    }
    if (type != "TemplateProcessing")
      refuse(place + ".type", type, R"("ByteLevel", "TemplateProcessing" or "Sequence")");
    const json& single = at(part, "single");
    if (!single.is_array()) refuse(place + ".single", single, "an array");
    bool behind = false;
    for (std::size_t i = 0; i < single.size(); ++i) {
      const std::string name = place + ".single[" + std::to_string(i) + "]";
      const json& special = single[i].is_object() ? at(single[i], "SpecialToken") : single[i];
      if (special.is_null() && !behind && at(single[i], "Sequence").is_object()) {
        behind = true;
        continue;
      }
      const json known =
          special.is_object() ? at(at_object(part, "special_tokens", place), id_in(special).c_str()) : json();
      const json ids = known.is_object() ? at(known, "ids") : json();
      if (!ids.is_array()) refuse(name, single[i], "the text once, and special tokens of " + place + ".special_tokens");
      for (const json& id : ids) {
        if (!id.is_number_unsigned()) refuse(name, id, "an id");
        (behind ? out.end_ : out.begin_).push_back(id.get<std::int64_t>());
      }
    }
    if (!behind) refuse(place + ".single", single, "the text in it");
  }

  static std::string id_in(const json& special) {
    const json& id = at(special, "id");
    return id.is_string() ? id.get<std::string>() : std::string();
  }

  const json& at_object(const json& parent, const char* key, const std::string& place) const {
    const json& value = at(parent, key);
    if (!value.is_object()) refuse(place + "." + key, value, "an object");
    return value;
  }

  void read_normalizer(const json& normalizer) {
    if (normalizer.is_null()) return;
    if (out.characters_) return read_character_normalizer(normalizer, "normalizer");
    if (!normalizer.is_object() || at(normalizer, "type") != "NFC")
      refuse("normalizer", normalizer, "null or NFC: this reader knows byte-level BPE without others");
    out.nfc_ = true;
  }

  /// Prepend, then Replace, each at most once.
  void read_character_normalizer(const json& part, const std::string& place) {
    const json type = part.is_object() ? at(part, "type") : part;
    if (type == "Sequence") {
      const json& parts = at(part, "normalizers");
      if (!parts.is_array()) refuse(place + ".normalizers", parts, "an array");
      for (std::size_t i = 0; i < parts.size(); ++i)
        read_character_normalizer(parts[i], place + ".normalizers[" + std::to_string(i) + "]");
    } else if (type == "Prepend" && at(part, "prepend") == blank_character && !out.prepend_ && !out.replace_) {
      out.prepend_ = true;
    } else if (type == "Replace" && at(part, "pattern") == json{{"String", " "}} &&
               at(part, "content") == blank_character && !out.replace_) {
      out.replace_ = true;
    } else {
      refuse(place, part,
             "Prepend of U+2581, then Replace of blanks by it, which is what this reader knows beside byte_fallback");
    }
  }

  void read_character_pre_tokenizer(const json& part) {
    if (part.is_null()) return;
    const json type = part.is_object() ? at(part, "type") : part;
    if (type != "Metaspace") refuse("pre_tokenizer.type", type, "\"Metaspace\" or none beside byte_fallback");
    if (at(part, "replacement") != blank_character)
      refuse("pre_tokenizer.replacement", at(part, "replacement"), "U+2581");
    const json& scheme = at(part, "prepend_scheme");
    if (scheme == "never") out.prefix_ = prefix::never;
    else if (scheme == "first") out.prefix_ = prefix::first_part;
    else if (scheme == "always") out.prefix_ = prefix::each_part;
    else refuse("pre_tokenizer.prepend_scheme", scheme, R"("first", "always" or "never")");
    out.metaspace_ = true;
    out.split_words_ = flag(part, "split", "pre_tokenizer", true);
  }

  void read_character_decoder(const json& decoder) {
    const json& parts = at(decoder, "decoders");
    if (at(decoder, "type") != "Sequence" || !parts.is_array())
      refuse("decoder.type", at(decoder, "type"), "\"Sequence\" beside byte_fallback");
    std::size_t known = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const json& part = parts[i];
      const json type = part.is_object() ? at(part, "type") : part;
      const bool replaces =
          type == "Replace" && at(part, "pattern") == json{{"String", blank_character}} && at(part, "content") == " ";
      const bool strips =
          type == "Strip" && at(part, "content") == " " && at(part, "start") == 1 && at(part, "stop") == 0;
      const bool in_order = known == 0   ? replaces
                            : known == 1 ? type == "ByteFallback"
                            : known == 2 ? type == "Fuse"
                                         : strips;
      if (!in_order || known > 3)
        refuse("decoder.decoders[" + std::to_string(i) + "]", part,
               "Replace of U+2581 by a blank, ByteFallback, Fuse, and perhaps Strip of one blank at the start");
      ++known;
    }
    if (known < 3) refuse("decoder.decoders", parts, "Replace, ByteFallback and Fuse");
    out.strip_ = known == 4;
  }

  void read_added(const json& tokens) {
    if (tokens.is_null()) return;
    if (!tokens.is_array()) refuse("added_tokens", tokens, "an array");
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const std::string place = "added_tokens[" + std::to_string(i) + "]";
      const auto content = get<std::string>(tokens[i], "content", place, "a text");
      const auto id = get<std::int64_t>(tokens[i], "id", place, "an id");
      if (content.empty() || id < 0) refuse(place, tokens[i], "a text that is not empty and an id from 0 on");
      for (const char* key : {"single_word", "lstrip", "rstrip"}) require_unset(tokens[i], key, place);
      const bool special = flag(tokens[i], "special", place, false);
      const bool normalized = flag(tokens[i], "normalized", place, !special);
      if (normalized && out.characters_) refuse(place + ".normalized", true, "false beside byte_fallback");
      (normalized ? out.normalized_ : out.raw_).add({content, id});
      add(content, id);
    }
  }
};

tokenizer tokenizer::load(const std::string& path) {
  const json file = read_json<json>(path);
  reader in{path};
  if (!file.is_object())
    throw file_error({.file = path, .value = "is not a JSON object", .expected = "a tokenizer.json"});
  in.read_model(in.object_at(file, "model"));
  in.read_normalizer(reader::at(file, "normalizer"));
  if (in.out.characters_) {
    in.read_character_pre_tokenizer(reader::at(file, "pre_tokenizer"));
    in.read_character_decoder(in.object_at(file, "decoder"));
  } else {
    if (!in.read_pre_tokenizer(in.object_at(file, "pre_tokenizer"), "pre_tokenizer"))
      in.refuse("pre_tokenizer", reader::at(file, "pre_tokenizer"), "one that ends with ByteLevel");
    const json& decoder = in.object_at(file, "decoder");
    if (reader::at(decoder, "type") != "ByteLevel")
      in.refuse("decoder.type", reader::at(decoder, "type"), "\"ByteLevel\"");
  }
  in.read_added(reader::at(file, "added_tokens"));
  in.read_post_processor(reader::at(file, "post_processor"), "post_processor");
  return std::move(in.out);
}

}  // namespace mxfp4::model
