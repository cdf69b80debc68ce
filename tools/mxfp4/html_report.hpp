// tools/mxfp4/html_report.hpp -- the errors of a checkpoint as one HTML page, which needs nothing but itself.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "checkpoint/measured_quality.hpp"
#include "mxfp4/checkpoint/quality_report.hpp"

namespace mxfp4::tools {

/// What mxfp4 compare --details wrote of the one checkpoint that it compares.
struct comparison_details {
  checkpoint::measured_quality summary;
  std::vector<double> kld, entropy;  ///< of each token, in nats; entropy of the original's prediction
};

/// @throws file_error where it cannot be read or is none.
[[nodiscard]] comparison_details read_comparison_details(const std::string& path);

/// A page for light and dark screens of any width, with pictures drawn into it: sizes, errors by expert and by part,
/// calibration, scales, and what was measured on a text. No script, no address, nothing that a browser would fetch.
[[nodiscard]] std::string html_report(const std::string& name, const checkpoint::quality_report& report,
                                      const std::optional<comparison_details>& compared);

}  // namespace mxfp4::tools
