// src/checkpoint/minimax_m2.cpp -- see minimax_m2.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/minimax_m2.hpp"

#include <utility>

#include "io/guarded.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

using nlohmann::ordered_json;

constexpr const char* model_type = "minimax_m2";

[[nodiscard]] std::int64_t positive(const ordered_json& config, const char* key, const std::string& where) {
  constexpr std::int64_t largest = 1 << 30;  // products of two are far from overflow
  const auto found = config.find(key);
  if (found == config.end())
    throw file_error({.file = where, .value = std::string("has no ") + key, .expected = "a number"});
  if (!found->is_number_integer() || *found < 1 || *found > largest)
    throw file_error(
        {.file = where, .value = std::string(key) + " is " + found->dump(), .expected = "an integer from 1 to 2^30"});
  return found->get<std::int64_t>();
}

[[nodiscard]] bool read_fp8(const ordered_json& config, const std::string& where) {
  const auto found = config.find("quantization_config");
  if (found == config.end() || found->is_null()) return false;
  if (!found->is_object())
    throw file_error({.file = where, .value = "quantization_config is " + found->dump(), .expected = "an object"});
  const ordered_json method = found->value("quant_method", ordered_json());
  const ordered_json block = found->value("weight_block_size", ordered_json());
  if (method != "fp8" || block != ordered_json{fp8_block, fp8_block})
    throw file_error(
        {.file = where,
         .value = "quantization_config has quant_method " + method.dump() + ", weight_block_size " + block.dump(),
         .expected = "\"fp8\", [128,128]",
         .advice = "give the checkpoint's directory, its headers say what there is"});
  return true;
}

class tensor_list {
 public:
  explicit tensor_list(bool fp8) : fp8_(fp8) {}

  void add(const std::string& name, dtype type, std::vector<std::int64_t> shape) {
    const std::uint64_t bytes = value_at(tensor_bytes(type, shape), model_type, name);
    tensors_.push_back({name, type, std::move(shape), 0, bytes});
  }

  void add_linear(const std::string& name, std::int64_t rows, std::int64_t cols) {
    add(name, fp8_ ? dtype::f8_e4m3 : dtype::bf16, {rows, cols});
    if (fp8_) add(name + fp8_scale_suffix, dtype::f32, {ceil_div(rows), ceil_div(cols)});
  }

  [[nodiscard]] std::vector<tensor_info> take() { return std::move(tensors_); }

 private:
  [[nodiscard]] static std::int64_t ceil_div(std::int64_t n) { return (n + fp8_block - 1) / fp8_block; }

  bool fp8_;
  std::vector<tensor_info> tensors_;
};

}  // namespace

minimax_m2_shape read_minimax_m2_shape(const ordered_json& config, const std::string& where) {
  if (!config.is_object())
    throw file_error({.file = where, .value = "is not a JSON object", .expected = "a model's config.json"});
  const ordered_json type = config.value("model_type", ordered_json());
  if (type != model_type)
    throw file_error({.file = where,
                      .value = "model_type is " + type.dump(),
                      .expected = std::string("\"") + model_type + "\"",
                      .advice = "of other models give the checkpoint's directory, its headers say what there is"});
  minimax_m2_shape s;
  s.vocabulary = positive(config, "vocab_size", where);
  s.hidden = positive(config, "hidden_size", where);
  s.intermediate = positive(config, "intermediate_size", where);
  s.layers = positive(config, "num_hidden_layers", where);
  s.heads = positive(config, "num_attention_heads", where);
  s.key_value_heads = positive(config, "num_key_value_heads", where);
  s.head_dim = positive(config, "head_dim", where);
  s.experts = positive(config, "num_local_experts", where);
  s.experts_per_token = positive(config, "num_experts_per_tok", where);
  s.fp8 = read_fp8(config, where);
  constexpr std::int64_t most_tensors = 10'000'000;  // a hundred times the largest model
  if (s.layers > most_tensors / 6 || s.experts > most_tensors / 6 / s.layers)
    throw file_error({.file = where,
                      .value = std::to_string(s.layers) + " layers of " + std::to_string(s.experts) + " experts",
                      .expected = "less than 10 million tensors"});
  return s;
}

std::vector<tensor_info> minimax_m2_tensors(const minimax_m2_shape& s) {
  const std::int64_t query = s.heads * s.head_dim, key = s.key_value_heads * s.head_dim;
  tensor_list list(s.fp8);
  list.add("model.embed_tokens.weight", dtype::bf16, {s.vocabulary, s.hidden});
  for (std::int64_t l = 0; l < s.layers; ++l) {
    const std::string layer = "model.layers." + std::to_string(l) + ".";
    const std::string attention = layer + "self_attn.", moe = layer + "block_sparse_moe.";
    list.add(layer + "input_layernorm.weight", dtype::bf16, {s.hidden});
    list.add_linear(attention + "q_proj.weight", query, s.hidden);
    list.add_linear(attention + "k_proj.weight", key, s.hidden);
    list.add_linear(attention + "v_proj.weight", key, s.hidden);
    list.add_linear(attention + "o_proj.weight", s.hidden, query);
    list.add(attention + "q_norm.weight", dtype::bf16, {query});
    list.add(attention + "k_norm.weight", dtype::bf16, {key});
    list.add(layer + "post_attention_layernorm.weight", dtype::bf16, {s.hidden});
    list.add(moe + "gate.weight", dtype::f32, {s.experts, s.hidden});
    list.add(moe + "e_score_correction_bias", dtype::f32, {s.experts});
    for (std::int64_t e = 0; e < s.experts; ++e) {
      const std::string expert = moe + "experts." + std::to_string(e) + ".";
      list.add_linear(expert + "w1.weight", s.intermediate, s.hidden);
      list.add_linear(expert + "w2.weight", s.hidden, s.intermediate);
      list.add_linear(expert + "w3.weight", s.intermediate, s.hidden);
    }
  }
  list.add("model.norm.weight", dtype::bf16, {s.hidden});
  list.add("lm_head.weight", dtype::bf16, {s.vocabulary, s.hidden});
  return list.take();
}

}  // namespace mxfp4::checkpoint
