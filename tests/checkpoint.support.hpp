// tests/checkpoint.support.hpp -- checkpoint directories, written by hand and compared as a whole.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cli.support.hpp"
#include "common/safetensors_reader.hpp"
#include "common/safetensors_writer.hpp"
#include "mxfp4/float_types.hpp"

namespace mxfp4::test {

struct tensor {
  tools::tensor_info info;
  std::string data;
};

inline std::string write_shard(const std::string& path, const std::vector<tensor>& tensors) {
  std::vector<tools::tensor_info> infos;
  for (const tensor& t : tensors) infos.push_back(t.info);
  tools::safetensors_writer out(path, infos, tools::metadata{{"format", "pt"}});
  for (const tensor& t : tensors) out.append(t.info.name, std::as_bytes(std::span(t.data)));
  out.commit();
  return path;
}

/// Shards, index and config.json in `folder`, which is made.
inline std::string write_checkpoint(const std::string& folder, const std::map<std::string, std::vector<tensor>>& shards,
                                    const std::string& config = R"({"model_type":"test"})") {
  std::filesystem::create_directories(folder);
  nlohmann::json index;
  for (const auto& [file, tensors] : shards) {
    write_shard(folder + "/" + file, tensors);
    for (const tensor& t : tensors) index["weight_map"][t.info.name] = file;
  }
  write_text(folder + "/model.safetensors.index.json", index.dump());
  write_text(folder + "/config.json", config);
  return folder;
}

inline std::string tensor_data(const tools::safetensors_reader& file, const std::string& name) {
  const tools::tensor_info* t = file.find(name);
  if (t == nullptr) return "there is no " + name;
  std::string data(t->bytes(), '\0');
  file.read(*t, 0, std::as_writable_bytes(std::span(data)));
  return data;
}

/// Relative path -> content of every file below a folder; folders end in '/'.
inline std::map<std::string, std::string> tree(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().lexically_relative(folder).string();
    if (entry.is_directory()) files[name + "/"] = "";
    else files[name] = read_text(entry.path().string());
  }
  return files;
}

/// Names of the files that differ or are on one side only: a failure says which, and not their bytes.
inline std::vector<std::string> differences(const std::map<std::string, std::string>& a,
                                            const std::map<std::string, std::string>& b) {
  std::vector<std::string> names;
  for (const auto& [name, bytes] : a)
    if (const auto found = b.find(name); found == b.end() || found->second != bytes) names.push_back(name);
  for (const auto& [name, bytes] : b)
    if (!a.contains(name)) names.push_back(name);
  return names;
}

/// Numbers of any size, some of them large and small.
inline std::vector<float> some_weights(std::size_t n, std::uint32_t seed = 1) {
  std::vector<float> w(n);
  std::uint32_t state = seed;
  for (float& x : w) {
    state = state * 1664525u + 1013904223u;
    x = (static_cast<float>(state >> 8) / 0x1p23f - 1.0f) * (state % 11 == 0 ? 0.5f : 0.02f);
  }
  return w;
}

template <class T>
std::vector<T> narrowed(const std::vector<float>& w, float factor = 1) {
  std::vector<T> out;
  for (const float x : w) out.push_back(encode<T>(x * factor));
  return out;
}

inline outcome mxfp4_run(std::vector<std::string> arguments, const limits& limit = {},
                         const std::vector<std::string>& environment = {}) {
  arguments.insert(arguments.begin(), MXFP4_PROGRAM);
  return run(std::move(arguments), limit, environment);
}

}  // namespace mxfp4::test
