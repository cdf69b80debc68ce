// src/checkpoint/writer.cpp -- which job goes into which shard; the jobs run; the directory gets its name.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/checkpoint/writer.hpp"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <utility>

#include "checkpoint/quantize_journal.hpp"
#include "checkpoint/shard_name.hpp"
#include "io/guarded.hpp"
#include "io/temporary.hpp"
#include "mxfp4/io/gguf_file.hpp"
#include "mxfp4/io/safetensors_writer.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

namespace fs = std::filesystem;

[[nodiscard]] const metadata& torch_metadata() {
  static const metadata extra = {{"format", "pt"}};  // what loaders of PyTorch checkpoints ask for
  return extra;
}

[[nodiscard]] std::uint64_t job_bytes(const tensor_job& job, const std::string& path) {
  std::uint64_t bytes = 0;
  for (const tensor_info& t : job.outputs) bytes += value_at(tensor_bytes(t.type, t.shape), path, t.name);
  return bytes;
}

struct shard_plan {
  std::size_t first = 0, last = 0;  // jobs [first, last)
};

[[nodiscard]] std::vector<shard_plan> plan_shards(const std::vector<tensor_job>& jobs, std::uint64_t max_shard_bytes,
                                                  const std::string& path) {
  std::vector<shard_plan> shards = {{0, 0}};
  std::uint64_t filled = 0;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const std::uint64_t bytes = job_bytes(jobs[i], path);
    if (filled != 0 && (bytes > max_shard_bytes || filled > max_shard_bytes - bytes)) {
      shards.push_back({i, i});
      filled = 0;
    }
    filled += bytes;
    shards.back().last = i + 1;
  }
  return shards;
}

/// Counts what is handed over, for the progress.
class counter {
 public:
  counter(std::uint64_t total, const progress_function& progress) : total_(total), progress_(progress) {}
  void add(std::uint64_t bytes) { progress_(done_ += bytes, total_); }

 private:
  std::uint64_t total_, done_ = 0;
  const progress_function& progress_;
};

/// One file of jobs [first, last) under its final name.
std::uint64_t write_shard(const std::string& path, const std::vector<tensor_job>& jobs, const shard_plan& shard,
                          counter& count, const std::function<void()>& before_commit, const stop_function& stop,
                          existing_file existing) {
  std::vector<tensor_info> tensors;
  for (std::size_t i = shard.first; i < shard.last; ++i)
    tensors.insert(tensors.end(), jobs[i].outputs.begin(), jobs[i].outputs.end());
  safetensors_writer out =
      safetensors_writer::create(path, std::move(tensors), torch_metadata(), stop, existing).value();
  for (std::size_t i = shard.first; i < shard.last; ++i)
    jobs[i].run([&](std::string_view name, std::span<const std::byte> bytes) {
      out.append(name, bytes).value();
      count.add(bytes.size());
    });
  before_commit();
  out.commit().value();
  return out.file_bytes();
}

/// "out/" and a link to out are out; "." is the working folder by its name, which can be renamed over.
[[nodiscard]] std::string without_slash_and_link(const std::string& path) {
  fs::path target = fs::path(path).lexically_normal();
  if (!target.has_filename()) target = target.parent_path();
  std::error_code error;
  if (fs::is_symlink(target, error) || target.filename() == "." || target.filename() == "..")
    target = fs::weakly_canonical(fs::absolute(target, error), error);
  return target.string();
}

/// Files and folders are renamed from beside the output into it, which no file system does across its border.
void require_one_file_system(const std::string& path, const std::string& target) {
  const fs::path above = fs::path(target).has_parent_path() ? fs::path(target).parent_path() : fs::path(".");
  struct stat inside {
  }, beside{};
  if (::stat(target.c_str(), &inside) == 0 && ::stat(above.c_str(), &beside) == 0 && inside.st_dev != beside.st_dev)
    throw file_error({.file = path,
                      .value = "is where another file system is mounted, and cannot be replaced",
                      .expected = "a folder inside it, or beside it",
                      .advice = "name one"});
}

/// A directory under a temporary name beside its final one.
class staged_directory {
 public:
  /// @param coming  the names of the files that it will have.
  staged_directory(const std::string& path, file_names coming, existing_file existing, const stop_function& stop)
      : path_(path), target_(without_slash_and_link(path)), names_(std::move(coming)) {
    std::error_code error;
    in_place_ = fs::exists(target_, error) && !(fs::is_directory(target_, error) && fs::is_empty(target_, error));
    if (in_place_ && !fs::is_directory(target_, error))
      throw file_error({.file = path, .value = "is not a directory", .expected = "one or nothing"});
    if (in_place_ && existing == existing_file::refuse) {
      replacement(target_).require_none();
      throw file_error({.file = path,
                        .value = "exists and is not an empty directory",
                        .advice = "name another output, or give --overwrite"});
    }
    names_.insert(record_file_name);
    require_one_file_system(path_, target_);
    if (in_place_) replacement(target_).plan(names_);
    temporary_.emplace(target_, temporary::kind::folder, stop);
  }

  /// Where one of the files is to be written.
  [[nodiscard]] std::string file(const std::string& name) const {
    return (fs::path(temporary_->path()) / name).string();
  }

  void require_space(std::uint64_t bytes) const {
    if (const std::uint64_t space = free_bytes(temporary_->path()).value(); space < bytes)
      throw file_error(
          {.file = path_,
           .value = "needs " + std::to_string(bytes) + " bytes, the file system has " + std::to_string(space) + " left",
           .advice = "make room, or name an output elsewhere"});
  }

  /// Copies a file of the checkpoint, with the folders that it is in.
  void copy(const std::string& from, const std::string& name, const stop_function& stop) {
    make_folders(temporary_->path(), name);
    copy_file(from, file(name), stop).value();
  }

  void commit() {
    write_text_file(file(record_file_name), record_text(names_));
    if (in_place_) return replace();
    if (std::error_code error; fs::is_directory(target_, error))  // of an empty folder the permissions stay
      fs::permissions(temporary_->path(), fs::status(target_, error).permissions(), error);
    rename(temporary_->path(), target_);
    temporary_->got_its_name();
    sync_folder_of(target_);
  }

 private:
  void rename(const std::string& from, const std::string& to) const {
    if (std::rename(from.c_str(), to.c_str()) != 0)
      throw file_error(
          {.file = path_,
           .value = "cannot rename " + from + " to " + to + ": " + std::generic_category().message(errno)});
  }

  /// File by file, for what else is in the directory stays.
  void replace() {
    replacement former(target_);
    former.plan(names_);
    former.remove();
    for (const std::string& name : names_) {
      make_folders(target_, name);
      rename(file(name), (fs::path(target_) / name).string());
      sync_folder_of((fs::path(target_) / name).string());
    }
    quantize_journal(target_).remove();
    temporary_->remove();
  }

  unfinished_output unfinished_;
  std::string path_, target_;
  bool in_place_ = false;
  std::optional<temporary> temporary_;
  file_names names_;
};

}  // namespace

file_result<output_size> write_directory(const std::string& path, const std::vector<tensor_job>& jobs,
                                         const directory_files& files, std::uint64_t max_shard_bytes,
                                         const job_hooks& hooks) {
  return guarded([&]() -> output_size {
    std::uint64_t total = 0;
    for (const tensor_job& job : jobs) total += job_bytes(job, path);
    const std::vector<shard_plan> shards = plan_shards(jobs, max_shard_bytes, path);
    const std::vector<std::string> carried =
        files.carried != nullptr ? carried_files(*files.carried) : std::vector<std::string>();
    file_names names(carried.begin(), carried.end());
    for (std::size_t i = 0; i < shards.size(); ++i) names.insert(shard_name(i, shards.size()));
    if (files.config) names.insert(config_file_name);
    if (shards.size() > 1) names.insert(index_file_name);
    staged_directory out(path, std::move(names), hooks.existing, hooks.stop);
    out.require_space(total);
    counter count(total, hooks.progress);
    nlohmann::json weight_map = nlohmann::json::object();
    output_size size{0, shards.size()};
    for (std::size_t i = 0; i < shards.size(); ++i) {
      const std::string name = shard_name(i, shards.size());
      size.bytes += write_shard(
          out.file(name), jobs, shards[i], count, [] {}, hooks.stop, existing_file::replace_link);
      for (std::size_t j = shards[i].first; j < shards[i].last; ++j)
        for (const tensor_info& t : jobs[j].outputs)
          if (!weight_map.emplace(t.name, name).second)
            throw file_error({.file = path, .tensor = t.name, .value = "is there twice", .expected = "once"});
    }
    for (const std::string& name : carried)
      out.copy((fs::path(files.carried->directory()) / name).string(), name, hooks.stop);
    if (files.config) write_text_file(out.file(config_file_name), *files.config, hooks.stop);
    if (shards.size() > 1)
      write_text_file(
          out.file(index_file_name),
          nlohmann::json{{"metadata", {{"total_size", total}}}, {"weight_map", std::move(weight_map)}}.dump(2) + "\n",
          hooks.stop);
    hooks.before_commit();
    out.commit();
    return size;
  });
}

file_result<output_size> write_safetensors(const std::string& path, const std::vector<tensor_job>& jobs,
                                           const job_hooks& hooks) {
  return guarded([&]() -> output_size {
    std::uint64_t total = 0;
    for (const tensor_job& job : jobs) total += job_bytes(job, path);
    counter count(total, hooks.progress);
    return {write_shard(path, jobs, {0, jobs.size()}, count, hooks.before_commit, hooks.stop, hooks.existing), 1};
  });
}

file_result<output_size> write_gguf(const std::string& path, const std::vector<gguf_job>& jobs,
                                    std::vector<gguf_pair> pairs, const job_hooks& hooks) {
  return guarded([&]() -> output_size {
    gguf_header header;
    header.pairs = std::move(pairs);
    for (const gguf_job& job : jobs)
      header.tensors.insert(header.tensors.end(), job.outputs.begin(), job.outputs.end());
    gguf_writer out = gguf_writer::create(path, std::move(header), hooks.stop, hooks.existing).value();
    counter count(out.file_bytes(), hooks.progress);
    for (const gguf_job& job : jobs)
      job.run([&](std::string_view name, std::span<const std::byte> bytes) {
        out.append(name, bytes).value();
        count.add(bytes.size());
      });
    hooks.before_commit();
    out.commit().value();
    return {out.file_bytes(), 1};
  });
}

}  // namespace mxfp4::checkpoint
