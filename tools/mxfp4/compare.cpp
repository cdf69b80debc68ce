// tools/mxfp4/compare.cpp -- mxfp4 compare: an original model and what became of it, on a text.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <span>

#include "calibrate/overlap.hpp"
#include "checkpoint/calibration_record.hpp"
#include "checkpoint/recorded_hashes.hpp"
#include "compare_report.hpp"
#include "model/text_ids.hpp"
#include "model_options.hpp"
#include "mxfp4/executor/tbb.hpp"
#include "report.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;
using namespace model;

namespace {

struct compare_command {
  std::string original, text, ids, details;
  std::vector<std::string> quantized, recipes;
  std::int64_t tokens = 0, context = 0;
  model_options model;
  bool overwrite = false, json = false;

  void describe(command_line& command) {
    command.add_option("ORIGINAL", original, "A checkpoint in FP8, BF16, F16, F32 or MXFP4")
        .required()
        .type_name("DIR");
    command.add_option("QUANTISED", quantized, "The same model in another form, or in several").type_name("DIR");
    takes_recipe(command.add_option("--recipes", recipes, "The original's experts in MXFP4, by each of these recipes")
                     .delimiter(','))
        .type_name("NAME,...");
    const option given_text =
        command.add_option("--text", text, "A file: its bytes, or what tokenizer.json makes of it").type_name("FILE");
    command.add_option("--ids", ids, "A file of tokens as numbers: decimal, with blanks, commas or lines between")
        .type_name("FILE")
        .excludes(given_text);
    command.add_option("--tokens", tokens, "Take at most so many tokens")
        .range_in_help(2, std::int64_t{1} << 40)
        .type_name("N");
    command.add_option("--context", context, "Tokens of a window; default: 2048, or what the model takes")
        .range_in_help(2, 1 << 30)
        .type_name("N");
    command.add_option("--details", details, "Write tokens, layers and experts one by one as JSON, for the plots")
        .type_name("FILE");
    takes_overwrite(command, overwrite);
    model.describe(command);
    command.footer(
        "Of the families " + architecture_names() +
        ".\nBoth models go through the text layer by layer and expert by expert, so that a model of any size fits the\n"
        "memory. examples/plots/plot_compare.py draws what --details writes.");
  }
};

[[nodiscard]] std::vector<std::int64_t> read_tokens(const compare_command& command, const checkpoint_reader& original,
                                                    const model_config& config) {
  if (command.text.empty() && command.ids.empty()) throw usage_error("no tokens: name a file with --text or --ids");
  std::vector<std::int64_t> tokens = command.ids.empty()
                                         ? text_tokens(original, config).encode(read_whole_file(command.text))
                                         : ids_of_numbers(read_whole_file(command.ids), command.ids);
  if (command.tokens > 0 && command.tokens < std::ssize(tokens))
    tokens.resize(static_cast<std::size_t>(command.tokens));
  return tokens;
}

void run(const compare_command& command) {
  if (command.quantized.empty() && command.recipes.empty())
    throw usage_error("nothing to compare with: name QUANTISED, or --recipes");
  const checkpoint_reader original = checkpoint_reader::open(command.original).value();
  const model_config config = read_model_config(original);
  std::vector<checkpoint_reader> quantized;
  std::vector<evaluation_target> targets;
  for (const std::string& directory : command.quantized) {
    quantized.push_back(checkpoint_reader::open(directory).value());
    require_same_model(config, read_model_config(quantized.back()), directory + "/" + config_file_name);
  }
  if (!command.recipes.empty() && config.shape.experts == 0)
    throw usage_error("--recipes", "quantises experts, and " + config.model_type +
                                       " has none: quantize its linear layers with --linears, and name the result");
  for (const checkpoint_reader& checkpoint : quantized) targets.push_back({checkpoint.path(), &checkpoint, {}});
  for (const std::string& name : command.recipes) {
    recipe_id recipe{};
    if (!find_recipe(name, recipe)) throw usage_error("--recipes", "unknown recipe " + name);
    targets.push_back({name, nullptr, recipe});
  }
  const std::vector<std::int64_t> ids = read_tokens(command, original, config);
  tbb_executor threads(command.model.threads);
  evaluation_options options;
  options.context = command.context > 0 ? command.context : std::min<std::int64_t>(2048, config.context);
  if (options.context < 2 || options.context > config.context)
    throw usage_error("--context", "is " + std::to_string(options.context) + ", expected 2 .. " +
                                       std::to_string(config.context) + ", which the model takes");
  const existing_file existing = existing_output(command.overwrite);
  if (!command.details.empty()) {  // asked before the hours that the models take
    std::vector<std::string> inputs = command.quantized;
    inputs.insert(inputs.end(), {command.original, command.text, command.ids});
    require_outputs(inputs, {command.details}, existing).value();
    keep_standard_output_for(command.details);
  }
  options.product = {command.model.activations(), threads, stop_requested};
  comparison result{command.original,
                    original.tensor_bytes(),
                    std::ssize(ids),
                    options.context,
                    command.model.activations_name,
                    {},
                    {}};
  for (const std::string& directory : command.quantized) {
    const auto calibration = calibration_of(directory);
    if (!calibration) continue;
    const std::int64_t found = calibrate::count_found(calibration->fingerprints, ids);
    const std::int64_t passages = std::ssize(calibration->fingerprints);
    result.calibrations.push_back({directory, calibration_text(*calibration), found, passages});
    if (found > 0)
      warn({std::to_string(found) + " of " + std::to_string(passages) + " passages of the text that '" + directory +
            "' was calibrated on are in this text: it does better here than elsewhere"});
  }
  {
    progress_line line;
    verify_options check;
    check.stop = stop_requested;
    check.progress = [&line](std::uint64_t done, std::uint64_t total) { line.update(done, total, "hashes"); };
    warn(require_undamaged(original, check));
    for (const checkpoint_reader& checkpoint : quantized) warn(require_undamaged(checkpoint, check));
  }
  {
    progress_line line;
    options.progress = [&line](std::uint64_t done, std::uint64_t total, const std::string& where) {
      line.update(done, total, where);
    };
    result.targets = evaluate(original, targets, config, ids, options);
  }
  if (!command.details.empty()) {
    const std::string text = json_of(result, true).dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
    output_file file = output_file::create(command.details, stop_requested, existing).value();
    file.write(0, std::as_bytes(std::span(text))).value();
    file.commit().value();
  }
  if (command.json) print(json_of(result, false));
  else print(markdown_of(result));
}

}  // namespace

void add_compare(program& app) {
  add_command<compare_command>(app, "compare", "Compare a model and its quantised form on a text", run);
}

}  // namespace mxfp4::tools
