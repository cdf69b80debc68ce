// tools/mxfp4/verify.cpp -- mxfp4 verify: a line for everything that is wrong with a checkpoint.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/checkpoint/verify.hpp"

#include <string>
#include <vector>

#include "command.hpp"
#include "report.hpp"
#include "terminal.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;

namespace {

struct verify_command {
  std::string directory, against, recipe;
  std::vector<std::string> accepted;
  int tensor_parallel = 1;
  bool json = false;

  void describe(command_line& command) {
    command.add_option("DIR", directory, "A checkpoint's directory").required().type_name("DIR");
    command.add_option("--against", against, "The source that it was made of: every byte is made again and compared")
        .type_name("DIR");
    takes_recipe(command.add_option("--recipe", recipe,
                                    "Whose bytes; without it: what mxfp4_report.json records, or "
                                    "compressed_tensors"));
    command.add_option("--tensor-parallel", tensor_parallel, "Devices that share each matrix")
        .range_in_help(1, 1 << 16)
        .show_default();
    command.add_option("--accept", accepted, "Record a file that was changed, added or removed on purpose as it is now")
        .type_name("FILE")
        .one_value();
    command.footer(
        "Checks: files (index, leftovers), pairs (codes with scales), model (names and shapes), config (targets and\n"
        "ignore against what is stored), parallel (whole blocks on each device), content (NaN scales, scales that do "
        "not\n"
        "fit their codes, the report), hashes (every byte of the result, as the report records it), source "
        "(--against).\n"
        "An error makes the exit code 1, a warning does not.");
  }
};

[[nodiscard]] const char* level_name(severity level) { return level == severity::error ? "error" : "warning"; }

[[nodiscard]] ordered_json json_of(const verify_command& command, const verify_report& r) {
  ordered_json findings = ordered_json::array();
  for (const finding& f : r.findings)
    findings.push_back({{"level", level_name(f.level)}, {"check", f.check}, {"where", f.where}, {"what", f.what}});
  return {{"command", "verify"},
          {"directory", command.directory},
          {"against", command.against.empty() ? ordered_json(nullptr) : ordered_json(command.against)},
          {"recipe", r.recipe.empty() ? ordered_json(nullptr) : ordered_json(r.recipe)},
          {"tensor_parallel", command.tensor_parallel},
          {"tensors", r.tensors},
          {"mxfp4", r.mxfp4},
          {"fp8", r.fp8},
          {"blocks", r.blocks},
          {"hashes", r.hashes},
          {"compared", r.compared},
          {"calibrated", r.calibrated},
          {"errors", r.count(severity::error)},
          {"warnings", r.count(severity::warning)},
          {"findings", std::move(findings)}};
}

[[nodiscard]] std::string text_of(const verify_command& command, const verify_report& r) {
  std::string text;
  for (const finding& f : r.findings)
    text += coloured(std::string(level_name(f.level)) + ":",
                     f.level == severity::error ? colour::error : colour::warning, STDOUT_FILENO) +
            " " + f.check + ": " + (f.where.empty() ? "" : printable(f.where) + ": ") + f.what + "\n";
  text += command.directory + ": " + count_text(r.tensors, "tensor") + ", " + std::to_string(r.mxfp4) + " MXFP4 with " +
          count_text(r.blocks, "block");
  if (r.fp8 > 0) text += ", " + std::to_string(r.fp8) + " FP8";
  text += r.hashes > 0 ? ", " + std::to_string(r.hashes) + " hashes" : ", no hashes to compare";
  if (!command.against.empty())
    text +=
        "; " + std::to_string(r.compared) + " compared with the source" + (r.recipe.empty() ? "" : " by " + r.recipe);
  if (r.calibrated > 0)
    text += ", of which " + std::to_string(r.calibrated) +
            " are calibrated: that source and a rounding of it, not its codes by a recipe";
  return text + ": " + count_text(r.count(severity::error), "error") + ", " +
         count_text(r.count(severity::warning), "warning") + "\n";
}

void run(const verify_command& command) {
  verify_options options;
  options.against = command.against;
  options.stop = stop_requested;
  options.tensor_parallel = command.tensor_parallel;
  if (recipe_id id{}; !command.recipe.empty() && find_recipe(command.recipe, id)) options.recipe = id;
  if (!command.accepted.empty()) accept_files(command.directory, command.accepted).value();
  verify_report report;
  {
    progress_line line;
    options.progress = [&line](std::uint64_t done, std::uint64_t total) { line.update(done, total); };
    report = verify_checkpoint(command.directory, options).value();
  }
  if (command.json) print(json_of(command, report));
  else print(text_of(command, report));
  if (const std::int64_t errors = report.count(severity::error); errors > 0)
    throw file_error({.file = command.directory, .value = count_text(errors, "error"), .expected = "none"});
}

}  // namespace

void add_verify(program& app) {
  add_command<verify_command>(app, "verify", "Check an MXFP4 checkpoint, by itself or against its source", run);
}

}  // namespace mxfp4::tools
