// src/checkpoint/recorded_hashes.cpp -- see recorded_hashes.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/recorded_hashes.hpp"

#include <oneapi/tbb/parallel_for.h>

#include <algorithm>
#include <filesystem>

#include "checkpoint/foreign_format.hpp"
#include "checkpoint/quantize_journal.hpp"
#include "checkpoint/sealed_json.hpp"
#include "checkpoint/shared_progress.hpp"
#include "checkpoint/tensor_hashes.hpp"
#include "checkpoint/verification.hpp"
#include "io/guarded.hpp"
#include "io/strict_json.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

constexpr const char* check = "hashes";

[[nodiscard]] std::string path_of(const checkpoint_reader& in, const std::string& name) {
  return in.directory() + "/" + name;
}

[[nodiscard]] std::string accept_by(const checkpoint_reader& in, const std::string& name) {
  return ", or accept it by mxfp4 verify " + quote_name(in.path()) + " --accept " + quote_name(name);
}

/// Files, and the headers of shards.
void compare_files(const recorded_hashes& recorded, const checkpoint_reader& in, std::vector<finding>& found) {
  const auto add = [&found](severity level, const std::string& name, const std::string& what) {
    found.push_back({level, check, name, what});
  };
  for (const recorded_file& f : recorded.files) {
    const auto shard = std::lower_bound(in.shards().begin(), in.shards().end(), f.name);
    const bool is_shard = shard != in.shards().end() && *shard == f.name;
    if (f.is_shard && is_shard) {
      const safetensors_reader& file = in.shard(static_cast<std::size_t>(shard - in.shards().begin()));
      if (file.file_bytes() != f.bytes || file.header_hash() != f.hash)
        add(severity::error, f.name, "has not the header that was written: it is damaged, quantise again");
    } else if (!is_file(path_of(in, f.name))) {
      add(severity::error, f.name, "is missing: restore it" + (f.is_shard ? "" : accept_by(in, f.name)));
    } else if (f.is_shard) {
      add(severity::error, f.name, "is not in the index");
    } else if (const std::string hash = hash_of_file(path_of(in, f.name)); hash != f.hash) {
      add(severity::error, f.name,
          "was changed after it was written: its hash is " + hash + ", expected " + f.hash + ": restore it" +
              accept_by(in, f.name));
    }
  }
  const auto is_known = [&](const std::string& name) { return recorded.find(name) != nullptr; };
  for (const std::string& name : in.shards())
    if (!is_known(name)) add(severity::error, name, "is not a file of the run that wrote this checkpoint");
  for (const std::string& name : in.other_files())
    if (!is_known(name) && name != report_file_name && !is_readme(name))
      add(severity::warning, name,
          "is not a file of the run that wrote this checkpoint: remove it" + accept_by(in, name));
  for (const std::string& name : in.ignored_files())
    if (is_weights_file(name) && !name.ends_with(".safetensors"))  // those are named without a record too
      add(severity::warning, name,
          "is not a file of the run that wrote this checkpoint, and is loaded by programs that know its format: "
          "remove it");
}

void compare_tensors(const recorded_hashes& recorded, const checkpoint_reader& in, const hashes_by_name& known,
                     const verify_options& options, std::vector<finding>& found) {
  const auto is_known = [&known](const checkpoint_tensor& t) { return known.contains(t.info->name); };
  std::uint64_t bytes = 0;
  for (const checkpoint_tensor& t : in.tensors()) bytes += is_known(t) ? 0 : t.info->bytes();
  shared_progress progress(options, bytes);
  std::vector<std::string> hashes(in.tensors().size());
  tbb::parallel_for(std::size_t{0}, hashes.size(), [&](std::size_t i) {
    const checkpoint_tensor& t = in.tensors()[i];
    hashes[i] =
        is_known(t) ? known.at(t.info->name) : hash_tensor(in.shard(t.shard), *t.info, [&](std::uint64_t count) {
          progress.require_running(in.path());
          progress.add(count);
        });
  });
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    const std::string& name = in.tensors()[i].info->name;
    const auto expected = recorded.tensors.find(name);
    if (expected == recorded.tensors.end())
      found.push_back(
          {severity::error, check, quote_name(name), "is not a tensor of the run that wrote this checkpoint"});
    else if (expected->second != hashes[i])
      found.push_back({severity::error, check, quote_name(name),
                       "has not the bytes that were written: it is damaged, quantise again"});
  }
  for (const auto& [name, hash] : recorded.tensors)
    if (in.find(name) == nullptr) found.push_back({severity::error, check, quote_name(name), "is missing"});
}

/// The rest of a report, which is long, is not kept in memory.
[[nodiscard]] std::optional<recorded_hashes> hashes_recorded_in(const std::string& path) {
  const std::string text = read_json_text(path);
  return read_recorded_hashes(parse_json_members(text, path, {"version", "hash", "file_hashes", "tensor_hashes"}), text,
                              path);
}

[[noreturn]] void fail_damaged(const std::string& directory, const std::vector<finding>& damage, const char* advice) {
  throw file_error({.file = directory,
                    .value = "holds a result that is not whole: " + damage.front().where + " " + damage.front().what +
                             (damage.size() > 1 ? " (and " + std::to_string(damage.size() - 1) + " more)" : ""),
                    .advice = advice});
}

}  // namespace

const recorded_file* recorded_hashes::find(std::string_view file) const {
  const auto found = std::find_if(files.begin(), files.end(), [&](const recorded_file& f) { return f.name == file; });
  return found == files.end() ? nullptr : &*found;
}

bool is_readme(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return name == "readme" || name.starts_with("readme.");
}

std::optional<recorded_hashes> read_recorded_hashes(const ordered_json& report, const std::string& text,
                                                    const std::string& path) {
  const bool has_hashes = report.is_object() && (report.contains("hash") || report.contains("file_hashes") ||
                                                 report.contains("tensor_hashes"));
  if (report.is_object() && report.value("version", ordered_json()) == 1 && !has_hashes) return std::nullopt;
  require_seal(text, path);
  recorded_hashes recorded;
  std::size_t at = 0;
  for (const ordered_json& entry : json_array(report, "file_hashes", path, "")) {
    const std::string place = "file_hashes[" + std::to_string(at++) + "]";
    recorded_file& f = recorded.files.emplace_back();
    f.name = json_value<std::string>(entry, "file", path, place);
    f.bytes = json_value<std::uint64_t>(entry, "bytes", path, place);
    f.is_shard = entry.contains("header");
    f.hash = json_value<std::string>(entry, f.is_shard ? "header" : "hash", path, place);
    f.accepted = entry.value("accepted", ordered_json(false)) == true;
  }
  at = 0;
  for (const ordered_json& entry : json_array(report, "tensor_hashes", path, "")) {
    const std::string place = "tensor_hashes[" + std::to_string(at++) + "]";
    recorded.tensors.emplace(json_value<std::string>(entry, "name", path, place),
                             json_value<std::string>(entry, "hash", path, place));
  }
  return recorded;
}

std::vector<finding> compare_hashes(const recorded_hashes& recorded, const checkpoint_reader& in,
                                    const hashes_by_name& known, const verify_options& options) {
  std::vector<finding> found;
  compare_files(recorded, in, found);
  compare_tensors(recorded, in, known, options, found);
  return found;
}

recorded_hashes require_whole(const std::string& out, const verify_options& options) {
  const std::string path = out + "/" + report_file_name;
  std::optional<recorded_hashes> recorded = hashes_recorded_in(path);
  if (!recorded)
    throw file_error({.file = path,
                      .value = "is of a former version, which recorded no hashes",
                      .advice = "check it by mxfp4 verify --against, or replace the result with --overwrite"});
  std::vector<finding> damage = compare_hashes(*recorded, checkpoint_reader::open(out).value(), {}, options);
  std::erase_if(damage, [](const finding& f) { return f.level != severity::error; });
  if (!damage.empty()) fail_damaged(out, damage, "see mxfp4 verify, or replace the result with --overwrite");
  return *std::move(recorded);
}

std::vector<std::string> require_undamaged(const checkpoint_reader& in, const verify_options& options) {
  const std::string path = path_of(in, report_file_name);
  if (!in.is_directory() || !is_file(path)) return {};
  const std::optional<recorded_hashes> recorded = hashes_recorded_in(path);
  if (!recorded) return {path + " is of a former version and has no hashes: what is damaged goes unnoticed"};
  std::vector<finding> damage;
  std::vector<std::string> warnings;
  for (finding& f : compare_hashes(*recorded, in, {}, options))
    if (f.level == severity::warning) warnings.push_back(f.where + " " + f.what);
    else damage.push_back(std::move(f));
  if (!damage.empty()) fail_damaged(in.path(), damage, "see mxfp4 verify");
  return warnings;
}

}  // namespace mxfp4::checkpoint
