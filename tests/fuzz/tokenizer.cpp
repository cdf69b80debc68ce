// tests/fuzz/tokenizer.cpp -- any bytes as a tokenizer.json, and a text through what it says.
// SPDX-License-Identifier: Apache-2.0
//
// A vocabulary has all 256 bytes and does not fit a fuzzer's input: an input without a "vocab" is given one. Of the
// characters of the text some stand for themselves in it, some do not.
#include <cstddef>
#include <cstdint>
#include <string>

#include "io/strict_json.hpp"
#include "memory_file.hpp"
#include "model/tokenizer.hpp"

namespace {

using namespace mxfp4::io;
using mxfp4::model::tokenizer;
using mxfp4::test::memory_file, mxfp4::test::require;
using nlohmann::json;

constexpr const char* text = "a ab  aab \n\xC3\xA9\xE2\x82\xAC 12 <a> bab";

/// Bytes as GPT-2 writes them: what is not visible takes the next character from U+0100 on.
json vocabulary() {
  json all = json::object();
  unsigned next = 256;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool visible = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const unsigned c = visible ? byte : next++;
    const std::string wide = {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
    all[c < 0x80 ? std::string(1, static_cast<char>(c)) : wide] = byte;
  }
  all["ab"] = 256;
  all["aab"] = 257;
  return all;
}

/// The input with that vocabulary, or as it is where it is none that lacks one.
std::string completed(const std::uint8_t* data, std::size_t size) {
  static const json all = vocabulary();
  std::string input(reinterpret_cast<const char*>(data), size);
  json document = json::parse(input, nullptr, false);
  if (!document.is_object() || !document.contains("model") || !document["model"].is_object() ||
      document["model"].contains("vocab"))
    return input;
  document["model"]["vocab"] = all;
  return document.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const memory_file file;
  const std::string input = completed(data, size);
  try {
    const tokenizer t = tokenizer::load(file.hold(reinterpret_cast<const std::uint8_t*>(input.data()), input.size()));
    const std::vector<std::int64_t> ids = t.encode(text);
    const std::string back = t.decode(ids);
    // Without a splitter that drops what lies between its matches, the text comes back.
    if (input.find("Removed") == std::string::npos && input.find("added_tokens") == std::string::npos)
      require(back == text);
    require(back.size() <= 64 * std::string(text).size() * (1 + size));
  } catch (const file_error& e) {
    require(std::string_view(e.what()).size() > 10);
  }
  return 0;
}
