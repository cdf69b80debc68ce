// src/checkpoint/statistics_json.hpp -- error_statistics in reports, so exactly that reports can be added up.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "checkpoint/block_encoder.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using ordered_json = nlohmann::ordered_json;

/// The counts, the sums (as doubles that read back to the same bits), and blocks by scale byte: {"118": 7, ...}.
[[nodiscard]] ordered_json to_json(const error_statistics& s);

/// relative_error follows from the sums. @param file, place  for messages: where the object is.
/// @throws io::file_error where a field is missing or of another type.
[[nodiscard]] error_statistics statistics_from_json(const ordered_json& json, const std::string& file,
                                                    const std::string& place);

}  // namespace mxfp4::checkpoint
