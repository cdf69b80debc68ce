// src/io/temporary.cpp -- random names, their locks, and what is left of processes that were killed.
// SPDX-License-Identifier: Apache-2.0
#include "io/temporary.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <random>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include "io/guarded.hpp"
#include "mxfp4/io/error.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view mark = ".tmp-", digits = "0123456789abcdef";
constexpr std::size_t digit_count = 16;

[[nodiscard]] std::string random_name() {
  std::random_device random;
  std::string name(mark);
  for (std::size_t i = 0; i < digit_count; ++i) name += digits[random() % digits.size()];
  return name;
}

[[nodiscard]] fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

/// Is `name` that of a temporary of `output`?
[[nodiscard]] bool is_temporary_of(std::string_view output, std::string_view name) {
  if (name.size() != output.size() + mark.size() + digit_count || !name.starts_with(output)) return false;
  name.remove_prefix(output.size());
  return name.starts_with(mark) && name.find_first_not_of(digits, mark.size()) == std::string_view::npos;
}

/// Is it that of any output's? Such a folder is held by its writer, and nobody else writes there.
[[nodiscard]] bool is_temporary(const std::string& name) {
  constexpr std::size_t tail = mark.size() + digit_count;
  return name.size() > tail && is_temporary_of(name.substr(0, name.size() - tail), name);
}

/// Entries beside `output` that are called as its temporaries are.
[[nodiscard]] std::vector<std::string> temporaries_of(const fs::path& output) {
  const std::string name = output.filename().string();
  std::vector<std::string> found;
  std::error_code error;
  for (fs::directory_iterator at(folder_of(output), error), end; !error && at != end; at.increment(error)) {
    if (is_temporary_of(name, at->path().filename().string())) found.push_back(at->path().string());
  }
  return found;
}

enum class lock_state { held, others, unknown };

[[nodiscard]] lock_state try_lock(int fd) {
  while (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    return errno == EWOULDBLOCK ? lock_state::others : lock_state::unknown;  // some file systems have no locks
  }
  return lock_state::held;
}

/// Held while temporaries of a folder are made and removed, so that none is taken for a leftover before its writer has
/// locked it. Where the folder cannot be read or locked, nobody waits.
class folder_lock {
 public:
  explicit folder_lock(const fs::path& folder, const stop_function& stop = {}) {
    if (is_temporary(folder.filename().string())) return;
    fd_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    constexpr std::chrono::milliseconds pause(5), patience(10'000);
    for (auto waited = pause; fd_ >= 0 && try_lock(fd_) == lock_state::others; waited += pause) {
      const bool stops = stop && stop();
      if (stops || waited > patience) {
        ::close(fd_);
        if (stops) throw stopped(folder.string());
        throw file_error({.file = folder.string(), .value = "is locked by another process", .advice = "end it"});
      }
      std::this_thread::sleep_for(pause);
    }
  }
  ~folder_lock() {
    if (fd_ >= 0) ::close(fd_);
  }
  folder_lock(const folder_lock&) = delete;
  folder_lock& operator=(const folder_lock&) = delete;

 private:
  int fd_ = -1;
};

/// A folder that was just made; where it cannot be opened it goes again, and errno says why.
[[nodiscard]] int open_own_folder(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) return fd;
  const int error = errno;
  ::rmdir(path.c_str());
  errno = error;
  return -1;
}

/// Removes what nobody holds, and says whether somebody holds it. Only what is of that kind is looked at.
[[nodiscard]] bool is_being_written(const std::string& path, temporary::kind kind) {
  const bool folder = kind == temporary::kind::folder;
  // Some file systems lock only what is open for writing; a FIFO of that name is not waited for.
  const int fd = ::open(path.c_str(), O_CLOEXEC | O_NOFOLLOW | (folder ? O_RDONLY | O_DIRECTORY : O_RDWR | O_NONBLOCK));
  if (fd < 0) return false;
  struct stat info {};
  const bool fits = ::fstat(fd, &info) == 0 && (folder ? S_ISDIR(info.st_mode) : S_ISREG(info.st_mode));
  const lock_state state = fits ? try_lock(fd) : lock_state::unknown;
  std::error_code ignored;
  if (state == lock_state::held) fs::remove_all(path, ignored);
  ::close(fd);
  return state == lock_state::others;
}

}  // namespace

temporary::temporary(const std::string& output, kind what, const stop_function& stop) : kind_(what) {
  const folder_lock lock(folder_of(output), stop);
  const bool folder = kind_ == kind::folder;
  do {
    path_ = output + random_name();
    if (!folder) fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    else if (::mkdir(path_.c_str(), 0777) == 0) fd_ = open_own_folder(path_);
  } while (fd_ < 0 && errno == EEXIST);
  if (fd_ < 0)
    throw file_error({.file = output,
                      .value = std::string("cannot create the ") + (folder ? "directory" : "file") + ": " +
                               std::generic_category().message(errno)});
  static_cast<void>(try_lock(fd_));
  bool busy = false;
  for (const std::string& other : temporaries_of(output))
    if (fs::path(other).filename() != fs::path(path_).filename() && is_being_written(other, kind_)) busy = true;
  if (!busy) return;
  ::close(fd_);
  std::error_code ignored;
  fs::remove(path_, ignored);
  throw file_error({.file = output, .value = "is being written by another process", .advice = "wait for its end"});
}

temporary::~temporary() {
  std::error_code ignored;
  if (removed_) fs::remove_all(path_, ignored);
  ::close(fd_);  // after the removal: while it is there, it is held
}

void temporary::remove() {
  std::error_code error;
  fs::remove_all(path_, error);
  if (error) throw file_error({.file = path_, .value = "cannot be removed: " + error.message(), .advice = "remove it"});
  removed_ = false;
}

void remove_temporaries(const std::string& output) {
  const folder_lock lock(folder_of(output));
  for (const std::string& left : temporaries_of(output))
    static_cast<void>(is_being_written(left, temporary::kind::file));
}

bool has_temporary(const std::string& output) { return !temporaries_of(output).empty(); }

void sync_folder_of(const std::string& path) {
  const int fd = ::open(folder_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;  // a folder that may be written but not read: the file itself is safe
  const int error = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  if (error != 0 && error != EINVAL && error != ENOTSUP)
    throw file_error({.file = path,
                      .value = "is there, but its folder cannot be synced: " + std::generic_category().message(error),
                      .advice = "a power failure may take it away"});
}

}  // namespace mxfp4::io
