// src/checkpoint/index.cpp -- see index.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/checkpoint/index.hpp"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>

#include "checkpoint/foreign_format.hpp"
#include "io/guarded.hpp"
#include "mxfp4/checkpoint/quantize.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

namespace fs = std::filesystem;

[[nodiscard]] std::vector<std::string> find_shards(const std::string& directory) {
  std::vector<std::string> names;
  std::string foreign;  // the first file of weights in another format
  std::error_code error;
  for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (name.ends_with(".safetensors") && name.front() != '.' && name.find(".tmp-") == std::string::npos)
      names.push_back(name);
    else if (is_weights_file(name) && !name.ends_with(".safetensors") && (foreign.empty() || name < foreign))
      foreign = name;
  }
  if (error) throw file_error({.file = directory, .value = "cannot list the directory: " + error.message()});
  if (names.empty() && !foreign.empty()) throw no_safetensors(directory, foreign);
  if (names.empty())
    throw file_error({.file = directory, .value = "holds no .safetensors file", .expected = "the shards of a model"});
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

file_result<index_summary> rebuild_index(const std::string& directory, bool overwrite, const stop_function& stop) {
  return guarded([&]() -> index_summary {
    const std::string path = (fs::path(directory) / index_file_name).string();
    std::error_code error;
    if (fs::exists(fs::path(directory) / journal_folder_name, error))
      throw file_error({.file = directory,
                        .value = "holds an unfinished run of mxfp4 quantize",
                        .advice = "let the same command finish it, or use mxfp4 merge"});
    if (fs::exists(fs::symlink_status(path, error)) && !overwrite)
      throw file_error({.file = path, .value = "is there already", .advice = "replace it with --overwrite"});
    index_summary made{find_shards(directory)};
    nlohmann::json weight_map = nlohmann::json::object();  // sorted, as the ecosystem writes it
    for (const std::string& name : made.shards) {
      if (stop && stop()) throw stopped(path);
      const std::string file = (fs::path(directory) / name).string();
      const safetensors_reader shard = safetensors_reader::open(file).value();
      for (const tensor_info& t : shard.header().tensors) {
        const auto [there, is_new] = weight_map.emplace(t.name, name);
        if (!is_new)
          throw file_error({.file = file,
                            .tensor = t.name,
                            .value = "is in " + there->get<std::string>() + " too",
                            .expected = "one file to have it",
                            .advice = "take the file out that does not belong to the model"});
        made.total_size += t.bytes();
        ++made.tensors;
      }
    }
    const nlohmann::json index = {{"metadata", {{"total_size", made.total_size}}},
                                  {"weight_map", std::move(weight_map)}};
    const std::string text = index.dump(2) + "\n";
    // A link of that name is replaced, not what it leads to: caches link to files that others share.
    output_file out =
        output_file::create(path, stop, overwrite ? existing_file::replace_link : existing_file::refuse).value();
    out.write(0, std::as_bytes(std::span(text))).value();
    out.commit().value();
    return made;
  });
}

}  // namespace mxfp4::checkpoint
