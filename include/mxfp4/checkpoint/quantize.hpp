// mxfp4/checkpoint/quantize.hpp -- a checkpoint's directory to MXFP4, resumable, by one process or many.
// SPDX-License-Identifier: Apache-2.0
//
//   OUT/.mxfp4/manifest.json          settings, the input's identity, the files to come: a later run must agree
//             /<shard>.json           report of a shard and its hashes, written before the shard gets its name
//   OUT/config.json, tokenizer.json   the input's, with the quantization_config; its README stays behind
//      /model-00000-of-00130...       one shard for each of the input, or parts of a single file
//      /mxfp4_report.json             what was lost, by matrix and expert; the hash of every file and tensor
//      /model.safetensors.index.json  last of all: with it the checkpoint is complete, and .mxfp4 goes
//
// Every file is complete or absent under its name. After any end, kill -9 too, the same command goes on: shards that
// are there are kept, and the result has the same bytes as that of a run which nobody disturbed. What is kept, merged
// or called complete is read and compared with its hashes first: a shard that was damaged meanwhile is an error.
//
// mxfp4_report.json, one line for each key and for each element of an array:
//   format, version       "mxfp4 report", 2 (1 had no hashes)
//   settings, source      what decided the bytes; the input's files, hashes of small ones and of the shards' headers
//   file_hashes           {"file", "bytes", "hash"}: config.json, what was carried over, the index; "accepted": true
//                         where a change was accepted later (accept_files of verify.hpp).
//                         {"file", "bytes", "header"}: shards, with the hash of what stands before their data
//   quantized, experts    the error of each matrix, and added up by expert
//   copied                the other tensors, and why
//   tensor_hashes         {"name", "hash"}: the tensors of the result, under their names there
//   total                 sums of it all
//   hash                  of the report's own bytes in front of the comma before this key
// A hash is XXH3 of 128 bits, 32 hexadecimal digits, as `xxhsum -H2` prints it: it finds accidents, not forgeries.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mxfp4/checkpoint/activations.hpp"
#include "mxfp4/checkpoint/code_source.hpp"
#include "mxfp4/checkpoint/quantize_shard.hpp"
#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

inline constexpr const char* report_file_name = "mxfp4_report.json";  ///< in a result: what was lost, and its hashes
inline constexpr const char* journal_folder_name = ".mxfp4";          ///< in a directory that is not whole yet

/// What decides the bytes of the result.
struct checkpoint_settings {
  recipe_id recipe = recipe_id::compressed_tensors;  ///< whose bytes
  std::optional<std::string> include, exclude;       ///< RE2's syntax; without include the experts
  bool linears = false;                              ///< without include every linear layer but routers and lm_head
  declared_activations activations = declared_activations::none;  ///< in config.json; the weights are the same
  bool to_bf16 = false;  ///< a model of F16 or F32 becomes BF16, which is what transformers runs its MXFP4 layers in
  bool force = false;    ///< write what no reader is known to load: embeddings, routers, one scheme here, another there
  fp8_policy others = fp8_policy::widen;          ///< or keep
  on_nonfinite nonfinite = on_nonfinite::refuse;  ///< what becomes of NaN and infinity in the weights
  std::vector<std::string> take = {};  ///< .safetensors files of the input outside its index that are read too
  std::uint64_t max_shard_bytes = 5'000'000'000;  ///< of tensors, where the input is a single file
  code_source* codes = nullptr;                   ///< whose codes some of the weights get, in the place of the recipe's
};

/// What does not.
struct checkpoint_run {
  int rank = 0, world = 1;      ///< several: each its shards, rank 0 the small files, merge_checkpoint the rest
  int threads = 0;              ///< 0: as many as the machine has
  bool overwrite = false;       ///< throw away what a former run left; only with world 1
  io::stop_function stop = {};  ///< what is whole by then stays, and the next run goes on from there
};

/// Is told how it goes, from one thread at a time; override what you want to know.
class checkpoint_observer {
 public:
  checkpoint_observer() = default;
  virtual ~checkpoint_observer() = default;
  checkpoint_observer(const checkpoint_observer&) = delete;
  checkpoint_observer& operator=(const checkpoint_observer&) = delete;

  /// Before the first byte is written: what this process has to do, and what is done already.
  virtual void on_start(std::size_t /*shards*/, std::size_t /*kept*/, std::uint64_t /*input_bytes*/) {}
  /// Also, before on_start, while a result that is there already is read.
  virtual void on_progress(std::uint64_t /*done*/, std::uint64_t /*total*/, const error_statistics& /*so_far*/) {}
  /// After each tensor; no matrices where it was not quantised.
  virtual void on_tensor(const planned_tensor& /*tensor*/, std::span<const matrix_statistics> /*matrices*/) {}
  virtual void on_warning(const std::string& /*text*/) {}  ///< of the plan, before the first byte is written
  virtual void on_shard(const std::string& /*file*/, std::uint64_t /*bytes*/) {}  ///< it has its name
};

/// What a run did.
struct checkpoint_result {
  std::size_t shards = 0, written = 0, kept = 0;    ///< of this process
  std::size_t quantized = 0, other = 0;             ///< tensors in them
  std::uint64_t bytes_before = 0, bytes_after = 0;  ///< of tensors, in the input and in the result
  error_statistics total;                           ///< what was lost
  bool complete = false;                            ///< the index is there
};

/// @param in   a directory with config.json.  @param out  a directory, made where it is absent.
/// An error for whatever is wrong with a file; for an input or settings that differ from those with which `out` was
/// begun; for an `out` that holds something else, is inside `in`, or has too little space.
io::file_result<checkpoint_result> quantize_checkpoint(const std::string& in, const std::string& out,
                                                       const checkpoint_settings& settings, const checkpoint_run& run,
                                                       checkpoint_observer& observer);

/// Sees that every file of the manifest is there and has the bytes that were written, or, without a journal, that a
/// complete result is as its report says; then writes report and index, and removes the journal.
/// An error naming what is missing or damaged.
/// @param progress  called after each shard: bytes of them that were read, bytes in all.
io::file_result<checkpoint_result> merge_checkpoint(
    const std::string& out, const io::stop_function& stop = {},
    const std::function<void(std::uint64_t, std::uint64_t)>& progress = [](std::uint64_t, std::uint64_t) {});

}  // namespace mxfp4::checkpoint
