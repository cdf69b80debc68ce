// src/model/config.hpp -- what a forward pass needs to know of a model, from its config.json.
// SPDX-License-Identifier: Apache-2.0
//
// The pass is one for all families; what they differ in stands here as data. architectures.cpp makes it of a
// config.json, with a function for each model_type; docs/adding-an-architecture.md adds one more by example.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "mxfp4/moe/router.hpp"
#include "mxfp4/tensor/moe_options.hpp"

namespace mxfp4::model {

struct model_shape {
  std::int64_t vocabulary = 0, hidden = 0, layers = 0, heads = 0, key_value_heads = 0;
  std::int64_t head_dim = 0, value_dim = 0;  ///< of q and k, and of v
  std::int64_t experts = 0;                  ///< of a layer; 0: no layer has any
  std::int64_t experts_per_token = 0;        ///< k
  std::int64_t intermediate = 0;             ///< of an expert
};

/// Over which numbers of q and k an RMS norm goes.
enum class head_norm : std::uint8_t { none, each_head, all_heads };

/// Which dimensions of a head are turned, and how fast.
struct rotary_description {
  std::int64_t first = 0, dim = 0;  ///< dimensions [first, first + dim) of each head; dim is even
  bool neighbours = false;          ///< a pair is i and i + 1, not i and i + dim / 2
  double theta = 0;
  std::vector<double> frequencies;  ///< of each pair, in radians a position: theta^(-2i / dim), scaled
  double magnitude = 1;             ///< of the turned dimensions: YaRN's attention_factor
  double score_scale = 1;           ///< of q k besides: what DeepSeek makes of YaRN's mscale_all_dim
};

/// Keys and values that are made from a short vector: multi-head latent attention. Each rank 0: they are not.
struct latent_description {
  std::int64_t query_rank = 0;  ///< q_lora_rank; 0: q is made of the hidden state itself
  std::int64_t key_rank = 0;    ///< kv_lora_rank
};

struct attention_description {
  head_norm norm = head_norm::none;
  bool qkv_bias = false, o_bias = false;
  bool sinks = false;                 ///< a number for each head that joins the softmax and takes no value
  std::vector<std::int64_t> windows;  ///< one a layer: a token sees itself and so many less one before; 0: all
  float scale = 0;                    ///< of q k
  rotary_description rotary;
  latent_description latent;
};

/// What is called how, and what a layer does behind its attention.
struct expert_description {
  std::string block = "mlp";    ///< "model.layers.0.<block>.experts.1.<gate>.weight"
  std::string router = "gate";  ///< "model.layers.0.<block>.<router>.weight"
  std::string gate = "gate_proj", up = "up_proj", down = "down_proj";
  bool stacked = false;  ///< gpt-oss: all experts in one tensor, the rows of gate and up take turns; or apart,
                         ///< gate_proj, up_proj and down_proj of each, as `convert --to compressed-tensors` has them
  bool biases = false;   ///< of gate, up and down
  bool router_bias = false;      ///< of the router's product
  std::string choice_bias = {};  ///< "model.layers.0.<block>.<this>", which is added for the choice alone; or none
  route_options route = {};      ///< without the executor
  moe_options function = {};     ///< its act, alpha and limit
  std::vector<bool> dense = {};  ///< one a layer: no experts, but gate, up and down for every token
  std::int64_t dense_intermediate = 0;
  std::string shared = {};  ///< "model.layers.0.<block>.<this>.<gate>.weight": what every token takes too
  std::int64_t shared_intermediate = 0;
};

struct model_config {
  std::string model_type;
  model_shape shape;
  attention_description attention;
  expert_description experts;
  std::int64_t context = 0;  ///< max_position_embeddings
  float rms_eps = 0;
  bool tied_head = false;  ///< the embeddings are the head

  [[nodiscard]] std::int64_t query_size() const noexcept { return shape.heads * shape.head_dim; }
  [[nodiscard]] std::int64_t key_size() const noexcept { return shape.key_value_heads * shape.head_dim; }
  [[nodiscard]] std::int64_t value_size() const noexcept { return shape.key_value_heads * shape.value_dim; }
  [[nodiscard]] bool is_dense(std::int64_t layer) const noexcept {
    return experts.dense[static_cast<std::size_t>(layer)];
  }
  /// Experts of a layer as they are numbered here: a dense layer is one, the shared expert stands behind the others.
  [[nodiscard]] std::int64_t experts_in(std::int64_t layer) const noexcept {
    return is_dense(layer) ? 1 : shape.experts + (experts.shared.empty() ? 0 : 1);
  }
};

/// "gpt_oss, llama or ...": every model_type that read_model_config takes.
[[nodiscard]] std::string architecture_names();

/// @param where  begins the messages: the file's path.
/// @throws file_error for another architecture, a missing or odd number, and for variants that are not computed here,
///         naming the key.
[[nodiscard]] model_config read_model_config(const nlohmann::ordered_json& config, const std::string& where);

/// @throws file_error naming the first number in which two checkpoints of one model differ.
void require_same_model(const model_config& original, const model_config& other, const std::string& where);

}  // namespace mxfp4::model
