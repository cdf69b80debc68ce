// src/checkpoint/plan_settings.hpp -- what the settings of a checkpoint ask of its plan.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

#include "mxfp4/checkpoint/plan.hpp"
#include "mxfp4/checkpoint/quantize.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// @param config  config.json, which may be null.
[[nodiscard]] plan_options plan_options_of(const checkpoint_settings& settings, const nlohmann::ordered_json& config);

}  // namespace mxfp4::checkpoint
