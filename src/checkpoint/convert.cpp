// src/checkpoint/convert.cpp -- the jobs of a form, the quantization_config that goes with it, and the files.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/checkpoint/convert.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>
#include <utility>

#include "checkpoint/expert_jobs.hpp"
#include "checkpoint/family.hpp"
#include "checkpoint/quantization_config.hpp"
#include "checkpoint/recorded_hashes.hpp"
#include "io/guarded.hpp"
#include "io/strict_json.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

using nlohmann::ordered_json;

constexpr const char* config_key = "quantization_config";

/// A checkpoint in any of the two kinds of file, with what holds its data open.
struct source {
  std::optional<checkpoint_reader> checkpoint;
  std::optional<gguf_reader> gguf;
  weight_list weights;
  std::optional<std::string> config;  ///< text of config.json
  std::uint64_t bytes = 0;            ///< of the files with tensors
};

[[nodiscard]] std::string read_file(const std::string& path) {
  const input_file file = input_file::open(path).value();
  std::string text(file.size(), '\0');
  file.read(0, std::as_writable_bytes(std::span(text))).value();
  return text;
}

/// llama-gguf-split cuts a model into files, each a GGUF file of its own.
void require_whole(const gguf_reader& file) {
  for (const gguf_pair& p : file.header().pairs)
    if (const auto* count = std::get_if<std::uint64_t>(&p.value); p.key == "split.count" && count && *count > 1)
      throw file_error({.file = file.path(),
                        .value = "is one of " + std::to_string(*count) + " parts of a model",
                        .expected = "a whole one",
                        .advice = "llama-gguf-split --merge puts them together"});
}

void open(const std::string& input, source& s) {
  if (input.ends_with(".gguf")) {
    s.gguf.emplace(gguf_reader::open(input).value());
    require_whole(*s.gguf);
    s.weights = find_weights(*s.gguf);
    if (const std::string* text = s.gguf->header().find_string(gguf_config_key)) s.config = *text;
    s.bytes = s.gguf->file_bytes();
    return;
  }
  s.checkpoint.emplace(checkpoint_reader::open(input).value());
  s.weights = find_weights(*s.checkpoint);
  for (std::size_t i = 0; i < s.checkpoint->shards().size(); ++i) s.bytes += s.checkpoint->shard(i).file_bytes();
  const std::vector<std::string>& files = s.checkpoint->other_files();
  if (std::find(files.begin(), files.end(), config_file_name) != files.end())
    s.config = read_file(s.checkpoint->directory() + "/" + config_file_name);
}

void require_unchanged(const source& s) {
  if (s.gguf) s.gguf->require_unchanged().value();
  for (std::size_t i = 0; s.checkpoint && i < s.checkpoint->shards().size(); ++i)
    s.checkpoint->shard(i).require_unchanged().value();
}

[[nodiscard]] const model_family& family_of(const source& s, const std::string& where) {
  plan_options options;
  if (s.config) read_model(parse_json<ordered_json>(*s.config, where + "/" + config_file_name, config_limits), options);
  return find_family(options.model_type);
}

// ---- config.json ----------------------------------------------------------------------------------------------------

/// Sorted, so that the order of tensors in the files does not matter.
[[nodiscard]] std::vector<std::string> linear_modules_left(const expert_model& model) {
  std::vector<std::string> names;
  for (const plain_tensor* t : model.others)
    if (has_matrix(t->info)) names.push_back(module_of(t->info.name));
  std::sort(names.begin(), names.end());
  return names;
}

[[nodiscard]] ordered_json fp8_config(const expert_model& model) {
  return {{"quant_method", "fp8"},
          {"fmt", "float8_e4m3fn"},
          {"activation_scheme", "dynamic"},
          {"weight_block_size", {fp8_block, fp8_block}},
          {"modules_to_not_convert", linear_modules_left(model)}};
}

[[nodiscard]] ordered_json compressed_tensors_config(const ordered_json& config, const expert_model& model,
                                                     const std::vector<tensor_job>& jobs, const std::string& where) {
  plan_options options;
  read_model(config, options);
  linear_modules modules;
  modules.also_ignored = find_family(options.model_type).also_ignored;
  for (const tensor_job& job : jobs)
    for (const tensor_info& t : job.outputs)
      if (t.name.ends_with(packed_suffix)) modules.mxfp4.push_back(module_of(t.name));
  modules.left = linear_modules_left(model);
  return make_quantization_config(modules, where);
}

/// config.json for the output. It stays as it is, byte for byte, where the source is in compressed-tensors' form
/// already and stays in it: the stacked form differs in names only.
[[nodiscard]] std::string make_config_text(const std::string& text, checkpoint_form to, const expert_model& model,
                                           const std::vector<tensor_job>& jobs, const std::string& where) {
  const std::string file = where + "/" + config_file_name;
  ordered_json config = parse_json<ordered_json>(text, file, config_limits);
  if (!config.is_object()) throw file_error({.file = file, .value = "is not a JSON object", .expected = "one"});
  remove_nested_quantization(config);
  if (to == checkpoint_form::gpt_oss) {
    config[config_key] = make_gpt_oss_config(linear_modules_left(model));
  } else if (to == checkpoint_form::block_fp8) {
    config[config_key] = fp8_config(model);
  } else {
    const bool same = config.contains(config_key) && config[config_key].is_object() &&
                      config[config_key].value("quant_method", ordered_json()) == "compressed-tensors";
    if (same) return text;
    config[config_key] = compressed_tensors_config(config, model, jobs, where);
  }
  return json_text(config, 2) + "\n";
}

// ---- the jobs of a form ---------------------------------------------------------------------------------------------

[[nodiscard]] std::vector<tensor_job> jobs_of(const expert_layer& layer, checkpoint_form to, const std::string& where) {
  switch (to) {
    case checkpoint_form::stacked:
      return stacked_jobs(layer, where);
    case checkpoint_form::gpt_oss:
      return gpt_oss_jobs(layer, where);
    case checkpoint_form::block_fp8:
      return fp8_jobs(layer, where);
    default:
      return per_expert_jobs(layer);
  }
}

[[nodiscard]] tensor_job job_of(const mxfp4_weight& weight, checkpoint_form to, const std::string& where) {
  if (to == checkpoint_form::gpt_oss)
    throw file_error({.file = where,
                      .tensor = weight.name,
                      .value = "is MXFP4 and no expert's",
                      .expected = "experts only",
                      .advice = "this form has no place for others"});
  return to == checkpoint_form::block_fp8 ? fp8_job(weight, where) : pair_job(weight);
}

[[nodiscard]] std::vector<tensor_job> make_jobs(const expert_model& model, checkpoint_form to,
                                                const std::string& where) {
  std::vector<tensor_job> jobs;
  for (const expert_layer& layer : model.layers)
    for (tensor_job& job : jobs_of(layer, to, where)) jobs.push_back(std::move(job));
  for (const mxfp4_weight* weight : model.dense) jobs.push_back(job_of(*weight, to, where));
  for (const plain_tensor* tensor : model.others) jobs.push_back(copy_job(*tensor));
  return jobs;
}

[[nodiscard]] std::vector<gguf_job> make_gguf_jobs(const expert_model& model, const std::string& where) {
  std::vector<gguf_job> jobs;
  for (const expert_layer& layer : model.layers)
    for (gguf_job& job : gguf_jobs(layer, where)) jobs.push_back(std::move(job));
  for (const mxfp4_weight* weight : model.dense) jobs.push_back(ggml_job(*weight));
  for (const plain_tensor* tensor : model.others) jobs.push_back(copy_to_gguf_job(*tensor, where));
  return jobs;
}

/// The architecture is the model_type, which a reader of GGUF may know or not: names of tensors are not translated.
[[nodiscard]] std::vector<gguf_pair> gguf_pairs(const std::optional<std::string>& config, const std::string& where) {
  constexpr std::uint64_t mostly_mxfp4 = 38, quantization_version = 2;  // ggml's LLAMA_FTYPE and GGML_QNT_VERSION
  std::string architecture = "unknown";
  if (config) {
    const auto json = parse_json<ordered_json>(*config, where + "/" + config_file_name, config_limits);
    if (json.is_object() && json.contains("model_type") && json["model_type"].is_string())
      architecture = json["model_type"].get<std::string>();
  }
  std::vector<gguf_pair> pairs = {{"general.architecture", gguf_type::string, architecture},
                                  {"general.file_type", gguf_type::u32, mostly_mxfp4},
                                  {"general.quantization_version", gguf_type::u32, quantization_version}};
  if (config) pairs.push_back({gguf_config_key, gguf_type::string, *config});
  return pairs;
}

[[nodiscard]] convert_report count(const source& s, const expert_model& model) {
  convert_report report;
  report.bytes_before = s.bytes;
  report.copied = static_cast<std::int64_t>(model.others.size());
  report.layers = static_cast<std::int64_t>(model.layers.size());
  for (const expert_layer& layer : model.layers) {
    std::size_t experts = 0;
    for (const std::vector<expert_matrix>& matrices : layer.by_role) {
      experts = std::max(experts, matrices.size());
      report.matrices += static_cast<std::int64_t>(matrices.size());
    }
    report.experts += static_cast<std::int64_t>(experts);
  }
  for (const mxfp4_weight* w : model.dense) report.matrices += w->shape.size() == 3 ? w->shape[0] : 1;
  return report;
}

}  // namespace

file_result<convert_report> convert_checkpoint(const std::string& input, const std::string& output,
                                               const convert_options& options) {
  return guarded([&]() -> convert_report {
    source s;
    open(input, s);
    require_outputs({input}, {output}, options.existing).value();
    if (s.weights.weights.empty())
      throw file_error({.file = input,
                        .value = "holds no MXFP4 weights",
                        .expected = "X_packed with X_scale, X_blocks with X_scales, or MXFP4 tensors in a .gguf",
                        .advice = "quantize it first"});
    std::vector<std::string> warnings;
    if (s.checkpoint) warnings = require_undamaged(*s.checkpoint, {.progress = options.progress, .stop = options.stop});
    const expert_model model = group_experts(s.weights, family_of(s, input), input);
    const job_hooks hooks{options.progress, [&s] { require_unchanged(s); }, options.stop, options.existing};
    convert_report report = count(s, model);
    report.warnings = std::move(warnings);
    if (options.to == checkpoint_form::gguf) {
      report.after = write_gguf(output, make_gguf_jobs(model, input), gguf_pairs(s.config, input), hooks).value();
      report.config = s.config.has_value();
      report.cleaned = *s.weights.cleaned;
      return report;
    }
    const std::vector<tensor_job> jobs = make_jobs(model, options.to, input);
    if (output.ends_with(".safetensors")) {
      report.after = write_safetensors(output, jobs, hooks).value();
      report.cleaned = *s.weights.cleaned;
      return report;
    }
    directory_files files;
    if (s.config) files.config = make_config_text(*s.config, options.to, model, jobs, input);
    if (s.checkpoint) files.carried = &*s.checkpoint;
    report.config = files.config.has_value();
    report.after = write_directory(output, jobs, files, options.max_shard_bytes, hooks).value();
    report.cleaned = *s.weights.cleaned;
    return report;
  });
}

}  // namespace mxfp4::checkpoint
