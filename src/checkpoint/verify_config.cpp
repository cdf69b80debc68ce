// src/checkpoint/verify_config.cpp -- does quantization_config say of each module what it is stored as?
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <sstream>

#include "checkpoint/config_check.hpp"
#include "checkpoint/expert_stack.hpp"
#include "checkpoint/foreign_format.hpp"
#include "checkpoint/name_pattern.hpp"
#include "checkpoint/quantization_config.hpp"
#include "checkpoint/reader_json.hpp"
#include "checkpoint/verification.hpp"
#include "checkpoint/verify_other_forms.hpp"
#include "io/strict_json.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

using nlohmann::ordered_json;

[[nodiscard]] const char* kind_text(storage kind) {
  return kind == storage::mxfp4 ? "MXFP4" : kind == storage::fp8 ? "FP8 in blocks" : "not quantised";
}

class config_check {
 public:
  config_check(const ordered_json& config, const std::vector<stored_module>& modules, const finding_function& add)
      : model_(config), config_(json_member_or_null(config, "quantization_config")), modules_(modules), add_(add) {}

  void run() {
    if (!config_.is_object()) {
      error(config_file_name,
            "quantization_config is " + json_shown(config_) + ", expected that of compressed-tensors");
      return;
    }
    const auto stored = [this](auto predicate) { return std::any_of(modules_.begin(), modules_.end(), predicate); };
    if (stored([](const stored_module& m) { return m.gpt_oss; })) return run_gpt_oss();
    if (json_member_or_null(config_, "quant_method") == "auto-round") return run_auto_round();
    expect(config_, "", "quant_method", "compressed-tensors");
    expect(config_, "", "quantization_status", "compressed");
    const bool has_fp8 = stored([](const stored_module& m) { return m.kind == storage::fp8; });
    expect(config_, "", "format", has_fp8 ? "mixed-precision" : "mxfp4-pack-quantized");
    const ordered_json groups = json_member_or_null(config_, "config_groups");
    for (const auto& [name, group] : groups.items()) kinds_[name] = kind_of(name, group);
    try {
      const module_resolver resolver(config_, "quantization_config");
      for (const std::string& pattern : resolver.unchecked())
        add_(severity::warning, config_file_name,
             pattern + ", which is not in RE2: what targets and ignore say of each module is not checked");
      for (const stored_module& m : modules_)
        if (m.kind != storage::plain || is_linear(m.role)) check_module(m, resolver);
      check_fused(resolver);
      check_gateless(resolver);
      check_absent(resolver);
    } catch (const file_error& e) {
      error(config_file_name, e.what());
    }
  }

 private:
  void error(const std::string& where, const std::string& what) { add_(severity::error, where, what); }

  [[nodiscard]] static bool is_linear(weight_role role) {
    return role != weight_role::embedding && role != weight_role::other;
  }

  /// What transformers' Mxfp4Config takes: the experts, all of them, and nothing else.
  void run_gpt_oss() {
    expect(config_, "", "quant_method", "mxfp4");
    for (const stored_module& m : modules_)
      if (m.kind != storage::plain && !m.gpt_oss)
        error(quote_name(m.name), std::string("is stored ") + kind_text(m.kind) +
                                      " beside experts in the form of gpt-oss, whose readers take it for no such");
  }

  /// The form of AutoRound 0.16 (inference/convert_model.py, get_layer_config): every linear layer whose name begins
  /// with an entry of block_name_to_quantize, but for those of which extra_config says 16 bits. Without blocks, all.
  void run_auto_round() {
    expect(config_, "", "bits", 4);
    expect(config_, "", "group_size", block_size);
    expect(config_, "", "data_type", "mx_fp");
    expect(config_, "", "sym", true);
    const std::vector<std::string> blocks = auto_round_blocks();
    std::vector<std::pair<name_pattern, bool>> exceptions;
    const ordered_json extra = json_member_or_null(config_, "extra_config");
    for (const auto& [pattern, scheme] : extra.items()) {
      name_pattern parsed(pattern);
      if (!parsed.problem().empty()) {
        add_(severity::warning, config_file_name,
             "quantization_config.extra_config holds " + quote_name(pattern) +
                 ", which is not checked: " + parsed.problem());
        return;
      }
      const ordered_json bits = json_member_or_null(scheme, "bits");
      exceptions.emplace_back(std::move(parsed), bits.is_null() || bits == 4);
    }
    for (const stored_module& m : modules_) {
      if (m.kind == storage::plain && (m.role == weight_role::output || !is_linear(m.role))) continue;
      bool is_mxfp4 = blocks.empty() || std::any_of(blocks.begin(), blocks.end(), [&m](const std::string& block) {
                        return m.name.starts_with(block);
                      });
      for (const auto& [pattern, is_quantized] : exceptions)
        if (pattern.is_in(m.name)) is_mxfp4 = is_quantized;
      if (is_mxfp4 != (m.kind == storage::mxfp4))
        error(quote_name(m.name), std::string("is ") + (is_mxfp4 ? "MXFP4" : "not quantised") +
                                      " by block_name_to_quantize and extra_config, but stored " + kind_text(m.kind));
    }
  }

  /// One name, names between commas, or an array of names.
  [[nodiscard]] std::vector<std::string> auto_round_blocks() const {
    const ordered_json found = json_member_or_null(config_, "block_name_to_quantize");
    std::vector<std::string> blocks;
    const auto add_names = [&blocks](const ordered_json& text) {
      if (!text.is_string()) return;
      std::istringstream names(text.get<std::string>());
      for (std::string name; std::getline(names, name, ',');) blocks.push_back(name);
    };
    if (found.is_array()) std::for_each(found.begin(), found.end(), add_names);
    else add_names(found);
    return blocks;
  }

  [[nodiscard]] bool is_mixed() const { return json_member_or_null(config_, "format") == "mixed-precision"; }

  void expect(const ordered_json& object, const std::string& place, const char* key, const ordered_json& expected) {
    if (const std::string problem = unexpected_member(object, place, key, expected); !problem.empty())
      error(config_file_name, problem);
  }

  /// Null, or what quantize writes for --activations.
  [[nodiscard]] static bool is_declared(const ordered_json& input) {
    if (input.is_null()) return true;
    const ordered_json bits = json_member_or_null(input, "num_bits");
    return (bits == 4 || bits == 8) && json_member_or_null(input, "type") == "float" &&
           json_member_or_null(input, "dynamic") == true && json_member_or_null(input, "strategy") == "group" &&
           json_member_or_null(input, "group_size") == (bits == 4 ? block_size : fp8_block);
  }

  /// What readers take the group for; plain where they cannot.
  [[nodiscard]] storage kind_of(const std::string& name, const ordered_json& group) {
    const std::string place = ".config_groups." + name;
    const ordered_json weights = json_member_or_null(group, "weights");
    const bool is_fp8 = json_member_or_null(weights, "num_bits") == 8;
    expect(weights, place + ".weights", "num_bits", is_fp8 ? 8 : 4);
    expect(weights, place + ".weights", "type", "float");
    expect(weights, place + ".weights", "strategy", is_fp8 ? "block" : "group");
    if (is_fp8) expect(weights, place + ".weights", "block_structure", {fp8_block, fp8_block});
    else expect(weights, place + ".weights", "group_size", block_size);
    expect(weights, place + ".weights", "symmetric", true);
    expect(weights, place + ".weights", "dynamic", false);
    // compressed-tensors 0.20: a group without a format has the config's, one without input_activations declares none.
    const bool has_format = !json_member_or_null(group, "format").is_null();
    if (has_format || is_mixed()) expect(group, place, "format", is_fp8 ? "float-quantized" : "mxfp4-pack-quantized");
    if (!is_fp8) {
      expect(weights, place + ".weights", "scale_dtype", "torch.uint8");
      if (!is_declared(json_member_or_null(group, "input_activations")))
        add_(severity::warning, config_file_name,
             "quantization_config" + place +
                 ".input_activations is neither null nor dynamic FP8 or MXFP4: readers quantise the activations "
                 "otherwise");
    }
    return is_fp8 ? storage::fp8 : storage::mxfp4;
  }

  [[nodiscard]] storage resolve(const module_resolver& resolver, const std::string& name) const {
    const std::string group = resolver.group_of(name);
    const auto found = kinds_.find(group);
    return found == kinds_.end() ? storage::plain : found->second;
  }

  void expect_kind(const module_resolver& resolver, const std::string& name, storage kind) {
    if (!resolver.unchecked().empty()) return;
    if (const storage found = resolve(resolver, name); found != kind)
      error(quote_name(name),
            std::string("is ") + kind_text(found) + " by targets and ignore, but stored " + kind_text(kind));
  }

  void check_module(const stored_module& t, const module_resolver& resolver) {
    const std::string& module = t.name;
    const std::size_t dot = module.rfind('.');
    const std::string parent = module.substr(0, dot == std::string::npos ? 0 : dot);
    const std::string last = module.substr(dot == std::string::npos ? 0 : dot + 1);
    if (t.kind != storage::plain && (t.role == weight_role::router || !is_linear(t.role)))
      error(quote_name(module), "is " + std::string(role_text(t.role)) + " and stored " + kind_text(t.kind) +
                                    ", expected its original type: no reader has it quantised");
    const std::size_t experts = module.find(".experts.");
    if (experts != std::string::npos) {
      const std::string stack = module.substr(0, experts + 8);
      const auto [found, is_new] = stacks_.emplace(stack, t.kind);
      if (!is_new && found->second != t.kind && mixed_.emplace(stack, true).second)
        error(quote_name(stack), "holds experts stored differently, expected all alike: vLLM has one scheme a layer");
      if (last == "gate_proj" || last == "w1") has_gate_.insert(stack);
      if (last == "up_proj" || last == "w3") has_up_.insert(stack);
    } else {
      parts_[parent][last] = t.kind;
    }
    if (t.is_stack) {  // readers ask for the matrices that the stack is made of
      for (const char* part : {".0.gate_proj", ".0.up_proj", ".0.down_proj"})
        expect_kind(resolver, vllm_module_name(parent + part), t.kind);
      return;
    }
    expect_kind(resolver, module, t.kind);
    if (const std::string other = vllm_module_name(module); other != module) expect_kind(resolver, other, t.kind);
  }

  /// What vLLM makes one matrix of must be stored alike, and resolve alike under the new name.
  void check_fused(const module_resolver& resolver) {
    struct fused {
      const char* name;
      std::vector<const char*> parts;
    };
    const std::array<fused, 2> all = {fused{"qkv_proj", {"q_proj", "k_proj", "v_proj"}},
                                      fused{"gate_up_proj", {"gate_proj", "up_proj"}}};
    for (const auto& [parent, parts] : parts_)
      for (const fused& f : all) {
        const auto first = parts.find(f.parts[0]);
        if (first == parts.end()) continue;
        bool alike = true;
        for (const char* part : f.parts) {
          const auto found = parts.find(part);
          alike = alike && (found == parts.end() || found->second == first->second);
        }
        const std::string name = (parent.empty() ? "" : parent + ".") + f.name;
        if (!alike)
          error(quote_name(name), "is made of matrices stored differently, expected all alike: vLLM fuses them");
        else if (first->second != storage::plain) expect_kind(resolver, vllm_module_name(name), first->second);
      }
  }

  /// vLLM 0.32 and 0.33 (RoutedExperts.ckpt_up_proj_name) ask for "..experts.0.None" where experts have no gate.
  void check_gateless(const module_resolver& resolver) {
    for (const std::string& stack : has_up_)
      if (const storage kind = stacks_.at(stack); kind != storage::plain && !has_gate_.contains(stack))
        expect_kind(resolver, stack + ".0.None", kind);
  }

  /// transformers 5.24 asks for every module of class Linear that it builds, a tied lm_head among them, and ends with
  /// "'Linear' object has no attribute 'weight'" where it takes one for quantised that the file does not have.
  void check_absent(const module_resolver& resolver) {
    if (!resolver.unchecked().empty()) return;
    plan_options model;
    read_model(model_, model);
    std::istringstream absent(std::string(find_family(model.model_type).also_ignored) +
                              (has_output() ? " lm_head" : ""));
    for (std::string entry; absent >> entry;) {
      const std::string name = example_of(entry);
      const std::string_view last = std::string_view(name).substr(name.rfind('.') + 1);
      if (!resolver.group_of(name).empty() && std::none_of(modules_.begin(), modules_.end(), [&](const auto& m) {
            return m.name == name || (entry != name && m.name.ends_with(last));
          }))
        error(quote_name(name), "is quantised by targets and ignore, but no tensor has its name, expected " +
                                    quote_name(entry) + " in ignore: transformers 5.24 builds that module");
    }
  }

  /// Does transformers build an lm_head?
  [[nodiscard]] bool has_output() const {
    const ordered_json classes = json_member_or_null(model_, "architectures");
    return std::any_of(classes.begin(), classes.end(), [](const ordered_json& name) {
      return name.is_string() && name.get<std::string>().ends_with("ForCausalLM");
    });
  }

  /// A name that an entry of also_ignored fits: "x.mlp.router" for "re:.*\\.mlp\\.router$".
  [[nodiscard]] static std::string example_of(std::string entry) {
    for (const auto& [pattern, text] : {std::pair{"re:", ""}, {"(.*\\.)?", "x."}, {".*", "x"}, {"\\.", "."}, {"$", ""}})
      for (std::size_t at; (at = entry.find(pattern)) != std::string::npos;)
        entry.replace(at, std::string_view(pattern).size(), text);
    return entry;
  }

  const ordered_json& model_;
  ordered_json config_;
  const std::vector<stored_module>& modules_;
  const finding_function& add_;
  std::map<std::string, storage> kinds_;                         // of the groups
  std::map<std::string, storage> stacks_;                        // "..experts"
  std::map<std::string, bool> mixed_;                            // stacks that were complained about
  std::set<std::string> has_up_, has_gate_;                      // those with these matrices, apart
  std::map<std::string, std::map<std::string, storage>> parts_;  // of each parent but the experts
};

/// Readers take the blocks of a stack to lie along its last axis, over which a layer sums (transformers 5.24
/// integrations/mxfp4.py; compressed-tensors 0.20). Shapes tell a stack that was cut along the other.
void check_axes(verification& v, std::int64_t hidden_size) {
  std::map<std::string, tensor_info> stacks;
  for (const stored_tensor& t : v.tensors)
    if (t.kind == storage::mxfp4 && t.shape.size() == 3 && is_expert_weight(t.name, 3))
      stacks.emplace(t.name, tensor_info{t.name, t.data->info->type, t.shape});
  const auto find = [&stacks](const std::string& name) -> const tensor_info* {
    const auto found = stacks.find(name);
    return found == stacks.end() ? nullptr : &found->second;
  };
  constexpr model_family any = {};
  for (const auto& [name, stack] : stacks) {
    const stack_axes_result found = find_axes(stack, {find, any, hidden_size});
    constexpr std::string_view fused = "gate_up_proj", down = "down_proj";
    const bool has_pair =
        name.ends_with(fused) && find(name.substr(0, name.size() - fused.size()) + std::string(down)) != nullptr;
    if (found.axes == stack_axes::in_out)
      v.error("config", quote_name(name),
              "is MXFP4 " + shape_text(stack.shape) +
                  " with its blocks along the outputs, expected [experts, out, in]: quantise the source again");
    else if (found.axes == stack_axes::unknown && has_pair)
      v.error("config", quote_name(name), found.why + ": quantise the source again");
  }
}

/// The same of a matrix that has a bias: GPT-2's files have it as [in, out], and codes must not lie so.
void check_axes_by_bias(verification& v) {
  std::optional<tensor_info> bias;
  for (const stored_tensor& t : v.tensors) {
    if (t.kind != storage::mxfp4) continue;
    const stack_axes axes = axes_by_bias({t.name, t.data->info->type, t.shape}, [&](const std::string& name) {
      const stored_tensor* found = v.find(name);
      bias = found == nullptr ? std::nullopt : std::optional(tensor_info{name, found->data->info->type, found->shape});
      return bias ? &*bias : nullptr;
    });
    if (axes == stack_axes::in_out)
      v.error("config", quote_name(t.name),
              "is MXFP4 " + shape_text(t.shape) +
                  " with its blocks along the outputs by its bias, expected [out, in]: "
                  "quantise the source again");
  }
}

}  // namespace

std::string unexpected_member(const ordered_json& object, const std::string& place, const char* key,
                              const ordered_json& expected) {
  const ordered_json found = json_member_or_null(object, key);
  if (found == expected) return {};
  return "quantization_config" + place + "." + key + " is " + json_shown(found) + ", expected " + json_shown(expected);
}

void check_quantization_config(const ordered_json& config, const std::vector<stored_module>& modules,
                               const finding_function& add) {
  config_check(config, modules, add).run();
}

std::vector<stored_module> modules_of(const quantization_plan& plan, std::string_view model_type) {
  const model_family& family = find_family(model_type);
  std::vector<stored_module> modules;
  for (const planned_tensor& p : plan.tensors) {
    if (p.action == tensor_action::fp8_scales) continue;
    const storage kind = p.action == tensor_action::quantize   ? storage::mxfp4
                         : p.action == tensor_action::keep_fp8 ? storage::fp8
                                                               : storage::plain;
    const weight_role role = role_of(p.source, family);
    const bool gpt_oss = kind == storage::mxfp4 && p.outputs[0].name.ends_with(blocks_suffix);
    const bool is_stack = p.source.shape.size() == 3 && p.outputs.size() <= 2;
    const std::size_t step = kind == storage::mxfp4 ? 2 : p.outputs.size();
    for (std::size_t i = 0; i < p.outputs.size(); i += step)
      modules.push_back({module_of(p.outputs[i]), kind, role, is_stack, gpt_oss});
  }
  return modules;
}

namespace {

/// Readers that tie the output layer to the embedding (transformers 5.24 modeling_utils.py) take the embedding for
/// both, and have no codes of it.
void check_tied(verification& v, const model_family& family) {
  for (const stored_tensor& t : v.tensors) {
    if (t.kind == storage::plain) continue;
    if (role_of({t.name, t.data->info->type, t.shape}, family) == weight_role::output)
      v.error("config", quote_name(t.name),
              std::string("is stored ") + kind_text(t.kind) +
                  ", expected its original type: it is the embedding too by tie_word_embeddings of config.json");
  }
}

/// What parts of config.json, such as "text_config", say of a quantization. vLLM 0.32 (weight_utils.py,
/// get_quant_config) asks there where the top says nothing, and whoever loads the text model alone has nothing else: it
/// has to be what the top says, or true by itself.
void check_parts(verification& v, const ordered_json& config, const std::string& place,
                 const std::vector<stored_module>& modules) {
  for (const auto& [key, part] : config.items()) {
    if (!part.is_object() || key == "quantization_config") continue;
    const std::string here = place + key;
    check_parts(v, part, here + ".", modules);
    const ordered_json said = json_member_or_null(part, "quantization_config");
    if (said.is_null() || said == json_member_or_null(v.config, "quantization_config")) continue;
    std::string first;
    const std::string method = json_text_member(said, "quant_method");
    if (method == "compressed-tensors" || (method == "mxfp4" && !is_of_another_program(v))) {
      ordered_json whole = v.config;
      whole["quantization_config"] = said;
      check_quantization_config(whole, modules,
                                [&first](severity level, const std::string& where, const std::string& what) {
                                  if (level == severity::error && first.empty()) first = where + " " + what;
                                });
      if (first.empty()) continue;
    } else {
      first = "quant_method is " + (method.empty() ? json_shown(said) : quote_name(method));
    }
    v.error("config", config_file_name,
            here + ".quantization_config is not true of this checkpoint, expected none or that of the top: " + first);
  }
}

/// The file of ModelOpt's exports: {"quantization": {"quant_algo": "FP8"}}.
[[nodiscard]] std::string untrue_modelopt(const verification& v, const ordered_json& file) {
  const std::string algorithm = json_text_member(json_member_or_null(file, "quantization"), "quant_algo");
  if (algorithm == "MIXED_PRECISION") return {};
  const char* const stored = v.result.mxfp4 > 0 ? "MXFP4" : "FP8";
  if (algorithm.find(stored) != std::string::npos) return {};
  return "quant_algo is " + (algorithm.empty() ? "not there" : quote_name(algorithm)) + ", and the weights are " +
         stored;
}

/// A file that has what quantization_config of config.json has: of GPTQ, AWQ, AutoRound.
[[nodiscard]] std::string untrue_copy(const verification& v, const ordered_json& file) {
  const ordered_json config = json_member_or_null(v.config, "quantization_config");
  if (file == config) return {};
  const std::string method = json_text_member(file, "quant_method"), said = json_text_member(config, "quant_method");
  if (!method.empty())
    return method == said ? ""
                          : "quant_method is " + quote_name(method) + ", and config.json has " +
                                (said.empty() ? "none" : quote_name(said));
  const bool is_mxfp4 = json_text_member(file, "data_type").starts_with("mx_fp") && said == "auto-round";
  return is_mxfp4 ? "" : "it is of another quantization than config.json";
}

/// Files beside config.json that tell of a quantization: vLLM 0.32 (transformers_utils/config.py) reads
/// hf_quant_config.json where config.json says nothing, readers of ModelOpt's and GPTQ's files before config.json.
void check_sidecars(verification& v) {
  for (const std::string& name : v.in.other_files()) {
    if (!describes_quantization(name) || name == report_file_name) continue;
    std::string problem;
    try {
      const ordered_json file = read_json<ordered_json>(v.in.directory() + "/" + name, config_limits);
      problem = name == "hf_quant_config.json" ? untrue_modelopt(v, file) : untrue_copy(v, file);
    } catch (const file_error& e) {
      problem = e.value();
    }
    if (!problem.empty()) v.error("config", name, "is not true of this checkpoint: " + problem + ": remove it");
  }
}

/// What loads and does not run, or not as it is stored.
void check_readers(verification& v, const std::vector<stored_module>& modules) {
  for (const stored_tensor& t : v.tensors)
    if (t.kind == storage::mxfp4 && t.form == weight_form::compressed_tensors && t.shape.size() == 3)
      v.warn("config", quote_name(t.name),
             "is a stack of experts, which transformers 5.24 and vLLM 0.33 read one by one in this form: they start at "
             "random; mxfp4 convert --to compressed-tensors takes it apart");
  const bool has_layers = std::any_of(modules.begin(), modules.end(), [](const stored_module& m) {
    return m.kind == storage::mxfp4 && m.role == weight_role::linear;
  });
  for (const char* const key : {"dtype", "torch_dtype"})
    if (const std::string type = json_text_member(v.config, key);
        has_layers && (type == "float16" || type == "float32"))
      v.warn("config", config_file_name,
             std::string(key) + " is " + type +
                 ", and transformers 5.24 runs MXFP4 layers in bfloat16 only: load it with "
                 "dtype=torch.bfloat16");
}

}  // namespace

void check_config(verification& v) {
  if (v.config.is_null()) return;  // said already
  plan_options model;
  read_model(v.config, model);
  const model_family& family = find_family(model.model_type);
  std::vector<stored_module> modules;
  for (const stored_tensor& t : v.tensors) {
    const tensor_info weight = {t.name, t.data->info->type, t.shape};
    modules.push_back(
        {module_of(weight), t.kind, role_of(weight, family), t.shape.size() == 3, t.form == weight_form::gpt_oss});
  }
  if (model.tied) check_tied(v, family);
  check_parts(v, v.config, "", modules);
  check_sidecars(v);
  if (is_of_another_program(v)) return check_other_config(v);
  check_quantization_config(v.config, modules, [&v](severity level, const std::string& where, const std::string& what) {
    v.add(level, "config", where, what);
  });
  check_axes(v, model.hidden_size);
  check_axes_by_bias(v);
  check_readers(v, modules);
}

}  // namespace mxfp4::checkpoint
