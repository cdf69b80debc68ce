// tools/command_line/command_line.hpp -- what a program and its commands take; help and messages are made of it.
// SPDX-License-Identifier: Apache-2.0
//
// CLI11, the parser behind it, costs a compiler more than the rest of a command: command_line.cpp alone includes it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace mxfp4::tools {

/// What a command throws where its options do not fit one another, or the input: a message, and program::bad_usage.
class usage_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  usage_error(const std::string& option, const std::string& problem) : runtime_error(option + ": " + problem) {}
};

/// An option, flag or argument. Copies are the same one; none may be used after the program's end.
class option {
 public:
  struct impl;
  explicit option(const impl& made);  ///< by command_line

  option required() const;
  option type_name(const std::string& name) const;        ///< what stands for a value in the help: FILE
  option show_default() const;                            ///< the help shows what the variable holds now
  option show_default_as(const std::string& text) const;  ///< the help shows this
  option group(const std::string& title) const;           ///< of the help
  option delimiter(char c) const;                         ///< between the values of a list
  option one_value() const;                               ///< of a list, each time that it is given

  option one_of(const std::vector<std::string>& words) const;         ///< the help shows them, and the default
  option range(std::int64_t least, std::int64_t most) const;          ///< a whole number of these
  option range_in_help(std::int64_t least, std::int64_t most) const;  ///< the same, and the help shows it
  option number(double least, double most) const;                     ///< no NaN
  option size() const;                                                ///< bytes, 5GB, ...: at least one
  /// @param problem_of  says what is wrong with a value; nothing where it is well.
  option check(const std::function<std::string(const std::string&)>& problem_of) const;
  option completes(const std::vector<std::string>& words) const;  ///< a shell offers these values; one_of does
  option needs(const option& other) const;
  option excludes(const option& other) const;

  [[nodiscard]] bool given() const;
  [[nodiscard]] std::string name() const;

 private:
  std::shared_ptr<const impl> impl_;
};

/// What a program or one of its commands takes. A name without dashes is that of an argument, which goes by its place.
/// Variables get their values before the command runs, and keep what they hold where the option is not given.
class command_line {
 public:
  struct impl;
  explicit command_line(const impl& made);  ///< by program

  option add_option(const std::string& name, std::string& value, const std::string& help);
  option add_option(const std::string& name, std::vector<std::string>& values, const std::string& help);
  option add_option(const std::string& name, int& value, const std::string& help);
  option add_option(const std::string& name, std::int64_t& value, const std::string& help);
  option add_option(const std::string& name, std::uint64_t& value, const std::string& help);
  option add_option(const std::string& name, double& value, const std::string& help);
  option add_flag(const std::string& name, bool& value, const std::string& help);
  void footer(const std::string& text);  ///< the last lines of the help
  void on_run(const std::function<void()>& run);

 protected:
  std::shared_ptr<const impl> impl_;
};

/// An option or argument as its command declared it, for what is made of that besides the help.
struct described_option {
  std::vector<std::string> names;  ///< "-h", "--help"; an argument has one, without dashes
  std::string value;               ///< what stands for its value, "FILE"; empty for a flag
  std::string help;
  std::vector<std::string> words;  ///< what the value may be, where that is few words
  bool argument = false, required = false, repeated = false;
};

struct described_command {
  std::string name, description, footer;
  std::vector<described_option> options;
};

/// A program with --help, and --version where it has one.
class program final : public command_line {
 public:
  static constexpr int bad_usage = 2;  ///< exit code

  /// @param version  makes what --version prints after the program's name, when it is asked for.
  program(const std::string& name, const std::string& description, const std::function<std::string()>& version = {});

  /// With --help of its own, and no footer yet. A program that has commands is called with one of them.
  command_line add_command(const std::string& name, const std::string& description);

  /// The program itself and its commands, in the order of the help.
  [[nodiscard]] std::vector<described_command> describe() const;

  /// Runs what the arguments ask for, or prints help, version or what is wrong with them. What on_run throws goes on,
  /// but for usage_error. @return 0, or bad_usage.
  [[nodiscard]] int run(int argc, const char* const* argv);
};

}  // namespace mxfp4::tools
