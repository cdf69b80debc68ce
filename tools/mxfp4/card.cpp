// tools/mxfp4/card.cpp -- mxfp4 card: a README.md for a quantised checkpoint.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <filesystem>
#include <optional>
#include <span>
#include <string_view>

#include "checkpoint/model_card.hpp"
#include "checkpoint/reader_json.hpp"
#include "command.hpp"
#include "mxfp4/checkpoint/quantize.hpp"
#include "mxfp4/checkpoint/reader.hpp"
#include "report.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;

namespace {

/// What is wrong with the name of a model; nothing where it is well.
[[nodiscard]] std::string problem_of_model(const std::string& name) {
  const bool fits = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("._-/").find(c) != std::string_view::npos;
  });
  return fits ? "" : "'" + name + "' is not the name of a model, expected letters, digits, and ._-/";
}

struct card_command {
  std::string directory, base_model, name, license = "other", license_name, license_link, comparison;
  bool overwrite = false, json = false;

  void describe(command_line& command) {
    command.add_option("DIR", directory, "A directory that mxfp4 quantize wrote; README.md goes there")
        .required()
        .type_name("DIR");
    command.add_option("--base-model", base_model, "Name of the source, as the Hub has it")
        .required()
        .check(problem_of_model)
        .type_name("OWNER/MODEL");
    command.add_option("--name", name, "Name of the result; without it, that of the directory")
        .check(problem_of_model)
        .type_name("OWNER/MODEL");
    command.add_option("--license", license, "The source's licence, by its identifier")
        .check(problem_of_model)
        .type_name("NAME")
        .show_default();
    command.add_option("--license-name", license_name, "... what it calls itself, where the identifier is other");
    command.add_option("--license-link", license_link, "... and where it can be read");
    command.add_option("--comparison", comparison, "What mxfp4 compare --details wrote: perplexity and KLD")
        .type_name("FILE");
    takes_overwrite(command, overwrite);
    command.footer("Sizes and errors come from mxfp4_report.json; pictures (.png) in DIR and DIR/plots are shown.");
  }
};

[[nodiscard]] std::vector<std::string> find_plots(const std::string& directory) {
  std::vector<std::string> found;
  for (const std::string& folder : {std::string(), std::string("plots/")}) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(directory + "/" + folder, error))
      if (const std::string file = entry.path().filename().string(); file.ends_with(".png"))
        found.push_back(folder + file);
  }
  std::sort(found.begin(), found.end());
  return found;
}

void run(const card_command& command) {
  const std::string path = command.directory + "/README.md";
  std::error_code error;
  const checkpoint_reader checkpoint = checkpoint_reader::open(command.directory).value();
  const existing_file existing = command.overwrite ? existing_file::replace_link : existing_file::refuse;
  std::vector<std::string> inputs = {command.comparison};
  for (const char* const name : {config_file_name, report_file_name, index_file_name})
    inputs.push_back(command.directory + "/" + name);
  for (const std::string& name : checkpoint.shards()) inputs.push_back(command.directory + "/" + name);
  require_outputs(inputs, {path}, existing).value();
  const quality_report report = read_quality_report(command.directory).value();
  card_options options{command.name,
                       command.base_model,
                       command.license,
                       command.license_name,
                       command.license_link,
                       find_plots(command.directory),
                       false,
                       std::nullopt};
  if (!command.comparison.empty()) options.measured = read_comparison(command.comparison);
  if (options.name.empty())
    options.name = std::filesystem::weakly_canonical(command.directory, error).filename().string();
  const std::vector<std::string>& files = checkpoint.other_files();
  options.has_license_file = std::binary_search(files.begin(), files.end(), "LICENSE");
  const std::string text = model_card(options, report, read_config(checkpoint));
  output_file out = output_file::create(path, stop_requested, existing).value();
  out.write(0, std::as_bytes(std::span(text))).value();
  out.commit().value();
  if (command.json)
    print(ordered_json{{"command", "card"},
                       {"file", path},
                       {"name", options.name},
                       {"base_model", options.base_model},
                       {"plots", options.plots}});
  else print(path + ": " + options.name + ", " + count_text(std::ssize(options.plots), "plot") + "\n");
}

}  // namespace

void add_card(program& app) {
  add_command<card_command>(app, "card", "Write a README.md for a quantised checkpoint", run);
}

}  // namespace mxfp4::tools
