// src/checkpoint/weight_source.hpp -- a checkpoint in safetensors or in GGUF, opened with its weights found.
// SPDX-License-Identifier: Apache-2.0
//
//   DIR, *.safetensors                         as checkpoint_reader takes them
//   *.gguf                                     one file
//   NAME-00001-of-00003.gguf                   any part of a model that llama-gguf-split has cut: all are opened
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/mxfp4_weights.hpp"
#include "checkpoint/narrow_weights.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// With what holds its data open; the weights read through it, so it must stay where it is.
struct weight_source {
  std::optional<checkpoint_reader> checkpoint;
  std::vector<std::unique_ptr<io::gguf_reader>> gguf;  ///< the parts, in their order
  weight_list weights;
  narrow_count narrow = {};           ///< weights of Q8_0, which are BF16 in the list
  std::optional<std::string> config;  ///< text of config.json
  std::uint64_t bytes = 0;            ///< of the files with tensors

  [[nodiscard]] bool is_gguf() const noexcept { return !gguf.empty(); }
  void require_unchanged() const;
};

/// Which part of a model a GGUF file holds, by its own account; 1 of 0 where it is no part.
struct gguf_part {
  std::uint64_t number = 1, count = 0;
};
[[nodiscard]] gguf_part part_of(const io::gguf_header& header);

/// Opens `input` into `source`. @throws file_error for what cannot be read, and for a part that is not there.
void open_weights(const std::string& input, weight_source& source);

[[nodiscard]] std::vector<io::tensor_info> infos_of(const std::vector<plain_tensor>& tensors);

/// What is neither MXFP4 nor widened is copied: codes of another format would be weights to whoever reads the result.
/// @throws file_error naming a tensor that holds such codes, of a known format or not.
/// @param config  config.json; may be null.
void require_known_formats(const std::vector<plain_tensor>& others, const nlohmann::ordered_json& config,
                           const std::string& where);

}  // namespace mxfp4::checkpoint
