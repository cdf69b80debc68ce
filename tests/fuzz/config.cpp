// tests/fuzz/config.cpp -- any bytes as the config.json of a source: a model's shape, and the config of its MXFP4 form.
// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>

#include "checkpoint/minimax_m2.hpp"
#include "checkpoint/quantization_config.hpp"
#include "io/strict_json.hpp"
#include "memory_file.hpp"
#include "model/config.hpp"

namespace {

using namespace mxfp4::checkpoint;
using namespace mxfp4::io;
using mxfp4::test::accepted_or_refused, mxfp4::test::require;
using nlohmann::ordered_json;

constexpr const char* key = "quantization_config";

/// What quantize makes of it has every other key as it was, but for a quantization inside, and is read as written.
void check_quantized(const ordered_json& config) {
  const tensor_info expert{"model.layers.0.block_sparse_moe.experts.0.w1.weight", dtype::bf16, {32, 32}, 0, 2048};
  const ordered_json made = make_config(config, make_plan({expert}, {}, "fuzz").value(), "fuzz");
  ordered_json kept = config;
  remove_nested_quantization(kept);
  for (const auto& [name, value] : kept.items()) require(name == key || made.at(name) == value);
  require(made.size() == config.size() + (config.contains(key) ? 0 : 1));
  require(parse_json<ordered_json>(json_text(made, 2), "again") == made);
  require(module_resolver(made.at(key), "fuzz").group_of(module_of(expert.name)) == "group_0");
}

void check_model(const ordered_json& config) {
  const mxfp4::model::model_config model = mxfp4::model::read_model_config(config, "config.json");
  const mxfp4::model::model_shape& s = model.shape;
  constexpr std::int64_t largest = std::int64_t{1} << 31;
  for (const std::int64_t n : {s.vocabulary, s.hidden, s.layers, s.heads, s.key_value_heads, s.head_dim, s.value_dim,
                               model.attention.rotary.dim, model.context})
    require(n >= 1 && n <= largest);
  require(s.experts >= s.experts_per_token && s.experts_per_token >= 0 && s.intermediate >= 0);
  require(model.query_size() > 0 && model.key_size() > 0 && model.attention.rotary.theta > 0 && model.rms_eps >= 0);
  require(std::ssize(model.attention.rotary.frequencies) == model.attention.rotary.dim / 2);
  require(std::ssize(model.attention.windows) == s.layers && std::ssize(model.experts.dense) == s.layers);
  for (const std::int64_t window : model.attention.windows) require(window >= 0);
  for (std::int64_t l = 0; l < s.layers; ++l) require(model.experts_in(l) >= 1);
  mxfp4::model::require_same_model(model, model, "the same");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  accepted_or_refused([&] {
    const auto config = parse_json<ordered_json>(std::string(reinterpret_cast<const char*>(data), size), "config.json");
    accepted_or_refused([&] { check_quantized(config); });
    accepted_or_refused([&] { check_model(config); });
    accepted_or_refused([&] { static_cast<void>(read_minimax_m2_shape(config, "config.json")); });
  });
  return 0;
}
