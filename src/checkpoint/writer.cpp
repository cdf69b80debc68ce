// src/checkpoint/writer.cpp -- which job goes into which shard; the jobs run; the directory gets its name.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/checkpoint/writer.hpp"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "checkpoint/foreign_format.hpp"
#include "io/guarded.hpp"
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

[[nodiscard]] std::string shard_name(std::size_t i, std::size_t count) {
  if (count == 1) return single_file_name;
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i + 1, count);
  return name;
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
                          counter& count, const std::function<void()>& before_commit, const stop_function& stop) {
  std::vector<tensor_info> tensors;
  for (std::size_t i = shard.first; i < shard.last; ++i)
    tensors.insert(tensors.end(), jobs[i].outputs.begin(), jobs[i].outputs.end());
  safetensors_writer out = safetensors_writer::create(path, std::move(tensors), torch_metadata(), stop).value();
  for (std::size_t i = shard.first; i < shard.last; ++i)
    jobs[i].run([&](std::string_view name, std::span<const std::byte> bytes) {
      out.append(name, bytes).value();
      count.add(bytes.size());
    });
  before_commit();
  out.commit().value();
  return out.file_bytes();
}

void write_text(const std::string& path, const std::string& text, const stop_function& stop) {
  output_file out = output_file::create(path, stop).value();
  out.write(0, std::as_bytes(std::span(text))).value();
  out.commit().value();
}

/// A directory under a temporary name beside its final one.
class staged_directory {
 public:
  explicit staged_directory(const std::string& path) : path_(path) {
    fs::path target = fs::path(path).lexically_normal();
    if (!target.has_filename()) target = target.parent_path();  // a slash at the end
    std::error_code error;
    if (fs::is_symlink(target, error)) target = fs::weakly_canonical(target, error);
    target_ = target.string();
    if (fs::exists(target, error) && !(fs::is_directory(target, error) && fs::is_empty(target, error)))
      throw file_error({.file = path,
                        .value = "exists and is not an empty directory",
                        .advice = "name another output, or remove it"});
    temporary_ = target_ + ".tmp-" + std::to_string(::getpid());
    if (!fs::create_directory(temporary_, error))
      throw file_error(
          {.file = path,
           .value = "cannot create the directory " + temporary_ + ": " + (error ? error.message() : "it exists")});
  }
  ~staged_directory() {
    std::error_code ignored;
    if (!committed_) fs::remove_all(temporary_, ignored);
  }
  staged_directory(const staged_directory&) = delete;
  staged_directory& operator=(const staged_directory&) = delete;

  [[nodiscard]] std::string file(const std::string& name) const { return (fs::path(temporary_) / name).string(); }

  void require_space(std::uint64_t bytes) const {
    if (const std::uint64_t space = free_bytes(temporary_).value(); space < bytes)
      throw file_error(
          {.file = path_,
           .value = "needs " + std::to_string(bytes) + " bytes, the file system has " + std::to_string(space) + " left",
           .advice = "make room, or name an output elsewhere"});
  }

  /// Copies a file of the checkpoint, with the folders that it is in.
  void copy(const std::string& from, const std::string& name, const stop_function& stop) const {
    const fs::path to = fs::path(temporary_) / name;
    std::error_code error;
    fs::create_directories(to.parent_path(), error);
    if (error)
      throw file_error({.file = to.parent_path().string(), .value = "cannot create the directory: " + error.message()});
    copy_file(from, to.string(), stop).value();
  }

  void commit() {
    if (std::rename(temporary_.c_str(), target_.c_str()) != 0)
      throw file_error({.file = path_,
                        .value = "cannot rename " + temporary_ + " to it: " + std::generic_category().message(errno)});
    committed_ = true;
  }

 private:
  std::string path_, target_, temporary_;
  bool committed_ = false;
};

}  // namespace

file_result<output_size> write_directory(const std::string& path, const std::vector<tensor_job>& jobs,
                                         const directory_files& files, std::uint64_t max_shard_bytes,
                                         const job_hooks& hooks) {
  return guarded([&]() -> output_size {
    std::uint64_t total = 0;
    for (const tensor_job& job : jobs) total += job_bytes(job, path);
    const std::vector<shard_plan> shards = plan_shards(jobs, max_shard_bytes, path);
    staged_directory out(path);
    out.require_space(total);
    counter count(total, hooks.progress);
    nlohmann::json weight_map = nlohmann::json::object();
    output_size size{0, shards.size()};
    for (std::size_t i = 0; i < shards.size(); ++i) {
      const std::string name = shard_name(i, shards.size());
      size.bytes += write_shard(
          out.file(name), jobs, shards[i], count, [] {}, hooks.stop);
      for (std::size_t j = shards[i].first; j < shards[i].last; ++j)
        for (const tensor_info& t : jobs[j].outputs)
          if (!weight_map.emplace(t.name, name).second)
            throw file_error({.file = path, .tensor = t.name, .value = "is there twice", .expected = "once"});
    }
    if (files.carried != nullptr)
      for (const std::string& name : files.carried->other_files())
        if (name != config_file_name && name != "README.md" && !describes_quantization(name))
          out.copy((fs::path(files.carried->directory()) / name).string(), name, hooks.stop);
    if (files.config) write_text(out.file(config_file_name), *files.config, hooks.stop);
    if (shards.size() > 1)
      write_text(
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
    return {write_shard(path, jobs, {0, jobs.size()}, count, hooks.before_commit, hooks.stop), 1};
  });
}

file_result<output_size> write_gguf(const std::string& path, const std::vector<gguf_job>& jobs,
                                    std::vector<gguf_pair> pairs, const job_hooks& hooks) {
  return guarded([&]() -> output_size {
    gguf_header header;
    header.pairs = std::move(pairs);
    for (const gguf_job& job : jobs)
      header.tensors.insert(header.tensors.end(), job.outputs.begin(), job.outputs.end());
    gguf_writer out = gguf_writer::create(path, std::move(header), hooks.stop).value();
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
