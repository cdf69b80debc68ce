// tests/fault_injector/inject.cpp -- preloaded into a program: the n-th of its calls for files fails, or kills it.
// SPDX-License-Identifier: Apache-2.0
//
//   MXFP4_FAULT_ROOT  calls for absolute paths that do not begin with this are neither counted nor disturbed
//   MXFP4_FAULT_LOG   a file that gets a line "call path" for each call that counts
//   MXFP4_FAULT_AT    number of the call, from 1;  MXFP4_FAULT  what becomes of it: kill, ENOSPC, EIO or EACCES
//
// Counted are the calls that change a folder or a file, make them durable or lock them, and those that open or read
// input; close only of what was written. The kernel is called directly: the C library's own functions, or those of a
// sanitizer, are not called in between and count nothing twice.
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr int most_files = 4096;
constexpr char input = 1, output = 2;
char ours[most_files];  // of descriptors that come from calls that count

const char* setting(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : "";
}

bool is_ours(int fd) { return fd >= 0 && fd < most_files && ours[fd] != 0; }

bool is_ours(int folder, const char* path) {
  static const char* const root = setting("MXFP4_FAULT_ROOT");
  if (path[0] == '/') return std::strncmp(path, root, std::strlen(root)) == 0;
  return folder == AT_FDCWD || is_ours(folder);
}

/// Counts a call: 0, or the error that it has to end with.
int fault(const char* call, int fd, const char* path) {
  static const int log = static_cast<int>(
      syscall(SYS_openat, AT_FDCWD, setting("MXFP4_FAULT_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  static const long at = std::atol(setting("MXFP4_FAULT_AT"));
  static const char* const kind = setting("MXFP4_FAULT");
  static std::atomic<long> calls{0};
  char name[64], of_fd[PATH_MAX] = "", line[3 * PATH_MAX];
  if (fd != AT_FDCWD) {
    std::snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    static_cast<void>(syscall(SYS_readlinkat, AT_FDCWD, name, of_fd, sizeof of_fd - 1));
  }
  const char* const slash = fd != AT_FDCWD && *path != '\0' ? "/" : "";
  const int size = std::snprintf(line, sizeof line, "%s %s%s%s\n", call, of_fd, slash, path);
  static_cast<void>(syscall(SYS_write, log, line, static_cast<std::size_t>(size)));
  if (++calls != at) return 0;
  if (std::strcmp(kind, "kill") == 0) syscall(SYS_kill, static_cast<int>(syscall(SYS_getpid)), SIGKILL);
  return std::strcmp(kind, "ENOSPC") == 0 ? ENOSPC : std::strcmp(kind, "EACCES") == 0 ? EACCES : EIO;
}

template <class... Arguments>
long failed_or(int error, Arguments... arguments) {
  if (error == 0) return syscall(arguments...);
  errno = error;
  return -1;
}

template <class... Arguments>
long with_path(const char* call, int folder, const char* path, Arguments... arguments) {
  return failed_or(is_ours(folder, path) ? fault(call, folder, path) : 0, arguments...);
}

template <class... Arguments>
long with_file(const char* call, int fd, Arguments... arguments) {
  return failed_or(is_ours(fd) ? fault(call, fd, "") : 0, arguments...);
}

int open_file(int folder, const char* path, int flags, unsigned mode) {
  const bool reads = (flags & O_ACCMODE) == O_RDONLY && (flags & O_CREAT) == 0;
  const char* const call = reads ? "open_input" : "open_output";
  const int fd = static_cast<int>(with_path(call, folder, path, SYS_openat, folder, path, flags, mode));
  if (fd >= 0 && fd < most_files) ours[fd] = !is_ours(folder, path) ? '\0' : reads ? input : output;
  return fd;
}

unsigned mode_of(int flags, va_list& rest) {
  const bool creates = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
  return creates ? va_arg(rest, unsigned) : 0;
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const unsigned mode = mode_of(flags, rest);
  va_end(rest);
  return open_file(AT_FDCWD, path, flags, mode);
}
int openat(int folder, const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const unsigned mode = mode_of(flags, rest);
  va_end(rest);
  return open_file(folder, path, flags, mode);
}
int close(int fd) {
  const int error = is_ours(fd) && ours[fd] == output ? fault("close", fd, "") : 0;
  if (fd >= 0 && fd < most_files) ours[fd] = 0;
  const long result = syscall(SYS_close, fd);  // it is closed whatever it says
  return static_cast<int>(error == 0 ? result : failed_or(error, 0L));
}

ssize_t read(int fd, void* to, std::size_t n) { return with_file("read", fd, SYS_read, fd, to, n); }
ssize_t pread(int fd, void* to, std::size_t n, off_t at) { return with_file("read", fd, SYS_pread64, fd, to, n, at); }
ssize_t write(int fd, const void* from, std::size_t n) { return with_file("write", fd, SYS_write, fd, from, n); }
ssize_t pwrite(int fd, const void* from, std::size_t n, off_t at) {
  return with_file("write", fd, SYS_pwrite64, fd, from, n, at);
}
int ftruncate(int fd, off_t size) noexcept {
  return static_cast<int>(with_file("ftruncate", fd, SYS_ftruncate, fd, size));
}
int fallocate(int fd, int mode, off_t at, off_t n) {
  return static_cast<int>(with_file("fallocate", fd, SYS_fallocate, fd, mode, at, n));
}
int posix_fallocate(int fd, off_t at, off_t n) {
  return with_file("fallocate", fd, SYS_fallocate, fd, 0, at, n) == 0 ? 0 : errno;
}
// A disk need not be waited for: what is on it after a power cut is not looked at.
int fsync(int fd) { return static_cast<int>(with_file("fsync", fd, SYS_fcntl, fd, F_GETFD)) < 0 ? -1 : 0; }
int fdatasync(int fd) { return fsync(fd); }
int flock(int fd, int how) noexcept { return static_cast<int>(with_file("flock", fd, SYS_flock, fd, how)); }
int fchmod(int fd, mode_t mode) noexcept { return static_cast<int>(with_file("fchmod", fd, SYS_fchmod, fd, mode)); }

int renameat2(int from_at, const char* from, int to_at, const char* to, unsigned flags) noexcept {
  return static_cast<int>(with_path("rename", to_at, to, SYS_renameat2, from_at, from, to_at, to, flags));
}
int renameat(int from_at, const char* from, int to_at, const char* to) noexcept {
  return renameat2(from_at, from, to_at, to, 0);
}
int rename(const char* from, const char* to) noexcept { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int folder, const char* path, int flags) noexcept {
  const char* const call = (flags & AT_REMOVEDIR) != 0 ? "rmdir" : "unlink";
  return static_cast<int>(with_path(call, folder, path, SYS_unlinkat, folder, path, flags));
}
int unlink(const char* path) noexcept { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char* path) noexcept { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char* path) noexcept {
  const int result = unlink(path);
  return result != 0 && errno == EISDIR ? rmdir(path) : result;
}
int mkdirat(int folder, const char* path, mode_t mode) noexcept {
  return static_cast<int>(with_path("mkdir", folder, path, SYS_mkdirat, folder, path, mode));
}
int mkdir(const char* path, mode_t mode) noexcept { return mkdirat(AT_FDCWD, path, mode); }
int linkat(int from_at, const char* from, int to_at, const char* to, int flags) noexcept {
  return static_cast<int>(with_path("link", to_at, to, SYS_linkat, from_at, from, to_at, to, flags));
}
int link(const char* from, const char* to) noexcept { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }
int symlink(const char* target, const char* path) noexcept {
  return static_cast<int>(with_path("symlink", AT_FDCWD, path, SYS_symlinkat, target, AT_FDCWD, path));
}

// Where files are larger than a long, which is nowhere that this is built for, these differ.
static_assert(sizeof(off_t) == sizeof(off64_t) && sizeof(off_t) == sizeof(long));
#define MXFP4_ALIAS(name) __attribute__((alias(#name)))
decltype(open) open64 MXFP4_ALIAS(open);
decltype(openat) openat64 MXFP4_ALIAS(openat);
decltype(pread) pread64 MXFP4_ALIAS(pread);
decltype(pwrite) pwrite64 MXFP4_ALIAS(pwrite);
decltype(ftruncate) ftruncate64 MXFP4_ALIAS(ftruncate);
decltype(fallocate) fallocate64 MXFP4_ALIAS(fallocate);
decltype(posix_fallocate) posix_fallocate64 MXFP4_ALIAS(posix_fallocate);

}  // extern "C"
