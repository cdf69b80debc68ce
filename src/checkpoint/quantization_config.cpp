// src/checkpoint/quantization_config.cpp -- see quantization_config.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/quantization_config.hpp"

#include <algorithm>
#include <sstream>
#include <unordered_set>

#include "checkpoint/expert_stack.hpp"
#include "checkpoint/family.hpp"
#include "io/strict_json.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

using nlohmann::ordered_json;
using strings = std::vector<std::string>;

constexpr const char* pattern_prefix = "re:";
constexpr const char* written_by = "0.20.0";  // the compressed-tensors that the interop tests load it with
constexpr const char* experts_pattern = R"(re:.*\.experts\.[0-9]+\.(gate_proj|up_proj|down_proj|w1|w2|w3)$)";

[[nodiscard]] strings parts_of(std::string_view name) {
  strings parts;
  for (std::size_t at = 0;;) {
    const std::size_t dot = name.find('.', at);
    parts.emplace_back(name.substr(at, dot - at));
    if (dot == std::string_view::npos) return parts;
    at = dot + 1;
  }
}

[[nodiscard]] bool is_number(const std::string& part) {
  return !part.empty() && std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// A part of a name inside a pattern.
[[nodiscard]] std::string escaped(const std::string& part) {
  constexpr std::string_view special = R"(\^$.|?*+()[]{}/-)";
  std::string text;
  for (const char c : part) {
    if (special.find(c) != std::string_view::npos) text += '\\';
    text += c;
  }
  return text;
}

/// The index of the part "experts" of an expert's module or of a stack, or 0.
[[nodiscard]] std::size_t experts_at(const strings& parts) {
  const auto found = std::find(parts.begin(), parts.end(), "experts");
  return found == parts.end() ? 0 : static_cast<std::size_t>(found - parts.begin());
}

/// "<parent>.<last>" as it stands in a pattern: any number for a number.
[[nodiscard]] std::string tail_pattern(const strings& parts) {
  const std::string& parent = parts[parts.size() - 2];
  return (is_number(parent) ? "[0-9]+" : escaped(parent)) + "\\." + escaped(parts.back());
}

/// All experts of one layer, under either spelling of what is between the layer and them.
[[nodiscard]] std::string layer_pattern(const strings& parts) {
  std::string text;
  for (std::size_t i = 0; i + 1 < experts_at(parts); ++i) text += escaped(parts[i]) + "\\.";
  return text + "[^.]+\\.experts\\..*$";
}

/// "P.experts.gate_up_proj" stands for the modules "P.experts.0.gate_proj" and "P.experts.0.up_proj", one of each
/// expert: loaders ask for these. Other modules stand for themselves.
[[nodiscard]] strings without_stacks(const strings& modules) {
  strings result;
  for (const std::string& name : modules) {
    const strings parts = parts_of(name);
    const bool is_stack = parts.size() > 1 && parts[parts.size() - 2] == "experts" && !is_number(parts.back());
    const std::string prefix = name.substr(0, name.size() - parts.back().size()) + "0.";
    if (!is_stack) result.push_back(name);
    else if (parts.back() == "gate_up_proj") result.insert(result.end(), {prefix + "gate_proj", prefix + "up_proj"});
    else result.push_back(prefix + parts.back());
  }
  return result;
}

/// An entry of targets or ignore that is no class.
class name_entry {
 public:
  explicit name_entry(const std::string& text) : text_(text) {
    if (text.starts_with(pattern_prefix))
      pattern_.emplace(std::string_view(text).substr(std::string_view(pattern_prefix).size()));
  }
  [[nodiscard]] bool fits(const std::string& module) const {
    return pattern_ ? pattern_->begins(module) : text_ == module;
  }
  /// Under the file's name or vLLM's.
  [[nodiscard]] bool fits_either(const std::string& module) const {
    return fits(module) || fits(vllm_module_name(module));
  }

 private:
  std::string text_;
  std::optional<name_pattern> pattern_;
};

/// What experts_pattern fits.
[[nodiscard]] bool is_expert_module(const std::string& module) {
  return !module.starts_with("experts.") && is_expert_weight(module + ".weight", 2);
}

/// Patterns and names that fit all of `wanted` and none of `others`, the shortest there are.
[[nodiscard]] strings cover(const strings& wanted, const strings& others) {
  std::unordered_set<std::string> lasts, tails, layers;  // of the others, under both spellings
  for (const std::string& name : others)
    for (const std::string& spelled : {name, vllm_module_name(name)}) {
      const strings parts = parts_of(spelled);
      lasts.insert(parts.back());
      if (parts.size() > 1) tails.insert(tail_pattern(parts));
      if (experts_at(parts) > 0) layers.insert(layer_pattern(parts));
    }
  strings entries;
  std::unordered_set<std::string> seen;
  for (const std::string& name : wanted) {
    const strings parts = parts_of(name);
    std::string entry = name;
    if (parts.size() > 1 && !lasts.contains(parts.back())) entry = "re:.*\\." + escaped(parts.back()) + "$";
    else if (parts.size() > 1 && !tails.contains(tail_pattern(parts))) entry = "re:.*\\." + tail_pattern(parts) + "$";
    else if (experts_at(parts) > 0 && !layers.contains(layer_pattern(parts))) entry = "re:" + layer_pattern(parts);
    // "a.b" alone, where the pattern wants something before it.
    if (parts.size() == 2 && !name_entry(entry).fits(name) && seen.insert(name).second) entries.push_back(name);
    if (seen.insert(entry).second) entries.push_back(entry);
    // An expert is asked for under vLLM's name too.
    if (const std::string spelled = vllm_module_name(name); experts_at(parts) > 0 && spelled != name) {
      const strings vllm_parts = parts_of(spelled);
      if (entry.ends_with(escaped(parts.back()) + "$") && !lasts.contains(vllm_parts.back()))
        entry = "re:.*\\." + escaped(vllm_parts.back()) + "$";
      else if (entry == name) entry = spelled;
      if (seen.insert(entry).second) entries.push_back(entry);
    }
  }
  return entries;
}

/// The targets' names after vLLM has fused them: q_proj, k_proj, v_proj into qkv_proj, gate_proj, up_proj into
/// gate_up_proj (not those of experts).
void add_fused(strings& entries) {
  const strings given = entries;
  for (const auto& [first, fused] : {std::pair{"q_proj", "qkv_proj"}, std::pair{"gate_proj", "gate_up_proj"}})
    for (const std::string& entry : given) {
      const std::string end = entry.ends_with('$') ? "$" : "", part = first + end;
      if (entry.ends_with("." + part) && entry.find(".experts") == std::string::npos)
        entries.push_back(entry.substr(0, entry.size() - part.size()) + fused + end);
    }
}

/// vLLM 0.32 and 0.33 ask for gate, up and down matrices of expert 0 alike, and where a family's experts have no gate
/// (nemotron_h) for a matrix "None".
constexpr const char* no_gate_pattern = R"(re:.*\.experts\.[0-9]+\.None$)";

/// Is there a layer whose experts have an up matrix and no gate?
[[nodiscard]] bool lacks_gate(const strings& experts) {
  std::unordered_set<std::string> up, gate;  // layers
  for (const std::string& module : experts) {
    const std::string layer = module.substr(0, module.rfind(".experts."));
    if (module.ends_with(".up_proj") || module.ends_with(".w3")) up.insert(layer);
    if (module.ends_with(".gate_proj") || module.ends_with(".w1")) gate.insert(layer);
  }
  return std::any_of(up.begin(), up.end(), [&gate](const std::string& layer) { return !gate.contains(layer); });
}

/// Experts by the one pattern, or where FP8 ones are beside them by what tells them apart. Other layers by their class,
/// but not beside FP8, which has it.
[[nodiscard]] strings mxfp4_targets(const strings& mxfp4, const strings& fp8) {
  strings experts, dense, targets;
  for (const std::string& module : mxfp4) (is_expert_module(module) ? experts : dense).push_back(module);
  if (!experts.empty() && std::none_of(fp8.begin(), fp8.end(), is_expert_module)) targets = {experts_pattern};
  else targets = cover(experts, fp8);
  if (lacks_gate(experts)) targets.emplace_back(no_gate_pattern);
  if (dense.empty()) return targets;
  strings others = fp8.empty() ? strings{"Linear"} : cover(dense, fp8);
  add_fused(others);
  targets.insert(targets.end(), others.begin(), others.end());
  return targets;
}

[[nodiscard]] ordered_json weights_json(int bits, const char* strategy) {
  return {{"num_bits", bits},
          {"type", "float"},
          {"symmetric", true},
          {"group_size", nullptr},
          {"strategy", strategy},
          {"block_structure", nullptr},
          {"dynamic", false},
          {"actorder", nullptr},
          {"scale_dtype", nullptr},
          {"zp_dtype", nullptr},
          {"observer", "memoryless_minmax"},
          {"observer_kwargs", ordered_json::object()}};
}

[[nodiscard]] ordered_json group_json(strings targets, ordered_json weights, ordered_json input, const char* format) {
  return {{"targets", std::move(targets)},
          {"weights", std::move(weights)},
          {"input_activations", std::move(input)},
          {"output_activations", nullptr},
          {"format", format}};
}

[[nodiscard]] ordered_json input_json(declared_activations activations) {
  if (activations == declared_activations::none) return nullptr;
  const bool fp8 = activations == declared_activations::fp8;
  ordered_json input = weights_json(fp8 ? 8 : 4, "group");
  input["group_size"] = fp8 ? fp8_block : block_size;
  input["dynamic"] = true;
  if (!fp8) input["scale_dtype"] = "torch.uint8";
  input["observer"] = nullptr;
  return input;
}

/// The preset MXFP4A16, MXFP4XFP8 or MXFP4.
[[nodiscard]] ordered_json mxfp4_group(strings targets, declared_activations activations) {
  ordered_json weights = weights_json(4, "group");
  weights["group_size"] = block_size;
  weights["scale_dtype"] = "torch.uint8";
  return group_json(std::move(targets), std::move(weights), input_json(activations), "mxfp4-pack-quantized");
}

/// The preset FP8_BLOCK, which computes as the FP8 source does: activations in FP8, 128 of a row sharing a scale.
[[nodiscard]] ordered_json fp8_group() {
  ordered_json weights = weights_json(8, "block");
  weights["block_structure"] = {fp8_block, fp8_block};
  return group_json({"Linear"}, std::move(weights), input_json(declared_activations::fp8), "float-quantized");
}

/// A row's activations come in groups of 128, whole ones.
void require_whole_groups(const quantization_plan& plan, const std::string& where) {
  for (const planned_tensor& t : plan.tensors) {
    if (t.action != tensor_action::quantize) continue;
    const std::int64_t cols = t.outputs[1].shape.back() * block_size;
    if (cols % fp8_block != 0)
      throw file_error({.file = where,
                        .tensor = t.source.name,
                        .value = "is multiplied with " + std::to_string(cols) + " activations",
                        .expected = "a multiple of 128 for --activations fp8",
                        .advice = "declare none or mxfp4"});
  }
}

}  // namespace

std::string module_of(std::string_view tensor) {
  for (const std::string_view suffix : {".weight", ".weight_packed", ".weight_scale", "_packed", "_scale"})
    if (tensor.ends_with(suffix)) return std::string(tensor.substr(0, tensor.size() - suffix.size()));
  return std::string(tensor);
}

std::string vllm_module_name(std::string_view module) {
  strings parts = parts_of(module);
  for (std::string& part : parts)
    if (part == "block_sparse_moe") part = "mlp";
  if (experts_at(parts) > 0)
    for (const auto& [theirs, ours] :
         {std::pair{"w1", "gate_proj"}, std::pair{"w2", "down_proj"}, std::pair{"w3", "up_proj"}})
      if (parts.back() == theirs) {
        parts.back() = ours;
        break;
      }
  std::string name;
  for (const std::string& part : parts) name += (name.empty() ? "" : ".") + part;
  return name;
}

std::string module_of(const tensor_info& t) {
  return t.shape.size() == 3 && is_expert_weight(t.name, 3) ? stack_module(t.name) : module_of(t.name);
}

bool has_matrix(const tensor_info& t) {
  return is_expert_weight(t.name, t.shape.size()) || is_unknown_stack(t) ||
         (t.shape.size() == 2 && t.name.ends_with(".weight"));
}

bool is_linear_weight(const tensor_info& t) {
  if (is_expert_weight(t.name, t.shape.size())) return true;
  if (t.shape.size() != 2 || !t.name.ends_with(".weight")) return false;
  const std::string last = parts_of(module_of(t.name)).back();
  return last.find("embed") == std::string::npos && last != "wte" && last != "wpe";
}

ordered_json make_quantization_config(const linear_modules& modules, const std::string& where) {
  if (modules.mxfp4.empty())
    throw file_error(
        {.file = where,
         .value = "no tensor is quantised",
         .expected = "one",
         .advice = "without experts --linears takes a dense model's layers; see --include and --exclude too"});
  const strings mxfp4 = without_stacks(modules.mxfp4), fp8 = without_stacks(modules.fp8);
  const strings left = without_stacks(modules.left);
  strings quantized = mxfp4;
  quantized.insert(quantized.end(), fp8.begin(), fp8.end());
  ordered_json groups = {{"group_0", mxfp4_group(mxfp4_targets(mxfp4, fp8), modules.activations)}};
  if (!fp8.empty()) groups["group_1"] = fp8_group();
  strings ignore = cover(left, quantized);
  std::string absent(modules.also_ignored);
  for (std::istringstream entries(absent + " lm_head"); entries >> absent;) {
    const name_entry parsed(absent);
    if (std::none_of(quantized.begin(), quantized.end(),
                     [&parsed](const std::string& module) { return parsed.fits_either(module); }) &&
        std::find(ignore.begin(), ignore.end(), absent) == ignore.end())
      ignore.push_back(absent);
  }
  return {{"quant_method", "compressed-tensors"},
          {"format", fp8.empty() ? "mxfp4-pack-quantized" : "mixed-precision"},
          {"quantization_status", "compressed"},
          {"config_groups", std::move(groups)},
          {"ignore", std::move(ignore)},
          {"kv_cache_scheme", nullptr},
          {"global_compression_ratio", nullptr},
          {"version", written_by},
          {"transform_config", ordered_json::object()}};
}

std::string activations_text(const ordered_json& config) {
  if (json_text_member(config, "quant_method") == "mxfp4")
    return "config.json has no place for activations in the form of gpt-oss: vLLM 0.32 (read, not run) leaves them in "
           "16 bits or makes MXFP8 of them, by the kernel that it takes for the GPU.";
  const ordered_json groups = json_member_or_null(config, "config_groups");
  ordered_json input;
  for (const ordered_json& group : groups)
    if (json_member_or_null(json_member_or_null(group, "weights"), "num_bits") == 4)
      input = json_member_or_null(group, "input_activations");
  const ordered_json bits = json_member_or_null(input, "num_bits");
  if (bits == 8)
    return "config.json declares FP8 activations, a scale for each group of 128: vLLM 0.33 (read, not run) takes its "
           "FP4 x FP8 kernel.";
  if (bits == 4)
    return "config.json declares MXFP4 activations: vLLM 0.33 (read, not run) makes them while it runs, where the GPU "
           "has such a kernel.";
  return "config.json declares nothing of activations: vLLM 0.33 (read, not run) makes MXFP4 of them where the GPU has "
         "such a kernel, else they stay in 16 bits.";
}

ordered_json make_gpt_oss_config(const strings& left) {
  strings patterns;
  std::unordered_set<std::string> seen;
  for (const std::string& module : left) {
    std::string pattern;
    for (const std::string& part : parts_of(module))
      pattern += (pattern.empty() ? "" : ".") + (is_number(part) ? "*" : part);
    if (seen.insert(pattern).second) patterns.push_back(pattern);
  }
  return {{"quant_method", "mxfp4"}, {"modules_to_not_convert", std::move(patterns)}};
}

ordered_json make_quantization_config(const quantization_plan& plan, std::string_view model_type,
                                      const std::string& where, declared_activations activations) {
  linear_modules modules;
  modules.activations = activations;
  modules.also_ignored = find_family(model_type).also_ignored;
  bool gpt_oss = false;
  for (const planned_tensor& p : plan.tensors) {
    if (p.action == tensor_action::quantize) {
      gpt_oss = gpt_oss || p.outputs[0].name.ends_with(blocks_suffix);
      for (std::size_t i = 0; i < p.outputs.size(); i += 2) modules.mxfp4.push_back(module_of(p.outputs[i].name));
    } else if (p.action == tensor_action::keep_fp8) {
      modules.fp8.push_back(module_of(p.source.name));
    } else if (p.action != tensor_action::fp8_scales && has_matrix(p.source)) {
      modules.left.push_back(module_of(p.source));
    }
  }
  if (gpt_oss && activations != declared_activations::none)
    throw file_error(
        {.file = where, .value = "the form of gpt-oss declares no activations", .advice = "leave out --activations"});
  if (activations == declared_activations::fp8) require_whole_groups(plan, where);
  return gpt_oss ? make_gpt_oss_config(modules.left) : make_quantization_config(modules, where);
}

ordered_json make_config(ordered_json source, const quantization_plan& plan, const std::string& where,
                         declared_activations activations) {
  if (!source.is_object())
    throw file_error({.file = where, .value = "config.json is not a JSON object", .expected = "a model's"});
  plan_options model;
  read_model(source, model);
  remove_nested_quantization(source);
  source["quantization_config"] = make_quantization_config(plan, model.model_type, where, activations);
  return source;
}

void set_bf16(ordered_json& config) {
  const char* type_key = config.contains("torch_dtype") && !config.contains("dtype") ? "torch_dtype" : "dtype";
  config[type_key] = "bfloat16";
  for (auto& [key, value] : config.items())
    if (value.is_object() && key != "quantization_config" && (value.contains("dtype") || value.contains("torch_dtype")))
      set_bf16(value);
}

void remove_nested_quantization(ordered_json& config) {
  for (auto& [key, value] : config.items())
    if (value.is_object() && key != "quantization_config") {
      value.erase("quantization_config");
      remove_nested_quantization(value);
    }
}

// ---- reading it -----------------------------------------------------------------------------------------------------

module_resolver::module_resolver(const ordered_json& config, std::string where) : where_(std::move(where)) {
  const ordered_json groups = config.is_object() ? config.value("config_groups", ordered_json()) : ordered_json();
  if (!groups.is_object() || groups.empty())
    throw file_error(
        {.file = where_, .value = "config_groups is " + json_shown(groups), .expected = "an object with a group"});
  for (const auto& [name, group] : groups.items()) {
    const ordered_json targets = group.is_object() ? group.value("targets", ordered_json()) : ordered_json();
    if (!targets.is_array() || targets.empty())
      throw file_error({.file = where_,
                        .value = "targets of " + quote_name(name) + " is " + json_shown(targets),
                        .expected = "names"});
    for (const ordered_json& t : targets) targets_.push_back(make_target(t, "targets of " + quote_name(name), name));
  }
  const ordered_json ignore = config.value("ignore", ordered_json());
  if (!ignore.is_array() && !ignore.is_null())
    throw file_error({.file = where_, .value = "ignore is " + json_shown(ignore), .expected = "an array of names"});
  for (const ordered_json& t : ignore) ignore_.push_back(make_target(t, "ignore", ""));
}

module_resolver::target module_resolver::make_target(const ordered_json& text, const std::string& place,
                                                     const std::string& group) {
  if (!text.is_string())
    throw file_error({.file = where_, .value = place + " holds " + json_shown(text), .expected = "a string"});
  target t{text.get<std::string>(), std::nullopt, group};
  if (!t.text.starts_with(pattern_prefix)) return t;
  t.pattern.emplace(std::string_view(t.text).substr(std::string_view(pattern_prefix).size()));
  if (t.pattern->is_beyond_re2())
    unchecked_.push_back(place + " holds " + quote_name(t.text) + ": " + t.pattern->problem());
  else if (!t.pattern->problem().empty())
    throw file_error({.file = where_,
                      .value = place + " holds " + quote_name(t.text),
                      .expected = "a regular expression",
                      .advice = t.pattern->problem()});
  return t;
}

bool module_resolver::fits(const target& t, const std::string& module) {
  if (!t.pattern) return t.text == module;
  return t.pattern->problem().empty() && t.pattern->begins(module);
}

bool module_resolver::ignores(const std::string& module, const std::string& module_class) const {
  return std::any_of(ignore_.begin(), ignore_.end(),
                     [&](const target& t) { return fits(t, module) || (!t.pattern && t.text == module_class); });
}

std::string module_resolver::group_of(const std::string& module, const std::string& module_class) const {
  if (ignores(module, module_class)) return {};
  const target *by_pattern = nullptr, *by_class = nullptr;
  for (const target& t : targets_) {
    if (!t.pattern && t.text == module) return t.group;
    if (t.pattern && by_pattern == nullptr && fits(t, module)) by_pattern = &t;
    if (!t.pattern && by_class == nullptr && t.text == module_class) by_class = &t;
  }
  return by_pattern != nullptr ? by_pattern->group : by_class != nullptr ? by_class->group : "";
}

}  // namespace mxfp4::checkpoint
