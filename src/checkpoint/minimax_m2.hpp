// src/checkpoint/minimax_m2.hpp -- the tensors of a MiniMax-M2 model, from its config.json alone.
// SPDX-License-Identifier: Apache-2.0
//
// H hidden_size, I intermediate_size, V vocab_size, E experts, Q = heads * head_dim, C = key/value heads * head_dim:
//
//   model.embed_tokens.weight, lm_head.weight                      BF16 [V, H]
//   model.norm.weight                                              BF16 [H]
//   model.layers.<l>.input_layernorm.weight, post_attention_...    BF16 [H]
//     .self_attn.{q,k,v,o}_proj.weight                             F8_E4M3 [Q, H] [C, H] [C, H] [H, Q]
//     .self_attn.{q,k}_norm.weight                                 BF16 [Q] [C]: over all heads at once
//     .block_sparse_moe.gate.weight, .e_score_correction_bias      F32 [E, H] [E]
//     .block_sparse_moe.experts.<e>.{w1,w2,w3}.weight              F8_E4M3 [I, H] [H, I] [I, H]
//
// and X_scale_inv F32 [ceil(rows / 128), ceil(cols / 128)] for each X of F8_E4M3. Without a quantization_config these
// are BF16. The config advertises layers for multi-token prediction; no published checkpoint holds any.
// Source: transformers models/minimax_m2, vLLM model_executor/models/minimax_m2.py, the headers of MiniMax-M2.7.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "mxfp4/io/safetensors.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

struct minimax_m2_shape {
  std::int64_t vocabulary = 0, hidden = 0, intermediate = 0, layers = 0, heads = 0, key_value_heads = 0, head_dim = 0;
  std::int64_t experts = 0, experts_per_token = 0;
  bool fp8 = false;  ///< 128 x 128 blocks
};

/// @param where  begins the messages: the file's path.
/// @throws file_error where the config is of another model, lacks a number, or says something unexpected.
[[nodiscard]] minimax_m2_shape read_minimax_m2_shape(const nlohmann::ordered_json& config, const std::string& where);

/// In the order of the model; begin = 0, end = bytes.
[[nodiscard]] std::vector<io::tensor_info> minimax_m2_tensors(const minimax_m2_shape& shape);

}  // namespace mxfp4::checkpoint
