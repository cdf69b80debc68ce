// src/checkpoint/expert_layers.cpp -- names taken apart, stacks taken apart, and what must be equal compared.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/expert_layers.hpp"

#include <charconv>
#include <map>
#include <utility>

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

constexpr std::string_view experts_part = ".experts.";
constexpr std::string_view fused_name = "gate_up_proj";
constexpr std::array<std::array<const char*, 3>, 2> role_names = {{
    {"gate_proj", "up_proj", "down_proj"},
    {"w1", "w3", "w2"},
}};

/// "P.<expert>.<part>" or "P.<part>", without its ".weight", ".bias" or "_bias".
struct parsed_name {
  std::string prefix, part;
  std::optional<std::int64_t> expert;
};

[[nodiscard]] std::string_view without(std::string_view name, std::string_view suffix) {
  return name.ends_with(suffix) ? name.substr(0, name.size() - suffix.size()) : name;
}

[[nodiscard]] std::optional<parsed_name> parse_name(std::string_view name) {
  const std::size_t at = name.rfind(experts_part);
  if (at == std::string_view::npos) return std::nullopt;
  parsed_name result{std::string(name.substr(0, at + experts_part.size() - 1)), "", std::nullopt};
  std::string_view rest = name.substr(at + experts_part.size());
  if (const std::size_t dot = rest.find('.'); dot != std::string_view::npos) {
    std::int64_t number = 0;
    const std::string_view digits = rest.substr(0, dot);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    const bool canonical = error == std::errc{} && end == digits.data() + digits.size() && number >= 0 &&
                           (digits.size() == 1 || digits.front() != '0');
    if (!canonical) return std::nullopt;
    result.expert = number;
    rest = rest.substr(dot + 1);
  }
  result.part = rest;
  return result;
}

struct role_name {
  expert_role role;
  std::size_t style;  // of role_names
};

[[nodiscard]] std::optional<role_name> role_of(std::string_view part) {
  for (std::size_t style = 0; style < role_names.size(); ++style)
    for (std::size_t role = 0; role < expert_roles.size(); ++role)
      if (part == role_names[style][role]) return role_name{expert_roles[role], style};
  return std::nullopt;
}

/// One layer while it is put together. Experts may come in any order.
class layer_builder {
 public:
  layer_builder(std::string prefix, std::string where, const model_family& family)
      : prefix_(std::move(prefix)), where_(std::move(where)), family_(family) {}

  void add(const parsed_name& name, const mxfp4_weight& weight) {
    const bool stack = weight.shape.size() == 3;
    const std::int64_t count = stack ? weight.shape[0] : 1, rows = weight.shape[weight.shape.size() - 2];
    const bool fused = name.part == fused_name;
    if (fused && rows % 2 != 0) fail(weight.name, "has " + std::to_string(rows) + " rows", "gate and up rows in pairs");
    if (count == 0) fail(weight.name, "holds no experts", "one at least");
    for (std::int64_t e = 0; e < count; ++e) {
      const std::int64_t expert = stack ? e : *name.expert, first = e * rows;
      if (!fused) {
        const role_name role = *role_of(name.part);
        // What stands in a stack beside gate_up_proj is called down_proj whatever its experts were called.
        if (!stack || weight.form == weight_form::ggml) style_ = role.style;
        add(role.role, expert, weight, weight_rows(weight, first, 1, rows));
      } else {
        const bool turns = weight.form == weight_form::gpt_oss;
        const std::int64_t half = rows / 2, step = turns ? 2 : 1;
        add(expert_role::gate, expert, weight, weight_rows(weight, first, step, half));
        add(expert_role::up, expert, weight, weight_rows(weight, first + (turns ? 1 : half), step, half));
      }
    }
    turns_ = turns_ || weight.form == weight_form::gpt_oss;
  }

  /// False where this is not the bias of a weight that is here.
  [[nodiscard]] bool add_bias(const parsed_name& name, const plain_tensor& bias) {
    const bool fused = name.part == fused_name;
    const std::optional<role_name> role = role_of(name.part);
    if (!fused && !role) return false;
    auto& experts = by_role_[static_cast<std::size_t>(fused ? expert_role::gate : role->role)];
    if (experts.empty() || (name.expert && !experts.contains(*name.expert))) return false;
    const std::int64_t rows = experts.begin()->second.weight.rows() * (fused ? 2 : 1);
    const auto count = static_cast<std::int64_t>(experts.size());
    const std::vector<std::int64_t> expected =
        name.expert ? std::vector<std::int64_t>{rows} : std::vector<std::int64_t>{count, rows};
    if (bias.info.shape != expected)
      fail(bias.info.name, "has the shape " + shape_text(bias.info.shape), shape_text(expected));
    for (std::int64_t e = 0; e < (name.expert ? 1 : count); ++e) {
      const std::int64_t expert = name.expert.value_or(e), first = e * rows;
      if (!fused) {
        set_bias(role->role, expert, {&bias, first, 1});
      } else {
        set_bias(expert_role::gate, expert, {&bias, first, turns_ ? 2 : 1});
        set_bias(expert_role::up, expert, {&bias, first + (turns_ ? 1 : rows / 2), turns_ ? 2 : 1});
      }
    }
    return true;
  }

  [[nodiscard]] expert_layer finish() {
    expert_layer layer;
    layer.prefix = prefix_;
    const bool is_w =
        family_.model_type.empty() ? prefix_.ends_with("block_sparse_moe.experts") : family_.names == expert_names::w;
    const std::size_t style = style_.value_or(is_w ? 1 : 0);
    for (std::size_t r = 0; r < expert_roles.size(); ++r) layer.names[r] = role_names[style][r];
    for (std::size_t r = 0; r < expert_roles.size(); ++r) {
      std::int64_t next = 0;
      for (auto& [expert, matrix] : by_role_[r]) {
        if (expert != next)
          fail_layer("has no expert " + std::to_string(next) + " for " + layer.names[r],
                     "all from 0 to " + std::to_string(by_role_[r].rbegin()->first));
        check_like_first(layer, r, matrix);
        layer.by_role[r].push_back(matrix);
        ++next;
      }
    }
    for (std::size_t r = 1; r < expert_roles.size(); ++r)
      if (!layer.by_role[r].empty() && !layer.by_role[0].empty() && layer.by_role[r].size() != layer.by_role[0].size())
        fail_layer("has " + std::to_string(layer.by_role[0].size()) + " experts with " + layer.names[0] + " and " +
                       std::to_string(layer.by_role[r].size()) + " with " + layer.names[r],
                   "the same number");
    return layer;
  }

 private:
  [[noreturn]] void fail(const std::string& tensor, const std::string& value, const std::string& expected) const {
    throw file_error({.file = where_, .tensor = tensor, .value = value, .expected = expected});
  }
  [[noreturn]] void fail_layer(const std::string& value, const std::string& expected) const {
    throw file_error({.file = where_, .value = quote_name(prefix_) + " " + value, .expected = expected});
  }

  void add(expert_role role, std::int64_t expert, const mxfp4_weight& weight, const weight_rows& rows) {
    if (!by_role_[static_cast<std::size_t>(role)].emplace(expert, expert_matrix{rows, std::nullopt}).second)
      fail(weight.name, "expert " + std::to_string(expert) + " is there twice", "once");
  }

  void set_bias(expert_role role, std::int64_t expert, const bias_rows& bias) {
    auto& experts = by_role_[static_cast<std::size_t>(role)];
    const auto found = experts.find(expert);
    if (found == experts.end())
      fail(bias.tensor->info.name, "belongs to expert " + std::to_string(expert) + ", which has no such weight",
           "a bias of experts that are here");
    if (found->second.bias) fail(bias.tensor->info.name, "is a second bias", "one");
    found->second.bias = bias;
  }

  void check_like_first(const expert_layer& layer, std::size_t role, const expert_matrix& m) const {
    if (layer.by_role[role].empty()) return;
    const expert_matrix& first = layer.by_role[role].front();
    if (m.weight.rows() != first.weight.rows() || m.weight.cols() != first.weight.cols())
      fail(m.weight.weight().name, "has matrices of " + shape_text({m.weight.rows(), m.weight.cols()}),
           shape_text({first.weight.rows(), first.weight.cols()}) + " as " + quote_name(first.weight.weight().name));
    if (m.bias.has_value() != first.bias.has_value() ||
        (m.bias && m.bias->tensor->info.type != first.bias->tensor->info.type))
      fail(m.weight.weight().name, "differs from expert 0 in its bias", "the same type for all or none");
  }

  std::string prefix_, where_;
  const model_family& family_;
  std::array<std::map<std::int64_t, expert_matrix>, 3> by_role_;
  std::optional<std::size_t> style_;
  bool turns_ = false;  // gate and up rows, and so their biases
};

/// The name of an expert's weight, or of a stack of them; nullopt for others.
[[nodiscard]] std::optional<parsed_name> weight_name(const mxfp4_weight& weight) {
  std::optional<parsed_name> name = parse_name(without(weight.name, ".weight"));
  if (!name) return std::nullopt;
  const bool stack = weight.shape.size() == 3;
  if (name->expert.has_value() == stack) return std::nullopt;
  if (!role_of(name->part) && !(stack && name->part == fused_name)) return std::nullopt;
  return name;
}

}  // namespace

expert_model group_experts(const weight_list& list, const model_family& family, const std::string& where) {
  expert_model model;
  std::vector<layer_builder> builders;
  std::map<std::string, std::size_t, std::less<>> by_prefix;
  for (const mxfp4_weight& w : list.weights) {
    const std::optional<parsed_name> name = weight_name(w);
    if (!name) {
      model.dense.push_back(&w);
      continue;
    }
    const auto [found, is_new] = by_prefix.emplace(name->prefix, builders.size());
    if (is_new) builders.emplace_back(name->prefix, where, family);
    builders[found->second].add(*name, w);
  }
  for (const plain_tensor& t : list.others) {
    std::optional<parsed_name> name;
    if (t.info.name.ends_with(".bias")) name = parse_name(without(t.info.name, ".bias"));
    else if (t.info.name.ends_with("_bias")) name = parse_name(without(t.info.name, "_bias"));
    const auto found = name ? by_prefix.find(name->prefix) : by_prefix.end();
    if (found == by_prefix.end() || !builders[found->second].add_bias(*name, t)) model.others.push_back(&t);
  }
  for (layer_builder& builder : builders) model.layers.push_back(builder.finish());
  return model;
}

}  // namespace mxfp4::checkpoint
