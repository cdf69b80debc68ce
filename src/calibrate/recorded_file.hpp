// src/calibrate/recorded_file.hpp -- a file of tensors beside which a sealed report has the hashes of its bytes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/tensor_hashes.hpp"
#include "mxfp4/io/safetensors_reader.hpp"
#include "mxfp4/io/safetensors_writer.hpp"

namespace mxfp4::calibrate {

/// Are the file and its report, PATH.json, there? The file is renamed into its place last.
[[nodiscard]] bool is_recorded(const std::string& path);

/// Both there or none.
class recorded_file_writer {
 public:
  recorded_file_writer(std::string path, std::vector<io::tensor_info> tensors, const io::stop_function& stop);

  void append(const std::string& name, std::span<const std::byte> bytes);
  /// @param experts  what else the report says.
  void commit(const nlohmann::ordered_json& experts);

 private:
  std::string path_;
  io::stop_function stop_;
  io::safetensors_writer file_;
  checkpoint::tensor_hashes hashes_;
};

/// Compares the bytes with what the report says. @throws io::file_error naming a tensor that is not as it says.
void require_recorded(const io::safetensors_reader& file, const nlohmann::ordered_json& report, int threads,
                      const io::stop_function& stop);

/// All of a tensor. @throws io::file_error where there is none of that name.
[[nodiscard]] std::vector<std::uint8_t> read_bytes(const io::safetensors_reader& file, const std::string& name);

}  // namespace mxfp4::calibrate
