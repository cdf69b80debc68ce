// src/checkpoint/finished_shard.hpp -- the shards of a run of mxfp4 quantize that are there already.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "checkpoint/quantize_journal.hpp"
#include "mxfp4/io/safetensors_reader.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// A shard is only ever renamed into its place after its report has been written: both are there, or it counts for
/// nothing.
[[nodiscard]] bool is_done(const std::string& out, const quantize_journal& journal, const std::string& file);

/// The report of a shard that is there. @throws file_error where it does not agree with the shard.
[[nodiscard]] ordered_json check_shard(const io::safetensors_reader& shard, const std::string& report_path);

/// Makes the result of a run of which every shard is there: report and index, and the journal goes.
/// @param read_shards  compare their bytes with the hashes of the journal, which the process that has just written or
/// read them need not do again.
/// @throws file_error naming what is missing or is not what the run wrote.
checkpoint_result merge_shards(const std::string& out, const io::stop_function& stop, bool read_shards,
                               const std::function<void(std::uint64_t, std::uint64_t)>& progress);

}  // namespace mxfp4::checkpoint
