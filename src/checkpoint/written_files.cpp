// src/checkpoint/written_files.cpp -- records read with suspicion, and removals that follow no link.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/written_files.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <system_error>

#include "checkpoint/foreign_format.hpp"
#include "checkpoint/quantize_journal.hpp"
#include "checkpoint/recorded_hashes.hpp"
#include "checkpoint/sealed_json.hpp"
#include "io/foreign_file.hpp"
#include "io/guarded.hpp"
#include "io/strict_json.hpp"
#include "io/temporary.hpp"
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
                      .value = "lists " + json_shown(entry),
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

/// Adds what one record says. @param own  takes what it names besides "files".
void add_record(former_files& former, const std::string& path,
                const std::function<void(file_names&, const ordered_json&)>& own = {}) {
  std::string doubt;
  ordered_json record;
  const std::string text = read_json_text(path);
  try {
    record = parse_json_members(text, path, {"files", "shards", "removed"});  // reports are long
    doubt = broken_seal(text);
  } catch (const file_error& error) {
    doubt = error.value();
  }
  file_names& names = doubt.empty() ? former.names : former.doubtful;
  if (record.is_object()) {
    add_files(names, record, path);
    if (own) own(names, record);
  }
  if (doubt.empty()) return;
  if (const std::string name = fs::path(path).lexically_relative(former.folder).string(); is_inner_name(name))
    former.names.insert(name);  // nobody else calls a file so
  former.doubt = path + " " + doubt;
}

/// The shards that reports in the journal vouch for, where its manifest does not.
void add_reported_shards(former_files& former, const quantize_journal& journal) {
  std::error_code error;
  const fs::path folder = fs::path(journal.manifest_path()).parent_path();
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    if (const std::string path = at->path().string(); path.ends_with(".safetensors.json"))
      if (const auto report = guarded([&] { return read_sealed(path); }))
        add(former.names, report->is_object() ? report->value("file", ordered_json()) : ordered_json(), path);
}

/// What the journal, or else the finished result, has on record; nullopt where there is neither.
[[nodiscard]] std::optional<former_files> recorded_files(const std::string& out) {
  std::optional<former_files> former;
  const quantize_journal journal(out);
  if (journal.exists()) {  // one that a run would not go on with may be replaced
    former.emplace().folder = out;
    add_record(*former, journal.manifest_path(), [&](file_names& names, const ordered_json& manifest) {
      names.insert({index_file_name, report_file_name});
      for (const ordered_json& shard : manifest.value("shards", ordered_json::array()))
        add(names, shard.is_object() ? shard.value("file", ordered_json()) : ordered_json(), journal.manifest_path());
    });
    if (!former->doubt.empty()) add_reported_shards(*former, journal);
  }
  for (const char* const name : {record_file_name, report_file_name})
    if (const std::string path = out + "/" + name; is_file(path)) {
      if (!former) former.emplace().folder = out;
      add_record(*former, path);
      break;
    }
  return former;
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

void former_files::add(const former_files& other) {
  names.insert(other.names.begin(), other.names.end());
  doubtful.insert(other.doubtful.begin(), other.doubtful.end());
  if (!other.doubt.empty()) doubt = other.doubt;
}

void require_finished(const std::string& directory) {
  std::error_code error;
  if (const fs::path journal = fs::path(directory) / journal_folder_name; fs::exists(journal, error))
    fail(journal, "is there: the run of mxfp4 quantize that writes this checkpoint is not finished",
         "give the same command again");
}

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

std::vector<std::string> carried_files(const checkpoint_reader& source) {
  std::vector<std::string> files = source.other_files();
  std::erase_if(files, [](const std::string& name) {
    return name == config_file_name || name == record_file_name || is_readme(name) || describes_quantization(name);
  });
  require_recordable(source.directory(), files);
  for (const std::string& name : files) {
    const input_file file = input_file::open((fs::path(source.directory()) / name).string()).value();
    char begin[foreign_file_bytes];
    const std::size_t size = std::min<std::size_t>(sizeof begin, file.size());
    file.read(0, std::as_writable_bytes(std::span(begin, size))).value();
    if (const std::string_view text(begin, size); is_lfs_pointer(text))
      fail(file.path(), std::string("is ") + find_foreign_file(text)->kind, find_foreign_file(text)->advice);
  }
  return files;
}

std::string record_text(const file_names& files) {
  return sealed_text({{"format", record_format}, {"version", 2}, {"files", files}}, 2);
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
  found_ = state::removing;
  former_.folder = out;
  add_record(former_, path_, [this](file_names&, const ordered_json& record) {
    if (record.value("removed", ordered_json()) == true) found_ = state::removed;
  });
}

void replacement::require_none() const {
  if (found_ == state::removing)
    fail(out_, "is being replaced by a run with --overwrite that did not end", "give that command again");
}

std::uint64_t replacement::bytes_to_go() const {
  std::uint64_t bytes = 0;
  for (const std::string& name : files_)
    if (struct stat info{}; link_on_the_way(out_, name).empty() &&
                            ::lstat((fs::path(out_) / name).c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
                            info.st_nlink == 1)
      bytes += static_cast<std::uint64_t>(info.st_blocks) * 512;
  return bytes;
}

void replacement::plan(const file_names& coming) {
  quantize_journal(out_).require_own();
  const std::optional<former_files> recorded = recorded_files(out_);
  if (recorded) former_.add(*recorded);
  std::error_code error;
  if (!recorded && found_ == state::none)
    for (fs::directory_iterator at(out_, error), end; !error && at != end; at.increment(error))
      if (const std::string name = at->path().filename().string(); name != journal_folder_name)
        fail(out_, "holds " + quote_name(name) + ", and no run of mxfp4 recorded what it wrote there",
             "name a fresh directory");
  files_ = former_.names;
  const auto is_there = [this](const std::string& name) { return fs::exists(status_of(fs::path(out_) / name)); };
  for (const std::string& name : former_.doubtful)
    if (coming.contains(name)) files_.insert(name);
    else if (!files_.contains(name) && is_there(name))
      fail(fs::path(out_) / name, "is not known to be of the former run: " + former_.doubt,
           "remove it if it is, or else move it away, and give the command again");
  for (const std::string& name : coming) {
    require_own_folders(out_, name);
    if (files_.contains(name) || !is_there(name)) continue;
    if (former_.doubt.empty())
      fail(fs::path(out_) / name, "is there and was not written by the run that is to be replaced",
           "move it away, or name another output");
    fail(fs::path(out_) / name, "is there, and is not known to be of the former run: " + former_.doubt,
         "move what is yours out of the folder, remove it, and give the command again");
  }
  for (const std::string& name : coming)
    for (fs::path folder = fs::path(name).parent_path(); !folder.empty(); folder = folder.parent_path())
      if (const fs::file_status status = status_of(fs::path(out_) / folder);
          fs::exists(status) && !fs::is_directory(status) && !files_.contains(folder.string()))
        fail(fs::path(out_) / folder, "is a file, expected the folder that " + quote_name(name) + " comes into",
             "move it away");
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
    remove_temporaries(path.string());
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
  write_text_file(path_,
                  sealed_text({{"format", record_format}, {"version", 2}, {"removed", removed}, {"files", files_}}, 2));
}

}  // namespace mxfp4::checkpoint
