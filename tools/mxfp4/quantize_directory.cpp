// tools/mxfp4/quantize_directory.cpp -- mxfp4 quantize DIR, and mxfp4 merge.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <optional>

#include "mxfp4/checkpoint/process_rank.hpp"
#include "mxfp4/checkpoint/quantize.hpp"
#include "quantize_command.hpp"
#include "report.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;

namespace {

[[nodiscard]] process_rank find_rank(const quantize_command& command) {
  const std::optional<int> world = command.world > 0 ? std::optional<int>(command.world) : std::nullopt;
  if (command.rank.empty()) {
    if (world) throw usage_error("--world", "needs --rank too: the number of this process, or auto");
    return {};
  }
  if (command.rank == "auto") {
    process_rank found = rank_from_environment([](const char* name) { return std::getenv(name); }, world).value();
    if (!found.warning.empty()) warn({found.warning});
    return found;
  }
  if (!world) throw usage_error("--rank", "needs --world too, the number of processes");
  process_rank result{-1, *world, "--rank", {}};
  const char* end = command.rank.data() + command.rank.size();
  const auto [stop, error] = std::from_chars(command.rank.data(), end, result.rank);
  if (error != std::errc{} || stop != end || result.rank < 0 || result.rank >= result.world)
    throw usage_error(
        "--rank", "is '" + command.rank + "', expected auto or a number from 0 to " + std::to_string(result.world - 1));
  return result;
}

/// What a run tells: a line of progress on a terminal, or a log.
class reporter final : public checkpoint_observer {
 public:
  reporter(const quantize_command& command, const process_rank& rank, const std::string& recipe)
      : command_(command), rank_(rank), recipe_(recipe) {}

  void on_start(std::size_t shards, std::size_t kept, std::uint64_t input_bytes) override {
    if (command_.json)
      print_line({{"event", "start"},
                  {"input", command_.input},
                  {"output", command_.output},
                  {"recipe", recipe_},
                  {"rank", rank_.rank},
                  {"world", rank_.world},
                  {"shards", shards},
                  {"kept", kept},
                  {"input_bytes", input_bytes}});
  }
  void on_progress(std::uint64_t done, std::uint64_t total, const error_statistics& so_far) override {
    line_.update(done, total, so_far.weights > 0 ? "relative error " + error_text(so_far.relative_error()) : "");
  }
  void on_tensor(const planned_tensor& tensor, std::span<const matrix_statistics> matrices) override {
    if (!command_.json) return;
    ordered_json line = {{"event", "tensor"}, {"name", tensor.source.name}};
    if (tensor.action == tensor_action::quantize) {
      error_statistics sum;
      for (const matrix_statistics& m : matrices) sum += m.statistics;
      line["relative_error"] = sum.relative_error();
      line["saturated"] = sum.saturated;
      line["lost"] = sum.lost;
      line["nonfinite"] = sum.nonfinite;
    } else {
      line["reason"] = tensor.reason;
    }
    print_line(line);
  }
  void on_warning(const std::string& text) override {
    if (command_.json) print_line({{"event", "warning"}, {"text", text}});
    else warn({text});
  }
  void on_shard(const std::string& file, std::uint64_t bytes) override {
    if (command_.json) print_line({{"event", "shard"}, {"file", file}, {"bytes", bytes}});
  }

 private:
  const quantize_command& command_;
  const process_rank& rank_;
  const std::string& recipe_;
  progress_line line_;
};

[[nodiscard]] ordered_json json_of(const checkpoint_result& r) {
  ordered_json line = {{"event", "done"},
                       {"complete", r.complete},
                       {"shards", r.shards},
                       {"written", r.written},
                       {"kept", r.kept},
                       {"quantized", r.quantized},
                       {"other", r.other},
                       {"bytes_before", r.bytes_before},
                       {"bytes_after", r.bytes_after}};
  line.update(to_json(r.total));
  return line;
}

[[nodiscard]] std::string text_of(const checkpoint_result& r) {
  std::string text;
  if (r.total.weights > 0)
    text += count_text(static_cast<std::int64_t>(r.quantized), "tensor") + " quantised, " + std::to_string(r.other) +
            " others; relative error " + error_text(r.total.relative_error()) + ", saturated " +
            std::to_string(r.total.saturated) + ", lost " + std::to_string(r.total.lost) + ", not finite " +
            std::to_string(r.total.nonfinite) + "; " + size_text(r.bytes_before) + " -> " + size_text(r.bytes_after) +
            "\n";
  return text + count_text(static_cast<std::int64_t>(r.shards), "shard") + ": " + std::to_string(r.written) +
         " written, " + std::to_string(r.kept) + " there already\n";
}

struct merge_command {
  std::string output;
  bool json = false;

  void describe(command_line& command) {
    command.add_option("OUT", output, "The directory that all processes of mxfp4 quantize --rank wrote into")
        .required()
        .type_name("DIR");
    command.footer("Sees that every shard is there and whole, then writes the report and the index.");
  }
};

void merge(const merge_command& command) {
  checkpoint_result result;
  {
    progress_line line;
    const auto progress = [&line](std::uint64_t done, std::uint64_t total) { line.update(done, total); };
    result = merge_checkpoint(command.output, stop_requested, progress).value();
  }
  if (command.json) print(json_of(result));
  else print(text_of(result) + command.output + ": complete\n");
}

[[nodiscard]] checkpoint_result quantize_as_asked(const quantize_command& command, const checkpoint_settings& settings,
                                                  const checkpoint_run& run, checkpoint_observer& observer) {
#if defined(MXFP4_TOOLS_MODEL)
  if (command.calibration.asked())
    return quantize_calibrated(command.calibration, command.input, command.output, settings, run, observer);
  command.calibration.require_unused();
  if (!command.calibration.imatrix.empty())
    return quantize_by_imatrix(command.calibration.imatrix, command.input, command.output, settings, run, observer);
#endif
  return quantize_checkpoint(command.input, command.output, settings, run, observer).value();
}

}  // namespace

declared_activations activations_called(const std::string& name) {
  const auto* const found =
      std::find(std::begin(declared_activations_names), std::end(declared_activations_names), name);
  return static_cast<declared_activations>(found - std::begin(declared_activations_names));
}

void quantize_directory(const quantize_command& command) {
  const process_rank rank = find_rank(command);
  checkpoint_settings settings;
  const std::string recipe = command.recipe.empty() ? recipe_name(settings.recipe) : command.recipe;
  if (!find_recipe(recipe, settings.recipe)) throw usage_error("--recipe", "unknown recipe " + recipe);
  if (!command.include.empty()) settings.include = command.include;
  if (!command.exclude.empty()) settings.exclude = command.exclude;
  settings.linears = command.linears;
  settings.activations = activations_called(command.activations);
  settings.to_bf16 = command.dtype == "bf16";
  settings.force = command.force;
  settings.others = command.others == "fp8" ? fp8_policy::keep : fp8_policy::widen;
  settings.nonfinite = command.nonfinite == "encode" ? on_nonfinite::encode : on_nonfinite::refuse;
  settings.max_shard_bytes = command.max_shard_bytes;
  settings.take = command.take;
  if (command.linears && settings.include)
    throw usage_error("--linears", "says what to quantise, as --include does: give one of them");
  if (command.overwrite && rank.world > 1)
    throw usage_error("--overwrite", "is for one process: of several, one would remove what another wrote");
  const checkpoint_run run{rank.rank, rank.world, command.threads, command.overwrite, stop_requested};
  checkpoint_result result;
  {
    reporter observer(command, rank, recipe);
    result = quantize_as_asked(command, settings, run, observer);
  }
  // Of several processes the first takes files over: the others may end before.
  const std::vector<std::string> left =
      rank.rank == 0 ? left_out(command.input, command.output) : std::vector<std::string>();
  if (command.json) {
    ordered_json line = json_of(result);
    line["left_out"] = left;
    print_line(line);
    return;
  }
  const std::string process = rank.world == 1 ? ""
                                              : " for rank " + std::to_string(rank.rank) + " of " +
                                                    std::to_string(rank.world) + " (" + rank.origin + ")";
  print(text_of(result) + left_out_text(left) + command.output + ": complete" + process +
        (result.complete ? "" : ", after all ranks: mxfp4 merge " + command.output) + "\n");
}

void add_merge(program& app) {
  add_command<merge_command>(app, "merge", "Complete what several processes of mxfp4 quantize wrote", merge);
}

}  // namespace mxfp4::tools
