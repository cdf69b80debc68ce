// src/checkpoint/plan.cpp -- names, types and shapes decide; nothing is read.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/checkpoint/plan.hpp"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "checkpoint/expert_stack.hpp"
#include "checkpoint/family.hpp"
#include "checkpoint/fp8_scales.hpp"
#include "checkpoint/name_pattern.hpp"
#include "io/guarded.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

/// Cuts the part behind the last '.' off `name` and returns it.
[[nodiscard]] std::string_view cut_last_part(std::string_view& name) noexcept {
  const std::size_t dot = name.rfind('.');
  const std::string_view part = name.substr(dot == std::string_view::npos ? 0 : dot + 1);
  name = name.substr(0, dot == std::string_view::npos ? 0 : dot);
  return part;
}

/// What is counted as one expert: "..experts.<n>", or the stack "..experts".
[[nodiscard]] std::string_view expert_of(std::string_view name) noexcept {
  if (name.ends_with(".weight")) static_cast<void>(cut_last_part(name));
  static_cast<void>(cut_last_part(name));
  return name;
}

class planner {
 public:
  planner(std::vector<tensor_info> tensors, const plan_options& options, const std::string& where)
      : options_(options), where_(where), family_(find_family(options.model_type)) {
    if (options.include) include_ = require_pattern(*options.include, "include");
    if (options.exclude) exclude_ = require_pattern(*options.exclude, "exclude");
    plan_.tensors.reserve(tensors.size());
    for (tensor_info& t : tensors) {
      planned_tensor p;
      p.source = std::move(t);
      plan_.tensors.push_back(std::move(p));
    }
    for (std::size_t i = 0; i < plan_.tensors.size(); ++i)
      if (!by_name_.emplace(plan_.tensors[i].source.name, i).second)
        fail(plan_.tensors[i].source, "is there twice", "once");
  }

  [[nodiscard]] quantization_plan take() {
    if (!options_.include && !options_.linears && !family_.no_experts.empty())
      throw file_error({.file = where_,
                        .value = options_.model_type + " " + std::string(family_.no_experts),
                        .advice = "--linears quantises its other layers"});
    if (options_.linears && !family_.no_linears.empty())
      throw file_error({.file = where_,
                        .value = options_.model_type + " " + std::string(family_.no_linears),
                        .advice = "for a reader of your own, --include with --force writes them as they lie"});
    for (planned_tensor& p : plan_.tensors) decide(p);
    for (planned_tensor& p : plan_.tensors) copy_the_rest(p);
    check_output_names();
    add_up();
    add_warnings();
    return std::move(plan_);
  }

 private:
  [[noreturn]] void fail(const tensor_info& t, const std::string& value, const std::string& expected,
                         const std::string& advice = {}) const {
    throw file_error({.file = where_, .tensor = t.name, .value = value, .expected = expected, .advice = advice});
  }

  [[nodiscard]] std::size_t find(const std::string& name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? planned_tensor::no_scales : found->second;
  }

  [[nodiscard]] fp8_scales_result fp8_scales_of(const tensor_info& t) const {
    return find_fp8_scales(
        t, [this](const std::string& name) { return tensor_called(name); }, options_.fp8_grid);
  }

  /// Why FP8 cannot be left as it is beside MXFP4: readers of compressed-tensors have one kind of scales by block.
  [[nodiscard]] static std::string why_not_kept(const fp8_scales_result& found) {
    if (!found.why.empty() ||
        (found.scales->type == dtype::f32 && found.grid == scale_grid{} && found.scales->shape.size() > 1))
      return found.why;
    return "its scales " + quote_name(found.scales->name) + " are " + dtype_name(found.scales->type) + " " +
           shape_text(found.scales->shape) + ", not F32 for blocks of 128 x 128";
  }

  /// Empty where the name was asked for.
  [[nodiscard]] std::string why_not_wanted(const tensor_info& t) const {
    const weight_role role = role_of(t, family_);
    if (include_) {
      if (!include_->is_in(t.name)) return "name is not included";
    } else if (options_.linears) {
      if (role != weight_role::linear) return std::string(role_text(role));
    } else if (role != weight_role::expert) {
      const bool shared = !family_.shared.empty() && t.name.find(family_.shared) != std::string::npos;
      return shared && role == weight_role::linear ? "of a shared expert, which every token takes"
                                                   : "not the weight of an expert";
    }
    if (exclude_ && exclude_->is_in(t.name)) return "name is excluded";
    return {};
  }

  /// Empty where type and shape can be quantised.
  [[nodiscard]] std::string why_not_possible(const tensor_info& t) const {
    const bool stacked = t.shape.size() == 3 && is_expert_weight(t.name, 3);
    if (t.shape.size() != 2 && !stacked) return std::to_string(t.shape.size()) + "-D, not a matrix";
    if (t.elements() == 0) return "empty";
    const bool is_fp8 = t.type == dtype::f8_e4m3;
    if (t.type != dtype::f32 && t.type != dtype::f16 && t.type != dtype::bf16 && !is_fp8)
      return std::string(dtype_name(t.type)) + ", not F32, F16, BF16 or F8_E4M3";
    if (stacked) {
      const stack_axes_result found = axes_of(t);
      if (!found.why.empty()) return found.why;
      const bool transposed = found.axes == stack_axes::in_out;
      if (is_fp8 && transposed) return "F8_E4M3 [experts, in, out], whose block scales would lie across the blocks";
      if (layout_of(t, found.axes, true).parts == 2 && t.shape[transposed ? 2 : 1] % 2 != 0)
        return "gate and up rows that do not come in pairs";
      if (family_.form == expert_form::per_expert)
        if (const tensor_info* bias = tensor_called(without_weight(t.name) + "_bias"))
          return "it has biases, " + quote_name(bias->name) + ", which experts one by one have no place for";
    }
    const bool transposed = !stacked && is_transposed(t.name, family_);
    if (transposed && is_fp8) return "F8_E4M3 [in, out], whose block scales would lie across the blocks";
    const std::int64_t cols = stacked ? layout_of(t, axes_of(t).axes, false).cols : t.shape[transposed ? 0 : 1];
    if (cols % block_size != 0)
      return std::to_string(cols) + (transposed ? " inputs" : " columns") + ", not a multiple of 32";
    return is_fp8 ? fp8_scales_of(t).why : "";
  }

  /// Blocks lie along what a layer sums over. A bias tells of layers that have it the other way.
  void require_axes(const tensor_info& t) const {
    const stack_axes found = axes_by_bias(t, [this](const std::string& name) { return tensor_called(name); });
    if (options_.any_matrix || found == stack_axes::unknown) return;
    const bool transposed = is_transposed(t.name, family_);
    if (transposed == (found == stack_axes::in_out)) return;
    fail(t, std::string("is ") + (transposed ? "[out, in]" : "[in, out]") + " by its bias",
         transposed ? "[in, out], which is what the files of " + options_.model_type + " have"
                    : "[out, in]: readers take MXFP4 so, and of other layers (Conv1D) those of gpt2 alone",
         "leave it out with --exclude");
  }

  /// An include must not find a matrix that no reader has quantised.
  void require_linear(const tensor_info& t) const {
    if (!options_.include || options_.any_matrix) return;
    const weight_role role = role_of(t, family_);
    if (role == weight_role::linear && !family_.no_linears.empty())
      fail(t, "is of " + options_.model_type + ", which " + std::string(family_.no_linears), "",
           "leave it out with --exclude, or insist with --force");
    if (role == weight_role::output && options_.tied)
      fail(t, "is the embedding too by tie_word_embeddings of config.json, and no reader takes an embedding as MXFP4",
           "", "leave it out with --exclude, or insist with --force");
    if (role == weight_role::embedding || role == weight_role::router || role == weight_role::other)
      fail(t, "is " + std::string(role_text(role)) + ", which no reader takes as MXFP4", "",
           "leave it out with --exclude, or insist with --force");
  }

  /// Rows of gate and up. Where stacks lie [out, in] they are halves, in every family of transformers 5.24
  /// (integrations/moe.py: is_concatenated); where they lie [in, out] those of gpt_oss take turns, those of others do
  /// not, and no shape tells.
  void require_row_order(const tensor_info& t) const {
    if (options_.any_matrix || t.shape.size() != 3 || family_.form != expert_form::per_expert) return;
    const stack_layout l = layout_of(t, axes_of(t).axes, true);
    if (l.parts != 2 || !l.transposed || family_.axes == stack_axes::in_out) return;
    const std::string family = options_.model_type.empty() ? "without a model_type in config.json"
                                                           : "of model_type " + quote_name(options_.model_type);
    fail(t,
         "is [experts, in, out] " + family +
             ", and nothing tells whether its gate and up rows are halves, as those of "
             "llama4_text, or take turns, as those of gpt_oss",
         "a family whose table says it",
         "--force takes them for halves; else add the family (docs/adding-a-family.md), or leave them out with "
         "--exclude");
  }

  [[nodiscard]] static std::string without_weight(const std::string& name) {
    constexpr std::string_view suffix = ".weight";
    return name.ends_with(suffix) ? name.substr(0, name.size() - suffix.size()) : name;
  }

  [[nodiscard]] const tensor_info* tensor_called(const std::string& name) const {
    const std::size_t at = find(name);
    return at == planned_tensor::no_scales ? nullptr : &plan_.tensors[at].source;
  }

  [[nodiscard]] stack_axes_result axes_of(const tensor_info& stack) const {
    return find_axes(stack,
                     {[this](const std::string& name) { return tensor_called(name); }, family_, options_.hidden_size});
  }

  /// Codes and scales of a stack: two tensors for each of its matrices, or two in the form of gpt_oss.
  void add_stack_outputs(planned_tensor& p) const {
    const tensor_info& t = p.source;
    const bool apart = family_.form == expert_form::per_expert;
    p.stack = layout_of(t, axes_of(t).axes, apart);
    const stack_layout& l = *p.stack;
    const std::int64_t blocks = l.cols / block_size;
    if (!apart) {
      const std::string name = without_weight(t.name);
      add_output(p, name + blocks_suffix, dtype::u8, {l.experts, l.rows, blocks, block_code_bytes});
      add_output(p, name + scales_suffix, dtype::u8, {l.experts, l.rows, blocks});
      return;
    }
    for (std::int64_t m = 0; m < l.experts * l.parts; ++m) {
      const std::string name = matrix_name(t.name, l, m);
      add_output(p, name + packed_suffix, dtype::u8, {l.rows, l.cols / 2});
      add_output(p, name + scale_suffix, dtype::u8, {l.rows, blocks});
    }
  }

  void decide(planned_tensor& p) {
    const tensor_info& t = p.source;
    const find_function by_name = [this](const std::string& name) { return tensor_called(name); };
    if (const tensor_info* owner = fp8_owner_of_scales(t.name, by_name)) {
      p.reason = "scales of " + quote_name(owner->name);
      return;
    }
    if (const tensor_info* owner = fp8_owner_of_activations(t.name, by_name)) {
      p.reason = "scale of the activations of " + quote_name(owner->name);
      return;
    }
    p.reason = why_not_wanted(t);
    if (p.reason.empty()) {
      p.reason = why_not_possible(t);
      if (p.reason.empty()) require_linear(t);
      if (p.reason.empty()) require_axes(t);
      if (p.reason.empty()) require_row_order(t);
      if (!p.reason.empty() && !include_ && is_expert_weight(t.name, t.shape.size()))
        fail(t, "is the weight of an expert and cannot be quantised: " + p.reason, "", "leave it out with --exclude");
    }
    if (p.reason.empty()) {
      p.action = tensor_action::quantize;
      if (t.shape.size() == 3) {
        add_stack_outputs(p);
      } else if (is_transposed(t.name, family_)) {
        p.stack = stack_layout{.rows = t.shape[1], .cols = t.shape[0], .transposed = true};
        add_output(p, t.name + packed_suffix, dtype::u8, {t.shape[1], t.shape[0] / 2});
        add_output(p, t.name + scale_suffix, dtype::u8, {t.shape[1], t.shape[0] / block_size});
      } else {
        add_output(p, t.name + packed_suffix, dtype::u8, {t.shape[0], t.shape[1] / 2});
        add_output(p, t.name + scale_suffix, dtype::u8, {t.shape[0], t.shape[1] / block_size});
      }
    } else if (t.type == dtype::f8_e4m3 && options_.others != fp8_policy::copy) {
      if (t.shape.size() < 2) fail(t, "is F8_E4M3 and " + std::to_string(t.shape.size()) + "-D", "a matrix");
      const bool keep = options_.others == fp8_policy::keep;
      const fp8_scales_result found = fp8_scales_of(t);
      if (const std::string why = keep ? why_not_kept(found) : found.why; !why.empty())
        fail(t, "cannot be written for readers of compressed-tensors: " + why, "",
             keep && found.why.empty() ? "make BF16 of it: --others bf16" : "leave FP8 as it is, or add its scales");
      p.action = options_.others == fp8_policy::keep ? tensor_action::keep_fp8 : tensor_action::widen_fp8;
      if (p.action == tensor_action::widen_fp8) add_output(p, t.name, dtype::bf16, t.shape);
      else add_output(p, t.name, t.type, t.shape);
    }
    if (p.action == tensor_action::copy && becomes_bf16(t)) {
      p.action = tensor_action::to_bf16;
      add_output(p, t.name, dtype::bf16, t.shape);
    }
    if (p.action != tensor_action::copy && t.type == dtype::f8_e4m3) {
      const fp8_scales_result found = fp8_scales_of(t);
      p.scales = find(found.scales->name);
      p.fp8_grid = found.grid;
      for (const std::string& name : fp8_activation_names(t.name))
        if (const std::size_t at = find(name); at != planned_tensor::no_scales)
          plan_.tensors[at].action = tensor_action::fp8_scales;
      if (p.action == tensor_action::keep_fp8)
        add_output(p, t.name + scale_suffix, dtype::f32, plan_.tensors[p.scales].source.shape);
      plan_.tensors[p.scales].action = tensor_action::fp8_scales;
    }
  }

  /// A model of one type changes as a whole; what is F32 beside F16 or BF16, such as a router, was meant to be.
  [[nodiscard]] bool becomes_bf16(const tensor_info& t) const {
    if (!options_.to_bf16) return false;
    if (t.type == dtype::f16) return true;
    return t.type == dtype::f32 && (options_.dtype == "float32" || options_.dtype.empty());
  }

  void copy_the_rest(planned_tensor& p) const {
    if (p.action == tensor_action::copy) add_output(p, p.source.name, p.source.type, p.source.shape);
  }

  void add_output(planned_tensor& p, const std::string& name, dtype type, std::vector<std::int64_t> shape) const {
    const std::uint64_t bytes = value_at(tensor_bytes(type, shape), where_, name);
    p.outputs.push_back({name, type, std::move(shape), 0, bytes});
  }

  void check_output_names() const {
    std::unordered_map<std::string_view, const tensor_info*> sources;
    for (const planned_tensor& p : plan_.tensors)
      for (const tensor_info& out : p.outputs) {
        const auto [found, is_new] = sources.emplace(out.name, &p.source);
        if (is_new) continue;
        // One of the two is copied: it has the name that the other's output needs.
        const tensor_info& other = found->second->name == out.name ? p.source : *found->second;
        fail(out, "is there already", "the name to be free for " + quote_name(other.name),
             "leave that one out with --exclude");
      }
  }

  void add_up() {
    std::unordered_set<std::string_view> seen;
    for (const planned_tensor& p : plan_.tensors) {
      plan_.bytes_before += p.source.bytes();
      plan_.bytes_after += p.output_bytes();
      if (p.action != tensor_action::quantize) continue;
      const std::int64_t stack = p.stack ? p.stack->experts : 1;
      plan_.matrices += p.stack ? stack * p.stack->parts : 1;
      plan_.weights += p.source.elements();
      if (is_expert_weight(p.source.name, p.source.shape.size()) && seen.insert(expert_of(p.source.name)).second)
        plan_.experts += stack;
    }
  }

  void add_warnings() {
    const bool any_transposed =
        std::any_of(plan_.tensors.begin(), plan_.tensors.end(), [this](const planned_tensor& p) {
          return p.action == tensor_action::quantize && is_transposed(p.source.name, family_);
        });
    if ((plan_.experts > 0 || any_transposed) && !family_.warning.empty()) plan_.warnings.emplace_back(family_.warning);
    add_warning_of_stacks();
    for (const planned_tensor& p : plan_.tensors)
      if (!options_.to_bf16 && p.action == tensor_action::quantize &&
          role_of(p.source, family_) == weight_role::linear &&
          (p.source.type == dtype::f16 || p.source.type == dtype::f32)) {
        plan_.warnings.push_back(std::string("the model is ") + dtype_name(p.source.type) +
                                 ", and transformers runs its MXFP4 layers in bfloat16 only: load it with "
                                 "dtype=torch.bfloat16, or write it with --dtype bf16");
        break;
      }
  }

  /// Experts under names that nobody has told of would be left as they are, and the result be as large as before.
  void add_warning_of_stacks() {
    if (options_.include) return;
    const planned_tensor* first = nullptr;
    std::int64_t count = 0;
    for (const planned_tensor& p : plan_.tensors)
      if (p.action != tensor_action::quantize && is_unknown_stack(p.source)) {
        ++count;
        if (first == nullptr) first = &p;
      }
    if (first == nullptr) return;
    plan_.warnings.push_back(
        quote_name(first->source.name) + " " + shape_text(first->source.shape) +
        (count > 1 ? " and " + std::to_string(count - 1) + " more are stacks" : " is a stack") +
        " beside experts, of a name that is not known (gate_up_proj, gate_proj, up_proj, down_proj, w1, w2, w3): not "
        "quantised");
  }

  const plan_options& options_;
  const std::string& where_;
  const model_family& family_;
  std::optional<name_pattern> include_, exclude_;
  quantization_plan plan_;
  std::unordered_map<std::string_view, std::size_t> by_name_;
};

}  // namespace

std::uint64_t planned_tensor::output_bytes() const noexcept {
  std::uint64_t sum = 0;
  for (const tensor_info& t : outputs) sum += t.bytes();
  return sum;
}

bool is_expert_weight(std::string_view name, std::size_t dimensions) noexcept {
  const bool named_weight = name.ends_with(".weight");
  if (named_weight) static_cast<void>(cut_last_part(name));
  const std::string_view part = cut_last_part(name);
  if (dimensions == 3)
    return is_one_of(part, {"input_linear", "output_linear"}) ||  // GraniteMoe's
           (is_one_of(part, {"gate_up_proj", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"}) &&
            cut_last_part(name) == "experts");
  if (dimensions != 2 || !named_weight) return false;
  if (!is_one_of(part, {"w1", "w2", "w3", "gate_proj", "up_proj", "down_proj"})) return false;
  const std::string_view number = cut_last_part(name);
  const bool is_number =
      !number.empty() && std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; });
  return is_number && cut_last_part(name) == "experts";
}

bool is_unknown_stack(const tensor_info& t) noexcept {
  const std::string_view name = t.name;
  const bool is_scale = name.find("_scale") != std::string_view::npos || name.ends_with("bias");
  return t.shape.size() == 3 && !is_expert_weight(name, 3) && !is_scale &&
         (name.starts_with("experts.") || name.find(".experts.") != std::string_view::npos);
}

file_result<quantization_plan> make_plan(std::vector<tensor_info> tensors, const plan_options& options,
                                         const std::string& where) {
  return guarded([&]() -> quantization_plan { return planner(std::move(tensors), options, where).take(); });
}

const char* action_name(tensor_action action) noexcept {
  switch (action) {
    case tensor_action::quantize:
      return "quantize";
    case tensor_action::widen_fp8:
      return "widen_fp8";
    case tensor_action::keep_fp8:
      return "keep_fp8";
    case tensor_action::to_bf16:
      return "to_bf16";
    case tensor_action::fp8_scales:
      return "fp8_scales";
    case tensor_action::copy:
      break;
  }
  return "copy";
}

}  // namespace mxfp4::checkpoint
