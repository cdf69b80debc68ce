// mxfp4/checkpoint/verify.hpp -- is this an MXFP4 checkpoint that readers load, and of that source?
// SPDX-License-Identifier: Apache-2.0
//
//   check      what is looked at                                                             how much is read
//   files      index, total_size, leftovers, an unfinished run                               headers
//   pairs      X_packed with X_scale; FP8 with its block scales; nothing left of the source  headers
//   model      names, types and shapes are those that config.json asks for (minimax_m2)      headers
//   config     quantization_config is that of the form; targets and ignore give each module  config.json
//              what it is stored as, under the file's names and under vLLM's; what vLLM
//              fuses is stored alike
//   parallel   N devices get whole blocks                                                    headers
//   content    no scale byte 255; codes and scales fit each other; the report is of them     MXFP4 tensors
//   hashes     every file and tensor is as mxfp4_report.json records it, and so is that      everything
//   source     requantised by the recipe, copied, widened: the same bytes; the small files   everything, and the
//              are the same too                                                             source
//              what was calibrated: the recipe makes of the source what the report says it
//              made then, and the codes lie near it: relative error at most 0.5
//
// A finding is a sentence. An error is what some reader stumbles over or what makes the weights wrong; a warning is
// what is only suspicious.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mxfp4/core/version.hpp"
#include "mxfp4/format/recipe_id.hpp"
#include "mxfp4/io/file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// An error: no reader loads it, or not what was meant. A warning: look at it.
enum class severity : std::uint8_t { error, warning };

/// One line of what verify found.
struct finding {
  severity level = severity::error;  ///< how bad it is
  std::string check;                 ///< of the table above
  std::string where;                 ///< a tensor, a module, a file, a key
  std::string what;                  ///< what it is, what was expected
};

/// What verify_checkpoint looks at.
struct verify_options {
  int tensor_parallel = 1;               ///< devices that share each matrix
  std::string against = {};              ///< the source's directory; empty: none
  std::optional<recipe_id> recipe = {};  ///< of the source; without it: the report's, or else compressed_tensors
  /// Told of the bytes that were read.
  std::function<void(std::uint64_t, std::uint64_t)> progress = [](std::uint64_t, std::uint64_t) {};
  io::stop_function stop = {};  ///< asked between pieces
};

/// What was looked at, and what was found.
struct verify_report {
  std::vector<finding> findings;    ///< empty: nothing is wrong
  std::int64_t tensors = 0;         ///< as stored_tensors counts them
  std::int64_t mxfp4 = 0, fp8 = 0;  ///< of these
  std::int64_t blocks = 0;          ///< whose content was looked at
  std::int64_t hashes = 0;          ///< of files and tensors that were compared; 0: the checkpoint records none
  std::int64_t compared = 0;        ///< tensors that were compared with the source
  std::int64_t calibrated = 0;      ///< of these: no recipe has their codes, see the table above
  std::string recipe;               ///< of that comparison

  /// Findings of that level.
  [[nodiscard]] std::int64_t count(severity level) const noexcept;
};

/// @param directory  or a .gguf file, of which structure, scale bytes, tokenizer and names are looked at.
/// An error where the directory cannot be read as a checkpoint at all, or the source cannot.
[[nodiscard]] io::file_result<verify_report> verify_checkpoint(const std::string& directory,
                                                               const verify_options& options);

/// Records in mxfp4_report.json that these files of the checkpoint, which are neither shards nor the report, are as
/// somebody wants them: changed, added, or gone.
/// An error for a name of another file, and where the report is not there, was changed itself, or has no hashes.
io::file_result<void> accept_files(const std::string& directory, const std::vector<std::string>& names);

}  // namespace mxfp4::checkpoint
