// tests/checkpoint.support.hpp -- checkpoint directories, written by hand and compared as a whole.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <catch2/catch_test_macros.hpp>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mxfp4/core/float_types.hpp"
#include "mxfp4/io/safetensors_reader.hpp"
#include "mxfp4/io/safetensors_writer.hpp"
#include "mxfp4/reference/quantize.hpp"
#include "program.support.hpp"

namespace mxfp4::test {

struct tensor {
  io::tensor_info info;
  std::string data;
};

inline std::string write_shard(const std::string& path, const std::vector<tensor>& tensors,
                               std::optional<io::metadata> extra = io::metadata{{"format", "pt"}}) {
  std::vector<io::tensor_info> infos;
  for (const tensor& t : tensors) infos.push_back(t.info);
  io::safetensors_writer out = io::safetensors_writer::create(path, infos, std::move(extra)).value();
  for (const tensor& t : tensors) out.append(t.info.name, std::as_bytes(std::span(t.data))).value();
  out.commit().value();
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

/// Tensors whose data is a hole in the file: zeros that take no room.
inline void write_sparse(const std::string& path, const std::vector<io::tensor_info>& infos) {
  io::safetensors_header header;
  std::uint64_t end = 0;
  for (io::tensor_info t : infos) {
    t.begin = end;
    t.end = end += io::tensor_bytes(t.type, t.shape).value();
    header.tensors.push_back(t);
  }
  const std::string text = io::format_header(header);
  write_text(path, text);
  std::filesystem::resize_file(path, text.size() + end);
}

inline std::string tensor_data(const io::safetensors_reader& file, const std::string& name) {
  const io::tensor_info* t = file.find(name);
  if (t == nullptr) return "there is no " + name;
  std::string data(t->bytes(), '\0');
  file.read(*t, 0, std::as_writable_bytes(std::span(data))).value();
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

/// What the library makes of a matrix: codes, then scales.
template <class R, class T>
std::pair<std::string, std::string> by_library(const std::vector<T>& w, std::int64_t rows, std::int64_t cols) {
  std::vector<std::uint8_t> codes(w.size() / 2), scales(w.size() / 32);
  const status s = reference::quantize<R>(*make_dense_view(std::span(w), rows, cols),
                                          *make_view(std::span(codes), std::span(scales), rows, cols));
  REQUIRE(s.ok());
  return {bytes_of(codes), bytes_of(scales)};
}

}  // namespace mxfp4::test
