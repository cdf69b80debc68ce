// src/checkpoint/llama_cpp.hpp -- what llama.cpp calls the tensors and the settings of the families in its table.
// SPDX-License-Identifier: Apache-2.0
//
//   checkpoint                                                       llama.cpp
//   model.embed_tokens.weight, model.norm.weight                     token_embd.weight, output_norm.weight
//   lm_head.weight                                                   output.weight
//   model.layers.<n>.input_layernorm.weight                          blk.<n>.attn_norm.weight
//   model.layers.<n>.post_attention_layernorm.weight                 blk.<n>.ffn_norm.weight
//   model.layers.<n>.self_attn.{q,k,v,o}_proj.weight                 blk.<n>.attn_{q,k,v,output}.weight
//   model.layers.<n>.self_attn.{q,k}_norm.weight                     blk.<n>.attn_{q,k}_norm.weight
//   model.layers.<n>.M.gate.weight                                   blk.<n>.ffn_gate_inp.weight
//   model.layers.<n>.M.experts.{G,U,D}.weight [experts, rows, cols]  blk.<n>.ffn_{gate,up,down}_exps.weight
//   model.layers.<n>.M.e_score_correction_bias                       blk.<n>.exp_probs_b.bias
//
// M is mlp, or block_sparse_moe; G, U, D are gate_proj, up_proj, down_proj, or w1, w3, w2. Vectors and routers are F32
// there. Source: the gguf package 0.19 (constants.py, tensor_mapping.py) and llama.cpp's converters of that time.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mxfp4/checkpoint/reader.hpp"
#include "mxfp4/io/gguf.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// A family that llama.cpp runs and whose names are known here.
struct llama_family {
  std::string_view model_type, architecture;
  std::string_view block;              ///< M
  std::string_view gate, up, down;     ///< G, U, D
  std::string_view expert_length_key;  ///< of config.json: rows of a gate matrix
  std::string_view pre_tokenizer;      ///< tokenizer.ggml.pre
  bool sigmoid = false;                ///< experts are chosen by sigmoids, with a bias
};

[[nodiscard]] const llama_family* find_llama_family(std::string_view model_type) noexcept;          ///< nullptr: none
[[nodiscard]] const llama_family* find_llama_architecture(std::string_view architecture) noexcept;  ///< the same

/// nullopt where the other side has no name for it.
[[nodiscard]] std::optional<std::string> llama_name(const llama_family& family, std::string_view name);
[[nodiscard]] std::optional<std::string> name_of_llama(const llama_family& family, std::string_view name);

/// The settings of the model and its tokenizer.
/// @param model  whose directory has tokenizer.json, tokenizer_config.json and generation_config.json.
/// @throws file_error for a setting that is missing, or that llama.cpp's code of the family does not have, and for a
///         tokenizer that is not byte-level BPE.
[[nodiscard]] std::vector<io::gguf_pair> llama_pairs(const llama_family& family, const nlohmann::ordered_json& config,
                                                     const checkpoint_reader& model);

}  // namespace mxfp4::checkpoint
