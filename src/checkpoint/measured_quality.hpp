// src/checkpoint/measured_quality.hpp -- what `mxfp4 compare` measured, as a model card tells it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// KLD: KL(original || quantised) of the next token's distribution, in nats.
struct measured_quality {
  std::int64_t tokens = 0, context = 0, predictions = 0, above_one_nat = 0;
  double original_perplexity = 0, perplexity = 0, degradation = 0;  ///< degradation: 0.01 is one per cent
  std::string activations;  ///< what MXFP4 weights were multiplied with; empty where the report does not say
  double kld_mean = 0, kld_median = 0, kld_p95 = 0, kld_p99 = 0, kld_max = 0, top1_agreement = 0;
};

/// @param path  of the JSON that `mxfp4 compare` writes; its one target, or the first that is a checkpoint.
/// @throws file_error where it cannot be read or is none.
[[nodiscard]] measured_quality read_comparison(const std::string& path);

}  // namespace mxfp4::checkpoint
