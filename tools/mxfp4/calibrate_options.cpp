// tools/mxfp4/calibrate_options.cpp -- see calibrate_options.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "calibrate_options.hpp"

#include <algorithm>
#include <thread>

#include "calibrate/calibration.hpp"
#include "calibrate/imatrix_codes.hpp"
#include "io/content_hash.hpp"
#include "model/text_ids.hpp"
#include "model_options.hpp"
#include "mxfp4/executor/tbb.hpp"
#include "report.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;

void calibrate_options::describe(command_line& command, std::vector<option>& directory_only) {
  const option text_option =
      command
          .add_option("--calibrate", text,
                      "Round experts, or --linears, so that their products on this text change least")
          .type_name("TEXT");
  const option ids_option = command.add_option("--calibrate-ids", ids, "The same, with tokens as numbers")
                                .type_name("FILE")
                                .excludes(text_option);
  const option imatrix_option =
      command.add_option("--imatrix", imatrix, "Choose scales by the importance matrix of llama.cpp, without a text")
          .type_name("FILE")
          .excludes(text_option)
          .excludes(ids_option);
  further_ = {command.add_option("--tokens", tokens, "Of the calibration text: windows spread evenly over it")
                  .range_in_help(calibrate::least_tokens, std::int64_t{1} << 32)
                  .type_name("N")
                  .show_default(),
              command.add_option("--context", context, "Tokens of a window; default: 2048, or what the model takes")
                  .range_in_help(2, 1 << 30)
                  .type_name("N"),
              command
                  .add_option("--calibrate-method", method,
                              "Choose codes by how inputs go together, or scales by how large they are")
                  .one_of({"hessian", "diagonal"}),
              command.add_option("--memory", memory, "What the calibration may take: bytes, or 4GB")
                  .size()
                  .show_default_as("4 GiB")};
  for (const option& o : {text_option, ids_option, imatrix_option}) o.group("Calibration");
  for (const option& o : further_) o.group("Calibration");
  directory_only.insert(directory_only.end(), {text_option, ids_option, imatrix_option});
  directory_only.insert(directory_only.end(), further_.begin(), further_.end());
}

void calibrate_options::require_unused() const {
  for (const option& o : further_)
    if (o.given()) throw usage_error(o.name(), "is for a calibration: name a text with --calibrate or --calibrate-ids");
}

checkpoint_result quantize_by_imatrix(const std::string& imatrix, const std::string& in, const std::string& out,
                                      checkpoint_settings settings, const checkpoint_run& run,
                                      checkpoint_observer& observer) {
  calibrate::imatrix_codes codes(checkpoint_reader::open(in, settings.take).value(), settings, imatrix);
  settings.codes = &codes;
  const checkpoint_result result = quantize_checkpoint(in, out, settings, run, observer).value();
  const auto warn = [&observer](std::int64_t count, const char* what) {
    if (count > 0)
      observer.on_warning(std::string("matrices ") + what + " have the codes of the recipe: " + std::to_string(count));
  };
  warn(codes.without_entry(), "without an entry in the importance matrix");
  warn(codes.without_tokens(), "of experts that met no token of the importance matrix");
  return result;
}

checkpoint_result quantize_calibrated(const calibrate_options& options, const std::string& in, const std::string& out,
                                      checkpoint_settings settings, const checkpoint_run& run,
                                      checkpoint_observer& observer) {
  if (settings.include || settings.exclude)
    throw usage_error("--calibrate", "is for all experts, or all --linears: leave --include and --exclude out");
  const checkpoint_reader original = checkpoint_reader::open(in, settings.take).value();
  const model::model_config config = read_model_config(original);
  const std::string& file = options.text.empty() ? options.ids : options.text;
  const std::string text = read_whole_file(file);
  calibrate::calibration_options with;
  with.context = options.context > 0 ? options.context : std::min(calibrate::default_context, config.context);
  if (with.context < 2 || with.context > config.context)
    throw usage_error("--context", "is " + std::to_string(with.context) + ", expected 2 .. " +
                                       std::to_string(config.context) + ", which the model takes");
  with.ids = calibrate::spread_windows(
      options.text.empty() ? model::ids_of_numbers(text, file) : model::text_tokens(original, config).encode(text),
      options.tokens, with.context);
  with.text_hash = hash_of(text);
  with.linears = settings.linears;
  with.memory = options.memory;
  if (options.method == "diagonal") with.expert.method = calibrate::rounding_method::diagonal;
  with.threads = run.threads > 0 ? run.threads : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  with.rank = run.rank;
  with.world = run.world;
  with.expert.plain = settings.recipe;
  tbb_executor executor(run.threads);
  with.product = {model::activation_type::f32, executor, run.stop};
  progress_line line;
  const char* const counted = settings.linears ? "steps" : "experts";
  with.progress = [&line, counted](std::int64_t done, std::int64_t total, const std::string& where) {
    line.count(done, total, counted, where);
  };
  calibrate::calibration codes(original, config, std::move(with));
  settings.codes = &codes;
  const checkpoint_result result = quantize_checkpoint(in, out, settings, run, observer).value();
  if (!codes.untouched().empty()) {
    std::string names;
    for (const std::string& name : codes.untouched()) names += (names.empty() ? "" : "; ") + name;
    observer.on_warning(count_text(std::ssize(codes.untouched()), "expert") +
                        " met no token of the calibration text and has the codes of the recipe: " + names);
  }
  return result;
}

}  // namespace mxfp4::tools
