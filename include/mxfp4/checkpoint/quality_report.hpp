// mxfp4/checkpoint/quality_report.hpp -- mxfp4_report.json read again: as tables for plots and as text of a model card.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mxfp4/core/version.hpp"
#include "mxfp4/io/error.hpp"
#include "mxfp4/reference/error_statistics.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// What a calibration made of one matrix.
struct matrix_calibration {
  std::int64_t tokens = 0;  ///< that took its expert; with none its codes are the recipe's; -1: nobody counted
  std::int64_t rows = 0;    ///< that the matrix has; 0: nobody counted
  std::int64_t kept = 0;    ///< of those rows: with the recipe's codes though tokens took the expert
  double objective = 1;     ///< the cost of its rounding in the outputs; 1: that of the recipe's codes
};

/// What was lost in one matrix, or in one expert.
struct quality_row {
  std::string name;                      ///< of the tensor; of an expert: the module that holds it
  std::string part;                      ///< "w1", "down_proj": the last part of the module's name; empty for an expert
  std::int64_t layer = -1, expert = -1;  ///< -1: none
  std::string type;                      ///< of the source; empty for an expert
  error_statistics statistics;           ///< what quantisation lost of it
  std::optional<matrix_calibration> calibration;  ///< of a matrix that was calibrated
};

/// A mxfp4_report.json, read back.
struct quality_report {
  std::string recipe, others;                                   ///< as the settings name them
  std::string calibration;                                      ///< on which text, as a sentence; empty: none
  std::string calibration_method;                               ///< how; empty: none
  std::vector<quality_row> matrices, experts;                   ///< a row for each
  error_statistics total;                                       ///< of all quantised weights
  std::int64_t quantized_tensors = 0, other_tensors = 0;        ///< how many of each
  std::uint64_t bytes_before = 0, bytes_after = 0;              ///< all tensors
  std::uint64_t mxfp4_bytes_before = 0, mxfp4_bytes_after = 0;  ///< the quantised ones
};

/// @param path  mxfp4_report.json, or the directory that holds it.
/// An error where it cannot be read or is none.
[[nodiscard]] io::file_result<quality_report> read_quality_report(const std::string& path);

/// Comma-separated values with a title line (RFC 4180, but lines end in LF). Errors are relative: |W - Q|_F / |W|_F.
[[nodiscard]] std::string matrices_csv(const quality_report& report);
/// The same for experts, a line each.
[[nodiscard]] std::string experts_csv(const quality_report& report);
[[nodiscard]] std::string scales_csv(const quality_report& report);  ///< scale bytes that occur, 2^exponent, blocks

}  // namespace mxfp4::checkpoint
