// src/calibrate/layer_matrices.hpp -- which matrices of a layer are calibrated, and how a file has their codes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "calibrate/matrix.hpp"
#include "calibrate/recorded_file.hpp"
#include "model/config.hpp"
#include "mxfp4/io/safetensors_reader.hpp"

namespace mxfp4::calibrate {

/// A matrix as the checkpoint has it: one of an expert or of an attention, or gate and up whose rows take turns.
struct calibrated_matrix {
  std::string part;               ///< "w1", "gate_up_proj", "q_proj"
  std::string weight;             ///< the tensor that it is, or is in
  std::int64_t expert = -1;       ///< whose one of that, where that is a stack
  std::vector<std::size_t> from;  ///< numbers of linear layers
  std::int64_t rows = 0, cols = 0;

  /// Under which its codes lie in the file of its layer, without the suffixes.
  [[nodiscard]] std::string stored() const { return expert < 0 ? weight : weight + "." + std::to_string(expert); }
};

/// Numbers of linear layers.
inline constexpr std::size_t gate_number = 0, down_number = 1, up_number = 2;
inline constexpr std::size_t q_number = 3, k_number = 4, v_number = 5, o_number = 6;
inline constexpr std::size_t of_a_dense_layer = 7;  ///< all of them; of an expert the first three

/// Whether all linear layers of the model are calibrated, since it has no experts.
[[nodiscard]] inline bool is_of_linears(const model::model_config& config) noexcept {
  return config.shape.experts == 0;
}
/// The length of a row of each linear layer that is calibrated.
[[nodiscard]] std::vector<std::int64_t> row_lengths(const model::model_config& config);

/// In the order in which they are written. Of a model without experts: all of the layer, as those of expert 0.
[[nodiscard]] std::vector<calibrated_matrix> matrices_of(const model::model_config& config, std::int64_t layer,
                                                         std::int64_t expert);

/// By their numbers; those that are not there: null.
using outcome_places = std::array<const matrix_outcome*, of_a_dense_layer>;
using linear_places = std::array<model::linear*, of_a_dense_layer>;

/// Codes and scales of each.
[[nodiscard]] std::vector<io::tensor_info> code_tensors(const std::vector<calibrated_matrix>& matrices);

/// Appends those of an expert to a file that has them among its tensors.
/// @param tokens  that their inputs were of.
/// @return  what the file's report says of them: {"expert": 3, "w1": {"tokens": 17, ...}, ...}.
[[nodiscard]] nlohmann::ordered_json write_codes(recorded_file_writer& file,
                                                 const std::vector<calibrated_matrix>& matrices, std::int64_t expert,
                                                 const outcome_places& outcomes, std::int64_t tokens);

/// Linear layers get the codes that were chosen for them, of whichever of the files has them; null ones are left out.
/// @throws io::file_error where none has them.
void take_codes(const std::vector<io::safetensors_reader>& files, const std::vector<calibrated_matrix>& matrices,
                const linear_places& linears);

}  // namespace mxfp4::calibrate
