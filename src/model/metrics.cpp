// src/model/metrics.cpp -- see metrics.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "model/metrics.hpp"

#include <algorithm>
#include <cmath>

namespace mxfp4::model {

namespace {

/// log of the sum of exp, and where the largest logit is.
struct normalizer {
  double log_sum = 0;
  std::size_t top = 0;
};

[[nodiscard]] normalizer normalize(std::span<const float> logits) {
  const auto top = static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  const auto largest = static_cast<double>(logits[top]);
  double sum = 0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x) - largest);
  return {largest + std::log(sum), top};
}

}  // namespace

token_comparison compare_logits(std::span<const float> reference, std::span<const float> target, std::int64_t next) {
  const normalizer p = normalize(reference), q = normalize(target);
  token_comparison result;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double log_p = static_cast<double>(reference[i]) - p.log_sum;
    const double log_q = static_cast<double>(target[i]) - q.log_sum;
    const double weight = std::exp(log_p);
    result.entropy -= weight * log_p;
    result.kld += weight * (log_p - log_q);
  }
  result.kld = std::max(result.kld, 0.0);  // equal models may come out at -1e-17
  const auto i = static_cast<std::size_t>(next);
  result.reference_nll = p.log_sum - static_cast<double>(reference[i]);
  result.target_nll = q.log_sum - static_cast<double>(target[i]);
  result.same_top1 = p.top == q.top;
  return result;
}

std::int64_t find_nonfinite_logit(std::span<const float> logits) noexcept {
  const auto found = std::find_if_not(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); });
  return found == logits.end() ? -1 : found - logits.begin();
}

double percentile(std::span<const double> sorted, double fraction) noexcept {
  const double at = fraction * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(at);
  const std::size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (at - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

comparison_summary summarize(const std::vector<token_comparison>& tokens) {
  comparison_summary s;
  if (tokens.empty()) return s;
  s.tokens = static_cast<std::int64_t>(tokens.size());
  const auto count = static_cast<double>(tokens.size());
  double reference = 0, target = 0, agreed = 0;
  std::vector<double> klds;
  klds.reserve(tokens.size());
  for (const token_comparison& t : tokens) {
    reference += t.reference_nll;
    target += t.target_nll;
    agreed += t.same_top1 ? 1 : 0;
    s.kld_mean += t.kld / count;
    s.above_one_nat += t.kld > 1 ? 1 : 0;
    klds.push_back(t.kld);
  }
  std::sort(klds.begin(), klds.end());
  s.reference_perplexity = std::exp(reference / count);
  s.target_perplexity = std::exp(target / count);
  s.degradation = std::expm1((target - reference) / count);
  s.kld_median = percentile(klds, 0.5);
  s.kld_p95 = percentile(klds, 0.95);
  s.kld_p99 = percentile(klds, 0.99);
  s.kld_max = klds.back();
  s.top1_agreement = agreed / count;
  return s;
}

}  // namespace mxfp4::model
