// tests/family.support.hpp -- the tiny model of a family of tests/vectors/family_logits, made by its rules.
// SPDX-License-Identifier: Apache-2.0
//
// tests/interop/family_logits.py has the same rules in Python: there transformers computed the recording.
#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "convert.support.hpp"
#include "mxfp4/core/float_types.hpp"
#include "support/vectors.hpp"

namespace mxfp4::test {

inline constexpr const char* recorded_families[] = {
    "deepseek_v3", "gpt_oss", "gpt_oss_native", "llama", "minimax_m2", "mixtral", "olmoe", "qwen3", "qwen3_moe"};

struct recorded_family {
  nlohmann::json config, rules;
  std::vector<std::int64_t> ids, added;  ///< a text, and what greedy generation adds
  double router_margin = 1, token_margin = 1;
  std::vector<float> logits;  ///< of the text, [tokens][vocabulary]

  explicit recorded_family(const std::string& name) {
    const std::string path = std::string(MXFP4_TEST_VECTORS) + "/family_logits/" + name;
    const auto golden = nlohmann::json::parse(std::ifstream(path + ".json"));
    config = golden.at("config");
    rules = golden.at("tensors");
    ids = golden.at("ids").get<std::vector<std::int64_t>>();
    added = golden.at("added").get<std::vector<std::int64_t>>();
    if (!golden.at("router_margin").is_null()) router_margin = golden.at("router_margin").get<double>();
    token_margin = golden.at("token_margin").get<double>();
    logits = load<float>("family_logits/" + name + ".f32");
  }

  [[nodiscard]] tensor_map tensors() const {
    tensor_map all;
    for (const auto& [name, rule] : rules.items()) all[name] = fill(name, rule);
    return all;
  }

  /// A directory with `with` as its config.json, without a tokenizer. @return  its path.
  std::string write(const std::string& path, const nlohmann::json& with) const {
    write_checkpoint(path, tensors(), with);
    std::filesystem::remove(path + "/tokenizer.json");
    return path;
  }
  std::string write(const std::string& path) const { return write(path, config); }

 private:
  [[nodiscard]] static stored_tensor fill(const std::string& name, const nlohmann::json& rule) {
    const auto shape = rule.at("shape").get<std::vector<std::int64_t>>();
    const auto type = rule.at("dtype").get<std::string>();
    const double centre = rule.at("centre"), spread = rule.at("spread");
    std::int64_t count = 1;
    for (const std::int64_t n : shape) count *= n;
    std::uint64_t state = 0xCBF29CE484222325u;
    for (const char c : name) state = (state ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
    std::vector<std::uint8_t> bytes;
    std::vector<std::uint16_t> narrow;
    std::vector<float> wide;
    for (std::int64_t i = 0; i < count; ++i) {
      std::uint64_t z = state += 0x9E3779B97F4A7C15u;
      z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
      z = (z ^ z >> 27) * 0x94D049BB133111EBu;
      z ^= z >> 31;
      const double x = centre + spread * (static_cast<double>(z >> 11) * 0x1p-52 - 1);
      if (type == "U8") bytes.push_back(static_cast<std::uint8_t>(std::floor(x)));
      else if (type == "BF16") narrow.push_back(static_cast<std::uint16_t>(encode_bf16(static_cast<float>(x))));
      else wide.push_back(static_cast<float>(x));
    }
    if (type == "U8") return {dtype::u8, shape, bytes_of(bytes)};
    if (type == "BF16") return {dtype::bf16, shape, bytes_of(narrow)};
    return {dtype::f32, shape, bytes_of(wide)};
  }
};

}  // namespace mxfp4::test
