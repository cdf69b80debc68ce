// tools/mxfp4/command.hpp -- the commands of the program mxfp4, one file each.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "mxfp4/io/file.hpp"

namespace mxfp4::tools {

/// Has a signal asked the program to end? What every command hands to the libraries as io::stop_function.
[[nodiscard]] bool stop_requested() noexcept;

void add_encode(CLI::App& app);
void add_decode(CLI::App& app);
void add_recipes(CLI::App& app);
void add_quantize(CLI::App& app);
void add_merge(CLI::App& app);
void add_index(CLI::App& app);
void add_inspect(CLI::App& app);
void add_dequantize(CLI::App& app);
void add_plan(CLI::App& app);
void add_verify(CLI::App& app);
void add_convert(CLI::App& app);
void add_report(CLI::App& app);
void add_card(CLI::App& app);
void add_compare(CLI::App& app);
void add_run(CLI::App& app);

/// A command with --json and options of type Options, which live as long as the command; run(options) when it is
/// chosen.
template <class Options>
Options& add_command(CLI::App& app, const std::string& name, const std::string& description,
                     void (*run)(const Options&)) {
  CLI::App* command = app.add_subcommand(name, description);
  const auto options = std::make_shared<Options>();
  command->footer("");  // not the program's own
  options->describe(*command);
  command->add_flag("--json", options->json, "Print the report as JSON, and nothing else, on standard output");
  command->callback([options, run] { run(*options); });
  return *options;
}

/// The option takes one of these words, and its help says so.
inline CLI::Option* takes_one_of(CLI::Option* option, const std::vector<std::string>& words) {
  std::string names;
  for (const std::string& word : words) names += (names.empty() ? "" : "|") + word;
  return option->check(CLI::IsMember(words).description(""))->type_name(names)->capture_default_str();
}

/// The option takes a recipe's name.
CLI::Option* takes_recipe(CLI::Option* option);

/// The option takes a regular expression in RE2's syntax.
CLI::Option* takes_regex(CLI::Option* option);

/// The option takes a number in [least, most]. Unlike CLI::Range it refuses NaN, which is neither below nor above.
inline CLI::Option* takes_number(CLI::Option* option, double least, double most) {
  const CLI::Validator in_range(
      [least, most](const std::string& text) {
        double value = 0;
        if (CLI::detail::lexical_cast(text, value) && value >= least && value <= most) return std::string();
        return "is " + text + ", expected a number from " + CLI::detail::to_string(least) + " to " +
               CLI::detail::to_string(most);
      },
      "");
  return option->check(in_range);
}

/// Bytes, 5GB, ...: at least one.
inline CLI::Option* takes_size(CLI::Option* option) {
  return option->transform(CLI::AsSizeValue(true).description(""))
      ->check(CLI::Range(std::uint64_t{1}, std::numeric_limits<std::uint64_t>::max()).description(""))
      ->type_name("SIZE");
}

/// --take, for commands that read a directory.
inline CLI::Option* takes_files(CLI::App& command, std::vector<std::string>& names) {
  return command
      .add_option("--take", names, "Read this .safetensors file of the directory too, which its index does not name")
      ->type_name("FILE");
}

/// --max-shard-size, for commands that write a directory.
inline CLI::Option* takes_max_shard_size(CLI::App& command, std::uint64_t& bytes) {
  return takes_size(command.add_option("--max-shard-size", bytes, "Of the files in an output directory: bytes, or 5GB"))
      ->default_str("5GB");
}

/// --overwrite, for commands that write.
inline CLI::Option* takes_overwrite(CLI::App& command, bool& overwrite) {
  return command.add_flag("--overwrite", overwrite,
                          "Replace an output that is there; in a directory what mxfp4 wrote, nothing else");
}

[[nodiscard]] inline io::existing_file existing_output(bool overwrite) {
  return overwrite ? io::existing_file::replace : io::existing_file::refuse;
}

/// Files that a command reads or writes must all differ: anything else is a usage error.
inline void require_different_files(const std::vector<std::string>& paths) {
  for (std::size_t i = 0; i < paths.size(); ++i)
    for (std::size_t j = i + 1; j < paths.size(); ++j)
      if (io::same_file(paths[i], paths[j]))
        throw CLI::ValidationError("'" + paths[i] + "' and '" + paths[j] + "' are one file: name different ones");
}

}  // namespace mxfp4::tools
