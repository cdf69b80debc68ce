// src/io/file.cpp -- reading, locks, copies: what of file.hpp is not about outputs.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/io/file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <list>
#include <mutex>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include "io/guarded.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

namespace {

namespace fs = std::filesystem;

[[nodiscard]] std::int64_t nanoseconds(const struct timespec& time) {
  constexpr std::int64_t second = 1'000'000'000;
  return static_cast<std::int64_t>(time.tv_sec) * second + static_cast<std::int64_t>(time.tv_nsec);
}

}  // namespace

// ---- reading --------------------------------------------------------------------------------------------------------

struct input_file::descriptor {
  explicit descriptor(int opened) noexcept : fd(opened) {}
  ~descriptor() { ::close(fd); }
  descriptor(const descriptor&) = delete;
  descriptor& operator=(const descriptor&) = delete;

  const int fd;
};

/// The descriptors of the input_files used last. One that is dropped while somebody reads is closed after that.
struct input_file::pool {
  static constexpr std::size_t most = 64;

  [[nodiscard]] static pool& get() {
    static pool only;
    return only;
  }

  [[nodiscard]] std::uint64_t next_key() { return ++keys; }

  [[nodiscard]] std::shared_ptr<const descriptor> find(std::uint64_t key) {
    const std::lock_guard lock(mutex);
    const auto found = by_key.find(key);
    if (found == by_key.end()) return nullptr;
    used.splice(used.end(), used, found->second);
    return found->second->second;
  }
  void add(std::uint64_t key, std::shared_ptr<const descriptor> opened) {
    const std::lock_guard lock(mutex);
    if (by_key.contains(key)) return;  // another thread was faster
    used.emplace_back(key, std::move(opened));
    by_key.emplace(key, std::prev(used.end()));
    if (used.size() > most) {
      by_key.erase(used.front().first);
      used.pop_front();
    }
  }
  void remove(std::uint64_t key) {
    const std::lock_guard lock(mutex);
    const auto found = by_key.find(key);
    if (found == by_key.end()) return;
    used.erase(found->second);
    by_key.erase(found);
  }

  using entry = std::pair<std::uint64_t, std::shared_ptr<const descriptor>>;
  std::mutex mutex;
  std::atomic<std::uint64_t> keys = 0;
  std::list<entry> used;  // the one used last at the end
  std::unordered_map<std::uint64_t, std::list<entry>::iterator> by_key;
};

namespace {

struct opened_file {
  int fd = -1;
  struct stat info {};
};

[[nodiscard]] opened_file open_regular(const std::string& path) {
  opened_file file;
  file.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // NONBLOCK: a FIFO is refused, not waited for
  if (file.fd < 0) fail_errno(path, "cannot open for reading", errno);
  const int error = ::fstat(file.fd, &file.info) == 0 ? 0 : errno;
  if (error != 0 || !S_ISREG(file.info.st_mode)) {
    ::close(file.fd);
    if (error != 0) fail_errno(path, "cannot stat", error);
    throw file_error({.file = path, .value = "is not a regular file", .advice = "write the data to a file first"});
  }
  return file;
}

}  // namespace

input_file::input_file(std::string path) : path_(std::move(path)) {
  const opened_file file = open_regular(path_);
  auto opened = std::make_shared<const descriptor>(file.fd);
  device_ = static_cast<std::uint64_t>(file.info.st_dev);
  number_ = static_cast<std::uint64_t>(file.info.st_ino);
  size_ = static_cast<std::uint64_t>(file.info.st_size);
  modified_ = nanoseconds(file.info.st_mtim);
  changed_ = nanoseconds(file.info.st_ctim);
  permissions_ = static_cast<unsigned>(file.info.st_mode) & 0777u;
  key_ = pool::get().next_key();
  pool::get().add(key_, std::move(opened));
}

file_result<input_file> input_file::open(std::string path) {
  return guarded([&] { return input_file(std::move(path)); });
}

input_file::input_file(input_file&& other) noexcept
    : path_(std::move(other.path_)),
      device_(other.device_),
      number_(other.number_),
      size_(other.size_),
      modified_(other.modified_),
      changed_(other.changed_),
      permissions_(other.permissions_),
      key_(std::exchange(other.key_, 0)) {}

input_file::~input_file() {
  if (key_ != 0) pool::get().remove(key_);
}

std::shared_ptr<const input_file::descriptor> input_file::acquire() const {
  if (auto found = pool::get().find(key_)) return found;
  const opened_file file = open_regular(path_);
  auto opened = std::make_shared<const descriptor>(file.fd);
  if (static_cast<std::uint64_t>(file.info.st_dev) != device_ ||
      static_cast<std::uint64_t>(file.info.st_ino) != number_)
    throw file_error({.file = path_,
                      .value = "is another file",
                      .expected = "the one that was opened",
                      .advice = "it was replaced while it was read"});
  pool::get().add(key_, opened);
  return opened;
}

file_result<void> input_file::read(std::uint64_t offset, std::span<std::byte> bytes) const {
  return guarded([&] {
    const std::shared_ptr<const descriptor> file = acquire();
    while (!bytes.empty()) {
      const ssize_t count = ::pread(file->fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0)
        fail_errno(path_, "cannot read " + std::to_string(bytes.size()) + " bytes at " + std::to_string(offset), errno);
      if (count == 0)
        throw file_error({.file = path_,
                          .value = "ends at byte " + std::to_string(offset),
                          .expected = std::to_string(size_) + " bytes",
                          .advice = "it was shortened while it was read"});
      offset += static_cast<std::uint64_t>(count);
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
  });
}

file_result<void> input_file::require_unchanged() const {
  return guarded([&] {
    const std::shared_ptr<const descriptor> file = acquire();
    struct stat info {};
    if (::fstat(file->fd, &info) != 0) fail_errno(path_, "cannot stat", errno);
    const auto size = static_cast<std::uint64_t>(info.st_size);
    if (size != size_)
      throw file_error({.file = path_,
                        .value = "holds " + std::to_string(size) + " bytes",
                        .expected = std::to_string(size_) + " as when it was opened",
                        .advice = "it was changed while it was read"});
    if (const std::int64_t modified = nanoseconds(info.st_mtim); modified != modified_)
      throw file_error({.file = path_,
                        .value = "was modified at " + std::to_string(modified) + " ns",
                        .expected = std::to_string(modified_) + " as when it was opened",
                        .advice = "it was changed while it was read"});
    struct stat now {};
    if (::stat(path_.c_str(), &now) != 0) fail_errno(path_, "is not there any more", errno);
    if (now.st_dev != info.st_dev || now.st_ino != info.st_ino)
      throw file_error({.file = path_,
                        .value = "is another file",
                        .expected = "the one that was opened",
                        .advice = "it was replaced while it was read"});
  });
}

// ---- what else a long run needs -------------------------------------------------------------------------------------

file_result<std::optional<file_lock>> file_lock::try_acquire(const std::string& path, kind what) {
  return guarded([&]() -> std::optional<file_lock> {
    file_lock lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666));
    if (lock.fd_ < 0) fail_errno(path, "cannot open the lock", errno);
    while (::flock(lock.fd_, (what == kind::shared ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK) return std::nullopt;
      if (errno != EINTR) break;  // a file system without locks: commit by rename keeps files whole there
    }
    return lock;
  });
}

file_result<file_lock> file_lock::acquire(const std::string& path, kind what) {
  return guarded([&] {
    std::optional<file_lock> lock = try_acquire(path, what).value();
    if (!lock)
      throw file_error({.file = path,
                        .value = "is held by another process, which writes the same file",
                        .advice = "wait for its end"});
    return *std::move(lock);
  });
}

file_lock::file_lock(file_lock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

file_lock::~file_lock() {
  if (fd_ >= 0) ::close(fd_);
}

bool is_file(const std::string& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

file_result<std::uint64_t> free_bytes(const std::string& folder) {
  return guarded([&] {
    struct statvfs info {};
    if (::statvfs(folder.c_str(), &info) != 0) fail_errno(folder, "cannot find the free space", errno);
    return static_cast<std::uint64_t>(info.f_bavail) * static_cast<std::uint64_t>(info.f_frsize);
  });
}

file_result<void> copy_file(const std::string& from, const std::string& to, const stop_function& stop) {
  return guarded([&] {
    constexpr std::uint64_t slab_bytes = 4 << 20;
    const input_file in = input_file::open(from).value();
    output_file out = output_file::create(to, stop, existing_file::replace_link).value();
    out.set_permissions(in.permissions()).value();
    std::vector<std::byte> buffer;
    for (std::uint64_t at = 0; at < in.size(); at += buffer.size()) {
      buffer.resize(static_cast<std::size_t>(std::min(slab_bytes, in.size() - at)));
      in.read(at, buffer).value();
      out.write(at, buffer).value();
    }
    in.require_unchanged().value();
    out.commit().value();
  });
}

}  // namespace mxfp4::io
