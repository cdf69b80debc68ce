// examples/model/text_ids.cpp -- see text_ids.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "model/text_ids.hpp"

#include <algorithm>
#include <charconv>

#include "common/file_error.hpp"

namespace mxfp4::tools {

std::vector<std::int64_t> ids_of_bytes(std::string_view text) {
  std::vector<std::int64_t> ids(text.size());
  std::ranges::transform(text, ids.begin(), [](char c) { return std::int64_t{static_cast<unsigned char>(c)}; });
  return ids;
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
      throw file_error(where + ": token " + std::to_string(ids.size()) + " is " + quote_name(word) +
                       ", expected a number from 0 on");
    ids.push_back(id);
    begin = text.find_first_not_of(separators, end);
  }
  return ids;
}

std::string shown(std::int64_t id, std::int64_t vocabulary) {
  return vocabulary == byte_vocabulary ? std::string(1, static_cast<char>(id)) : std::to_string(id) + " ";
}

}  // namespace mxfp4::tools
