// src/calibrate/imatrix_codes.cpp -- see imatrix_codes.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "calibrate/imatrix_codes.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "calibrate/importance.hpp"
#include "checkpoint/plan_settings.hpp"
#include "checkpoint/reader_json.hpp"
#include "io/content_hash.hpp"
#include "mxfp4/checkpoint/plan.hpp"
#include "mxfp4/io/error.hpp"

namespace mxfp4::calibrate {

using namespace io;
using namespace checkpoint;

namespace {

constexpr double damping = 0.01;  ///< of the mean, added to each column's importance: as a calibration does

/// With a mean of 1 and the damping; of columns that are all zero: all alike.
[[nodiscard]] std::vector<float> damped(std::span<const float> squares) {
  const double mean = std::accumulate(squares.begin(), squares.end(), 0.0) / static_cast<double>(squares.size());
  std::vector<float> result;
  for (const float x : squares)
    result.push_back(static_cast<float>((mean > 0 ? static_cast<double>(x) / mean : 1.0) + damping));
  return result;
}

/// A weight that is quantised: which entry it has, and what that has to hold.
struct wanted {
  std::string name;
  std::vector<std::int64_t> shape;
  imatrix_place place;
  std::int64_t cols = 0, matrices = 1;  ///< of each matrix; how many the weight is
};

[[nodiscard]] std::vector<wanted> wanted_of(const checkpoint_reader& original, const checkpoint_settings& settings) {
  const quantization_plan plan =
      make_plan(original.tensor_infos(), plan_options_of(settings, read_config(original)), original.path()).value();
  std::vector<wanted> list;
  for (const planned_tensor& p : plan.tensors) {
    if (p.action != tensor_action::quantize) continue;
    const tensor_info& t = p.source;
    wanted w{t.name, t.shape, imatrix_place_of(t.name)};
    w.cols = p.stack ? p.stack->cols : t.shape.back();
    if (t.shape.size() == 3) w.matrices = p.stack ? p.stack->experts : t.shape[0];
    list.push_back(std::move(w));
  }
  return list;
}

/// How many experts an entry has to have: of the model's single experts the highest number and one, or a stack's.
[[nodiscard]] std::map<std::string, std::int64_t> experts_by_entry(std::span<const wanted> weights,
                                                                   const checkpoint_reader& original) {
  std::map<std::string, std::int64_t> experts;
  for (const wanted& w : weights) experts[w.place.entry] = w.matrices;
  for (const tensor_info& t : original.tensor_infos()) {  // those too that are left out
    const imatrix_place p = imatrix_place_of(t.name);
    if (const auto found = experts.find(p.entry); found != experts.end())
      found->second = std::max(found->second, p.expert + 1);
  }
  return experts;
}

/// A .dat has a 1 for each column of an expert that met no token.
[[nodiscard]] bool met_no_token(const imatrix_entry& entry, std::int64_t experts, std::int64_t e,
                                std::span<const float> squares) {
  if (!entry.counts.empty()) return entry.counts[static_cast<std::size_t>(e)] == 0;
  return experts > 1 && std::all_of(squares.begin(), squares.end(), [](float x) { return x == 1; });
}

}  // namespace

imatrix_codes::imatrix_codes(const checkpoint_reader& original, const checkpoint_settings& settings,
                             const std::string& path)
    : hash_(hash_of_file(path)) {
  const imatrix found = read_imatrix(path);
  chunks_ = found.chunks;
  chunk_size_ = found.chunk_size;
  const std::vector<wanted> weights = wanted_of(original, settings);
  const std::map<std::string, std::int64_t> experts_of = experts_by_entry(weights, original);
  for (const wanted& w : weights) {
    const auto entry = w.place.entry.empty() ? found.entries.end() : found.entries.find(w.place.entry);
    if (entry == found.entries.end()) {
      without_entry_ += w.matrices;
      continue;
    }
    const std::vector<float>& squares = entry->second.squares;
    const std::vector<std::int64_t>& counts = entry->second.counts;
    const std::int64_t experts = experts_of.at(w.place.entry);
    const auto [at, is_new] = entries_.try_emplace(w.place.entry);
    importance& known = at->second;
    // Experts of one entry have one size: the first says which.
    if (std::ssize(squares) != experts * w.cols || (!counts.empty() && std::ssize(counts) != experts) ||
        (!is_new && known.cols != w.cols))
      throw file_error({.file = path,
                        .tensor = w.place.entry,
                        .value = "has " + std::to_string(squares.size()) + " numbers" +
                                 (counts.empty() ? "" : " of " + std::to_string(counts.size()) + " matrices"),
                        .expected = std::to_string(w.cols) + " columns" +
                                    (experts == 1 ? "" : " of each of " + std::to_string(experts) + " experts") +
                                    ", as " + quote_name(w.name) + ", " + shape_text(w.shape) + ", has them",
                        .advice = "is it the importance matrix of this model?"});
    if (is_new) {
      known.cols = w.cols;
      known.counts = counts;
      for (std::int64_t e = 0; e < experts; ++e) {
        const auto of_one =
            std::span(squares).subspan(static_cast<std::size_t>(e * w.cols), static_cast<std::size_t>(w.cols));
        known.of_expert.push_back(met_no_token(entry->second, experts, e, of_one) ? std::vector<float>()
                                                                                  : damped(of_one));
      }
    }
    const auto first = known.of_expert.begin() + w.place.expert;
    without_tokens_ += std::count_if(first, first + w.matrices, [](const auto& x) { return x.empty(); });
    places_[w.name] = {&known, w.place.expert};
  }
  if (places_.empty())
    throw file_error({.file = path,
                      .value = "has no entry for a weight of " + quote_name(original.path()) +
                               " that is quantised: its first is " + quote_name(found.entries.begin()->first),
                      .advice = "is it the importance matrix of this model?"});
}

std::string imatrix_codes::record() const {
  return nlohmann::ordered_json{{"method", "imatrix"},
                                {"version", 1},
                                {"text", hash_},
                                {"tokens", chunks_ * chunk_size_},
                                {"context", chunk_size_},
                                {"damping", damping},
                                {"fingerprints", nlohmann::ordered_json::array()}}
      .dump();
}

code_costs imatrix_codes::choose(const std::string& weight, std::int64_t expert, std::int64_t first,
                                 std::span<const float> weights, std::span<std::uint8_t> codes,
                                 std::span<std::uint8_t> scales) const {
  const place& p = places_.at(weight);
  const std::vector<float>& columns = p.entry->of_expert[static_cast<std::size_t>(std::max(expert, p.expert))];
  if (columns.empty()) return {};
  return choose_by_importance(weights, columns, first, codes, scales);
}

std::string imatrix_codes::facts(const std::string& weight, std::int64_t expert) const {
  const place& p = places_.at(weight);
  nlohmann::ordered_json facts = nlohmann::ordered_json::object();
  if (!p.entry->counts.empty()) facts["tokens"] = p.entry->counts[static_cast<std::size_t>(std::max(expert, p.expert))];
  return facts.dump();
}

}  // namespace mxfp4::calibrate
