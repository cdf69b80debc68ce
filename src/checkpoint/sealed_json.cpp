// src/checkpoint/sealed_json.cpp -- see sealed_json.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/sealed_json.hpp"

#include <algorithm>
#include <string_view>

#include "io/content_hash.hpp"
#include "io/strict_json.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

std::string seal(const std::string& hash) { return ",\n\"hash\": \"" + hash + "\"\n}\n"; }

std::string sealed_text(const ordered_json& object, int indent) {
  std::string body = object.dump(indent);
  body.pop_back();
  if (body.back() == '\n') body.pop_back();
  return body + seal(hash_of(body));
}

std::string broken_seal(const std::string& text) {
  const std::string_view all = text;
  const std::size_t size = seal(std::string(hash_digits, '0')).size();
  const std::string_view body = all.substr(0, all.size() - std::min(size, all.size()));
  if (all.substr(body.size()) == seal(hash_of(body))) return {};
  return "is damaged, or was changed after it was written: its text does not have the hash at its end";
}

void require_seal(const std::string& text, const std::string& path) {
  if (const std::string problem = broken_seal(text); !problem.empty())
    throw file_error({.file = path, .value = problem, .advice = "restore it, or quantise again"});
}

ordered_json read_sealed(const std::string& path) {
  const std::string text = read_json_text(path);
  auto json = parse_json<ordered_json>(text, path);
  if (const std::string problem = broken_seal(text); !problem.empty())
    throw file_error({.file = path, .value = problem, .advice = "remove it and run again"});
  json.erase("hash");
  return json;
}

}  // namespace mxfp4::checkpoint
