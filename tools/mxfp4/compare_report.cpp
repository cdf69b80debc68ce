// tools/mxfp4/compare_report.cpp -- see compare_report.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "compare_report.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

#include "report.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;
using namespace model;

namespace {

struct spread {
  double mean = 0, deviation = 0, smallest = 0, largest = 0;
};

[[nodiscard]] spread spread_of(const std::vector<expert_error>& errors) {
  spread s;
  if (errors.empty()) return s;
  const auto count = static_cast<double>(errors.size());
  s.smallest = s.largest = errors[0].relative_error;
  for (const expert_error& e : errors) {
    s.mean += e.relative_error / count;
    s.smallest = std::min(s.smallest, e.relative_error);
    s.largest = std::max(s.largest, e.relative_error);
  }
  for (const expert_error& e : errors) s.deviation += (e.relative_error - s.mean) * (e.relative_error - s.mean) / count;
  s.deviation = std::sqrt(s.deviation);
  return s;
}

[[nodiscard]] double router_agreement(const std::vector<layer_comparison>& layers) {
  double sum = 0, routed = 0;
  for (const layer_comparison& l : layers)
    if (l.routed) sum += l.router_agreement, ++routed;
  return routed == 0 ? 1.0 : sum / routed;
}

[[nodiscard]] std::string percent(double part, int digits) { return fixed(100 * part, digits) + " %"; }

/// A name in a cell.
[[nodiscard]] std::string cell_text(const std::string& name) {
  std::string text;
  for (const char c : printable(name)) text += c == '|' ? "\\|" : std::string(1, c);
  return text;
}

[[nodiscard]] ordered_json json_of(const target_result& r, bool details) {
  const comparison_summary s = summarize(r.tokens);
  const spread e = spread_of(r.experts);
  ordered_json json = {
      {"name", r.target.name},
      {"recipe", r.target.recipe ? ordered_json(recipe_name(*r.target.recipe)) : ordered_json(nullptr)},
      {"bytes", r.bytes},
      {"predictions", s.tokens},
      {"perplexity", s.target_perplexity},
      {"degradation", s.degradation},
      {"kld",
       {{"mean", s.kld_mean}, {"median", s.kld_median}, {"p95", s.kld_p95}, {"p99", s.kld_p99}, {"max", s.kld_max}}},
      {"top1_agreement", s.top1_agreement},
      {"tokens_above_one_nat", s.above_one_nat},
      {"expert_error", {{"mean", e.mean}, {"deviation", e.deviation}, {"min", e.smallest}, {"max", e.largest}}},
      {"router_agreement", router_agreement(r.layers)},
      {"layers", ordered_json::array()}};
  for (const layer_comparison& l : r.layers)
    json["layers"].push_back({{"hidden_error", l.hidden_error}, {"router_agreement", l.router_agreement}});
  if (!details) return json;
  ordered_json kld = ordered_json::array(), entropy = kld, reference_nll = kld, nll = kld, experts = kld;
  for (const token_comparison& t : r.tokens) {
    kld.push_back(t.kld);
    entropy.push_back(t.entropy);
    reference_nll.push_back(t.reference_nll);
    nll.push_back(t.target_nll);
  }
  for (const expert_error& x : r.experts)
    experts.push_back({{"layer", x.layer}, {"expert", x.expert}, {"relative_error", x.relative_error}});
  json["per_token"] = {{"kld", std::move(kld)},
                       {"original_entropy", std::move(entropy)},
                       {"original_nll", std::move(reference_nll)},
                       {"nll", std::move(nll)}};
  json["experts"] = std::move(experts);
  return json;
}

}  // namespace

ordered_json json_of(const comparison& c, bool details) {
  ordered_json json = {{"command", "compare"},
                       {"original",
                        {{"name", c.original},
                         {"bytes", c.original_bytes},
                         {"perplexity", summarize(c.targets[0].tokens).reference_perplexity}}},
                       {"tokens", c.tokens},
                       {"context", c.context},
                       {"activations", c.activations},
                       {"calibrations", ordered_json::array()},
                       {"targets", ordered_json::array()}};
  for (const calibrated_target& t : c.calibrations)
    json["calibrations"].push_back(
        {{"name", t.name}, {"text", t.text}, {"passages", t.passages}, {"passages_in_this_text", t.found}});
  for (const target_result& r : c.targets) json["targets"].push_back(json_of(r, details));
  return json;
}

std::string markdown_of(const comparison& c) {
  using make = std::function<std::string(const target_result&, const comparison_summary&)>;
  struct row {
    std::string title, original;
    make target;
  };
  const comparison_summary first = summarize(c.targets[0].tokens);
  const row rows[] = {
      {"size", size_text(c.original_bytes), [](const auto& r, const auto&) { return size_text(r.bytes); }},
      {"perplexity", fixed(first.reference_perplexity, 4),
       [](const auto&, const auto& s) { return fixed(s.target_perplexity, 4); }},
      {"perplexity degradation", "", [](const auto&, const auto& s) { return percent(s.degradation, 2); }},
      {"KLD mean", "", [](const auto&, const auto& s) { return fixed(s.kld_mean, 4); }},
      {"KLD median", "", [](const auto&, const auto& s) { return fixed(s.kld_median, 4); }},
      {"KLD P95", "", [](const auto&, const auto& s) { return fixed(s.kld_p95, 4); }},
      {"KLD P99", "", [](const auto&, const auto& s) { return fixed(s.kld_p99, 4); }},
      {"KLD max", "", [](const auto&, const auto& s) { return fixed(s.kld_max, 4); }},
      {"tokens with KLD > 1", "",
       [](const auto&, const auto& s) { return std::to_string(s.above_one_nat) + " of " + std::to_string(s.tokens); }},
      {"top-1 agreement", "", [](const auto&, const auto& s) { return percent(s.top1_agreement, 2); }},
      {"router agreement", "", [](const auto& r, const auto&) { return percent(router_agreement(r.layers), 2); }},
      {"hidden-state error, last layer", "",
       [](const auto& r, const auto&) { return fixed(r.layers.back().hidden_error, 4); }},
      {"expert error, mean", "", [](const auto& r, const auto&) { return fixed(spread_of(r.experts).mean, 4); }},
      {"expert error, std", "", [](const auto& r, const auto&) { return fixed(spread_of(r.experts).deviation, 4); }},
      {"expert error, min .. max", "", [](const auto& r, const auto&) {
         const spread e = spread_of(r.experts);
         return fixed(e.smallest, 4) + " .. " + fixed(e.largest, 4);
       }}};
  std::string text = "| | " + cell_text(c.original) + " |", line = "|---|---:|";
  std::vector<comparison_summary> summaries;
  for (const target_result& r : c.targets) {
    text += " " + cell_text(r.target.name) + " |";
    line += "---:|";
    summaries.push_back(summarize(r.tokens));
  }
  text += "\n" + line + "\n";
  const bool has_experts = !c.targets[0].experts.empty();
  for (const row& row : rows) {
    if (!has_experts && (row.title.starts_with("expert") || row.title.starts_with("router"))) continue;
    text += "| " + row.title + " | " + row.original + " |";
    for (std::size_t i = 0; i < summaries.size(); ++i) text += " " + row.target(c.targets[i], summaries[i]) + " |";
    text += "\n";
  }
  text += "\n" + count_text(c.tokens, "token") + " in windows of " + std::to_string(c.context) + ", activations " +
          c.activations + "; KLD is KL(original || quantised) in nats.\n";
  for (const calibrated_target& t : c.calibrations) text += printable(t.name) + ": " + t.text + ".\n";
  return text;
}

}  // namespace mxfp4::tools
