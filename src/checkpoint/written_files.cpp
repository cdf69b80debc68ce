// src/checkpoint/written_files.cpp -- records read with suspicion, and removals that follow no link.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/written_files.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <span>
#include <system_error>

#include "checkpoint/quantize_journal.hpp"
#include "io/strict_json.hpp"
#include "io/utf8.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

namespace fs = std::filesystem;

constexpr const char* record_format = "mxfp4 files";

[[nodiscard]] fs::file_status status_of(const fs::path& path) {
  std::error_code ignored;
  return fs::symlink_status(path, ignored);
}

/// A file below the folder, outside the journal: a record is a file like any other, and may say anything.
[[nodiscard]] bool is_inner_name(const std::string& name) {
  if (name.empty() || name.find('\0') != std::string::npos) return false;
  const fs::path path(name);
  return path.is_relative() && path.has_filename() && *path.begin() != journal_folder_name &&
         std::none_of(path.begin(), path.end(), [](const fs::path& part) { return part == ".." || part == "."; });
}

void add(file_names& names, const ordered_json& entry, const std::string& record) {
  if (!entry.is_string() || !is_inner_name(entry.get_ref<const std::string&>()))
    throw file_error({.file = record,
                      .value = "lists " + entry.dump(-1, ' ', false, ordered_json::error_handler_t::replace),
                      .expected = "the name of a file inside its folder",
                      .advice = "name a fresh directory"});
  names.insert(entry.get<std::string>());
}

void add_files(file_names& names, const ordered_json& record, const std::string& path) {
  const auto files = record.find("files");
  if (!record.is_object() || files == record.end() || !files->is_array())
    throw file_error({.file = path,
                      .value = "has no list \"files\"",
                      .expected = "the names of what was written",
                      .advice = "name a fresh directory"});
  for (const ordered_json& name : *files) add(names, name, path);
}

[[nodiscard]] ordered_json read_record(const std::string& path) {
  auto record = read_json<ordered_json>(path);
  if (!record.is_object() || record.value("format", ordered_json()) != record_format)
    throw file_error({.file = path, .value = "is not a list of written files", .advice = "name a fresh directory"});
  return record;
}

/// What the journal, or else the finished result, has on record; nullopt where there is neither.
[[nodiscard]] std::optional<file_names> recorded_files(const std::string& out) {
  std::optional<file_names> names;
  const quantize_journal journal(out);
  if (journal.exists()) {
    const std::string& path = journal.manifest_path();
    const auto manifest = read_json<ordered_json>(path);  // one that a run would not go on with may be replaced
    names = file_names{index_file_name, report_file_name};
    add_files(*names, manifest, path);
    for (const ordered_json& shard : manifest.value("shards", ordered_json::array()))
      add(*names, shard.is_object() ? shard.value("file", ordered_json()) : ordered_json(), path);
  }
  const std::string record = out + "/" + record_file_name;
  if (is_file(record)) {
    if (!names) names.emplace();
    add_files(*names, read_record(record), record);
  } else if (const ordered_json head = read_report_head(out); !head.is_null()) {
    if (!names) names.emplace();
    add_files(*names, head, out + "/" + report_file_name);
  }
  return names;
}

[[noreturn]] void fail(const fs::path& path, const std::string& value, const std::string& advice) {
  throw file_error({.file = path.string(), .value = value, .advice = advice});
}

/// The first folder on the way to a file that is a symbolic link; empty where there is none.
[[nodiscard]] fs::path link_on_the_way(const fs::path& folder, const fs::path& name) {
  fs::path at = folder;
  for (const fs::path& part : name.parent_path())
    if (fs::is_symlink(status_of(at /= part))) return at;
  return {};
}

void require_own_folders(const fs::path& folder, const fs::path& name) {
  if (const fs::path link = link_on_the_way(folder, name); !link.empty())
    fail(link, "is a symbolic link, through which nothing is written", "remove the link, or name another output");
}

}  // namespace

void write_text_file(const std::string& path, std::string_view text, const stop_function& stop) {
  output_file file = output_file::create(path, stop, existing_file::replace_link).value();
  file.write(0, std::as_bytes(std::span(text))).value();
  file.commit().value();
}

void require_recordable(const std::string& folder, const std::vector<std::string>& names) {
  for (const std::string& name : names)
    if (utf8::first_error(name) != name.size())
      throw file_error({.file = (fs::path(folder) / name).string(),
                        .value = "has a name that is not UTF-8",
                        .expected = "UTF-8, for the result records the names of its files",
                        .advice = "rename it"});
}

std::string record_text(const file_names& files) {
  return ordered_json{{"format", record_format}, {"version", 1}, {"files", files}}.dump(2) + "\n";
}

void make_folders(const std::string& folder, const std::string& name) {
  require_own_folders(folder, name);
  std::error_code error;
  const fs::path parent = (fs::path(folder) / name).parent_path();
  fs::create_directories(parent, error);
  if (error) throw file_error({.file = parent.string(), .value = "cannot create the folder: " + error.message()});
}

void make_journal_folder(const std::string& out) { make_folders(out, std::string(journal_folder_name) + "/"); }

replacement::replacement(const std::string& out)
    : out_(out), path_(out + "/" + journal_folder_name + "/replaced.json") {
  if (!is_file(path_)) return;
  const ordered_json record = read_record(path_);
  add_files(files_, record, path_);
  found_ = record.value("removed", ordered_json()) == true ? state::removed : state::removing;
}

void replacement::require_none() const {
  if (found_ == state::removing)
    fail(out_, "is being replaced by a run with --overwrite that did not end", "give that command again");
}

void replacement::plan(const file_names& coming) {
  const std::optional<file_names> recorded = recorded_files(out_);
  if (recorded) files_.insert(recorded->begin(), recorded->end());
  std::error_code error;
  if (!recorded && found_ == state::none)
    for (fs::directory_iterator at(out_, error), end; !error && at != end; at.increment(error))
      if (const std::string name = at->path().filename().string(); name != journal_folder_name)
        fail(out_, "holds " + quote_name(name) + ", and no run of mxfp4 recorded what it wrote there",
             "name a fresh directory");
  for (const std::string& name : coming) {
    require_own_folders(out_, name);
    if (!files_.contains(name) && fs::exists(status_of(fs::path(out_) / name)))
      fail(fs::path(out_) / name, "is there and was not written by the run that is to be replaced",
           "move it away, or name another output");
  }
  for (const std::string& name : files_)
    if (fs::is_directory(status_of(fs::path(out_) / name)))
      fail(fs::path(out_) / name, "is a folder now, expected the file that a former run wrote", "move it away");
  files_.insert(coming.begin(), coming.end());  // so that the next run knows them too, should this one be killed
}

void replacement::remove() {
  make_journal_folder(out_);
  alone_.emplace(file_lock::acquire(quantize_journal(out_).run_lock_path()).value());
  write(false);
  for (const std::string& name : files_) {
    if (!link_on_the_way(out_, name).empty()) continue;  // what is there now was not written by a run
    const fs::path path = fs::path(out_) / name;
    if (::unlink(path.c_str()) != 0 && errno != ENOENT && errno != ENOTDIR)
      fail(path, "cannot remove: " + std::generic_category().message(errno), "");
    for (fs::path folder = fs::path(name).parent_path(); !folder.empty(); folder = folder.parent_path()) {
      const fs::path emptied = fs::path(out_) / folder;
      if (::rmdir(emptied.c_str()) == 0 || errno == ENOENT) continue;  // a killed run may have removed it
      if (errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR) break;
      fail(emptied, "cannot remove: " + std::generic_category().message(errno), "");
    }
  }
}

void replacement::done() const { write(true); }

void replacement::write(bool removed) const {
  const ordered_json record = {{"format", record_format}, {"version", 1}, {"removed", removed}, {"files", files_}};
  write_text_file(path_, record.dump(2) + "\n");
}

}  // namespace mxfp4::checkpoint
