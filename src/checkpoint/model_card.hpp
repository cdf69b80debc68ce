// src/checkpoint/model_card.hpp -- README.md of a quantised checkpoint, from its report and its config.json.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/measured_quality.hpp"
#include "mxfp4/checkpoint/quality_report.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

struct card_options {
  std::string name;                        ///< title, and what the commands to serve it call it
  std::string base_model;                  ///< "owner/model"
  std::string license;                     ///< a licence's identifier, or "other"
  std::string license_name, license_link;  ///< where it is "other"; empty: left out
  std::vector<std::string> plots;          ///< pictures, relative to the card
  bool has_license_file = false;
  std::optional<measured_quality> measured;  ///< on a text, beside the original
};

/// Markdown with a YAML front matter.
/// @param config  config.json; may be null.
[[nodiscard]] std::string model_card(const card_options& options, const quality_report& report,
                                     const nlohmann::ordered_json& config);

}  // namespace mxfp4::checkpoint
