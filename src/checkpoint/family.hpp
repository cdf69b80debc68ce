// src/checkpoint/family.hpp -- what the families of models differ in, as one table.
// SPDX-License-Identifier: Apache-2.0
//
// A checkpoint says in config.json of which family it is: "model_type", or that of "text_config" where the model sees
// pictures too. What all families have in common is in role_of and is_expert_weight; what one of them has different is
// an entry of the table in family.cpp. docs/adding-a-family.md says how to add one.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>

#include "mxfp4/checkpoint/plan.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// The dimensions of a stack behind the first, which counts the experts. A layer y = W x sums over `in`, and along it
/// lie the blocks.
enum class stack_axes : std::uint8_t { unknown, out_in, in_out };

/// In which form the experts are written.
enum class expert_form : std::uint8_t {
  per_expert,  ///< P.<e>.gate_proj.weight_packed, ...: what loaders of compressed-tensors take
  gpt_oss      ///< P.gate_up_proj_blocks, ...: stacks with biases, which they have no place for
};

/// What the gate, up and down matrices of an expert are called.
enum class expert_names : std::uint8_t {
  proj,  ///< gate_proj, up_proj, down_proj
  w      ///< w1, w3, w2
};

struct model_family {
  std::string_view model_type;
  expert_names names = expert_names::proj;
  stack_axes axes = stack_axes::unknown;  ///< of its stacks; asked where the shapes do not tell
  expert_form form = expert_form::per_expert;
  std::string_view router = "gate";  ///< the module of a layer that chooses experts: its last part, or the one before
  std::string_view shared = {};      ///< the part of a name that shared experts have, which every token takes
  std::string_view also_ignored =
      {};  ///< what loaders ask for under names that no tensor has; for "ignore", between blanks
  std::string_view transposed = {};  ///< the last parts of linear layers whose weights a model's files have as
                                     ///< [in, out]; as MXFP4 they are [out, in]; between blanks
  std::string_view no_experts = {};  ///< why its experts cannot be quantised; empty where they can
  std::string_view no_linears = {};  ///< the same of its linear layers
  std::string_view warning = {};     ///< what a user should know of the result
};

[[nodiscard]] std::span<const model_family> model_families() noexcept;

/// The entry of a family; one without a model_type where the table has none.
[[nodiscard]] const model_family& find_family(std::string_view model_type) noexcept;

/// Sets model_type, hidden_size, tied, dtype and fp8_grid of the options by a config.json, which may be null.
void read_model(const nlohmann::ordered_json& config, plan_options& options);

/// What a weight is for, by its name and shape.
enum class weight_role : std::uint8_t {
  expert,     ///< a matrix of an expert, or a stack
  linear,     ///< a linear layer's
  router,     ///< a linear layer's too, but no reader has it quantised
  output,     ///< lm_head: a linear layer's, left alone unless asked for
  embedding,  ///< a table
  other       ///< a norm, a bias, a convolution
};
[[nodiscard]] weight_role role_of(const io::tensor_info& tensor, const model_family& family);
[[nodiscard]] std::string_view role_text(weight_role role) noexcept;  ///< "an embedding", ...

/// A 3-D tensor among the experts that is no expert's weight by its name, and no bias or scales of one.
[[nodiscard]] bool is_unknown_stack(const io::tensor_info& tensor) noexcept;

/// Is "..X.weight" one of the layers that family.transposed names?
[[nodiscard]] bool is_transposed(std::string_view name, const model_family& family) noexcept;

/// Which way the weight "..X.weight" lies by its bias, which has a number for each output; unknown where there is none,
/// or where both axes have its length.
[[nodiscard]] stack_axes axes_by_bias(const io::tensor_info& weight,
                                      const std::function<const io::tensor_info*(const std::string&)>& find);

/// Is a part of a tensor's name one of these?
[[nodiscard]] bool is_one_of(std::string_view part, std::initializer_list<std::string_view> parts) noexcept;

}  // namespace mxfp4::checkpoint
