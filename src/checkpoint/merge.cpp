// src/checkpoint/merge.cpp -- shards that several processes wrote become one result.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/finished_shard.hpp"
#include "checkpoint/recorded_hashes.hpp"
#include "checkpoint/sealed_json.hpp"
#include "checkpoint/shared_progress.hpp"
#include "checkpoint/tensor_hashes.hpp"
#include "io/content_hash.hpp"
#include "io/guarded.hpp"
#include "io/strict_json.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

bool is_done(const std::string& out, const quantize_journal& journal, const std::string& file) {
  return is_file(out + "/" + file) && is_file(journal.report_path(file));
}

ordered_json check_shard(const safetensors_reader& shard, const std::string& report_path) {
  ordered_json report = read_shard_report(report_path);
  const auto found = ordered_json::array({shard.file_bytes(), shard.header().tensors.size()});
  const auto expected = ordered_json::array({report["bytes"], report["tensors"]});
  if (found != expected)
    throw file_error({.file = shard.path(),
                      .value = "has [bytes, tensors] " + json_shown(found),
                      .expected = json_shown(expected) + " as in " + report_path,
                      .advice = "remove both and run again"});
  return report;
}

checkpoint_result merge_shards(const std::string& out, const stop_function& stop, bool read_shards,
                               const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
  const quantize_journal journal(out);
  replacement(out).require_none();
  if (!journal.exists()) {
    if (!read_report_head(out).is_null() && is_file(out + "/" + index_file_name)) {
      journal.remove();  // what a kill between the index and the end has left
      verify_options options;
      options.stop = stop;
      options.progress = progress;
      require_whole(out, options);
      checkpoint_result result;
      result.complete = true;
      return result;
    }
    throw file_error({.file = out,
                      .value = "holds neither a begun nor a complete result of mxfp4 quantize",
                      .advice = "name its directory"});
  }
  journal.require_own();
  const file_lock lock = file_lock::acquire(journal.lock_path("files")).value();
  const ordered_json manifest = journal.manifest();
  std::string missing;
  for (const ordered_json& shard : manifest.at("shards"))
    if (const std::string file = shard.at("file"); !is_done(out, journal, file))
      missing += (missing.empty() ? "" : ", ") + quote_name(file);
  for (const ordered_json& file : manifest.at("files"))
    if (!is_file(out + "/" + file.get<std::string>()))
      missing += (missing.empty() ? "" : ", ") + quote_name(file.get<std::string>());
  if (!missing.empty())
    throw file_error({.file = out,
                      .value = "is not complete, it lacks " + missing,
                      .advice = "run mxfp4 quantize for them, then merge"});
  for (const ordered_json& file : manifest.at("file_hashes"))
    if (const std::string path = out + "/" + file.at("file").get<std::string>(); hash_of_file(path) != file.at("hash"))
      throw file_error({.file = path,
                        .value = "is not what the run wrote",
                        .advice = "run mxfp4 quantize for it again, then merge"});

  nlohmann::json index;  // sorted, as the ecosystem writes it
  std::uint64_t total_size = 0, bytes = 0;
  for (const ordered_json& shard : manifest.at("shards"))
    bytes += input_file::open(out + "/" + shard.at("file").get<std::string>()).value().size();
  verify_options options;
  options.stop = stop;
  options.progress = progress;
  shared_progress all(options, bytes);
  for (const ordered_json& shard : manifest.at("shards")) {
    const std::string file = shard.at("file");
    const safetensors_reader reader = safetensors_reader::open(out + "/" + file).value();
    const ordered_json report = check_shard(reader, journal.report_path(file));
    if (read_shards) check_shard_hashes(reader, report, 0, all);
    for (const tensor_info& t : reader.header().tensors) {
      index["weight_map"][t.name] = file;
      total_size += t.bytes();
    }
  }
  progress(bytes, bytes);
  index["metadata"]["total_size"] = total_size;
  const std::string text = index.dump(2) + "\n";
  checkpoint_result result = write_report(out, manifest, journal, text, stop);
  write_text_file(out + "/" + index_file_name, text, stop);
  journal.remove();
  result.shards = result.kept = manifest.at("shards").size();
  result.complete = true;
  return result;
}

file_result<checkpoint_result> merge_checkpoint(const std::string& out, const stop_function& stop,
                                                const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
  return guarded([&] { return merge_shards(out, stop, true, progress); });
}

}  // namespace mxfp4::checkpoint
