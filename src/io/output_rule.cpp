// src/io/output_rule.cpp -- no output is an input, none lies inside one, none is replaced unasked.
// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "io/guarded.hpp"
#include "io/temporary.hpp"
#include "mxfp4/io/file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

namespace {

namespace fs = std::filesystem;

/// The path from the root, without links as far as it exists and without `..`. It is made absolute first:
/// weakly_canonical leaves a relative path relative where its first name does not exist.
[[nodiscard]] fs::path place_of(const std::string& path) {
  if (path.empty())
    throw file_error({.file = "''", .value = "is an empty name", .expected = "that of a file or a folder"});
  std::error_code error;
  const fs::path absolute = fs::absolute(path, error);
  if (error) throw file_error({.file = path, .value = "its place cannot be found: " + error.message()});
  const fs::path place = fs::weakly_canonical(absolute, error);
  return error ? absolute.lexically_normal() : place;
}

using identity = std::pair<dev_t, ino_t>;

/// Regular files by device and inode.
class output_files {
 public:
  output_files(const std::vector<std::string>& outputs, existing_file existing) {
    for (const std::string& path : outputs) {
      struct stat info {};
      const bool link_itself = existing == existing_file::replace_link;
      const int result = link_itself ? ::lstat(path.c_str(), &info) : ::stat(path.c_str(), &info);
      if (result == 0 && S_ISREG(info.st_mode)) outputs_.emplace(identity{info.st_dev, info.st_ino}, path);
    }
  }

  void require_other(const std::string& input) const {
    struct stat info {};
    if (outputs_.empty() || ::stat(input.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return;
    if (const auto found = outputs_.find({info.st_dev, info.st_ino}); found != outputs_.end())
      throw file_error({.file = found->second, .value = "is also the input " + input, .advice = "name another output"});
  }

 private:
  std::map<identity, std::string> outputs_;
};

/// Has something this name, a link that leads nowhere too?
[[nodiscard]] bool is_taken(const std::string& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error));
}

[[nodiscard]] bool is_folder(const std::string& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

}  // namespace

bool same_file(const std::string& a, const std::string& b) {
  std::error_code error;
  if (fs::equivalent(a, b, error)) return true;
  return place_of(a) == place_of(b);
}

file_result<void> require_outside(const std::string& input, const std::string& output) {
  return guarded([&] {
    const fs::path folder = place_of(input);
    const fs::path place = place_of(output);
    for (fs::path above = place;; above = above.parent_path()) {
      std::error_code error;  // by inode where both are there: a folder may be mounted twice
      if (above == folder || fs::equivalent(above, folder, error))
        throw file_error({.file = output,
                          .value = std::string("is ") + (above == place ? "" : "inside ") + "the input " + input,
                          .advice = "name another place"});
      if (above == above.root_path() || above.empty()) return;
    }
  });
}

file_result<void> require_outputs(const std::vector<std::string>& inputs, const std::vector<std::string>& outputs,
                                  existing_file existing) {
  return guarded([&] {
    std::map<fs::path, std::string> places;
    for (const std::string& output : outputs)
      if (!is_stream(output) && !places.emplace(place_of(output), output).second)
        throw file_error({.file = output, .value = "is named for two outputs", .advice = "name two files"});
    const output_files files(outputs, existing);
    for (const std::string& input : inputs) {
      if (input.empty()) continue;
      files.require_other(input);
      if (!is_folder(input)) {
        if (const auto found = places.find(place_of(input)); found != places.end())
          throw file_error(
              {.file = found->second, .value = "is also the input " + input, .advice = "name another output"});
        continue;
      }
      for (const std::string& output : outputs) require_outside(input, output).value();
      std::error_code error;
      constexpr auto skip = fs::directory_options::skip_permission_denied;
      for (fs::recursive_directory_iterator at(input, skip, error), end; !error && at != end; at.increment(error))
        files.require_other(at->path().string());
    }
    for (const std::string& output : outputs)
      if (is_folder(output))
        for (const std::string& input : inputs)
          if (!input.empty() && !require_outside(output, input))
            throw file_error({.file = output, .value = "holds the input " + input, .advice = "name another place"});
    if (existing != existing_file::refuse) return;
    const bool goes_on = std::any_of(outputs.begin(), outputs.end(), [](const std::string& output) {
      return !is_taken(output) && has_temporary(output);
    });
    for (const std::string& output : outputs)
      if (is_taken(output) && !is_folder(output) && !is_stream(output) && !goes_on)
        throw file_error(
            {.file = output, .value = "is there already", .advice = "name another output, or give --overwrite"});
  });
}

}  // namespace mxfp4::io
