// src/checkpoint/recorded_hashes.hpp -- what mxfp4_report.json says of a result's bytes, and whether they are so.
// SPDX-License-Identifier: Apache-2.0
//
//   "file_hashes":   [{"file": "config.json", "bytes": 1840, "hash": "..."},          each small file, and the index
//                     {"file": "model-...", "bytes": 5000123, "header": "..."}, ...]  a shard: what is before its data
//   "tensor_hashes": [{"name": "X_packed", "hash": "..."}, ...]                       each tensor, under its name there
//
// An "accepted": true in a file's line says that somebody changed it on purpose and had its new hash recorded.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "checkpoint/statistics_json.hpp"
#include "mxfp4/checkpoint/reader.hpp"
#include "mxfp4/checkpoint/verify.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

inline constexpr int hashed_version = 2;  ///< of report and manifest: the first one with hashes

struct recorded_file {
  std::string name, hash;  ///< the hash of a shard's header, or of a whole file
  std::uint64_t bytes = 0;
  bool is_shard = false, accepted = false;
};

using hashes_by_name = std::unordered_map<std::string, std::string>;

struct recorded_hashes {
  std::vector<recorded_file> files;
  hashes_by_name tensors;

  [[nodiscard]] const recorded_file* find(std::string_view file) const;  ///< nullptr where it is not recorded
};

/// @param text  the report's.
/// @return nothing where the report is of a former version, which had no hashes.
/// @throws file_error where it was changed since it was written. @param path  for messages.
[[nodiscard]] std::optional<recorded_hashes> read_recorded_hashes(const ordered_json& report, const std::string& text,
                                                                  const std::string& path);

/// Every file and tensor of a result that is not as recorded: missing, changed, not there before.
/// @param known  hashes of tensors that were read already; the others are read, by several threads.
[[nodiscard]] std::vector<finding> compare_hashes(const recorded_hashes& recorded, const checkpoint_reader& in,
                                                  const hashes_by_name& known, const verify_options& options);

/// Every byte of a complete result is as its report records. @param options  for progress and stop.
/// @throws file_error that names the first that is not.
recorded_hashes require_whole(const std::string& out, const verify_options& options);

/// The same of a checkpoint that is to be read for another purpose: where it is a result with a report, it is as it was
/// written, or as it was accepted. Nothing is said of others. @param options  for progress and stop.
/// @return a sentence for each file beside it that the run did not write.
/// @throws file_error that names the first tensor or file that is not.
[[nodiscard]] std::vector<std::string> require_undamaged(const checkpoint_reader& in, const verify_options& options);

/// A model card, which says nothing to a reader of weights and is not carried over.
[[nodiscard]] bool is_readme(std::string name);

}  // namespace mxfp4::checkpoint
