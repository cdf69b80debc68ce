// tests/fuzz/memory_folder.hpp -- a checkpoint's directory in which one file is what a fuzzer makes up.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "memory_file.hpp"

namespace mxfp4::test {

/// A folder of its own, gone with the object. The file is a link to one that only exists in memory.
class memory_folder {
 public:
  explicit memory_folder(const std::string& file) {
    std::string name = (std::filesystem::temp_directory_path() / "mxfp4-fuzz-XXXXXX").string();
    require(mkdtemp(name.data()) != nullptr);
    path_ = name;
    std::filesystem::create_directories((*this / file).parent_path());
    std::filesystem::create_symlink(file_.hold(nullptr, 0), *this / file);
  }
  memory_folder(const memory_folder&) = delete;
  memory_folder& operator=(const memory_folder&) = delete;
  ~memory_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  [[nodiscard]] std::string path() const { return path_.string(); }

  /// The folder, with the file as these bytes.
  std::string hold(const std::uint8_t* data, std::size_t size) const {
    static_cast<void>(file_.hold(data, size));
    return path();
  }

 private:
  memory_file file_;
  std::filesystem::path path_;
};

}  // namespace mxfp4::test
