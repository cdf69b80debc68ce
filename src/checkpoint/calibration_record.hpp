// src/checkpoint/calibration_record.hpp -- what a result's report says of the text that it was calibrated on.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

struct calibration_record {
  std::string method;
  std::string text;  ///< hash of the file: of the text, or of the importance matrix
  std::int64_t tokens = 0, context = 0;
  std::vector<std::string> fingerprints;  ///< of passages: calibrate/overlap.hpp
};

/// @param settings  of a report.  @param path  the report's.
/// @return nothing where the codes are those of a recipe.  @throws io::file_error where it is malformed.
[[nodiscard]] std::optional<calibration_record> read_calibration(const nlohmann::ordered_json& settings,
                                                                 const std::string& path);
/// The same of a checkpoint's directory; nothing too where it has no report.
[[nodiscard]] std::optional<calibration_record> calibration_of(const std::string& directory);

/// To six digits, so that what a report says of a calibration has the same text wherever it is written.
[[nodiscard]] double rounded_fact(double x);

/// "calibrated on 65536 tokens in windows of 256, of a text with the hash ed38...", or by which importance matrix.
[[nodiscard]] std::string calibration_text(const calibration_record& c);

/// What the recipe alone would have made of the tensors with calibrated codes or scales of a report: their hashes, by
/// the tensor's name. Two for each matrix, or for each stack that is one tensor.
[[nodiscard]] std::unordered_map<std::string, std::string> read_plain_hashes(const nlohmann::ordered_json& report,
                                                                             const std::string& path);

}  // namespace mxfp4::checkpoint
