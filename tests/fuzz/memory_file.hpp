// tests/fuzz/memory_file.hpp -- what fuzzes a reader: bytes as a file, and a check that stops the program.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "mxfp4/io/error.hpp"

namespace mxfp4::test {

inline void require(bool holds) {
  if (!holds) __builtin_trap();
}

/// The check passes, or refuses with a sentence.
template <class F>
void accepted_or_refused(F check) {
  try {
    check();
  } catch (const io::file_error& e) {
    require(std::string_view(e.what()).size() > 10);
  }
}

/// A file that only exists in memory, so that a reader is fuzzed with its own input code.
class memory_file {
 public:
  memory_file() : fd_(memfd_create("fuzz", 0)), path_("/proc/self/fd/" + std::to_string(fd_)) { require(fd_ >= 0); }
  memory_file(const memory_file&) = delete;
  memory_file& operator=(const memory_file&) = delete;
  ~memory_file() { close(fd_); }

  const std::string& hold(const std::uint8_t* data, std::size_t size) const {
    require(ftruncate(fd_, 0) == 0 && pwrite(fd_, data, size, 0) == static_cast<ssize_t>(size));
    return path_;
  }

 private:
  int fd_;
  std::string path_;
};

}  // namespace mxfp4::test
