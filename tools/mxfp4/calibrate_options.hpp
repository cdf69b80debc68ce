// tools/mxfp4/calibrate_options.hpp -- the options of mxfp4 quantize --calibrate.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "command.hpp"
#include "mxfp4/checkpoint/process_rank.hpp"
#include "mxfp4/checkpoint/quantize.hpp"

namespace mxfp4::tools {

struct calibrate_options {
  std::string text, ids, imatrix, method = "hessian";
  std::int64_t tokens = 65536, context = 0;
  std::uint64_t memory = std::uint64_t{4} << 30;

  void describe(command_line& command, std::vector<option>& directory_only);
  [[nodiscard]] bool asked() const noexcept { return !text.empty() || !ids.empty(); }
  /// @throws usage_error where one of those that need a text was given.
  void require_unused() const;

 private:
  std::vector<option> further_;  // that need a text
};

/// quantize_checkpoint with codes by an importance matrix. @throws what quantize_checkpoint returns.
checkpoint::checkpoint_result quantize_by_imatrix(const std::string& imatrix, const std::string& in,
                                                  const std::string& out, checkpoint::checkpoint_settings settings,
                                                  const checkpoint::checkpoint_run& run,
                                                  checkpoint::checkpoint_observer& observer);

/// quantize_checkpoint with codes that are calibrated. @throws what quantize_checkpoint returns.
checkpoint::checkpoint_result quantize_calibrated(const calibrate_options& options, const std::string& in,
                                                  const std::string& out, checkpoint::checkpoint_settings settings,
                                                  const checkpoint::checkpoint_run& run,
                                                  checkpoint::checkpoint_observer& observer);

}  // namespace mxfp4::tools
