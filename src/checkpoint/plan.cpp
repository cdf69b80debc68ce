// src/checkpoint/plan.cpp -- names, types and shapes decide; nothing is read.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/checkpoint/plan.hpp"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "checkpoint/name_pattern.hpp"
#include "io/guarded.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

[[nodiscard]] std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

[[nodiscard]] bool is_one_of(std::string_view part, std::initializer_list<std::string_view> parts) noexcept {
  return std::find(parts.begin(), parts.end(), part) != parts.end();
}

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

/// The block scales of X, as FP8 checkpoints have them: F32, one for 128 x 128 weights.
[[nodiscard]] std::vector<std::int64_t> fp8_scales_shape(std::vector<std::int64_t> shape) {
  for (std::size_t i = shape.size() - 2; i < shape.size(); ++i) shape[i] = ceil_div(shape[i], fp8_block);
  return shape;
}

class planner {
 public:
  planner(std::vector<tensor_info> tensors, const plan_options& options, const std::string& where)
      : options_(options), where_(where) {
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
    for (planned_tensor& p : plan_.tensors) decide(p);
    for (planned_tensor& p : plan_.tensors) copy_the_rest(p);
    check_output_names();
    add_up();
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

  /// The tensor X whose FP8 block scales `t` (X_scale_inv) holds, or nullptr.
  [[nodiscard]] const tensor_info* owner_of_fp8_scales(const tensor_info& t) const {
    if (!t.name.ends_with(fp8_scale_suffix)) return nullptr;
    const std::size_t owner = find(t.name.substr(0, t.name.rfind(fp8_scale_suffix)));
    if (owner == planned_tensor::no_scales || plan_.tensors[owner].source.type != dtype::f8_e4m3) return nullptr;
    return &plan_.tensors[owner].source;
  }

  /// Empty where the block scales of the F8_E4M3 matrix `t` are there and fit.
  [[nodiscard]] std::string why_no_fp8_scales(const tensor_info& t) const {
    const std::size_t at = find(t.name + fp8_scale_suffix);
    if (at == planned_tensor::no_scales) return "F8_E4M3 without " + quote_name(t.name + fp8_scale_suffix);
    const tensor_info& scales = plan_.tensors[at].source;
    const std::vector<std::int64_t> expected = fp8_scales_shape(t.shape);
    if (scales.type != dtype::f32 || scales.shape != expected)
      return std::string("its block scales are ") + dtype_name(scales.type) + " " + shape_text(scales.shape) +
             ", not F32 " + shape_text(expected);
    return {};
  }

  /// Empty where the name was asked for.
  [[nodiscard]] std::string why_not_wanted(const tensor_info& t) const {
    if (include_ ? !include_->is_in(t.name) : !is_expert_weight(t.name, t.shape.size()))
      return include_ ? "name is not included" : "not the weight of an expert";
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
    if (t.shape.back() % block_size != 0) return std::to_string(t.shape.back()) + " columns, not a multiple of 32";
    return is_fp8 ? why_no_fp8_scales(t) : "";
  }

  void decide(planned_tensor& p) {
    const tensor_info& t = p.source;
    if (const tensor_info* owner = owner_of_fp8_scales(t)) {
      p.reason = "block scales of " + quote_name(owner->name);
      return;
    }
    p.reason = why_not_wanted(t);
    if (p.reason.empty()) {
      p.reason = why_not_possible(t);
      if (!p.reason.empty() && !include_)
        fail(t, "is the weight of an expert and cannot be quantised: " + p.reason, "", "leave it out with --exclude");
    }
    if (p.reason.empty()) {
      p.action = tensor_action::quantize;
      std::vector<std::int64_t> codes = t.shape, scales = t.shape;
      codes.back() /= 2;
      scales.back() /= block_size;
      add_output(p, t.name + packed_suffix, dtype::u8, std::move(codes));
      add_output(p, t.name + scale_suffix, dtype::u8, std::move(scales));
    } else if (t.type == dtype::f8_e4m3 && options_.others != fp8_policy::copy) {
      if (t.shape.size() < 2) fail(t, "is F8_E4M3 and " + std::to_string(t.shape.size()) + "-D", "a matrix");
      if (const std::string why = why_no_fp8_scales(t); !why.empty())
        fail(t, "cannot be written for readers of compressed-tensors: " + why, "",
             "leave FP8 as it is, or add its block scales");
      p.action = options_.others == fp8_policy::keep ? tensor_action::keep_fp8 : tensor_action::widen_fp8;
      if (p.action == tensor_action::widen_fp8) add_output(p, t.name, dtype::bf16, t.shape);
      else add_output(p, t.name, t.type, t.shape);
    }
    if (p.action != tensor_action::copy && t.type == dtype::f8_e4m3) {
      p.scales = find(t.name + fp8_scale_suffix);
      if (p.action == tensor_action::keep_fp8)
        add_output(p, t.name + scale_suffix, dtype::f32, plan_.tensors[p.scales].source.shape);
      plan_.tensors[p.scales].action = tensor_action::fp8_scales;
    }
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
      const std::int64_t stack = p.source.shape.size() == 3 ? p.source.shape[0] : 1;
      plan_.matrices += stack;
      plan_.weights += p.source.elements();
      if (is_expert_weight(p.source.name, p.source.shape.size()) && seen.insert(expert_of(p.source.name)).second)
        plan_.experts += stack;
    }
  }

  const plan_options& options_;
  const std::string& where_;
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
    return is_one_of(part, {"gate_up_proj", "gate_proj", "up_proj", "down_proj"}) && cut_last_part(name) == "experts";
  if (dimensions != 2 || !named_weight) return false;
  if (!is_one_of(part, {"w1", "w2", "w3", "gate_proj", "up_proj", "down_proj"})) return false;
  const std::string_view number = cut_last_part(name);
  const bool is_number =
      !number.empty() && std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; });
  return is_number && cut_last_part(name) == "experts";
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
    case tensor_action::fp8_scales:
      return "fp8_scales";
    case tensor_action::copy:
      break;
  }
  return "copy";
}

}  // namespace mxfp4::checkpoint
