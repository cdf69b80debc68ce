// src/io/temporary.hpp -- the name under which an output is written until it is whole.
// SPDX-License-Identifier: Apache-2.0
//
//   OUT.tmp-<16 hex digits>, random, beside OUT. Its writer holds a lock on it, which ends with the process: one that
//   nobody holds was left by a process that was killed, and the next writer of OUT removes it. The number of a process
//   would not do: two containers that share a folder have the same ones.
#pragma once

#include <string>

#include "mxfp4/core/version.hpp"
#include "mxfp4/io/file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

/// Also the lock of its output: two writers of one output are not there at the same time.
class temporary {
 public:
  enum class kind { file, folder };

  /// Creates it and removes those that were left for the same output.
  /// @param stop  asked while another process holds the folder.
  /// @throws file_error where it cannot be created, or another process writes this output.
  temporary(const std::string& output, kind what, const stop_function& stop = {});
  /// Removes it, unless it got its name; a folder with all that is in it.
  ~temporary();
  temporary(const temporary&) = delete;
  temporary& operator=(const temporary&) = delete;

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] int descriptor() const noexcept { return fd_; }  ///< a file: to write; a folder: to sync
  void got_its_name() noexcept { removed_ = false; }
  /// Removes it now, where success is not to be said before it is gone.
  /// @throws file_error naming `path()`. The destructor then tries again.
  void remove();

 private:
  std::string path_;
  kind kind_;
  int fd_ = -1;
  bool removed_ = true;
};

/// Removes files that were left for an output which nobody writes.
void remove_temporaries(const std::string& output);

/// Was one left of an output that is not there, or is one being written?
[[nodiscard]] bool has_temporary(const std::string& output);

/// Is an output of that name written through and not replaced: a pipe, a device, or what /dev/stdout leads to?
[[nodiscard]] bool is_stream(const std::string& path);

/// The entry of a file or folder is on the disk once its folder is. Some file systems do not sync folders and say so.
/// @throws file_error naming `path`.
void sync_folder_of(const std::string& path);

}  // namespace mxfp4::io
