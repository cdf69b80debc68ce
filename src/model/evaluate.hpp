// src/model/evaluate.hpp -- one model against others, layer by layer, all tokens at a time.
// SPDX-License-Identifier: Apache-2.0
//
//   ids --> windows of `context` tokens --> each model's hidden states, layer by layer --> logits, some tokens at once
//
// In memory: of each model the hidden states of all tokens, twice, and where each token goes; of one model at a time
// what a window's tokens have in an attention; and beside these activations one expert, or a layer's attention up to
// 40 MiB, or 8 MiB of a head, with 64 MiB for all the rest (docs/program.md). What does not fit is read again.
// No window sees another.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/config.hpp"
#include "model/metrics.hpp"
#include "model/weights.hpp"

namespace mxfp4::model {

/// What is compared with the reference: another checkpoint, or the reference with its experts in MXFP4 by a recipe.
struct evaluation_target {
  std::string name;
  const checkpoint::checkpoint_reader* checkpoint = nullptr;
  std::optional<recipe_id> recipe;  ///< where there is no checkpoint
};

struct evaluation_options {
  std::int64_t context = 2048;  ///< tokens of a window, at least 2; the last one may be shorter
  product_options product;
  /// Called now and then: bytes of weights that are done, bytes in all, and where it is.
  std::function<void(std::uint64_t done, std::uint64_t total, const std::string& where)> progress =
      [](std::uint64_t, std::uint64_t, const std::string&) {};
};

/// |W - W'|_F / |W|_F over gate, up and down of one expert, W the reference's.
struct expert_error {
  std::int64_t layer = 0, expert = 0;
  double relative_error = 0;
};

struct layer_comparison {
  double hidden_error = 0;      ///< |h - h'|_F / |h|_F of the hidden states after the layer
  double router_agreement = 0;  ///< the share of a token's experts that both take, in the mean
  bool routed = true;           ///< whether the layer has experts to choose from
};

struct target_result {
  evaluation_target target;
  std::uint64_t bytes = 0;               ///< of tensors, in the checkpoint; of a recipe: that it would have
  std::vector<token_comparison> tokens;  ///< of every position that has a next one in its window
  std::vector<layer_comparison> layers;
  std::vector<expert_error> experts;
};

/// @param reference, targets  of one architecture, `config`.
/// @param ids                 tokens, at least 2.
/// @return  a result for each target; the same bits for any executor.
/// @throws file_error for an id outside the vocabulary, weights that do not fit, and a logit that is NaN or infinite,
///         naming the position.
[[nodiscard]] std::vector<target_result> evaluate(const checkpoint::checkpoint_reader& reference,
                                                  std::span<const evaluation_target> targets,
                                                  const model_config& config, std::span<const std::int64_t> ids,
                                                  const evaluation_options& options);

}  // namespace mxfp4::model
