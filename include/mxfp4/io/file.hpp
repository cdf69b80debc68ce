// mxfp4/io/file.hpp -- files read in pieces, and files that appear complete or not at all.
// SPDX-License-Identifier: Apache-2.0
//
//   output_file    x.safetensors.tmp-<random>  --write, write, ...-->  commit: fsync, rename, fsync of the folder
//                                              --destroyed before-->   removed
//                                              --killed before-->      removed by the next output_file of that name
//
// pread and not mmap: a file that shrinks while it is read is then an error and not a signal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mxfp4/core/version.hpp"
#include "mxfp4/io/error.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

/// Asked before each piece of work, by several threads at once; after true the work ends with an error that is
/// interrupted(), and temporary files go the ordinary way. Empty: never. A signal handler may set what it reads.
using stop_function = std::function<bool()>;

/// A regular file, opened for reading. Of all that a process has, the 64 used last hold a descriptor; the others are
/// opened again when they are read, and are then the same file or an error.
class input_file {
 public:
  /// An error for what cannot be opened, and for what is no regular file.
  [[nodiscard]] static file_result<input_file> open(std::string path);
  ~input_file();
  input_file(input_file&& other) noexcept;
  input_file& operator=(input_file&&) = delete;

  /// As it was given.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }  ///< when it was opened

  [[nodiscard]] std::int64_t modified() const noexcept { return modified_; }  ///< ns since 1970, when it was opened
  /// When anything about it changed last, which no program sets as it sets modified(); ns since 1970, when opened.
  [[nodiscard]] std::int64_t changed() const noexcept { return changed_; }
  [[nodiscard]] unsigned permissions() const noexcept { return permissions_; }  ///< 0644, ..., when it was opened

  /// All of `bytes`, or an error. By several threads at once.
  file_result<void> read(std::uint64_t offset, std::span<std::byte> bytes) const;

  /// An error where size or time of modification are not those of the opening, or the path leads to another file.
  file_result<void> require_unchanged() const;

 private:
  explicit input_file(std::string path);
  struct descriptor;
  struct pool;
  [[nodiscard]] std::shared_ptr<const descriptor> acquire() const;

  std::string path_;
  std::uint64_t device_ = 0, number_ = 0;  // what the path led to
  std::uint64_t size_ = 0;
  std::int64_t modified_ = 0, changed_ = 0;
  unsigned permissions_ = 0;
  std::uint64_t key_ = 0;  // in the pool
};

/// Something that this process would leave behind if it ended now: each output_file is one until it has its name or is
/// gone; whoever makes temporary folders holds one too.
class unfinished_output {
 public:
  unfinished_output() noexcept;
  ~unfinished_output();
  /// One more: `other` counts until it is gone.
  unfinished_output(unfinished_output&& other) noexcept : unfinished_output() { static_cast<void>(other); }
  unfinished_output& operator=(unfinished_output&&) = delete;

  /// How many there are: while there is none, a signal handler may end the process at once. Async-signal-safe.
  [[nodiscard]] static int count() noexcept;
};

/// What becomes of a file that is there already under the name of an output. A folder is always refused.
enum class existing_file {
  refuse,        ///< it stays, a link too: an error at the end, unless it has the very same bytes then
  replace,       ///< its name goes to the new file; where it is a link, that of the file to which the link leads
  replace_link,  ///< the same, but of a link the link itself: for files inside an output folder
};

class temporary;

/// A file under a temporary name in the folder of its final one. One process at a time writes an output; what a process
/// that was killed left under temporary names of this output is removed.
///
/// A pipe, a terminal, /dev/null, and what standard output leads to (/dev/stdout, /dev/fd/N) are written through: the
/// bytes wait in an unnamed file of the folder for temporary files, and are poured out by the commit.
class output_file {
 public:
  /// @param stop  asked before each write and before the commit.
  [[nodiscard]] static file_result<output_file> create(std::string path, stop_function stop = {},
                                                       existing_file existing = existing_file::replace);
  ~output_file();
  output_file(output_file&& other) noexcept;
  output_file& operator=(output_file&&) = delete;

  /// As it was given.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// All of `bytes`, at that place. An error for a full disk, or where `stop` says so.
  file_result<void> write(std::uint64_t offset, std::span<const std::byte> bytes);
  /// Whoever may do what with it: 0644, ... Without it: what the umask leaves of 0666.
  file_result<void> set_permissions(unsigned permissions);
  /// Gives the file its name, once it is on the disk. An error where it cannot get it.
  file_result<void> commit() { return commit_all({this}); }

  /// Several files that belong together: all are on the disk before the first one gets its name. Where one cannot get
  /// it, those are removed that were not there before.
  static file_result<void> commit_all(std::span<output_file* const> files);
  static file_result<void> commit_all(std::initializer_list<output_file*> files) {
    return commit_all(std::span<output_file* const>(files.begin(), files.size()));
  }

 private:
  output_file(std::string path, stop_function stop, existing_file existing);
  [[nodiscard]] int descriptor() const noexcept;
  void flush() const;
  void require_free();
  void rename();
  void pour() const;
  void require_running() const;

  unfinished_output unfinished_;  // from before there is a file until after it is gone
  std::string path_, target_;
  stop_function stop_;
  existing_file existing_;
  std::unique_ptr<temporary> temporary_;  // none for a stream
  std::uint64_t size_ = 0;
  int stream_ = -1, spool_ = -1;  // where a stream goes, -1: to be opened; its bytes
  bool was_there_ = false, committed_ = false;
};

/// Held by one process at a time, and by none after its end, however it ends: flock on a file that stays.
/// Where the file system has no locks, everybody holds it.
class file_lock {
 public:
  /// shared: by several, while nobody holds it exclusively.
  enum class kind { exclusive, shared };

  /// An error where another process holds it.
  [[nodiscard]] static file_result<file_lock> acquire(const std::string& path, kind what = kind::exclusive);
  /// Nothing where another process holds it.
  [[nodiscard]] static file_result<std::optional<file_lock>> try_acquire(const std::string& path,
                                                                         kind what = kind::exclusive);
  ~file_lock();
  file_lock(file_lock&& other) noexcept;
  file_lock& operator=(file_lock&&) = delete;

 private:
  explicit file_lock(int fd) noexcept : fd_(fd) {}

  int fd_ = -1;
};

/// Is there a regular file, or a link to one?
[[nodiscard]] bool is_file(const std::string& path);

/// Bytes that may still be written in the file system of `folder`.
file_result<std::uint64_t> free_bytes(const std::string& folder);

/// Copies a regular file and its permissions, a slab at a time; the copy appears complete or not at all, in the place
/// of a link too.
file_result<void> copy_file(const std::string& from, const std::string& to, const stop_function& stop = {});

/// Do both paths name one file? One that does not exist yet counts by its path.
[[nodiscard]] bool same_file(const std::string& a, const std::string& b);

/// An error where `output`, which need not exist, is the folder `input` or lies inside it, however the paths
/// are spelled and whichever links they go through: relative to the working folder, with `..` after a name that does
/// not exist yet, by another mount of the same folder.
file_result<void> require_outside(const std::string& input, const std::string& output);

/// What everything that writes asks before its first byte: no output is an input, none lies inside a folder that is
/// one, and what is there is replaced only on demand. An error naming the output otherwise.
/// @param inputs    files, and folders, of which every file counts, in subfolders and behind links too; "" is none.
///                  Two names are one file where device and inode are the same.
/// @param outputs   files, and folders, which must not hold an input; pipes and devices are written through.
/// @param existing  refuse: a file that is there is an error. But of several outputs some may be there where the others
///                  were left under temporary names, as by a kill between two renames: that run goes on, and what is
///                  there must come out the same. What a folder may hold is decided by who writes it.
file_result<void> require_outputs(const std::vector<std::string>& inputs, const std::vector<std::string>& outputs,
                                  existing_file existing);

}  // namespace mxfp4::io
