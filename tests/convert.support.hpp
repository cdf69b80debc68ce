// tests/convert.support.hpp -- small checkpoints written and read whole, for the tests of conversions.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "cli.support.hpp"
#include "mxfp4/checkpoint/reader.hpp"
#include "mxfp4/io/safetensors_writer.hpp"
#include "support/random.hpp"

namespace mxfp4::test {

using io::dtype;
using io::tensor_info;

struct stored_tensor {
  dtype type = dtype::u8;
  std::vector<std::int64_t> shape;
  std::string data;

  friend bool operator==(const stored_tensor&, const stored_tensor&) = default;
};
using tensor_map = std::map<std::string, stored_tensor>;

inline std::string random_bytes(std::size_t n, std::uint64_t seed) {
  splitmix random(seed);
  std::string bytes(n, '\0');
  for (char& c : bytes) c = static_cast<char>(random.byte());
  return bytes;
}

/// Random bytes in [low, high].
inline std::string random_bytes(std::size_t n, std::uint64_t seed, int low, int high) {
  splitmix random(seed);
  std::string bytes(n, '\0');
  for (char& c : bytes) c = static_cast<char>(random.in(low, high));
  return bytes;
}

inline std::size_t elements(const std::vector<std::int64_t>& shape) {
  std::size_t n = 1;
  for (const std::int64_t d : shape) n *= static_cast<std::size_t>(d);
  return n;
}

/// A tensor of random bytes.
inline stored_tensor random_tensor(dtype type, std::vector<std::int64_t> shape, std::uint64_t seed) {
  const std::size_t bytes = elements(shape) * static_cast<std::size_t>(io::dtype_bits(type)) / 8;
  return {type, std::move(shape), random_bytes(bytes, seed)};
}

/// Codes and scales [.., cols / 2] and [.., cols / 32] of random bytes, byte 255 and code 8 among them.
inline void add_pair(tensor_map& tensors, const std::string& name, std::vector<std::int64_t> shape,
                     std::uint64_t seed) {
  std::vector<std::int64_t> codes = shape, scales = std::move(shape);
  codes.back() /= 2;
  scales.back() /= 32;
  tensors[name + "_packed"] = random_tensor(dtype::u8, codes, seed);
  tensors[name + "_scale"] = random_tensor(dtype::u8, scales, seed + 1);
}

inline void write_shard(const std::string& path, const tensor_map& tensors) {
  std::vector<tensor_info> plan;
  for (const auto& [name, t] : tensors) plan.push_back({name, t.type, t.shape});
  io::safetensors_writer out = io::safetensors_writer::create(path, plan, io::metadata{{"format", "pt"}}).value();
  for (const auto& [name, t] : tensors) out.append(name, std::as_bytes(std::span(t.data))).value();
  out.commit().value();
}

/// A directory with two shards, the second one with every other tensor; numbers as real checkpoints have them.
inline std::string write_checkpoint(const std::string& path, const tensor_map& tensors, const nlohmann::json& config) {
  std::filesystem::create_directories(path + "/extra");
  tensor_map halves[2];
  nlohmann::json map;
  std::size_t i = 0;
  for (const auto& [name, t] : tensors) {
    halves[i % 2][name] = t;
    map[name] = i++ % 2 == 0 ? "model-00000-of-00007.safetensors" : "model-00005-of-00007.safetensors";
  }
  write_shard(path + "/model-00000-of-00007.safetensors", halves[0]);
  write_shard(path + "/model-00005-of-00007.safetensors", halves[1]);
  write_text(path + "/model.safetensors.index.json", nlohmann::json{{"weight_map", map}}.dump());
  if (!config.is_null()) write_text(path + "/config.json", config.dump(1));
  write_text(path + "/tokenizer.json", "{\"a\": 1}");
  write_text(path + "/extra/notes.txt", "kept");
  write_text(path + "/README.md", "about the source");
  return path;
}

/// All tensors of a directory or file.
inline tensor_map read_checkpoint(const std::string& path) {
  const checkpoint::checkpoint_reader in = checkpoint::checkpoint_reader::open(path).value();
  tensor_map tensors;
  for (const checkpoint::checkpoint_tensor& t : in.tensors()) {
    stored_tensor& stored = tensors[t.info->name];
    stored = {t.info->type, t.info->shape, std::string(t.info->bytes(), '\0')};
    in.read(t, 0, std::as_writable_bytes(std::span(stored.data))).value();
  }
  return tensors;
}

/// Names that only one has, and those that differ.
inline std::vector<std::string> differences(const tensor_map& a, const tensor_map& b) {
  std::vector<std::string> names;
  for (const auto& [name, t] : a)
    if (!b.contains(name) || b.at(name) != t) names.push_back(name);
  for (const auto& [name, t] : b)
    if (!a.contains(name)) names.push_back(name);
  return names;
}

inline std::uint8_t byte_at(const stored_tensor& t, std::int64_t i) {
  return static_cast<std::uint8_t>(t.data.at(static_cast<std::size_t>(i)));
}

}  // namespace mxfp4::test
