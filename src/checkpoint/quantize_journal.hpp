// src/checkpoint/quantize_journal.hpp -- what is done so far, on the disk, and the report that it adds up to.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>

#include "checkpoint/statistics_json.hpp"
#include "checkpoint/tensor_hashes.hpp"
#include "checkpoint/written_files.hpp"
#include "mxfp4/checkpoint/quantize.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// The folder OUT/.mxfp4.
class quantize_journal {
 public:
  explicit quantize_journal(const std::string& out);

  [[nodiscard]] bool exists() const;               ///< its manifest, that is
  [[nodiscard]] ordered_json manifest() const;     ///< @throws file_error where it is not there or not ours
  void begin(const ordered_json& manifest) const;  ///< writes it, or sees that the one there is the same
  void require_same(const ordered_json& manifest) const;
  void replace(const ordered_json& manifest) const;  ///< of a run that has been begun
  void forget() const;  ///< manifest and reports, so that no shard counts as done; locks stay
  /// @throws file_error where the folder is a link or holds what is not the journal's.
  void require_own() const;
  void remove() const;  ///< @throws file_error as require_own, before anything is removed

  [[nodiscard]] const std::string& folder() const { return folder_; }
  [[nodiscard]] const std::string& manifest_path() const { return manifest_path_; }
  [[nodiscard]] std::string report_path(const std::string& shard) const { return folder_ + "/" + shard + ".json"; }
  /// Held by all runs that write into OUT, and alone by one that removes what is there.
  [[nodiscard]] std::string run_lock_path() const { return folder_ + "/run.lock"; }
  [[nodiscard]] std::string lock_path(const std::string& name) const { return folder_ + "/" + name + ".lock"; }

 private:
  void remove_entries(bool all) const;

  std::string out_, folder_, manifest_path_;
};

/// A manifest without the times of the source's files, which a copy has not.
[[nodiscard]] ordered_json without_times(ordered_json manifest);

/// Where two manifests differ first, as a sentence; empty where they are the same.
[[nodiscard]] std::string manifest_difference(const ordered_json& was, const ordered_json& is);

/// The report of a shard that is in the journal. @throws file_error where it was changed, or is not as the next
/// function makes it.
[[nodiscard]] ordered_json read_shard_report(const std::string& path);

/// {"file", "bytes", "tensors", "header", "tensor_hashes": [...], "quantized": [...], "copied": [...],
/// "total": {...}} of one shard.
/// @param tensors  those of the plan that went into it.
/// @param written  the file, to be committed, and the hashes of what it holds.
/// @param codes    what it took some of the codes from, or nullptr.
[[nodiscard]] ordered_json make_shard_report(const quantization_plan& plan, std::span<const std::size_t> tensors,
                                             std::span<const matrix_statistics> matrices, const std::string& file,
                                             const io::safetensors_writer& written, const tensor_hashes& hashes,
                                             const code_source* codes);

/// Adds a shard's "total" to a result. @throws file_error naming `path` where the report is not what it should be.
void add_shard_report(checkpoint_result& result, const ordered_json& report, const std::string& path);

/// OUT/mxfp4_report.json from the reports of the manifest's shards, one of them in memory at a time.
/// @param index  the text of the index that will be written.
/// @return the result's counts; shards, written and kept are 0.
checkpoint_result write_report(const std::string& out, const ordered_json& manifest, const quantize_journal& journal,
                               const std::string& index, const io::stop_function& stop);

/// The same file with other values under its keys.
void rewrite_report(const std::string& path, const ordered_json& report);

/// The manifest's part of OUT/mxfp4_report.json, null where there is no such file. What is long in it is skipped.
[[nodiscard]] ordered_json read_report_head(const std::string& out);

/// What a report says of the manifest: settings, source without the times that only this machine knows, and the names
/// of all that was written.
[[nodiscard]] ordered_json report_head(const ordered_json& manifest);

}  // namespace mxfp4::checkpoint
