// tools/mxfp4/plan.cpp -- mxfp4 plan: what would become of a checkpoint, from its headers or config.json alone.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <utility>

#include "checkpoint/family.hpp"
#include "checkpoint/foreign_format.hpp"
#include "checkpoint/minimax_m2.hpp"
#include "checkpoint/name_pattern.hpp"
#include "checkpoint/quantization_config.hpp"
#include "checkpoint/reader_json.hpp"
#include "checkpoint/unlisted_tensors.hpp"
#include "command.hpp"
#include "io/guarded.hpp"
#include "io/shown.hpp"
#include "io/strict_json.hpp"
#include "mxfp4/checkpoint/plan.hpp"
#include "mxfp4/checkpoint/reader.hpp"
#include "quantize_command.hpp"
#include "report.hpp"

#if defined(MXFP4_TOOLS_MODEL)
#include "calibrate/needs.hpp"
#include "model/config.hpp"
#endif

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;

namespace {

struct plan_command {
  std::string input, include, exclude, others = "bf16", activations = "none";
  std::vector<std::string> take;
  int devices = 2;
  double memory = 120;
  bool linears = false, force = false, list = false, json = false;

  void describe(command_line& command) {
    command.add_option("IN", input, "A checkpoint's directory, a .safetensors file, or a config.json of MiniMax-M2")
        .required()
        .type_name("PATH");
    takes_regex(command.add_option("--include", include,
                                   "Quantise the matrices in whose name this is found; "
                                   "without it: the experts"));
    takes_regex(command.add_option("--exclude", exclude, "... but not those in whose name this is found"));
    command.add_flag("--linears", linears,
                     "Quantise every linear layer, not the experts alone: all but routers and lm_head");
    command.add_flag("--force", force, "Take what no reader is known to load, and rows of gate and up for halves");
    command.add_option("--others", others, "FP8 matrices that are not quantised: widen them, or keep them")
        .one_of({"bf16", "fp8"});
    command.add_option("--activations", activations, "What config.json is to have servers multiply the weights with")
        .one_of({"none", "fp8", "mxfp4"});
    command.add_option("--devices", devices, "Devices that share the weights").range_in_help(1, 1 << 20).show_default();
    command.add_option("--memory", memory, "GB (10^9 bytes) of each of them").number(0.001, 1e9).show_default();
    takes_files(command, take);
    command.add_flag("--list", list, "List every tensor with what becomes of it");
    command.footer("No weight is read, nothing is written. Sizes count tensor data, not the headers of the files.");
  }
};

struct source {
  std::vector<tensor_info> tensors;
  ordered_json config;             // null where there is none
  std::vector<std::string> stray;  // shards that nothing names
  std::string model_type = {};
  std::string unlisted = {};  // a warning of tensors that the index forgot
  std::vector<std::string> other_files = {};
};

[[nodiscard]] source read_source(const std::string& path, const std::vector<std::string>& take) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error) || path.ends_with(".safetensors") || !take.empty()) {
    const checkpoint_reader reader = checkpoint_reader::open(path, take).value();
    if (!reader.is_directory()) return {reader.tensor_infos(), nullptr, {}};
    source s{reader.tensor_infos(), read_config(reader), reader.stray_shards()};
    s.unlisted = unlisted_warning(reader);
    s.other_files = reader.other_files();
    return s;
  }
  ordered_json config = read_json<ordered_json>(path, config_limits);
  std::vector<tensor_info> tensors = minimax_m2_tensors(read_minimax_m2_shape(config, path));
  return {std::move(tensors), std::move(config), {}};
}

/// What is quantised already stays as it is, and is counted.
[[nodiscard]] quantization_plan plan_of_copies(std::vector<tensor_info> tensors, const foreign_weights& found) {
  quantization_plan plan;
  for (tensor_info& t : tensors) {
    planned_tensor p;
    p.outputs = {t};
    p.source = std::move(t);
    p.reason = "quantised already";
    plan.bytes_before += p.source.bytes();
    plan.bytes_after += p.source.bytes();
    plan.tensors.push_back(std::move(p));
  }
  plan.warnings.push_back("quantised already: " + quote_name(found.tensor) + " is " + found.format +
                          ": quantize refuses it; " + way_to_weights(found.use));
  return plan;
}

/// Tensors that share their fate. FP8 block scales count for the tensor they belong to.
struct group {
  std::int64_t tensors = 0;
  std::uint64_t before = 0, after = 0;
};
using groups = std::map<std::pair<tensor_action, dtype>, group>;

[[nodiscard]] groups group_up(const quantization_plan& plan) {
  groups found;
  for (const planned_tensor& p : plan.tensors) {
    if (p.action == tensor_action::fp8_scales) continue;
    group& g = found[{p.action, p.source.type}];
    ++g.tensors;
    g.before += p.source.bytes();
    if (p.scales != planned_tensor::no_scales) g.before += plan.tensors[p.scales].source.bytes();
    g.after += p.output_bytes();
  }
  return found;
}

[[nodiscard]] std::string action_text(tensor_action action, dtype type) {
  const std::string name = dtype_name(type);
  switch (action) {
    case tensor_action::quantize:
      return name + " to MXFP4";
    case tensor_action::widen_fp8:
    case tensor_action::to_bf16:
      return name + " to BF16";
    default:
      return name + " as it is";
  }
}

[[nodiscard]] std::string both_sizes(std::uint64_t bytes) {
  if (bytes < 1'000'000'000) return size_text(bytes);
  return size_text(bytes) + " (" + fixed(static_cast<double>(bytes) / 0x1p30, 1) + " GiB)";
}

[[nodiscard]] double ratio(std::uint64_t before, std::uint64_t after) {
  return after > 0 ? static_cast<double>(before) / static_cast<double>(after) : 0.0;
}

/// BF16 keys and values of one token in all layers; 0 where the config does not say.
[[nodiscard]] std::int64_t cache_bytes_per_token(const ordered_json& config) {
  if (!config.is_object() || config.value("model_type", ordered_json()) != "minimax_m2") return 0;
  ordered_json plain = config;
  plain.erase("quantization_config");  // of whatever kind: keys and values are not quantised
  const minimax_m2_shape s = read_minimax_m2_shape(plain, config_file_name);
  return s.layers * 2 * s.key_value_heads * s.head_dim * 2;
}

/// What quantize --calibrate would take with its own defaults.
struct calibration_estimate {
  std::int64_t tokens = 0;  ///< 0: it does not calibrate such a model
  std::uint64_t memory = 0, memory_an_expert = 0, disk = 0;
  double core_seconds = 0;
};

/// A calibration chooses the codes of all experts and of nothing else.
[[nodiscard]] bool takes_all_experts(const plan_command& command) {
  return command.include.empty() && command.exclude.empty() && !command.linears;
}

[[nodiscard]] calibration_estimate estimate_calibration(const ordered_json& config) {
#if defined(MXFP4_TOOLS_MODEL)
  const auto read = guarded([&] { return model::read_model_config(config, config_file_name); });
  if (!read || read->shape.experts == 0) return {};
  calibrate::calibration_size size;
  size.tokens = calibrate_options{}.tokens;
  size.context = std::min(calibrate::default_context, read->context);
  const calibrate::memory_need need = calibrate::memory_of(*read, size);
  const calibrate::calibration_work work = calibrate::work_of(*read, size);
  return {size.tokens, need.least(), need.an_expert, calibrate::disk_of(*read, size.tokens),
          work.of_experts / calibrate::expert_rate + work.of_tokens / calibrate::token_rate};
#else
  static_cast<void>(config);
  return {};
#endif
}

[[nodiscard]] std::string text_of(const calibration_estimate& c) {
  const double minutes = c.core_seconds / 60, hours = minutes / 60;
  const std::string time = minutes < 2 ? fixed(c.core_seconds, 0) + " seconds"
                           : hours < 2 ? fixed(minutes, 0) + " minutes"
                                       : fixed(hours, 0) + " hours";
  return "quantize --calibrate with " + std::to_string(c.tokens) + " tokens: " + size_text(c.memory) + " of memory, " +
         size_text(c.memory_an_expert) + " for each further core; " + size_text(c.disk) +
         " on the disk while it runs; some " + time + " of one core\n";
}

struct budget {
  double bytes = 0, left = 0;
  std::int64_t bytes_per_token = 0;

  [[nodiscard]] std::int64_t tokens() const {
    return left > 0 && bytes_per_token > 0 ? static_cast<std::int64_t>(left / static_cast<double>(bytes_per_token)) : 0;
  }
};

[[nodiscard]] ordered_json json_of(const plan_command& command, const ordered_json& quantization, const source& in,
                                   const quantization_plan& plan, const budget& memory,
                                   const calibration_estimate& calibration) {
  ordered_json actions = ordered_json::array();
  for (const auto& [key, g] : group_up(plan))
    actions.push_back({{"action", action_name(key.first)},
                       {"dtype", dtype_name(key.second)},
                       {"tensors", g.tensors},
                       {"bytes_before", g.before},
                       {"bytes_after", g.after}});
  ordered_json report = {{"command", "plan"},
                         {"input", command.input},
                         {"tensors", plan.tensors.size()},
                         {"experts", plan.experts},
                         {"matrices", plan.matrices},
                         {"weights", plan.weights},
                         {"bytes_before", plan.bytes_before},
                         {"bytes_after", plan.bytes_after},
                         {"ratio", ratio(plan.bytes_before, plan.bytes_after)},
                         {"actions", std::move(actions)},
                         {"stray_files", in.stray},
                         {"memory",
                          {{"devices", command.devices},
                           {"bytes", static_cast<std::int64_t>(memory.bytes)},
                           {"left", static_cast<std::int64_t>(memory.left)},
                           {"cache_bytes_per_token", memory.bytes_per_token},
                           {"tokens", memory.tokens()}}}};
  if (!quantization.is_null()) {
    report["quantization_config"] = quantization;
    report["activations"] = activations_text(quantization);
  }
  if (calibration.tokens > 0)
    report["calibration"] = {{"tokens", calibration.tokens},
                             {"memory", calibration.memory},
                             {"memory_an_expert", calibration.memory_an_expert},
                             {"disk", calibration.disk},
                             {"core_seconds", std::round(calibration.core_seconds)}};
  for (const std::string& warning : plan.warnings) report["warnings"].push_back(warning);
  if (command.list) {
    report["list"] = ordered_json::array();
    for (const planned_tensor& p : plan.tensors) {
      ordered_json entry = to_json(p.source);
      entry["action"] = action_name(p.action);
      entry["reason"] = p.reason;
      entry["outputs"] = ordered_json::array();
      for (const tensor_info& t : p.outputs) entry["outputs"].push_back(to_json(t));
      report["list"].push_back(std::move(entry));
    }
  }
  return report;
}

[[nodiscard]] std::string list_text(const quantization_plan& plan) {
  table t({{"tensor"}, {"dtype"}, {"shape"}, {"action"}, {"bytes after", align::right}, {"why not MXFP4"}});
  for (const planned_tensor& p : plan.tensors)
    t.add({printable(p.source.name), dtype_name(p.source.type), shape_text(p.source.shape), action_name(p.action),
           std::to_string(p.output_bytes()), p.reason});
  return t.text() + '\n';
}

[[nodiscard]] std::string text_of(const plan_command& command, const ordered_json& quantization,
                                  const quantization_plan& plan, const budget& memory,
                                  const calibration_estimate& calibration) {
  std::string text = command.list ? list_text(plan) : "";
  table t({{"what"}, {"tensors", align::right}, {"before", align::right}, {"after", align::right}});
  for (const auto& [key, g] : group_up(plan))
    t.add({action_text(key.first, key.second), std::to_string(g.tensors), size_text(g.before), size_text(g.after)});
  if (!t.empty()) text += t.text() + '\n';
  if (plan.matrices == 0 && (plan.tensors.empty() || plan.tensors[0].reason != "quantised already"))
    text +=
        "nothing would be quantised: no matrix is one of an expert, or fits --include; --linears takes a dense "
        "model's\n";
  else if (plan.matrices > 0)
    text += "quantised: " + count_text(plan.experts, "expert") + ", " + std::to_string(plan.matrices) +
            (plan.matrices == 1 ? " matrix, " : " matrices, ") + count_text(plan.weights, "weight") + "\n";
  text += both_sizes(plan.bytes_before) + " -> " + both_sizes(plan.bytes_after) + ": " +
          fixed(ratio(plan.bytes_before, plan.bytes_after), 3) + " x\n";
  text += std::to_string(command.devices) + " x " + size_text(static_cast<std::uint64_t>(command.memory * 1e9)) + ": ";
  if (memory.left < 0) text += fixed(-memory.left / 1e9, 1) + " GB too little for the weights\n";
  else text += fixed(memory.left / 1e9, 1) + " GB left for the KV cache and activations\n";
  if (!quantization.is_null())
    text +=
        activations_text(quantization) + (quantization.contains("config_groups") ? " --activations chooses\n" : "\n");
  for (const std::string& warning : plan.warnings) text += "warning: " + shown(warning) + "\n";
  if (memory.tokens() > 0)
    text += "a token's KV cache in BF16 is " + size_text(static_cast<std::uint64_t>(memory.bytes_per_token)) +
            ": at most " + std::to_string(memory.tokens()) + " tokens\n";
  if (calibration.tokens > 0) text += text_of(calibration);
  return text;
}

void run(const plan_command& command) {
  plan_options options;
  if (!command.include.empty()) options.include = command.include;
  if (!command.exclude.empty()) options.exclude = command.exclude;
  options.others = command.others == "fp8" ? fp8_policy::keep : fp8_policy::widen;
  options.linears = command.linears;
  options.any_matrix = command.force;
  source in = read_source(command.input, command.take);
  read_model(in.config, options);
  in.model_type = options.model_type;
  const foreign_weights found = find_codes(in.tensors, in.config);
  const std::string untold = untold_quantization(in.tensors, in.config, in.other_files);
  quantization_plan plan = found.tensor.empty() ? make_plan(std::move(in.tensors), options, command.input).value()
                                                : plan_of_copies(std::move(in.tensors), found);
  if (found.tensor.empty() && !untold.empty()) plan.warnings.push_back(untold);
  if (!in.unlisted.empty()) plan.warnings.push_back(in.unlisted);
  budget memory;
  memory.bytes = command.devices * command.memory * 1e9;
  memory.left = memory.bytes - static_cast<double>(plan.bytes_after);
  memory.bytes_per_token = cache_bytes_per_token(in.config);
  ordered_json quantization;
  if (plan.matrices > 0 && in.config.is_object())
    quantization =
        make_quantization_config(plan, in.model_type, command.input, activations_called(command.activations));
  const calibration_estimate calibration =
      takes_all_experts(command) && plan.matrices > 0 ? estimate_calibration(in.config) : calibration_estimate();
  if (command.json) print(json_of(command, quantization, in, plan, memory, calibration));
  else print(text_of(command, quantization, plan, memory, calibration) + stray_text(in.stray));
}

}  // namespace

option takes_regex(const option& o) {
  const auto problem_of = [](const std::string& text) {
    if (text.empty()) return std::string("'' is found in every name: leave the option out, or give a pattern");
    const name_pattern pattern(text);
    return pattern.problem().empty() ? std::string{}
                                     : quote_name(text) + " is not a regular expression of RE2: " + pattern.problem();
  };
  return o.check(problem_of).type_name("REGEX");
}

void add_plan(program& app) {
  add_command<plan_command>(app, "plan", "Show what quantising a checkpoint would make of it, without reading weights",
                            run);
}

}  // namespace mxfp4::tools
