// mxfp4/checkpoint/index.hpp -- model.safetensors.index.json, made from the headers of the shards.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mxfp4/checkpoint/reader.hpp"
#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// What an index lists.
struct index_summary {
  std::vector<std::string> shards;  ///< file names, sorted
  std::int64_t tensors = 0;         ///< in all shards
  std::uint64_t total_size = 0;     ///< bytes of all tensors
};

/// Writes the index of every .safetensors file in `directory`, subfolders and unfinished files left out.
/// An error for an index that is there, unless `overwrite`; for a directory without such files, or with an unfinished
/// run of mxfp4 quantize; for a tensor that is in two files, and for a file that is not exactly what the format says.
io::file_result<index_summary> rebuild_index(const std::string& directory, bool overwrite,
                                             const io::stop_function& stop = {});

}  // namespace mxfp4::checkpoint
