// tools/mxfp4/model_options.cpp -- see model_options.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "model_options.hpp"

#include <span>

#include "checkpoint/reader_json.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;
using namespace model;

void model_options::describe(command_line& command) {
  command.add_option("--activations", activations_name, "What MXFP4 weights are multiplied with")
      .one_of({"f32", "int8", "int8-residual2", "int8-residual3", "mxfp8", "fp8", "mxfp4"});
  command.add_option("--threads", threads, "At most so many; 0: as many as the machine has")
      .range(0, 1024)
      .type_name("N")
      .show_default();
}

activation_type model_options::activations() const noexcept {
  if (activations_name == "int8") return activation_type::int8;
  if (activations_name == "int8-residual2") return activation_type::int8_residual2;
  if (activations_name == "int8-residual3") return activation_type::int8_residual3;
  if (activations_name == "mxfp8") return activation_type::mxfp8;
  if (activations_name == "fp8") return activation_type::fp8;
  return activations_name == "mxfp4" ? activation_type::mxfp4 : activation_type::f32;
}

model_config read_model_config(const checkpoint_reader& checkpoint) {
  const nlohmann::ordered_json config = read_config(checkpoint);
  if (config.is_null())
    throw file_error({.file = checkpoint.path(),
                      .value = std::string("has no ") + config_file_name,
                      .expected = "a model's directory"});
  return model::read_model_config(config, checkpoint.path() + "/" + config_file_name);
}

std::string read_whole_file(const std::string& path) {
  const input_file file = input_file::open(path).value();
  std::string bytes(file.size(), '\0');
  file.read(0, std::as_writable_bytes(std::span(bytes))).value();
  return bytes;
}

}  // namespace mxfp4::tools
