// src/checkpoint/reader.cpp -- the index, its shards, and everything else in the directory.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/checkpoint/reader.hpp"

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>

#include "checkpoint/foreign_format.hpp"
#include "checkpoint/reader_json.hpp"
#include "checkpoint/written_files.hpp"
#include "io/guarded.hpp"
#include "io/strict_json.hpp"
#include "mxfp4/checkpoint/quantize.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

[[nodiscard]] bool exists(const std::string& path) {
  std::error_code error;
  return fs::exists(path, error);
}

/// A name inside the directory, and nothing that leads out of it or into a subfolder.
[[nodiscard]] bool is_plain_name(const std::string& name) {
  return name.find('/') == std::string::npos && name.find('\0') == std::string::npos &&
         name.ends_with(".safetensors") && name.front() != '.';
}

/// Folders of repositories that hold the same model once more, for another program: gpt-oss has both.
[[nodiscard]] bool holds_other_weights(const std::string& folder) { return folder == "metal" || folder == "original"; }

/// What output_file calls a file that has not got its name yet.
[[nodiscard]] bool is_temporary(const std::string& name) { return name.find(".tmp-") != std::string::npos; }

}  // namespace

file_result<checkpoint_reader> checkpoint_reader::open(const std::string& path, const std::vector<std::string>& take) {
  return guarded([&] { return checkpoint_reader(path, take); });
}

checkpoint_reader::checkpoint_reader(const std::string& path, const std::vector<std::string>& take)
    : path_(path), directory_(path) {
  if (path.empty())
    throw file_error({.file = "''", .value = "is an empty name", .expected = "that of a file or a folder"});
  std::error_code error;
  is_directory_ = fs::is_directory(path, error);
  if (!is_directory_) {
    if (!take.empty())
      throw file_error({.file = path,
                        .value = "is not a directory",
                        .expected = "one, to take " + quote_name(take.front()) + " out of it too"});
    const fs::path file(path);
    directory_ = file.has_parent_path() ? file.parent_path().string() : ".";
    shards_ = {file.filename().string()};
    open_shards(nullptr);
    return;
  }
  require_finished(path);
  const std::string index = (fs::path(path) / index_file_name).string();
  has_index_ = exists(index);
  if (has_index_) {
    const weight_map map = read_index(index);
    std::set<std::string> names;
    for (const auto& [tensor, shard] : map) names.insert(shard);
    shards_.assign(names.begin(), names.end());
    open_shards(&map);
  } else {
    shards_ = {find_single_file()};
    open_shards(nullptr);
  }
  take_files(take);
  list_files();
}

checkpoint_reader::weight_map checkpoint_reader::read_index(const std::string& file) {
  const json index = read_json<json>(file, {.values = 4'000'000});
  if (!index.is_object()) throw file_error({.file = file, .value = "is " + json_kind(index), .expected = "an object"});
  const auto map = index.find("weight_map");
  if (map == index.end() || !map->is_object())
    throw file_error({.file = file,
                      .value = "weight_map is " + (map == index.end() ? "not there" : json_kind(*map)),
                      .expected = "an object of tensor names and file names"});
  if (const auto found = index.find("metadata"); found != index.end()) {
    if (!found->is_object())
      throw file_error({.file = file, .value = "metadata is " + json_kind(*found), .expected = "an object"});
    metadata_text_ = json_text(*found);
  }
  if (map->empty())
    throw file_error({.file = file, .value = "weight_map is empty", .expected = "the names of tensors"});
  weight_map result;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string())
      throw file_error({.file = file, .tensor = tensor, .value = "is " + json_kind(shard), .expected = "a file name"});
    const auto& name = shard.get_ref<const std::string&>();
    if (!is_plain_name(name))
      throw file_error({.file = file,
                        .tensor = tensor,
                        .value = "is in " + quote_name(name),
                        .expected = "the name of a .safetensors file in the same directory",
                        .advice = "correct the index"});
    result.emplace(tensor, name);
  }
  return result;
}

std::string checkpoint_reader::find_single_file() const {
  if (exists((fs::path(path_) / single_file_name).string())) return single_file_name;
  std::vector<std::string> found;
  std::string foreign;  // the first file of weights in another format
  std::error_code error;
  for (fs::directory_iterator at(path_, error), end; !error && at != end; at.increment(error))
    if (const std::string name = at->path().filename().string(); is_plain_name(name)) found.push_back(name);
    else if (is_weights_file(name) && (foreign.empty() || name < foreign)) foreign = name;
  if (error) throw file_error({.file = path_, .value = "cannot list the directory: " + error.message()});
  if (found.size() == 1) return found.front();
  if (found.empty() && !foreign.empty()) throw no_safetensors(path_, foreign);
  throw file_error({.file = path_,
                    .value = std::string("has no ") + index_file_name + " and no " + single_file_name + ", but " +
                             std::to_string(found.size()) + " other .safetensors files",
                    .expected = "one",
                    .advice = "make the index with mxfp4 index, or name one file"});
}

void checkpoint_reader::open_shards(const weight_map* map) {
  for (const std::string& name : shards_) {
    const std::string file =
        is_directory_ ? (fs::path(directory_) / name).string() : path_;  // messages say what the user said
    if (map != nullptr && !exists(file)) {
      const auto user = std::find_if(map->begin(), map->end(), [&](const auto& entry) { return entry.second == name; });
      throw file_error({.file = file,
                        .value = "is missing, the index has tensor " + quote_name(user->first) + " in it",
                        .advice = "download it again"});
    }
    readers_.push_back(std::make_unique<safetensors_reader>(safetensors_reader::open(file).value()));
    for (const tensor_info& t : readers_.back()->header().tensors) {
      const checkpoint_tensor tensor{readers_.size() - 1, &t};
      const bool is_ours = map == nullptr || [&] {
        const auto found = map->find(t.name);
        return found != map->end() && found->second == name;
      }();
      if (is_ours) {
        by_name_.emplace(t.name, tensors_.size());
        tensors_.push_back(tensor);
        tensor_bytes_ += t.bytes();
      } else {
        unlisted_.push_back(tensor);
      }
    }
  }
  if (map == nullptr || tensors_.size() == map->size()) return;
  for (const auto& [tensor, shard] : *map)
    if (find(tensor) == nullptr)
      throw file_error({.file = (fs::path(directory_) / shard).string(),
                        .tensor = tensor,
                        .value = "is missing",
                        .expected = "it, as the index says",
                        .advice = "download both again"});
}

void checkpoint_reader::take_files(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const std::string file = (fs::path(directory_) / name).string();
    if (!is_plain_name(name))
      throw file_error({.file = file,
                        .value = "cannot be taken",
                        .expected = "the name of a .safetensors file in " + path_ + ", without a folder"});
    if (std::find(shards_.begin(), shards_.end(), name) != shards_.end()) continue;  // it is read anyway
    shards_.push_back(name);
    readers_.push_back(std::make_unique<safetensors_reader>(safetensors_reader::open(file).value()));
    for (const tensor_info& t : readers_.back()->header().tensors) {
      if (const checkpoint_tensor* there = find(t.name))
        throw file_error({.file = file,
                          .tensor = t.name,
                          .value = "is in " + shards_[there->shard] + " too",
                          .expected = "a tensor that the index does not have",
                          .advice = "take no file that holds tensors of the model again"});
      by_name_.emplace(t.name, tensors_.size());
      tensors_.push_back({readers_.size() - 1, &t});
      tensor_bytes_ += t.bytes();
    }
  }
}

std::vector<std::string> checkpoint_reader::stray_shards() const {
  std::vector<std::string> found;
  for (const std::string& name : ignored_files_)
    if (is_plain_name(name) && !is_temporary(name)) found.push_back(name);
  return found;
}

void checkpoint_reader::list_files() {
  const std::set<std::string> shards(shards_.begin(), shards_.end());
  std::error_code error;
  fs::path listed = directory_;  // what the next step reads on in, for the message
  fs::recursive_directory_iterator at(directory_, error);
  for (const fs::recursive_directory_iterator end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    listed = at->path().parent_path();
    const std::string relative = at->path().lexically_relative(directory_).string();
    std::error_code ignored;
    if (at->is_directory(ignored)) {
      const bool skipped = at->is_symlink(ignored) || name.front() == '.' || holds_other_weights(relative);
      if (skipped) ignored_files_.push_back(relative + "/");
      if (skipped && !at->is_symlink(ignored)) at.disable_recursion_pending();
      if (!skipped) listed = at->path();
    } else if (shards.contains(relative) || relative == index_file_name) {
      continue;
    } else {
      if (at->is_symlink(ignored) && !at->exists(ignored) && !is_temporary(name) && !is_weights_file(name))
        throw file_error(
            {.file = at->path().string(),
             .value = "is a link to " + fs::read_symlink(at->path(), ignored).string() + ", which is not there",
             .expected = "the file itself",
             .advice = "download it again, or remove the link"});
      const bool belongs = at->is_regular_file(ignored) && !is_weights_file(name) && !is_temporary(name);
      (belongs ? other_files_ : ignored_files_).push_back(relative);
    }
  }
  if (error) throw file_error({.file = listed.string(), .value = "cannot list the directory: " + error.message()});
  std::sort(other_files_.begin(), other_files_.end());
  std::sort(ignored_files_.begin(), ignored_files_.end());
}

std::vector<tensor_info> checkpoint_reader::tensor_infos() const {
  std::vector<tensor_info> infos;
  infos.reserve(tensors_.size());
  for (const checkpoint_tensor& t : tensors_) infos.push_back(*t.info);
  return infos;
}

const checkpoint_tensor* checkpoint_reader::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

file_result<std::optional<std::string>> checkpoint_reader::config_text() const {
  return guarded([&]() -> std::optional<std::string> {
    const std::string file = (fs::path(directory_) / config_file_name).string();
    if (!is_directory_ || !exists(file)) return std::nullopt;
    return read_json_text(file, config_limits);
  });
}

nlohmann::ordered_json read_config(const checkpoint_reader& checkpoint) {
  const std::optional<std::string> text = checkpoint.config_text().value();
  if (!text) return nullptr;
  const std::string file = (fs::path(checkpoint.directory()) / config_file_name).string();
  auto config = parse_json<nlohmann::ordered_json>(*text, file, config_limits);
  if (!config.is_object())
    throw file_error({.file = file, .value = "is " + json_kind(config), .expected = "an object"});
  if (const auto found = config.find("quantization_config");
      found != config.end() && !found->is_object() && !found->is_null())
    fail_member(*found, "quantization_config", "an object", file, "");
  return config;
}

nlohmann::json read_index_metadata(const checkpoint_reader& checkpoint) {
  const std::string& text = checkpoint.metadata_text();
  return text.empty() ? nlohmann::json() : parse_json<nlohmann::json>(text, index_file_name);
}

}  // namespace mxfp4::checkpoint
