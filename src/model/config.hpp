// src/model/config.hpp -- what a forward pass of MiniMax-M2 needs to know from config.json.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "checkpoint/minimax_m2.hpp"

namespace mxfp4::model {

struct model_config {
  checkpoint::minimax_m2_shape shape;  ///< fp8 says nothing here: each tensor's own type does
  std::int64_t rotary_dim = 0;         ///< of each head, even: the first dimensions are turned
  std::int64_t context = 0;            ///< max_position_embeddings
  double rope_theta = 0;
  float rms_eps = 0;

  [[nodiscard]] std::int64_t query_size() const noexcept { return shape.heads * shape.head_dim; }
  [[nodiscard]] std::int64_t key_size() const noexcept { return shape.key_value_heads * shape.head_dim; }
};

/// @param where  begins the messages: the file's path.
/// @throws file_error for another architecture, a missing or odd number, and for variants of it that are not computed
///         here: no q/k norm, another score function, tied embeddings, a shared expert, scaled positions, a window of
///         attention.
[[nodiscard]] model_config read_model_config(const nlohmann::ordered_json& config, const std::string& where);

/// @throws file_error naming the first number in which two checkpoints of one model differ.
void require_same_model(const model_config& original, const model_config& other, const std::string& where);

}  // namespace mxfp4::model
