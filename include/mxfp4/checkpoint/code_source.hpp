// mxfp4/checkpoint/code_source.hpp -- MXFP4 codes that do not come from a recipe alone: of a calibration, say.
// SPDX-License-Identifier: Apache-2.0
//
//   quantize_checkpoint --> journal is begun --> prepare(OUT/.mxfp4) --> shards: the recipe's codes --> choose()
//
// The result has the same tensors, config and report as without; settings of manifest and report say what record()
// says, and the report of a matrix what facts() says of it. These functions are called by the library; they say what is
// wrong by throwing an io::file_error, which whoever called the library gets as its result.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// What codes of some weights cost, by whatever measure chose them.
struct code_costs {
  double plain = 0;   ///< of the recipe's codes; 0: nobody measured
  double chosen = 0;  ///< of those that were chosen
};

/// Where the codes of some weights come from.
class code_source {
 public:
  code_source() = default;
  virtual ~code_source() = default;
  code_source(const code_source&) = delete;
  code_source& operator=(const code_source&) = delete;

  /// A JSON object: all that decides the codes. A later run with another one does not go on with what is there.
  [[nodiscard]] virtual std::string record() const = 0;
  /// Called once where not all shards are there, by each process: makes the codes, or finds them made.
  /// @param folder  of the journal, where files called calibrated-*.safetensors and calibrated-*.json may be kept until
  /// the checkpoint is complete.
  virtual void prepare(const std::string& folder) = 0;
  /// Does this weight, a matrix or a stack of them, have codes here?
  [[nodiscard]] virtual bool has(const std::string& weight) const = 0;
  /// After prepare(), by several threads at once: the codes of some blocks of one matrix.
  /// @param expert  whose matrix it is, in a stack of all experts; -1 where the weight is a matrix of its own.
  /// @param first   block of the matrix, row after row, with which they begin.
  /// @param weights  of the blocks, 32 each, as float.
  /// @param codes    what the recipe makes of them, 16 bytes a block, low_first; to be overwritten where others are
  ///                 better.
  /// @param scales   the same, one byte a block.
  virtual code_costs choose(const std::string& weight, std::int64_t expert, std::int64_t first,
                            std::span<const float> weights, std::span<std::uint8_t> codes,
                            std::span<std::uint8_t> scales) const = 0;
  /// After prepare(): a JSON object for the report of that matrix.
  [[nodiscard]] virtual std::string facts(const std::string& weight, std::int64_t expert) const = 0;
};

}  // namespace mxfp4::checkpoint
