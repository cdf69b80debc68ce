// tools/mxfp4/export_report.cpp -- mxfp4 report: the errors of a quantised checkpoint as CSV, and as a page.
// SPDX-License-Identifier: Apache-2.0
#include <deque>
#include <filesystem>
#include <span>

#include "command.hpp"
#include "html_report.hpp"
#include "mxfp4/checkpoint/quality_report.hpp"
#include "mxfp4/checkpoint/quantize.hpp"
#include "report.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;

namespace {

struct report_command {
  std::string input, output, html, comparison;
  bool overwrite = false, json = false;

  void describe(command_line& command) {
    command.add_option("IN", input, "An mxfp4_report.json, or the directory that mxfp4 quantize wrote")
        .required()
        .type_name("PATH");
    command.add_option("OUT", output, "Directory for matrices.csv, experts.csv, scales.csv").type_name("DIR");
    const option page =
        command.add_option("--html", html, "Output: one page with tables and pictures, which needs no other file")
            .type_name("FILE");
    command
        .add_option("--comparison", comparison, "What mxfp4 compare --details wrote, for the page: perplexity and KLD")
        .type_name("FILE")
        .needs(page);
    takes_overwrite(command, overwrite);
    command.footer("examples/plots/plot_report.py draws the CSV files.");
  }
};

struct report_file {
  std::string path, text;
};

/// What the command writes, each with its content.
[[nodiscard]] std::vector<report_file> files_of(const report_command& command, const quality_report& report) {
  std::vector<report_file> files;
  if (!command.output.empty())
    files = {{command.output + "/matrices.csv", matrices_csv(report)},
             {command.output + "/experts.csv", experts_csv(report)},
             {command.output + "/scales.csv", scales_csv(report)}};
  if (command.html.empty()) return files;
  std::optional<comparison_details> compared;
  if (!command.comparison.empty()) compared = read_comparison_details(command.comparison);
  std::error_code error;
  std::filesystem::path named = std::filesystem::weakly_canonical(command.input, error);
  if (!std::filesystem::is_directory(named, error)) named = named.parent_path();
  files.push_back({command.html, html_report(named.filename().string(), report, compared)});
  return files;
}

void run(const report_command& command) {
  if (command.output.empty() && command.html.empty()) throw usage_error("nothing to write: name OUT, or --html FILE");
  const quality_report report = read_quality_report(command.input).value();
  std::error_code error;
  std::string report_path = command.input;
  if (std::filesystem::is_directory(command.input, error)) {
    for (const std::string& output : {command.output, command.html})  // nobody wrote down that it is there
      if (!output.empty()) require_outside(command.input, output).value();
    report_path += std::string("/") + report_file_name;
  }
  const std::vector<report_file> files = files_of(command, report);
  std::vector<std::string> paths;
  for (const report_file& file : files) paths.push_back(file.path);
  // A link of that name is replaced, not followed.
  const existing_file existing = command.overwrite ? existing_file::replace_link : existing_file::refuse;
  require_outputs({report_path, command.comparison}, paths, existing).value();
  if (!command.html.empty()) keep_standard_output_for(command.html);
  if (!command.output.empty()) {
    std::filesystem::create_directories(command.output, error);
    if (error) throw file_error({.file = command.output, .value = "cannot create the directory: " + error.message()});
  }
  std::deque<output_file> open;
  std::vector<output_file*> outputs;
  for (const report_file& file : files) {
    open.push_back(output_file::create(file.path, stop_requested, existing).value());
    outputs.push_back(&open.back());
    outputs.back()->write(0, std::as_bytes(std::span(file.text))).value();
  }
  output_file::commit_all(outputs).value();
  if (command.json) {
    ordered_json json = {{"command", "report"}, {"input", command.input}};
    if (!command.output.empty()) json["output"] = command.output;
    if (!command.html.empty()) json["html"] = command.html;
    json.update({{"recipe", report.recipe},
                 {"matrices", report.matrices.size()},
                 {"experts", report.experts.size()},
                 {"total", to_json(report.total)}});
    print(json);
  } else {
    print((command.output.empty() ? command.html : command.output) + ": " + std::to_string(report.matrices.size()) +
          " matrices of " + count_text(std::ssize(report.experts), "expert") + ", relative error " +
          error_text(report.total.relative_error()) + " by " + report.recipe + "\n");
  }
}

}  // namespace

void add_report(program& app) {
  add_command<report_command>(app, "report", "Write the errors of a quantised checkpoint as CSV, or as a page", run);
}

}  // namespace mxfp4::tools
