// tools/mxfp4/quantize_command.hpp -- the options of mxfp4 quantize, for a file and for a directory.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "command.hpp"

#if defined(MXFP4_TOOLS_MODEL)
#include "calibrate_options.hpp"
#endif

namespace mxfp4::tools {

struct quantize_command {
  std::string input, output, recipe, include, exclude, nonfinite = "refuse", others = "bf16", dtype = "keep",
                                                       activations = "none", rank;
  int world = 0, threads = 0;
  std::uint64_t max_shard_bytes = 5'000'000'000;
  bool overwrite = false, linears = false, force = false, json = false;
  std::vector<std::string> take;
  std::vector<option> directory_only;
#if defined(MXFP4_TOOLS_MODEL)  // a calibration runs the model
  calibrate_options calibration;
#endif

  void describe(command_line& command);
};

/// The value of --activations, which is one of them.
[[nodiscard]] checkpoint::declared_activations activations_called(const std::string& name);

void quantize_directory(const quantize_command& command);

}  // namespace mxfp4::tools
