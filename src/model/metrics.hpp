// src/model/metrics.hpp -- how far the predictions of two models are apart, token by token and in sum.
// SPDX-License-Identifier: Apache-2.0
//
//   p, q       softmax of the reference's and of the target's logits        all sums in double, logits shifted by their
//   nll        -log p[next token]                                           maximum first: +-1e4 is as good as +-1
//   KLD        sum over the vocabulary of p * (log p - log q)
//   entropy    of p, sum of -p * log p
//
// Units are nats. Perplexity is exp(mean nll).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mxfp4::model {

/// One position: what two models make of the next token.
struct token_comparison {
  double reference_nll = 0, target_nll = 0;
  double kld = 0;      ///< KL(reference || target), at least 0
  double entropy = 0;  ///< of the reference
  bool same_top1 = false;
};

/// @param reference, target  logits over the same vocabulary, finite.
/// @param next               the token that follows, an index into them.
[[nodiscard]] token_comparison compare_logits(std::span<const float> reference, std::span<const float> target,
                                              std::int64_t next);

/// Index of the first logit that is NaN or infinite, or -1.
[[nodiscard]] std::int64_t find_nonfinite_logit(std::span<const float> logits) noexcept;

struct comparison_summary {
  std::int64_t tokens = 0;
  double reference_perplexity = 0, target_perplexity = 0;
  double degradation = 0;  ///< target / reference - 1
  double kld_mean = 0, kld_median = 0, kld_p95 = 0, kld_p99 = 0, kld_max = 0;
  double top1_agreement = 0;       ///< 0..1
  std::int64_t above_one_nat = 0;  ///< tokens with KLD > 1
};

/// Percentiles by linear interpolation between order statistics: numpy's default. All zeros for no tokens.
[[nodiscard]] comparison_summary summarize(const std::vector<token_comparison>& tokens);

/// The value below which the part `fraction` of the sorted values lies, interpolated.
[[nodiscard]] double percentile(std::span<const double> sorted, double fraction) noexcept;

}  // namespace mxfp4::model
