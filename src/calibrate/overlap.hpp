// src/calibrate/overlap.hpp -- is a text that a model is measured on one that it was calibrated on?
// SPDX-License-Identifier: Apache-2.0
//
// A fingerprint is a hash of 48 tokens in a row. Of a calibration text at most 1024 are kept, evenly spread: whatever
// shares a passage with it that is some times as long as their distance, has one of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mxfp4::calibrate {

inline constexpr std::int64_t fingerprint_tokens = 48;

/// 16 hexadecimal digits each, of tokens that lie within one window.
[[nodiscard]] std::vector<std::string> fingerprints(const std::vector<std::int64_t>& ids, std::int64_t context);

/// How many of them occur among these tokens.
[[nodiscard]] std::int64_t count_found(const std::vector<std::string>& prints, const std::vector<std::int64_t>& ids);

}  // namespace mxfp4::calibrate
