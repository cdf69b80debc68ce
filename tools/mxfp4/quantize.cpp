// tools/mxfp4/quantize.cpp -- mxfp4 quantize: its options, and a safetensors file by itself.
// SPDX-License-Identifier: Apache-2.0
#include <filesystem>

#include "quantize_command.hpp"
#include "report.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;

namespace {

/// The weights of linear layers, and of recurrent ones: weight_ih, weight_hh_l0, ...
constexpr const char* weight_names = "(^|\\.)weight(_[ih]h(_l[0-9]+(_reverse)?)?)?$";

[[nodiscard]] ordered_json json_of(const quantize_command& options, const quantize_report& r) {
  ordered_json quantized = ordered_json::array();
  for (const quantized_tensor& q : r.quantized) {
    ordered_json entry = to_json(q.source);
    entry["bytes"] = q.source_bytes;
    entry["mxfp4_bytes"] = q.mxfp4_bytes;
    entry["bits_per_weight"] = bits_per_weight(q.mxfp4_bytes, q.statistics.weights);
    entry.update(to_json(q.statistics));
    quantized.push_back(std::move(entry));
  }
  ordered_json total = {{"tensors", r.quantized.size()},
                        {"weight_bytes_before", r.weight_bytes_before},
                        {"weight_bytes_after", r.weight_bytes_after},
                        {"bits_per_weight", bits_per_weight(r.weight_bytes_after, r.total.weights)},
                        {"file_bytes_before", r.file_bytes_before},
                        {"file_bytes_after", r.file_bytes_after}};
  total.update(to_json(r.total));
  return {{"command", "quantize"},
          {"input", options.input},
          {"output", options.output},
          {"recipe", options.recipe},
          {"quantized", quantized},
          {"copied", to_json(r.copied)},
          {"total", total}};
}

[[nodiscard]] std::string text_of(const quantize_command& options, const quantize_report& r) {
  table t({{"quantized"},
           {"dtype"},
           {"shape"},
           {"rel error", align::right},
           {"max error", align::right},
           {"saturated", align::right},
           {"zeroed", align::right},
           {"lost", align::right},
           {"not finite", align::right},
           {"bits/weight", align::right}});
  const auto add = [&t](const std::string& name, const std::string& type, const std::string& shape,
                        const error_statistics& s, std::uint64_t bytes) {
    t.add({name, type, shape, error_text(s.relative_error()), error_text(s.max_error), std::to_string(s.saturated),
           std::to_string(s.zeroed), std::to_string(s.lost), std::to_string(s.nonfinite),
           bits_text(bits_per_weight(bytes, s.weights))});
  };
  for (const quantized_tensor& q : r.quantized)
    add(printable(q.source.name), dtype_name(q.source.type), shape_text(q.source.shape), q.statistics, q.mxfp4_bytes);
  if (!r.quantized.empty()) add("total", "", count_text(r.total.weights, "weight"), r.total, r.weight_bytes_after);

  std::string text = r.quantized.empty() ? "" : t.text() + '\n';
  text += copied_table(r.copied);
  if (r.quantized.empty()) text += "nothing was quantised: no matrix fits --include '" + options.include + "'\n";
  else
    text += count_text(static_cast<std::int64_t>(r.quantized.size()), "tensor") + " quantised by " + options.recipe +
            ", " + std::to_string(r.copied.size()) + " copied; relative error " + error_text(r.total.relative_error()) +
            "; weights " + size_text(r.weight_bytes_before) + " -> " + size_text(r.weight_bytes_after) + "\n";
  return text + options.output + ": " + size_text(r.file_bytes_before) + " -> " + size_text(r.file_bytes_after) + "\n";
}

void quantize_one_file(quantize_command command) {
  for (const option& o : command.directory_only)
    if (o.given()) throw usage_error(o.name(), "is for a directory, and IN is a file");
  require_different_files({command.input, command.output});
  if (command.recipe.empty()) command.recipe = "ocp";
  if (command.include.empty()) command.include = weight_names;
  checkpoint::quantize_file_options options;
  if (!find_recipe(command.recipe, options.recipe)) throw usage_error("--recipe", "unknown recipe " + command.recipe);
  options.include = command.include;
  if (!command.exclude.empty()) options.exclude = command.exclude;
  options.nonfinite = command.nonfinite == "encode" ? on_nonfinite::encode : on_nonfinite::refuse;
  options.threads = command.threads;
  options.stop = stop_requested;
  options.existing = existing_output(command.overwrite);
  keep_standard_output_for(command.output);
  quantize_report report;
  {
    progress_line line;
    options.progress = [&line](std::uint64_t done, std::uint64_t total) { line.update(done, total); };
    report = quantize_file(command.input, command.output, options).value();
  }
  if (command.json) print(json_of(command, report));
  else print(text_of(command, report));
}

void run(const quantize_command& command) {
  std::error_code error;
  if (std::filesystem::is_directory(command.input, error)) quantize_directory(command);
  else quantize_one_file(command);
}

}  // namespace

void quantize_command::describe(command_line& command) {
  command.add_option("IN", input, "A .safetensors file, or a checkpoint's directory with its config.json")
      .required()
      .type_name("FILE|DIR");
  command.add_option("OUT", output, "Output of the same kind, with X_packed and X_scale for each weight X")
      .required()
      .type_name("FILE|DIR");
  takes_recipe(command.add_option("--recipe", recipe, "Whose bytes: see mxfp4 recipes"))
      .show_default_as("ocp for a file, compressed_tensors for a directory");
  takes_regex(command.add_option("--include", include, "Quantise the matrices in whose name this is found"))
      .show_default_as("weights of a file, experts of a directory");
  takes_regex(command.add_option("--exclude", exclude, "... but not those in whose name this is found"));
  command.add_option("--nonfinite", nonfinite, "A file with NaN or infinity: refuse it, or encode by the recipe")
      .one_of({"refuse", "encode"});
  command.add_option("--threads", threads, "At most so many; 0: as many as the machine has")
      .range(0, 1024)
      .type_name("N")
      .show_default();
  directory_only = {
      command.add_flag("--linears", linears,
                       "Quantise every linear layer, not the experts alone: all but routers and lm_head"),
      command.add_option("--activations", activations, "What config.json has servers multiply the weights with")
          .one_of({"none", "fp8", "mxfp4"}),
      command.add_option("--dtype", dtype, "What is not quantised of an F16 or F32 model: keep it, or make it BF16")
          .one_of({"keep", "bf16"}),
      command.add_flag("--force", force, "Write what no reader is known to load; take rows of gate and up for halves"),
      command.add_option("--others", others, "FP8 weights that are not quantised").one_of({"bf16", "fp8"}),
      command.add_option("--max-shard-size", max_shard_bytes, "Where IN holds a single file: bytes, or 5GB")
          .size()
          .show_default_as("5GB"),
      takes_files(command, take),
      command.add_option("--rank", rank, "Do the shards of one process of several, then mxfp4 merge")
          .type_name("R|auto"),
      command.add_option("--world", world, "Number of processes; --rank auto may find it")
          .range(1, 1 << 20)
          .type_name("N"),
  };
  for (const option& o : directory_only) o.group("Directories");
#if defined(MXFP4_TOOLS_MODEL)
  calibration.describe(command, directory_only);
#endif
  takes_overwrite(command, overwrite);
  command.footer(
      "Matrices of F32, F16, BF16, and of F8_E4M3 with block scales X_scale_inv, whose columns are a multiple\n"
      "of 32 are quantised; everything else is copied byte for byte, and listed with the reason.\n"
      "A directory: experts, 2-D or stacked, are quantised; config.json tells loaders of it. A run that was stopped\n"
      "goes on when it is called again. --rank auto asks Open MPI, PMI, Slurm, PMIx or a Kubernetes indexed job.\n"
      "With --json a directory gives a line for each tensor and shard as it goes.");
}

void add_quantize(program& app) {
  add_command<quantize_command>(app, "quantize", "Turn the weights of a safetensors file or a checkpoint into MXFP4",
                                run);
}

}  // namespace mxfp4::tools
