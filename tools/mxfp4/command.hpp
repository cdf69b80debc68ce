// tools/mxfp4/command.hpp -- the commands of the program mxfp4, one file each.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "command_line.hpp"
#include "mxfp4/io/file.hpp"

namespace mxfp4::tools {

/// Has a signal asked the program to end? What every command hands to the libraries as io::stop_function.
[[nodiscard]] bool stop_requested() noexcept;

void add_encode(program& app);
void add_decode(program& app);
void add_recipes(program& app);
void add_quantize(program& app);
void add_merge(program& app);
void add_index(program& app);
void add_inspect(program& app);
void add_dequantize(program& app);
void add_plan(program& app);
void add_verify(program& app);
void add_convert(program& app);
void add_report(program& app);
void add_card(program& app);
void add_compare(program& app);
void add_run(program& app);
void add_completion(program& app);
void add_man(program& app);

/// The version, what the program was built for and runs with, and when its recipes were recorded.
[[nodiscard]] std::string version_text();

/// A command with --json and options of type Options, which live as long as the command; run(options) when it is
/// chosen.
template <class Options>
void add_command(program& app, const std::string& name, const std::string& description, void (*run)(const Options&)) {
  command_line command = app.add_command(name, description);
  const auto options = std::make_shared<Options>();
  options->describe(command);
  command.add_flag("--json", options->json, "Print the report as JSON, and nothing else, on standard output");
  command.on_run([options, run] { run(*options); });
}

/// The option takes a recipe's name.
option takes_recipe(const option& o);

/// The option takes a regular expression in RE2's syntax.
option takes_regex(const option& o);

/// --take, for commands that read a directory.
inline option takes_files(command_line& command, std::vector<std::string>& names) {
  return command
      .add_option("--take", names, "Read this .safetensors file of the directory too, which its index does not name")
      .type_name("FILE");
}

/// --max-shard-size, for commands that write a directory.
inline option takes_max_shard_size(command_line& command, std::uint64_t& bytes) {
  return command.add_option("--max-shard-size", bytes, "Of the files in an output directory: bytes, or 5GB")
      .size()
      .show_default_as("5GB");
}

/// --overwrite, for commands that write.
inline option takes_overwrite(command_line& command, bool& overwrite) {
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
        throw usage_error("'" + paths[i] + "' and '" + paths[j] + "' are one file: name different ones");
}

}  // namespace mxfp4::tools
