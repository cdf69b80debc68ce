// tools/mxfp4/model_options.hpp -- options of the commands that run a model.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "command.hpp"
#include "model/config.hpp"
#include "model/weights.hpp"
#include "mxfp4/checkpoint/reader.hpp"

namespace mxfp4::tools {

struct model_options {
  std::string activations_name = "f32";
  int threads = 0;

  void describe(command_line& command);
  [[nodiscard]] model::activation_type activations() const noexcept;
};

/// What the model of a directory is. @throws file_error where it has no config.json, or one of another model.
[[nodiscard]] model::model_config read_model_config(const checkpoint::checkpoint_reader& checkpoint);

/// The bytes of a text.
[[nodiscard]] std::string read_whole_file(const std::string& path);

}  // namespace mxfp4::tools
