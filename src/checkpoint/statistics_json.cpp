// src/checkpoint/statistics_json.cpp -- see statistics_json.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/statistics_json.hpp"

#include <string>

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

ordered_json to_json(const error_statistics& s) {
  ordered_json histogram = ordered_json::object();
  for (std::size_t byte = 0; byte < s.scales.size(); ++byte)
    if (s.scales[byte] != 0) histogram[std::to_string(byte)] = s.scales[byte];
  return {{"weights", s.weights},
          {"relative_error", s.relative_error()},
          {"max_error", s.max_error},
          {"saturated", s.saturated},
          {"zeroed", s.zeroed},
          {"lost", s.lost},
          {"nonfinite", s.nonfinite},
          {"nan_blocks", s.nan_blocks},
          {"squared_weights", s.squared_weights},
          {"squared_error", s.squared_error},
          {"scale_histogram", std::move(histogram)}};
}

error_statistics statistics_from_json(const ordered_json& json) {
  error_statistics s;
  json.at("weights").get_to(s.weights);
  json.at("max_error").get_to(s.max_error);
  json.at("saturated").get_to(s.saturated);
  json.at("zeroed").get_to(s.zeroed);
  json.at("lost").get_to(s.lost);
  json.at("nonfinite").get_to(s.nonfinite);
  json.at("nan_blocks").get_to(s.nan_blocks);
  json.at("squared_weights").get_to(s.squared_weights);
  json.at("squared_error").get_to(s.squared_error);
  const ordered_json& histogram = json.at("scale_histogram");
  for (std::size_t byte = 0; byte < s.scales.size(); ++byte)
    if (const auto found = histogram.find(std::to_string(byte)); found != histogram.end())
      found->get_to(s.scales[byte]);
  return s;
}

}  // namespace mxfp4::checkpoint
