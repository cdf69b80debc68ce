// src/checkpoint/verification.hpp -- what the checks of verify_checkpoint share; not for others.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "checkpoint/recorded_hashes.hpp"
#include "mxfp4/checkpoint/quantize.hpp"
#include "mxfp4/checkpoint/stored_tensor.hpp"
#include "mxfp4/checkpoint/verify.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// One run: the checkpoint, and what was found so far.
struct verification {
  const checkpoint_reader& in;
  const verify_options& options;
  std::vector<stored_tensor> tensors;
  std::unordered_map<std::string, const stored_tensor*> by_name;
  nlohmann::ordered_json config, report;    ///< null where there is none
  std::optional<recorded_hashes> recorded;  ///< what the report says, unless it is damaged or of a former version
  hashes_by_name hashes;                    ///< of the tensors that were read so far
  verify_report result;

  verification(const checkpoint_reader& checkpoint, const verify_options& verify_options);

  /// Findings that differ in the numbers of `where` alone are one, with the count; of each check so many are listed
  /// that a reader may read them, and the others counted. Texts are fit for a terminal, and cut where they are long.
  void add(severity level, const char* check, const std::string& where, const std::string& what);
  void error(const char* check, const std::string& where, const std::string& what) {
    add(severity::error, check, where, what);
  }
  void warn(const char* check, const std::string& where, const std::string& what) {
    add(severity::warning, check, where, what);
  }
  [[nodiscard]] const stored_tensor* find(const std::string& name) const;
  /// Does the report say that this tensor was in the source, and copied? False without a report.
  [[nodiscard]] bool was_copied(const std::string& name);
  [[nodiscard]] verify_report take();

 private:
  std::optional<std::unordered_set<std::string>> copied_;  // of the report, read when it is asked for
  std::unordered_map<std::string, std::size_t> alike_;     // into the findings
  std::vector<std::int64_t> repeats_;
  struct listing {
    std::int64_t listed = 0, unlisted = 0;
    severity worst_unlisted = severity::warning;
  };
  std::map<std::string, listing> listings_;  // of each check
};

/// Type and shape, for a message.
[[nodiscard]] std::string described(const stored_tensor& tensor);

void check_files(verification& v);
void check_pairs(verification& v);
void check_model(verification& v);
void check_config(verification& v);
void check_parallel(verification& v);
void check_content(verification& v);
void check_hashes(verification& v);
void check_source(verification& v);

}  // namespace mxfp4::checkpoint
