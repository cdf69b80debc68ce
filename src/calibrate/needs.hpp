// src/calibrate/needs.hpp -- what a calibration needs of memory and disk, before it begins.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

#include "calibrate/expert.hpp"
#include "model/config.hpp"

namespace mxfp4::calibrate {

inline constexpr std::int64_t default_context = 2048;  ///< tokens of a window, or what the model takes

/// What decides it besides the model.
struct calibration_size {
  std::int64_t tokens = 0, context = 0;  ///< of the text, and of a window
  int threads = 1;
  rounding_method method = rounding_method::hessian;
};

/// Bytes besides the program. A layer does one after the other: attention, the experts' codes, the experts' products.
/// Of a model without experts the feed-forward block is one, and the attention has codes before.
struct memory_need {
  std::uint64_t states = 0;           ///< hidden states of two models: always there
  std::uint64_t attention = 0;        ///< a layer's weights, a window's queries, keys, values, scores
  std::uint64_t attention_codes = 0;  ///< sums and matrices besides, while its codes are chosen; 0: they are not
  std::uint64_t inputs = 0;           ///< what the experts of a layer see, of both models; routing
  std::uint64_t sums = 0;             ///< over all tokens of a layer, for experts that see some of them
  std::uint64_t an_expert = 0;        ///< for each that is worked on: sums over its tokens, matrices, activations
  std::uint64_t products = 0;         ///< an expert's weights, activations of some tokens a thread

  /// What is there when experts are worked on, besides them.
  [[nodiscard]] std::uint64_t beside_experts() const noexcept { return states + inputs + sums; }
  /// With one expert at a time.
  [[nodiscard]] std::uint64_t least() const noexcept {
    return states + std::max({attention + attention_codes, inputs + products, inputs + sums + an_expert});
  }
};

[[nodiscard]] memory_need memory_of(const model::model_config& config, const calibration_size& size);

/// Floating-point operations, in two groups of which each has its own speed.
struct calibration_work {
  double of_experts = 0;  ///< roots of H, targets, passes over columns: whatever the text
  double of_tokens = 0;   ///< two models' products, sums over inputs
};
[[nodiscard]] calibration_work work_of(const model::model_config& config, const calibration_size& size);

/// Operations a second of one core. Measured on one layer with 2 experts of 3072 x 1536, docs/calibration.md says how.
inline constexpr double expert_rate = 10.7e9, token_rate = 25.4e9;

/// Bytes under OUT/.mxfp4 at the most: the codes of all experts, and two layers' hidden states of both models.
[[nodiscard]] std::uint64_t disk_of(const model::model_config& config, std::int64_t tokens);

}  // namespace mxfp4::calibrate
