// src/checkpoint/quantize_journal.cpp -- the manifest, and that later runs agree with it.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/quantize_journal.hpp"

#include <filesystem>
#include <system_error>
#include <vector>

#include "io/strict_json.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

namespace fs = std::filesystem;

constexpr const char* what_to_do =
    "go on with the same input and settings, name a fresh directory, or start again with --overwrite";

}  // namespace

std::string manifest_difference(const ordered_json& was, const ordered_json& is) {
  // Both are objects: the first change of the way from one to the other has a path into at least one of them.
  const ordered_json changes = ordered_json::diff(was, is);
  if (changes.empty()) return {};
  const auto path = changes.front().at("path").get<std::string>();
  const ordered_json::json_pointer at(path);
  const auto value = [&at](const ordered_json& json) { return json.contains(at) ? json.at(at).dump() : "not there"; };
  return path.substr(1) + " was " + value(was) + " and is now " + value(is);
}

quantize_journal::quantize_journal(const std::string& out)
    : out_(out), folder_(out + "/" + journal_folder_name), manifest_path_(folder_ + "/manifest.json") {}

bool quantize_journal::exists() const {
  std::error_code error;
  return fs::exists(manifest_path_, error);
}

ordered_json quantize_journal::manifest() const {
  auto json = read_json<ordered_json>(manifest_path_);
  if (!json.is_object() || json.value("format", "") != "mxfp4 quantize" || !json.contains("shards"))
    throw file_error(
        {.file = manifest_path_, .value = "is not a manifest of mxfp4 quantize", .advice = "name a fresh directory"});
  return json;
}

void quantize_journal::begin(const ordered_json& manifest) const {
  make_journal_folder(out_);
  if (!exists()) write_text_file(manifest_path_, manifest.dump(2) + "\n");
  require_same(manifest);
}

void quantize_journal::require_same(const ordered_json& manifest) const {
  if (const std::string difference = manifest_difference(this->manifest(), manifest); !difference.empty())
    throw file_error({.file = out_, .value = "was begun differently: " + difference, .advice = what_to_do});
}

void quantize_journal::forget() const { remove_entries(false); }

void quantize_journal::remove() const {
  remove_entries(true);
  std::error_code error;
  fs::remove(folder_, error);
  if (error) throw file_error({.file = folder_, .value = "cannot remove the folder: " + error.message()});
}

void quantize_journal::remove_entries(bool all) const {
  std::vector<fs::path> paths = {manifest_path_};  // first: without its reports it would ask for all shards again
  std::error_code error;
  for (fs::directory_iterator at(folder_, error), end; !error && at != end; at.increment(error))
    if (all || at->path().string().ends_with(".safetensors.json")) paths.push_back(at->path());
  if (error == std::errc::no_such_file_or_directory) return;
  if (error) throw file_error({.file = folder_, .value = "cannot list the folder: " + error.message()});
  for (const fs::path& path : paths) {
    fs::remove(path, error);
    if (error) throw file_error({.file = path.string(), .value = "cannot remove: " + error.message()});
  }
}

}  // namespace mxfp4::checkpoint
