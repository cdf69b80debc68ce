// tools/mxfp4/compare_report.hpp -- what mxfp4 compare found, as a table for people and as JSON for plots.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/evaluate.hpp"

namespace mxfp4::tools {

/// What a checkpoint's report says of the text that it was calibrated on.
struct calibrated_target {
  std::string name, text;
  std::int64_t found = 0, passages = 0;  ///< of that text in the one that it is compared on, and in all
};

struct comparison {
  std::string original;
  std::uint64_t original_bytes = 0;
  std::int64_t tokens = 0;   ///< of the text
  std::int64_t context = 0;  ///< of a window
  std::string activations;
  std::vector<calibrated_target> calibrations;
  std::vector<model::target_result> targets;  ///< at least one
};

/// A Markdown table as model cards have it: a column for the original and one for each target.
[[nodiscard]] std::string markdown_of(const comparison& c);

/// The same numbers and those of each layer. @param details  tokens and experts too, one by one.
[[nodiscard]] nlohmann::ordered_json json_of(const comparison& c, bool details);

}  // namespace mxfp4::tools
