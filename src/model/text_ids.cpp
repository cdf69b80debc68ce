// src/model/text_ids.cpp -- see text_ids.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "model/text_ids.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "io/strict_json.hpp"
#include "mxfp4/io/error.hpp"

namespace mxfp4::model {

using namespace io;
using namespace checkpoint;

text_tokens::text_tokens(const checkpoint_reader& checkpoint, const model_config& config) {
  constexpr std::int64_t bytes = 256;
  const std::string file = checkpoint.directory() + "/tokenizer.json";
  std::error_code ignored;
  if (std::filesystem::exists(file, ignored)) tokenizer_ = tokenizer::load(file);
  else if (config.shape.vocabulary != bytes)
    throw file_error({.file = file,
                      .value = "is missing, and only a vocabulary of 256 is bytes, not one of " +
                               std::to_string(config.shape.vocabulary),
                      .advice = "give the tokens as numbers with --ids"});
}

std::vector<std::int64_t> text_tokens::encode(std::string_view text) const {
  if (tokenizer_) return tokenizer_->encode(text);
  std::vector<std::int64_t> ids(text.size());
  std::ranges::transform(text, ids.begin(), [](char c) { return std::int64_t{static_cast<unsigned char>(c)}; });
  return ids;
}

std::string text_tokens::decode(std::int64_t id) const {
  return tokenizer_ ? tokenizer_->decode(id) : std::string(1, static_cast<char>(id));
}

std::vector<std::int64_t> end_of_text_ids(const checkpoint_reader& checkpoint) {
  using nlohmann::ordered_json;
  std::error_code ignored;
  for (const char* const name : {"generation_config.json", "config.json"}) {
    const std::string file = checkpoint.directory() + "/" + name;
    if (!std::filesystem::exists(file, ignored)) continue;
    ordered_json ids = json_member_or_null(read_json<ordered_json>(file, config_limits), "eos_token_id");
    if (ids.is_null()) continue;
    if (!ids.is_array()) ids = ordered_json::array({ids});
    std::vector<std::int64_t> ends;
    for (const ordered_json& id : ids) {
      if (!id.is_number_integer())
        throw file_error({.file = file, .value = "eos_token_id has " + json_shown(id), .expected = "a token's number"});
      ends.push_back(id.get<std::int64_t>());
    }
    return ends;
  }
  return {};
}

std::vector<std::int64_t> ids_of_numbers(std::string_view text, const std::string& where) {
  constexpr std::string_view separators = " ,\t\r\n";
  std::vector<std::int64_t> ids;
  for (std::size_t begin = text.find_first_not_of(separators); begin != std::string_view::npos;) {
    const std::size_t end = std::min(text.find_first_of(separators, begin), text.size());
    const std::string_view word = text.substr(begin, end - begin);
    std::int64_t id = 0;
    const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc{} || stop != word.data() + word.size() || id < 0)
      throw file_error({.file = where,
                        .value = "token " + std::to_string(ids.size()) + " is " + quote_name(word),
                        .expected = "a number from 0 on"});
    ids.push_back(id);
    begin = text.find_first_not_of(separators, end);
  }
  return ids;
}

}  // namespace mxfp4::model
