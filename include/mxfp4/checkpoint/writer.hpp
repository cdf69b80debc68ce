// mxfp4/checkpoint/writer.hpp -- jobs to a model's directory, a safetensors file, or a GGUF file.
// SPDX-License-Identifier: Apache-2.0
//
//   OUT.tmp-<random>/  model-00001-of-00003.safetensors ...  --all jobs done-->  index, config.json, other files,
//                                                            mxfp4_files.json, which lists them  -->  OUT/
//                                                            --destroyed before-->  removed
//
// The directory appears complete or not at all. A shard is on the disk before the next one is begun. With
// existing_file::replace what mxfp4 wrote into OUT before stays until all is done; then OUT gets a folder .mxfp4, which
// says that it is unfinished, until the new files have taken the place of those.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mxfp4/checkpoint/quantize_file.hpp"
#include "mxfp4/checkpoint/reader.hpp"
#include "mxfp4/checkpoint/tensor_job.hpp"
#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

inline constexpr std::uint64_t default_max_shard_bytes = 5'000'000'000;  ///< what other tools write

/// What a directory holds besides tensors.
struct directory_files {
  std::optional<std::string> config;  ///< text of config.json
  /// Its other files are copied, but for config.json, README.md, and what tells of a quantization: mxfp4_report.json,
  /// hf_quant_config.json and their like.
  const checkpoint_reader* carried = nullptr;
};

/// What is done beside the jobs while they run.
struct job_hooks {
  progress_function progress;  ///< told of the bytes that were written
  /// Throws a file_error where the output must not get its name: the source has changed.
  std::function<void()> before_commit;
  io::stop_function stop = {};                             ///< asked before each piece that is written
  io::existing_file existing = io::existing_file::refuse;  ///< what becomes of an output that is there
};

/// How large the output became.
struct output_size {
  std::uint64_t bytes = 0;  ///< of the files with tensors
  std::size_t shards = 0;   ///< files with tensors
};

/// Writes a directory of shards of at most `max_shard_bytes` of data, or of a single job where that is more; one shard
/// is called model.safetensors and has no index. OUT must not exist, or be an empty directory; with replace also one
/// whose files a run of mxfp4 recorded: these go, others stay.
/// An error for that, too little space, and as the jobs do.
io::file_result<output_size> write_directory(const std::string& path, const std::vector<tensor_job>& jobs,
                                             const directory_files& files, std::uint64_t max_shard_bytes,
                                             const job_hooks& hooks);

/// The same into one file, which gets its name when it is whole.
io::file_result<output_size> write_safetensors(const std::string& path, const std::vector<tensor_job>& jobs,
                                               const job_hooks& hooks);

/// The same into one GGUF file, with these pairs in its header.
io::file_result<output_size> write_gguf(const std::string& path, const std::vector<gguf_job>& jobs,
                                        std::vector<io::gguf_pair> pairs, const job_hooks& hooks);

}  // namespace mxfp4::checkpoint
