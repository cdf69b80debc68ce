// src/checkpoint/tensor_hashes.hpp -- the hash of each tensor of a file: taken while it is written, and read again.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "checkpoint/shared_progress.hpp"
#include "checkpoint/statistics_json.hpp"
#include "io/content_hash.hpp"
#include "mxfp4/io/safetensors_reader.hpp"
#include "mxfp4/io/safetensors_writer.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// Is given the pieces of a file's tensors as they are appended. Different tensors may take turns; only those that are
/// begun and not complete have a state.
class tensor_hashes {
 public:
  /// @param header  of the file; must outlive this.
  explicit tensor_hashes(const io::safetensors_header& header);

  void add(std::string_view tensor, std::span<const std::byte> bytes);
  /// [{"name", "hash"}, ...] in the header's order, after the last byte.
  [[nodiscard]] ordered_json to_json() const;

 private:
  struct entry {
    std::uint64_t missing = 0;  ///< bytes
    std::unique_ptr<io::content_hash> state;
    std::string hash;
  };
  const io::safetensors_header& header_;
  std::unordered_map<std::string_view, entry> entries_;
};

/// {"file", "bytes", "tensors", "header", "tensor_hashes": [...]}: what a report says of a file that is to be
/// committed, so that it is known again. @param file  its name.
[[nodiscard]] ordered_json recorded_content(const std::string& file, const io::safetensors_writer& written,
                                            const tensor_hashes& hashes);

/// Of a tensor's bytes in a file.
/// @param on_bytes  is told of each piece before it is read; what it throws ends the work.
[[nodiscard]] std::string hash_tensor(const io::safetensors_reader& file, const io::tensor_info& tensor,
                                      const std::function<void(std::uint64_t)>& on_bytes);

/// Compares a shard's bytes with its report in the journal.
/// @param threads  that read; 0: as many as the machine has.
/// @param progress  of this shard, or of several.
/// @throws file_error naming a tensor, or the header, that is not as the report says.
void check_shard_hashes(const io::safetensors_reader& shard, const ordered_json& report, int threads,
                        shared_progress& progress);

}  // namespace mxfp4::checkpoint
