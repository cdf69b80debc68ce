// src/checkpoint/statistics_json.cpp -- see statistics_json.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/statistics_json.hpp"

#include <charconv>
#include <string>

#include "io/strict_json.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

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

namespace {

/// So many that the sum over all that a file may hold (json_limits) fits 64 bits: more than any tensor has.
constexpr std::int64_t most_counted = std::int64_t{1} << 39;

[[nodiscard]] std::int64_t count_in(const ordered_json& object, const char* key, const std::string& file,
                                    const std::string& place) {
  const auto count = json_value<std::int64_t>(object, key, file, place);
  if (count < 0 || count > most_counted) fail_member(object.at(key), key, "a count from 0 to 2^39", file, place);
  return count;
}

}  // namespace

error_statistics statistics_from_json(const ordered_json& object, const std::string& file, const std::string& place) {
  const auto count = [&](const char* key) { return count_in(object, key, file, place); };
  const auto number = [&](const char* key) {
    const auto value = json_value<double>(object, key, file, place);
    if (!(value >= 0)) fail_member(object.at(key), key, "a number from 0 on", file, place);
    return value;
  };
  error_statistics s;
  s.weights = count("weights");
  s.max_error = number("max_error");
  s.saturated = count("saturated");
  s.zeroed = count("zeroed");
  s.lost = count("lost");
  s.nonfinite = count("nonfinite");
  s.nan_blocks = count("nan_blocks");
  s.squared_weights = number("squared_weights");
  s.squared_error = number("squared_error");
  const ordered_json& histogram = json_member(object, "scale_histogram", file, place);
  const std::string histogram_place = place + ".scale_histogram";
  if (!histogram.is_object()) fail_member(histogram, "scale_histogram", "an object", file, place);
  for (const auto& [key, blocks] : histogram.items()) {
    unsigned byte = 256;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), byte);
    if (error != std::errc{} || end != key.data() + key.size() || byte > 255)
      throw io::file_error({.file = file,
                            .value = histogram_place + " has the key " + io::quote_name(key),
                            .expected = "a scale byte, 0 to 255"});
    s.scales[byte] = count_in(histogram, key.c_str(), file, histogram_place);
  }
  return s;
}

}  // namespace mxfp4::checkpoint
