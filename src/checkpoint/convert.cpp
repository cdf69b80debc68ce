// src/checkpoint/convert.cpp -- the jobs of a form, the quantization_config that goes with it, and the files.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/checkpoint/convert.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "checkpoint/expert_jobs.hpp"
#include "checkpoint/family.hpp"
#include "checkpoint/foreign_format.hpp"
#include "checkpoint/fp8_scales.hpp"
#include "checkpoint/llama_cpp.hpp"
#include "checkpoint/quantization_config.hpp"
#include "checkpoint/recorded_hashes.hpp"
#include "checkpoint/unmarked_pair.hpp"
#include "checkpoint/weight_source.hpp"
#include "io/guarded.hpp"
#include "io/slabs.hpp"
#include "io/strict_json.hpp"
#include "mxfp4/io/byte_order.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

using nlohmann::ordered_json;

constexpr const char* config_key = "quantization_config";

[[nodiscard]] ordered_json config_of(const weight_source& s, const std::string& where) {
  return s.config ? parse_json<ordered_json>(*s.config, where + "/" + config_file_name, config_limits) : ordered_json();
}

[[nodiscard]] plan_options model_of(const ordered_json& config) {
  plan_options options;
  read_model(config, options);
  return options;
}

// ---- what is not MXFP4 ----------------------------------------------------------------------------------------------

/// Is it in compressed-tensors' form already, and stays in it? Then config.json goes on saying what each tensor is.
[[nodiscard]] bool keeps_config(const ordered_json& config, checkpoint_form to) {
  return (to == checkpoint_form::compressed_tensors || to == checkpoint_form::stacked) && config.is_object() &&
         config.contains(config_key) && config[config_key].is_object() &&
         config[config_key].value("quant_method", ordered_json()) == "compressed-tensors";
}

/// Takes the FP8 weights with F32 scales of 128 x 128 out of the list, under the names that the form has for them.
[[nodiscard]] std::vector<plain_tensor> take_block_fp8(weight_list& list) {
  std::unordered_map<std::string_view, std::size_t> by_name;
  for (std::size_t i = 0; i < list.others.size(); ++i) by_name.emplace(list.others[i].info.name, i);
  const find_function find = [&](const std::string& name) -> const tensor_info* {
    const auto found = by_name.find(name);
    return found == by_name.end() ? nullptr : &list.others[found->second].info;
  };
  std::vector<plain_tensor> taken;
  std::unordered_set<std::string> names;
  for (const plain_tensor& t : list.others) {
    if (t.info.type != dtype::f8_e4m3 || t.info.shape.size() != 2) continue;
    const fp8_scales_result found = find_fp8_scales(t.info, find, std::nullopt);
    if (found.scales == nullptr || found.scales->type != dtype::f32 || found.scales->shape.size() != 2 ||
        found.grid != scale_grid{})
      continue;
    taken.push_back(t);
    taken.push_back(list.others[by_name.at(found.scales->name)]);
    names.insert({t.info.name, found.scales->name});
    for (const std::string& name : fp8_activation_names(t.info.name)) names.insert(name);
    taken.back().info.name = t.info.name + fp8_scale_suffix;
  }
  std::erase_if(list.others, [&](const plain_tensor& t) { return names.contains(t.info.name); });
  return taken;
}

/// No form but the one that keeps its config says of FP8 and other codes what they are: they become BF16.
[[nodiscard]] narrow_count widen_others(weight_source& s, const ordered_json& config, checkpoint_form to,
                                        const std::string& where) {
  std::vector<plain_tensor> kept;
  if (to == checkpoint_form::block_fp8) kept = take_block_fp8(s.weights);
  narrow_count count = widen_narrow_weights(s.weights, model_of(config).fp8_grid, where);
  require_known_formats(s.weights.others, config, where);
  s.weights.others.insert(s.weights.others.end(), kept.begin(), kept.end());
  count.integer += s.narrow.integer;
  return count;
}

// ---- config.json ----------------------------------------------------------------------------------------------------

/// Sorted, so that the order of tensors in the files does not matter.
[[nodiscard]] std::vector<std::string> linear_modules_left(const expert_model& model) {
  std::vector<std::string> names;
  for (const plain_tensor* t : model.others)
    if (has_matrix(t->info) && t->info.type != dtype::f8_e4m3) names.push_back(module_of(t->info.name));
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
    if (keeps_config(config, to)) return text;
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

/// A job whose tensors llama.cpp finds under its own names.
[[nodiscard]] gguf_job renamed(gguf_job job, const llama_family& family, const std::string& where) {
  std::unordered_map<std::string, std::string> names;
  for (gguf_tensor& t : job.outputs) {
    const std::optional<std::string> name = llama_name(family, t.name);
    if (!name)
      throw file_error({.file = where,
                        .tensor = t.name,
                        .value = "is nothing that llama.cpp has a name for in " + std::string(family.architecture),
                        .expected = "the tensors of such a model",
                        .advice = "--to gguf keeps names as they are"});
    names.emplace(std::exchange(t.name, *name), *name);
  }
  job.run = [run = std::move(job.run), names = std::move(names)](const append_function& append) {
    run([&](std::string_view name, std::span<const std::byte> bytes) { append(names.at(std::string(name)), bytes); });
  };
  return job;
}

/// Vectors and routers, which llama.cpp wants in F32.
[[nodiscard]] bool is_f32_there(const tensor_info& t) {
  return t.shape.size() < 2 || t.name.ends_with("norm.weight") || t.name.ends_with(".gate.weight");
}

[[nodiscard]] gguf_job f32_job(const plain_tensor& tensor) {
  return {{{tensor.info.name, ggml_type::f32, tensor.info.shape}}, [&tensor](const append_function& append) {
            for_each_slab(tensor.info.elements(), copy_slab_bytes / 4, [&](std::int64_t first, std::int64_t count) {
              std::vector<float> floats = read_floats(tensor, first, count);
              swap_if_big_endian(std::span(floats));
              append(tensor.info.name, std::as_bytes(std::span(floats)));
            });
          }};
}

[[nodiscard]] std::vector<gguf_job> make_llama_jobs(const expert_model& model, const llama_family& family,
                                                    const std::string& where) {
  std::vector<gguf_job> jobs;
  for (const expert_layer& layer : model.layers)
    for (gguf_job& job : gguf_jobs(layer, where)) jobs.push_back(renamed(std::move(job), family, where));
  for (const mxfp4_weight* weight : model.dense) jobs.push_back(renamed(ggml_job(*weight), family, where));
  for (const plain_tensor* t : model.others) {
    const bool narrow = t->info.type == dtype::bf16 || t->info.type == dtype::f16;
    jobs.push_back(renamed(narrow && is_f32_there(t->info) ? f32_job(*t) : copy_to_gguf_job(*t, where), family, where));
  }
  return jobs;
}

[[nodiscard]] const llama_family& require_llama_family(const weight_source& s, const std::string& model_type,
                                                       const std::string& where) {
  if (!s.checkpoint || !s.checkpoint->is_directory())
    throw file_error(
        {.file = where, .value = "is a single file", .expected = "the directory of a model for llama.cpp"});
  const llama_family* family = find_llama_family(model_type);
  if (family == nullptr)
    throw file_error({.file = where,
                      .value = "model_type is " + quote_name(model_type) + ", whose names in llama.cpp are not known",
                      .expected = "qwen3_moe or minimax_m2",
                      .advice = "--to gguf keeps names as they are"});
  return *family;
}

/// What no program is known to load.
[[nodiscard]] std::vector<std::string> warnings_of(checkpoint_form to, const std::string& model_type,
                                                   const expert_model& model) {
  const model_family& family = find_family(model_type);
  std::vector<std::string> warnings;
  if (model.layers.empty()) return warnings;
  const std::string of = model_type.empty() ? "this model" : model_type;
  switch (to) {
    case checkpoint_form::gpt_oss:
      if (model_type != "gpt_oss")
        warnings.push_back("transformers 5.24 and vLLM 0.33 read the form of gpt-oss of gpt_oss alone, not of " + of);
      break;
    case checkpoint_form::stacked:
      warnings.push_back(
          "transformers 5.24 and vLLM 0.33 read experts of compressed-tensors one by one: stacks start at "
          "random");
      break;
    case checkpoint_form::compressed_tensors:
      if (family.form == expert_form::gpt_oss)
        warnings.push_back("vLLM 0.32 has no place for the biases of " + of + " in this form: gpt-oss is its own");
      else if (!family.warning.empty()) warnings.emplace_back(family.warning);
      break;
    case checkpoint_form::gguf:
      warnings.push_back(find_llama_family(model_type) == nullptr
                             ? "the names are not llama.cpp's, which does not load it"
                             : "the names are not llama.cpp's, which does not load it: --to llama-cpp writes those");
      break;
    case checkpoint_form::block_fp8:
      if (!family.warning.empty()) warnings.emplace_back(family.warning);
      break;
    case checkpoint_form::llama_cpp:
      break;
  }
  return warnings;
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

/// vLLM turns what is called X.weight of these layers, FP8 too, and its scales not.
void require_fp8_reader(const expert_model& model, const std::string& model_type, const std::string& where) {
  const model_family& family = find_family(model_type);
  for (const mxfp4_weight* w : model.dense)
    if (is_transposed(w->name, family))
      throw file_error(
          {.file = where,
           .tensor = w->name,
           .value = "is a layer of " + model_type + ", which no reader takes as FP8 (vLLM 0.32, transformers 5.24)",
           .expected = "layers of class Linear",
           .advice = "dequantize it to BF16"});
}

[[nodiscard]] convert_report count(const weight_source& s, const expert_model& model) {
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
    weight_source s;
    open_weights(input, s);
    require_outputs({input}, {output}, options.existing).value();
    if (s.weights.weights.empty())
      throw file_error({.file = input,
                        .value = "holds no MXFP4 weights",
                        .expected = "X_packed with X_scale, X_blocks with X_scales, or MXFP4 tensors in a .gguf",
                        .advice = "quantize it first"});
    std::vector<std::string> warnings;
    if (s.checkpoint) warnings = require_undamaged(*s.checkpoint, {.progress = options.progress, .stop = options.stop});
    const ordered_json config = config_of(s, input);
    require_fp4(s.weights.weights, config, input);
    narrow_count widened = s.narrow;
    if (keeps_config(config, options.to)) require_no_unknown_codes(infos_of(s.weights.others), false, input);
    else widened = widen_others(s, config, options.to, input);
    const expert_model model = group_experts(s.weights, find_family(model_of(config).model_type), input);
    const job_hooks hooks{options.progress, [&s] { s.require_unchanged(); }, options.stop, options.existing};
    if (options.to == checkpoint_form::block_fp8) require_fp8_reader(model, model_of(config).model_type, input);
    convert_report report = count(s, model);
    report.widened = widened.total();
    report.warnings = std::move(warnings);
    for (std::string& warning : warnings_of(options.to, model_of(config).model_type, model))
      report.warnings.push_back(std::move(warning));
    if (options.to == checkpoint_form::llama_cpp) {
      const llama_family& family = require_llama_family(s, model_of(config).model_type, input);
      std::vector<gguf_pair> pairs = gguf_pairs(s.config, input);
      pairs[0].value = std::string(family.architecture);
      for (gguf_pair& p : llama_pairs(family, config, *s.checkpoint)) pairs.push_back(std::move(p));
      report.after = write_gguf(output, make_llama_jobs(model, family, input), std::move(pairs), hooks).value();
      report.config = true;
      return report;
    }
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
