// src/calibrate/imatrix_codes.cpp -- see imatrix_codes.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "calibrate/imatrix_codes.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "calibrate/importance.hpp"
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

}  // namespace

imatrix_codes::imatrix_codes(const checkpoint_reader& original, const std::string& path) : hash_(hash_of_file(path)) {
  const imatrix found = read_imatrix(path);
  chunks_ = found.chunks;
  chunk_size_ = found.chunk_size;
  for (const tensor_info& t : original.tensor_infos()) {
    const std::size_t dimensions = t.shape.size();
    if (dimensions != 2 && !(dimensions == 3 && is_expert_weight(t.name, 3))) continue;
    const imatrix_place p = imatrix_place_of(t.name);
    const auto entry = found.entries.find(p.entry);
    if (entry == found.entries.end()) {
      without_entry_ += is_expert_weight(t.name, dimensions) ? 1 : 0;
      continue;
    }
    const auto& [squares, counts] = entry->second;
    const auto size = std::ssize(squares);
    // A stack may lie either way; of single experts there are as many as the entry has rows.
    std::int64_t cols = t.shape.back(), experts = cols > 0 ? size / cols : 0;
    if (dimensions == 3 && size != t.shape[0] * cols) cols = t.shape[1];
    if (dimensions == 3) experts = t.shape[0];
    if (size != experts * cols || p.expert >= experts || (!counts.empty() && std::ssize(counts) != experts))
      throw file_error({.file = path,
                        .tensor = p.entry,
                        .value = "has " + std::to_string(size) + " numbers" +
                                 (counts.empty() ? "" : " of " + std::to_string(counts.size()) + " matrices"),
                        .expected = "those of " + quote_name(t.name) + ", " + shape_text(t.shape),
                        .advice = "is it the importance matrix of this model?"});
    const auto [at, is_new] = entries_.try_emplace(p.entry);
    importance& known = at->second;
    if (is_new) {
      known.counts = counts;
      for (std::int64_t e = 0; e < experts; ++e)
        known.of_expert.push_back(
            counts.empty() || counts[static_cast<std::size_t>(e)] > 0
                ? damped(std::span(squares).subspan(static_cast<std::size_t>(e * cols), static_cast<std::size_t>(cols)))
                : std::vector<float>());
    }
    if (dimensions == 2 && known.of_expert[static_cast<std::size_t>(p.expert)].empty()) ++without_entry_;
    if (dimensions == 3)
      without_entry_ +=
          std::count_if(known.of_expert.begin(), known.of_expert.end(), [](const auto& x) { return x.empty(); });
    places_[t.name] = {&known, p.expert};
  }
  if (places_.empty())
    throw file_error({.file = path,
                      .value = "has no entry for a weight of " + quote_name(original.path()) + ": its first is " +
                               quote_name(found.entries.begin()->first),
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
