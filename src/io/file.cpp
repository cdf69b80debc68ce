// src/io/file.cpp -- pread, pwrite, fsync and rename behind file.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/io/file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

namespace mxfp4::inline MXFP4_VERSION_NS::io {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const std::string& path, const std::string& what) { throw file_error(path + ": " + what); }

[[noreturn]] void fail_errno(const std::string& path, const std::string& what, int error) {
  fail(path, what + ": " + std::generic_category().message(error));
}

/// The folder's entry is on the disk once the folder is. Some file systems do not sync folders and say EINVAL.
void sync_folder_of(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  const std::string folder = parent.empty() ? "." : parent;
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;  // a folder that may be written but not read: the file itself is safe
  const int error = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  if (error != 0 && error != EINVAL && error != ENOTSUP) fail_errno(folder, "cannot sync the folder", error);
}

/// Where the rename has to go: the end of a chain of symbolic links, whether there is a file or not.
std::string resolve(const std::string& path) {
  constexpr int longest_chain = 40;
  std::error_code error;
  fs::path target = path;
  for (int n = 0; fs::is_symlink(target, error); ++n) {
    if (n == longest_chain) fail(path, "is a symbolic link that leads to itself: name another output");
    const fs::path next = fs::read_symlink(target, error);
    if (error) fail(path, "cannot follow the symbolic link: " + error.message());
    target = next.is_absolute() ? next : target.parent_path() / next;
  }
  return target.string();
}

[[nodiscard]] std::int64_t modification_time(const struct stat& info) {
  constexpr std::int64_t second = 1'000'000'000;
  return static_cast<std::int64_t>(info.st_mtim.tv_sec) * second + static_cast<std::int64_t>(info.st_mtim.tv_nsec);
}

}  // namespace

std::string quote_name(std::string_view name) {
  constexpr std::size_t longest = 200;
  constexpr char digits[] = "0123456789abcdef";
  std::string text = "'";
  for (const char c : name.substr(0, longest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      text += "\\x";
      text += digits[byte >> 4];
      text += digits[byte & 15];
    } else {
      text += c;
    }
  }
  if (name.size() > longest) text += "...";
  return text + "'";
}

// ---- reading --------------------------------------------------------------------------------------------------------

input_file::input_file(std::string path) : path_(std::move(path)) {
  fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // NONBLOCK: a FIFO is refused, not waited for
  if (fd_ < 0) fail_errno(path_, "cannot open for reading", errno);
  struct stat info {};
  const int error = ::fstat(fd_, &info) == 0 ? 0 : errno;
  if (error != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd_);
    if (error != 0) fail_errno(path_, "cannot stat", error);
    fail(path_, "is not a regular file: write the data to a file first");
  }
  size_ = static_cast<std::uint64_t>(info.st_size);
  modified_ = modification_time(info);
}

input_file::~input_file() { ::close(fd_); }

void input_file::read(std::uint64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t count = ::pread(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0)
      fail_errno(path_, "cannot read " + std::to_string(bytes.size()) + " bytes at " + std::to_string(offset), errno);
    if (count == 0)
      fail(path_, "ends at byte " + std::to_string(offset) + ", expected " + std::to_string(size_) +
                      " bytes: it was shortened while it was read");
    offset += static_cast<std::uint64_t>(count);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

void input_file::require_unchanged() const {
  struct stat info {};
  if (::fstat(fd_, &info) != 0) fail_errno(path_, "cannot stat", errno);
  const auto size = static_cast<std::uint64_t>(info.st_size);
  if (size != size_)
    fail(path_, "holds " + std::to_string(size) + " bytes, expected " + std::to_string(size_) +
                    " as when it was opened: it was changed while it was read");
  if (const std::int64_t modified = modification_time(info); modified != modified_)
    fail(path_, "was modified at " + std::to_string(modified) + " ns, expected " + std::to_string(modified_) +
                    " as when it was opened: it was changed while it was read");
}

// ---- writing --------------------------------------------------------------------------------------------------------

output_file::output_file(std::string path, stop_function stop)
    : path_(std::move(path)), target_(resolve(path_)), stop_(std::move(stop)) {
  if (target_.empty()) fail("the output", "has no name, expected a path");
  struct stat info {};
  if (::stat(target_.c_str(), &info) == 0 && !S_ISREG(info.st_mode))
    fail(path_, "exists and is not a regular file: name another output");
  for (int n = 0; fd_ < 0; ++n) {
    temporary_ = target_ + ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(n);
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0 && errno != EEXIST) fail_errno(path_, "cannot create the file", errno);
  }
}

output_file::~output_file() {
  if (fd_ >= 0) ::close(fd_);
  if (!committed_) ::unlink(temporary_.c_str());
}

void output_file::require_running() const {
  if (stop_ && stop_()) throw interrupted(path_ + ": interrupted, nothing was written");
}

void output_file::write(std::uint64_t offset, std::span<const std::byte> bytes) {
  require_running();
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0)
      fail_errno(path_, "cannot write " + std::to_string(bytes.size()) + " bytes at " + std::to_string(offset),
                 count < 0 ? errno : ENOSPC);
    offset += static_cast<std::uint64_t>(count);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

void output_file::flush() {
  if (::fsync(fd_) != 0) fail_errno(path_, "cannot sync", errno);
  const int fd = std::exchange(fd_, -1);
  if (::close(fd) != 0) fail_errno(path_, "cannot close", errno);
}

void output_file::rename() {
  if (::rename(temporary_.c_str(), target_.c_str()) != 0)
    fail_errno(path_, "cannot rename " + temporary_ + " to it", errno);
  committed_ = true;
}

void output_file::commit_all(std::initializer_list<output_file*> files) {
  for (output_file* file : files) file->flush();
  for (const output_file* file : files) file->require_running();
  try {
    for (output_file* file : files) file->rename();
  } catch (const file_error&) {
    for (output_file* file : files)
      if (file->committed_) ::unlink(file->target_.c_str());  // all or none
    throw;
  }
  for (output_file* file : files) sync_folder_of(file->target_);
}

// ---- what else a long run needs -------------------------------------------------------------------------------------

file_lock::file_lock(std::string path) {
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd_ < 0) fail_errno(path, "cannot open the lock", errno);
  while (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return;  // a file system without locks: commit by rename keeps files whole there
    ::close(fd_);
    fail(path, "is held by another process, which writes the same file: wait for its end");
  }
}

file_lock::~file_lock() { ::close(fd_); }

bool is_file(const std::string& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

void remove_temporaries(const std::string& path) {
  const fs::path target = path;
  const std::string prefix = target.filename().string() + ".tmp-";
  std::vector<fs::path> found;
  std::error_code error;
  const fs::path folder = target.has_parent_path() ? target.parent_path() : fs::path(".");
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    if (at->path().filename().string().starts_with(prefix)) found.push_back(at->path());
  if (error) fail(folder.string(), "cannot list the folder: " + error.message());
  for (const fs::path& file : found)
    if (!fs::remove(file, error) && error) fail(file.string(), "cannot remove: " + error.message());
}

std::uint64_t free_bytes(const std::string& folder) {
  struct statvfs info {};
  if (::statvfs(folder.c_str(), &info) != 0) fail_errno(folder, "cannot find the free space", errno);
  return static_cast<std::uint64_t>(info.f_bavail) * static_cast<std::uint64_t>(info.f_frsize);
}

void copy_file(const std::string& from, const std::string& to, const stop_function& stop) {
  constexpr std::uint64_t slab_bytes = 4 << 20;
  const input_file in(from);
  output_file out(to, stop);
  std::vector<std::byte> buffer;
  for (std::uint64_t at = 0; at < in.size(); at += buffer.size()) {
    buffer.resize(static_cast<std::size_t>(std::min(slab_bytes, in.size() - at)));
    in.read(at, buffer);
    out.write(at, buffer);
  }
  in.require_unchanged();
  out.commit();
}

namespace {

/// The path from the root, without links as far as it exists and without `..`. It is made absolute first:
/// weakly_canonical leaves a relative path relative where its first name does not exist.
fs::path place_of(const std::string& path) {
  std::error_code error;
  const fs::path absolute = fs::absolute(path, error);
  if (error) fail(path, "its place cannot be found: " + error.message());
  const fs::path place = fs::weakly_canonical(absolute, error);
  return error ? absolute.lexically_normal() : place;
}

}  // namespace

bool same_file(const std::string& a, const std::string& b) {
  std::error_code error;
  if (fs::equivalent(a, b, error)) return true;
  return place_of(a) == place_of(b);
}

void require_distinct(const std::string& input, const std::string& output) {
  if (same_file(input, output)) fail(output, "is also the file " + input + ": name another output");
}

void require_outside(const std::string& input, const std::string& output) {
  const fs::path folder = place_of(input);
  const fs::path place = place_of(output);
  for (fs::path above = place;; above = above.parent_path()) {
    std::error_code error;  // by inode where both are there: a folder may be mounted twice
    if (above == folder || fs::equivalent(above, folder, error))
      fail(output,
           std::string("is ") + (above == place ? "" : "inside ") + "the input " + input + ": name another place");
    if (above == above.root_path() || above.empty()) return;
  }
}

}  // namespace mxfp4::io
