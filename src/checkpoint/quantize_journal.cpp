// src/checkpoint/quantize_journal.cpp -- the manifest, and that later runs agree with it.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/quantize_journal.hpp"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

#include "checkpoint/recorded_hashes.hpp"
#include "checkpoint/sealed_json.hpp"
#include "io/guarded.hpp"
#include "io/strict_json.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

namespace fs = std::filesystem;

constexpr const char* what_to_do =
    "go on with the same input and settings, name a fresh directory, or start again with --overwrite";

/// Is there an array of objects that have names under these keys, or, without keys, of names? They stay in the folder.
[[nodiscard]] bool lists(const ordered_json& manifest, const char* name, std::initializer_list<const char*> keys) {
  const auto is_name = [](const ordered_json& value) {
    if (!value.is_string()) return false;
    const fs::path path(value.get_ref<const std::string&>());
    return path.is_relative() && std::find(path.begin(), path.end(), "..") == path.end();
  };
  const auto found = manifest.find(name);
  return found != manifest.end() && found->is_array() &&
         std::all_of(found->begin(), found->end(), [&](const ordered_json& entry) {
           if (keys.size() == 0) return is_name(entry);
           return std::all_of(keys.begin(), keys.end(), [&](const char* key) {
             return entry.is_object() && is_name(entry.value(key, ordered_json()));
           });
         });
}

/// A file of a code_source.
[[nodiscard]] bool is_calibration(const std::string& name) {
  return name.starts_with("calibrated-") && (name.ends_with(".safetensors") || name.ends_with(".json"));
}

}  // namespace

ordered_json without_times(ordered_json manifest) {
  for (ordered_json& shard : manifest.at("source").at("shards")) shard.erase("modified");
  return manifest;
}

std::string manifest_difference(const ordered_json& was, const ordered_json& is) {
  // Both are objects: the first change of the way from one to the other has a path into at least one of them.
  const ordered_json changes = ordered_json::diff(was, is);
  if (changes.empty()) return {};
  const ordered_json& first = changes.front();
  const auto path = first.at("path").get<std::string>();
  if (path.ends_with("/-")) return path.substr(1, path.size() - 3) + " has " + json_shown(first.at("value")) + " now";
  const ordered_json::json_pointer at(path);
  const auto value = [&at](const ordered_json& json) {
    return json.contains(at) ? json_shown(json.at(at)) : "not there";
  };
  return path.substr(1) + " was " + value(was) + " and is now " + value(is);
}

quantize_journal::quantize_journal(const std::string& out)
    : out_(out), folder_(out + "/" + journal_folder_name), manifest_path_(folder_ + "/manifest.json") {}

bool quantize_journal::exists() const {
  std::error_code error;
  return fs::exists(manifest_path_, error);
}

ordered_json quantize_journal::manifest() const {
  constexpr const char* advice = "start again with --overwrite";
  const std::string text = read_json_text(manifest_path_);
  const auto parsed = guarded([&] { return parse_json<ordered_json>(text, manifest_path_); });
  if (!parsed) {
    fault why = parsed.error().parts();
    why.advice = advice;
    throw file_error(why);
  }
  ordered_json json = *parsed;
  if (!json.is_object() || json.value("format", ordered_json()) != "mxfp4 quantize")
    throw file_error({.file = manifest_path_, .value = "is not a manifest of mxfp4 quantize", .advice = advice});
  if (json.value("version", ordered_json()) != hashed_version)
    throw file_error({.file = manifest_path_,
                      .value = "version is " + json_shown(json.value("version", ordered_json())),
                      .expected = std::to_string(hashed_version),
                      .advice = "start again with --overwrite, or end the run with the version that began it"});
  if (const std::string problem = broken_seal(text); !problem.empty())
    throw file_error({.file = manifest_path_, .value = problem, .advice = advice});
  json.erase("hash");
  if (const ordered_json& settings = json_member(json, "settings", manifest_path_, ""); !settings.is_object())
    fail_member(settings, "settings", "an object", manifest_path_, "");
  const ordered_json& source = json_member(json, "source", manifest_path_, "");
  for (const ordered_json& shard : json_array(source, "shards", manifest_path_, "source"))
    if (!shard.is_object()) fail_member(shard, "shards", "an array of objects", manifest_path_, "source");
  if (!lists(json, "shards", {"file"}) || !lists(json, "files", {}) || !lists(json, "file_hashes", {"file", "hash"}) ||
      json["shards"].empty())
    throw file_error({.file = manifest_path_,
                      .value = "names no shards, or does not list them and the other files as mxfp4 quantize does",
                      .advice = advice});
  return json;
}

void quantize_journal::begin(const ordered_json& manifest) const {
  make_journal_folder(out_);
  require_own();
  constexpr std::chrono::milliseconds pause(5), patience(60'000);
  std::chrono::milliseconds waited(0);
  while (!exists()) {  // of several that begin at the same moment one writes
    const std::optional<file_lock> writing = file_lock::try_acquire(lock_path("manifest")).value();
    if (writing && !exists()) replace(manifest);
    if (writing) continue;
    if (waited >= patience)
      throw file_error({.file = manifest_path_,
                        .value = "is not there after a minute, and another process is writing it",
                        .advice = "end the process that has " + quote_name(lock_path("manifest")) + " locked"});
    std::this_thread::sleep_for(pause);
    waited += pause;
  }
  require_same(manifest);
}

void quantize_journal::require_same(const ordered_json& manifest) const {
  const ordered_json was = this->manifest();
  const std::string difference = manifest_difference(was, manifest);
  if (difference.empty()) return;
  std::string advice = what_to_do;
  const ordered_json::json_pointer isa("/settings/calibration/isa");
  if (difference.starts_with(isa.to_string().substr(1)) && was.contains(isa) && was.at(isa).is_string()) {
    const auto& begun = was.at(isa).get_ref<const std::string&>();
    const bool is_forced = begun != "compiled" && begun != "none";  // a program without dispatch began it
    advice = "calibrated codes are those of one instruction set: " +
             (is_forced ? "MXFP4_ISA=" + begun : "the program that began it") +
             " goes on with it, --overwrite starts again with another";
  }
  throw file_error({.file = out_, .value = "was begun differently: " + difference, .advice = advice});
}

void quantize_journal::replace(const ordered_json& manifest) const {
  write_text_file(manifest_path_, sealed_text(manifest, 2));
}

void quantize_journal::forget() const { remove_entries(false); }

void quantize_journal::require_own() const {
  std::error_code error;
  if (fs::is_symlink(fs::symlink_status(folder_, error)))
    throw file_error({.file = folder_,
                      .value = "is a symbolic link, through which nothing is written or removed",
                      .advice = "remove the link, or name another output"});
  const auto is_ours = [](std::string name) {
    if (!name.ends_with(".lock")) name = name.substr(0, name.rfind(".tmp-", name.size() - 1));  // of a killed run
    return name == "manifest.json" || name == "replaced.json" || name.ends_with(".lock") ||
           name.ends_with(".safetensors.json") || is_calibration(name);
  };
  for (fs::directory_iterator at(folder_, error), end; !error && at != end; at.increment(error))
    if (!is_ours(at->path().filename().string()) || fs::is_directory(at->symlink_status(error)))
      throw file_error({.file = at->path().string(),
                        .value = "was not written by mxfp4, and its folder is to be removed",
                        .advice = "move it away, and give the command again"});
}

void quantize_journal::remove() const {
  require_own();
  remove_entries(true);
  std::error_code error;
  fs::remove(folder_, error);
  if (error) throw file_error({.file = folder_, .value = "cannot remove the folder: " + error.message()});
}

void quantize_journal::remove_entries(bool all) const {
  std::vector<fs::path> paths = {manifest_path_};  // first: without its reports it would ask for all shards again
  std::error_code error;
  for (fs::directory_iterator at(folder_, error), end; !error && at != end; at.increment(error))
    if (const std::string name = at->path().filename().string();
        all || name.ends_with(".safetensors.json") || is_calibration(name))
      paths.push_back(at->path());
  if (error == std::errc::no_such_file_or_directory) return;
  if (error) throw file_error({.file = folder_, .value = "cannot list the folder: " + error.message()});
  for (const fs::path& path : paths) {
    fs::remove(path, error);
    if (error) throw file_error({.file = path.string(), .value = "cannot remove: " + error.message()});
  }
}

}  // namespace mxfp4::checkpoint
