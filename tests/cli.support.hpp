// tests/cli.support.hpp -- folders, files and processes for the tests of the programs.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace mxfp4::test {

/// A folder of its own, gone with the object.
class scratch_folder {
 public:
  scratch_folder() {
    std::string name = (std::filesystem::temp_directory_path() / "mxfp4-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot create " + name);
    path_ = name;
  }
  ~scratch_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  scratch_folder(const scratch_folder&) = delete;
  scratch_folder& operator=(const scratch_folder&) = delete;

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

  /// Names of what is in it, sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(path_))
      found.push_back(entry.path().filename().string());
    std::sort(found.begin(), found.end());
    return found;
  }

 private:
  std::string path_;
};

inline std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open " + path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline std::string write_text(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
  return path;
}

/// Elements of `size` bytes between the order of this machine and that of files, which are little-endian.
inline std::string in_other_order(std::string bytes, std::size_t size) {
  if (std::endian::native == std::endian::big)
    for (std::size_t at = 0; at + size <= bytes.size(); at += size)
      std::reverse(bytes.data() + at, bytes.data() + at + size);
  return bytes;
}
/// What a file holds of these values, and the other way round.
template <class T>
std::string bytes_of(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return in_other_order(std::move(bytes), sizeof(T));
}
template <class T>
std::vector<T> values_of(const std::string& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  const std::string here = in_other_order(bytes, sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), here.data(), values.size() * sizeof(T));
  return values;
}

/// A safetensors file by hand: length, header, data, whatever they say.
inline std::string safetensors_text(const std::string& header, const std::string& data) {
  std::string text;
  for (unsigned i = 0; i < 8; ++i) text += static_cast<char>(header.size() >> (8 * i) & 0xFF);
  return text + header + data;
}

struct outcome {
  int code = -1;  ///< exit code, or 128 + the signal that ended it
  std::string out, err;
};

struct limits {
  std::uint64_t file_bytes = RLIM_INFINITY;  ///< RLIMIT_FSIZE
  std::uint64_t data_bytes = RLIM_INFINITY;  ///< RLIMIT_DATA: heap, stacks, private maps that can be written
};

/// Runs a program to its end. The first argument is its path; `environment` ("NAME=value") adds to ours.
inline outcome run(std::vector<std::string> arguments, const limits& limit = {},
                   std::vector<std::string> environment = {}) {
  const scratch_folder folder;
  const std::string out = folder / "out", err = folder / "err";
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    const int out_fd = open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const int err_fd = open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(out_fd, STDOUT_FILENO);
    dup2(err_fd, STDERR_FILENO);
    for (const auto& [what, bytes] : {std::pair{RLIMIT_FSIZE, limit.file_bytes}, {RLIMIT_DATA, limit.data_bytes}}) {
      const rlimit new_limit{bytes, bytes};
      if (bytes != RLIM_INFINITY) setrlimit(what, &new_limit);
    }
    for (std::string& variable : environment) putenv(variable.data());
    execv(argv[0], argv.data());
    _exit(127);
  }
  int state = 0;
  if (child < 0 || waitpid(child, &state, 0) != child) throw std::runtime_error("cannot run " + arguments[0]);
  return {WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state), read_text(out), read_text(err)};
}

/// What a program shows on a terminal: its standard output and error together.
inline std::string run_on_terminal(std::vector<std::string> arguments, std::vector<std::string> environment) {
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0) throw std::runtime_error("no terminal");
  const std::string name = ptsname(terminal);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    const int fd = open(name.c_str(), O_RDWR | O_NOCTTY);
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    close(fd);
    close(terminal);
    for (std::string& variable : environment) putenv(variable.data());
    execv(argv[0], argv.data());
    _exit(127);
  }
  std::string shown;
  char buffer[4096];
  for (ssize_t got = 0; (got = read(terminal, buffer, sizeof buffer)) > 0;)  // an error once nobody has it open
    shown.append(buffer, static_cast<std::size_t>(got));
  close(terminal);
  int state = 0;
  if (child < 0 || waitpid(child, &state, 0) != child) throw std::runtime_error("cannot run " + arguments[0]);
  return shown;
}

}  // namespace mxfp4::test
