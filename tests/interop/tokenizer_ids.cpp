// tests/interop/tokenizer_ids.cpp -- what the reader of tokenizer.json makes of texts, for check_tokenizers.py.
// SPDX-License-Identifier: Apache-2.0
//
//   mxfp4_tokenizer_ids TOKENIZER.json INPUT.json    INPUT is an array of texts and of arrays of ids
//
// For each a line: {"ids": [...], "back": the bytes in hexadecimal}.
#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/strict_json.hpp"
#include "model/tokenizer.hpp"

int main(int count, char** arguments) {
  using nlohmann::json;
  if (count != 3) return std::fprintf(stderr, "usage: mxfp4_tokenizer_ids TOKENIZER.json INPUT.json\n"), 2;
  try {
    const auto tokenizer = mxfp4::model::tokenizer::load(arguments[1]);
    for (const json& input : mxfp4::io::read_json<json>(arguments[2])) {
      const auto ids =
          input.is_string() ? tokenizer.encode(input.get<std::string>()) : input.get<std::vector<std::int64_t>>();
      std::string back;
      for (const char byte : tokenizer.decode(ids)) {
        constexpr const char* digits = "0123456789abcdef";
        back += digits[static_cast<unsigned char>(byte) / 16];
        back += digits[static_cast<unsigned char>(byte) % 16];
      }
      std::puts(json{{"ids", ids}, {"back", back}}.dump().c_str());
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
