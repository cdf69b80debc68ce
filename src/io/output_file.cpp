// src/io/output_file.cpp -- pwrite, fsync and rename; or, into a pipe, one write after the other.
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "io/guarded.hpp"
#include "io/temporary.hpp"
#include "mxfp4/io/file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_existing(const std::string& path) {
  throw file_error({.file = path, .value = "is there already", .advice = "name another output, or give --overwrite"});
}

/// The descriptor of ours for which a name like /proc/self/fd/1 stands, or -1.
[[nodiscard]] int descriptor_named(const fs::path& path) {
  std::error_code error;
  if (!path.has_parent_path()) return -1;
  const fs::path own = "/proc/" + std::to_string(::getpid()) + "/fd";
  const fs::path folder = fs::weakly_canonical(path.parent_path(), error);
  if (error || folder != own) return -1;
  const std::string name = path.filename().string();
  int fd = -1;
  const auto [end, bad] = std::from_chars(name.data(), name.data() + name.size(), fd);
  return bad == std::errc{} && end == name.data() + name.size() ? fd : -1;
}

struct place {
  std::string path;     ///< the end of a chain of symbolic links, whether there is a file or not
  int descriptor = -1;  ///< where the chain leads to one of ours
  bool there = false;
  mode_t mode = 0;

  [[nodiscard]] bool is_stream() const noexcept { return descriptor >= 0 || S_ISFIFO(mode) || S_ISCHR(mode); }
};

[[nodiscard]] place stated(place found) {
  struct stat info {};
  found.there = ::lstat(found.path.c_str(), &info) == 0;
  if (found.there) found.mode = info.st_mode;
  return found;
}

[[nodiscard]] place resolve(const std::string& path) {
  constexpr int longest_chain = 40;
  std::error_code error;
  fs::path target = path;
  for (int n = 0;; ++n) {
    if (const int fd = descriptor_named(target); fd >= 0) return {target.string(), fd};
    if (!fs::is_symlink(target, error)) return stated({target.string()});
    if (n == longest_chain)
      throw file_error(
          {.file = path, .value = "is a symbolic link that leads to itself", .advice = "name another output"});
    const fs::path next = fs::read_symlink(target, error);
    if (error) fail_errno(path, "cannot follow the symbolic link", error.value());
    target = next.is_absolute() ? next : target.parent_path() / next;
  }
}

/// A file without a name, gone with its descriptor.
[[nodiscard]] int open_spool(const std::string& path) {
  std::error_code error;
  std::string name = (fs::temp_directory_path(error) / "mxfp4-XXXXXX").string();
  const int fd = ::mkostemp(name.data(), O_CLOEXEC);
  if (fd < 0) fail_errno(path, "cannot create the temporary file " + name, errno);
  ::unlink(name.c_str());
  return fd;
}

/// Renames where nothing has the new name; where the file system cannot promise that, it was looked at just before.
[[nodiscard]] int rename_to_free(const std::string& from, const std::string& to) {
#if defined(RENAME_NOREPLACE)
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return errno;
#endif
  return ::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
}

/// Does a regular file hold the first `size` bytes of `fd` and nothing else?
[[nodiscard]] bool has_same_bytes(const std::string& path, int fd, std::uint64_t size) {
  const auto file = input_file::open(path);
  if (!file || file->size() != size) return false;
  constexpr std::uint64_t slab = 1 << 20;
  std::vector<std::byte> here, there;
  for (std::uint64_t at = 0; at < size; at += here.size()) {
    here.resize(static_cast<std::size_t>(std::min(slab, size - at)));
    there.resize(here.size());
    if (!file->read(at, there)) return false;
    if (::pread(fd, here.data(), here.size(), static_cast<off_t>(at)) != static_cast<ssize_t>(here.size()))
      return false;
    if (here != there) return false;
  }
  return true;
}

}  // namespace

namespace {
std::atomic<int> unfinished_outputs = 0;  // lock-free: a signal handler reads it
static_assert(std::atomic<int>::is_always_lock_free);
}  // namespace

unfinished_output::unfinished_output() noexcept { ++unfinished_outputs; }
unfinished_output::~unfinished_output() { --unfinished_outputs; }
int unfinished_output::count() noexcept { return unfinished_outputs.load(); }

bool is_stream(const std::string& path) { return resolve(path).is_stream(); }

output_file::output_file(std::string path, stop_function stop, existing_file existing)
    : path_(std::move(path)), target_(path_), stop_(std::move(stop)), existing_(existing) {
  if (path_.empty()) throw file_error({.file = "the output", .value = "has no name", .expected = "a path"});
  place target = existing_ == existing_file::replace_link ? stated({path_}) : resolve(path_);
  const bool stream = existing_ != existing_file::replace_link && target.is_stream();
  const bool link_itself = !stream && existing_ != existing_file::replace;
  if (link_itself) target = stated({path_});
  target_ = target.path;
  was_there_ = target.there;
  if (stream) {
    if (target.descriptor >= 0) stream_ = ::fcntl(target.descriptor, F_DUPFD_CLOEXEC, 0);
    if (target.descriptor >= 0 ? stream_ < 0 : ::access(target_.c_str(), W_OK) != 0)
      fail_errno(path_, "cannot open for writing", errno);
    spool_ = open_spool(path_);
    return;
  }
  if (was_there_ && !S_ISREG(target.mode) && !(link_itself && S_ISLNK(target.mode)))
    throw file_error({.file = path_, .value = "exists and is not a regular file", .advice = "name another output"});
  temporary_ = std::make_unique<temporary>(target_, temporary::kind::file, stop_);
  if (was_there_ && S_ISREG(target.mode)) set_permissions(target.mode & 0777u).value();  // it takes that one's place
}

file_result<output_file> output_file::create(std::string path, stop_function stop, existing_file existing) {
  return guarded([&] { return output_file(std::move(path), std::move(stop), existing); });
}

output_file::output_file(output_file&& other) noexcept
    : unfinished_(std::move(other.unfinished_)),
      path_(std::move(other.path_)),
      target_(std::move(other.target_)),
      stop_(std::move(other.stop_)),
      existing_(other.existing_),
      temporary_(std::move(other.temporary_)),
      size_(other.size_),
      stream_(std::exchange(other.stream_, -1)),
      spool_(std::exchange(other.spool_, -1)),
      was_there_(other.was_there_),
      committed_(other.committed_) {}

output_file::~output_file() {
  for (const int fd : {stream_, spool_})
    if (fd >= 0) ::close(fd);
}

int output_file::descriptor() const noexcept { return temporary_ ? temporary_->descriptor() : spool_; }

void output_file::require_running() const {
  if (stop_ && stop_()) throw stopped(path_);
}

file_result<void> output_file::write(std::uint64_t offset, std::span<const std::byte> bytes) {
  return guarded([&] {
    require_running();
    while (!bytes.empty()) {
      const ssize_t count = ::pwrite(descriptor(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0)
        fail_errno(path_, "cannot write " + std::to_string(bytes.size()) + " bytes at " + std::to_string(offset),
                   count < 0 ? errno : ENOSPC);
      offset += static_cast<std::uint64_t>(count);
      size_ = std::max(size_, offset);
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
  });
}

file_result<void> output_file::set_permissions(unsigned permissions) {
  return guarded([&] {
    if (temporary_ && ::fchmod(descriptor(), static_cast<mode_t>(permissions)) != 0)
      fail_errno(path_, "cannot set the permissions", errno);
  });
}

void output_file::flush() const {
  if (!temporary_) return;
  if (::fsync(descriptor()) != 0) fail_errno(path_, "cannot sync", errno);
  // Some file systems say at a close what went wrong; the descriptor itself stays, for it holds the lock.
  const int copy = ::fcntl(descriptor(), F_DUPFD_CLOEXEC, 0);
  if (copy >= 0 && ::close(copy) != 0) fail_errno(path_, "cannot close", errno);
}

void output_file::require_free() {
  if (!temporary_ || existing_ != existing_file::refuse) return;
  struct stat info {};
  was_there_ = ::lstat(target_.c_str(), &info) == 0;
  if (was_there_ && (!S_ISREG(info.st_mode) || !has_same_bytes(target_, descriptor(), size_))) fail_existing(path_);
}

void output_file::rename() {
  const std::string& from = temporary_->path();
  const bool must_be_free = existing_ == existing_file::refuse && !was_there_;
  const int error = must_be_free                                   ? rename_to_free(from, target_)
                    : ::rename(from.c_str(), target_.c_str()) == 0 ? 0
                                                                   : errno;
  if (error == EEXIST && must_be_free) fail_existing(path_);
  if (error != 0) fail_errno(path_, "cannot rename " + from + " to it", error);
  temporary_->got_its_name();
  committed_ = true;
}

/// Asks between two writes whether to stop: a pipe whose reader sleeps takes no more than it has room for.
void output_file::pour() const {
  constexpr int patience = 100;  // milliseconds
  int fd = stream_;
  while (fd < 0) {
    fd = ::open(target_.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0) break;
    if (errno != ENXIO && errno != EINTR) fail_errno(path_, "cannot open for writing", errno);
    require_running();  // a FIFO that nobody reads yet
    ::poll(nullptr, 0, patience);
  }
  const file_result<void> done = guarded([&] {
    std::vector<std::byte> buffer;
    for (std::uint64_t at = 0; at < size_;) {
      pollfd ready{fd, POLLOUT, 0};
      if (::poll(&ready, 1, patience) <= 0) {
        require_running();
        continue;
      }
      buffer.resize(static_cast<std::size_t>(std::min<std::uint64_t>(4096, size_ - at)));  // never waits for room
      if (const ssize_t got = ::pread(spool_, buffer.data(), buffer.size(), static_cast<off_t>(at)); got <= 0)
        fail_errno(path_, "cannot read the temporary file", got < 0 ? errno : EIO);
      const ssize_t count = ::write(fd, buffer.data(), buffer.size());
      if (count < 0 && errno != EINTR && errno != EAGAIN) fail_errno(path_, "cannot write", errno);
      if (count > 0) at += static_cast<std::uint64_t>(count);
    }
  });
  if (fd != stream_) ::close(fd);
  done.value();
}

file_result<void> output_file::commit_all(std::span<output_file* const> files) {
  return guarded([&] {
    for (const output_file* file : files) file->flush();
    for (const output_file* file : files) file->require_running();
    for (output_file* file : files) file->require_free();
    for (const output_file* file : files)
      if (!file->temporary_) file->pour();
    try {
      for (output_file* file : files)
        if (file->temporary_) file->rename();
    } catch (const file_error&) {
      for (const output_file* file : files)
        if (file->committed_ && !file->was_there_) ::unlink(file->target_.c_str());  // all or none
      throw;
    }
    for (const output_file* file : files)
      if (file->temporary_) sync_folder_of(file->target_);
  });
}

}  // namespace mxfp4::io
