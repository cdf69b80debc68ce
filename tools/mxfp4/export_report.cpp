// tools/mxfp4/export_report.cpp -- mxfp4 report: the errors of a quantised checkpoint as CSV.
// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <span>

#include "command.hpp"
#include "mxfp4/checkpoint/quality_report.hpp"
#include "mxfp4/checkpoint/quantize.hpp"
#include "report.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;

namespace {

struct report_command {
  std::string input, output;
  bool overwrite = false, json = false;

  void describe(command_line& command) {
    command.add_option("IN", input, "An mxfp4_report.json, or the directory that mxfp4 quantize wrote")
        .required()
        .type_name("PATH");
    command.add_option("OUT", output, "Directory for matrices.csv, experts.csv, scales.csv")
        .required()
        .type_name("DIR");
    takes_overwrite(command, overwrite);
    command.footer("examples/plots/plot_report.py draws them.");
  }
};

void run(const report_command& command) {
  const quality_report report = read_quality_report(command.input).value();
  std::error_code error;
  std::string report_path = command.input;
  if (std::filesystem::is_directory(command.input, error)) {
    require_outside(command.input, command.output).value();  // nobody wrote down that it is there
    report_path += std::string("/") + report_file_name;
  }
  std::vector<std::string> paths;
  for (const char* const name : {"matrices.csv", "experts.csv", "scales.csv"})
    paths.push_back(command.output + "/" + name);
  // A link of that name in the directory is replaced, not followed.
  require_outputs({report_path}, paths, command.overwrite ? existing_file::replace_link : existing_file::refuse)
      .value();
  std::filesystem::create_directories(command.output, error);
  if (error) throw file_error({.file = command.output, .value = "cannot create the directory: " + error.message()});
  const auto create = [&](const std::string& path) {
    return output_file::create(path, stop_requested,
                               command.overwrite ? existing_file::replace_link : existing_file::refuse)
        .value();
  };
  output_file matrices = create(paths[0]), experts = create(paths[1]), scales = create(paths[2]);
  const auto write = [](output_file& file, const std::string& text) {
    file.write(0, std::as_bytes(std::span(text))).value();
  };
  write(matrices, matrices_csv(report));
  write(experts, experts_csv(report));
  write(scales, scales_csv(report));
  output_file::commit_all({&matrices, &experts, &scales}).value();
  if (command.json)
    print(ordered_json{{"command", "report"},
                       {"input", command.input},
                       {"output", command.output},
                       {"recipe", report.recipe},
                       {"matrices", report.matrices.size()},
                       {"experts", report.experts.size()},
                       {"total", to_json(report.total)}});
  else
    print(command.output + ": " + std::to_string(report.matrices.size()) + " matrices of " +
          count_text(std::ssize(report.experts), "expert") + ", relative error " +
          error_text(report.total.relative_error()) + " by " + report.recipe + "\n");
}

}  // namespace

void add_report(program& app) {
  add_command<report_command>(app, "report", "Write the errors of a quantised checkpoint as CSV", run);
}

}  // namespace mxfp4::tools
