// src/checkpoint/expert_layers.hpp -- the experts of a mixture-of-experts checkpoint, whichever way they are stacked.
// SPDX-License-Identifier: Apache-2.0
//
//   P ends in ".experts"; G, U, D are gate_proj, up_proj, down_proj, or w1, w3, w2 where the checkpoint or the family
//   has it so; where neither says, after "block_sparse_moe".
//
//   per expert   P.<e>.G.weight, P.<e>.U.weight, P.<e>.D.weight                  a matrix each
//   stacked      P.gate_up_proj [E, 2 I, H]: gate rows, then up rows;            P.down_proj [E, H, I]
//   gpt-oss      P.gate_up_proj [E, 2 I, H]: gate and up rows take turns;        P.down_proj [E, H, I]
//   by part      P.G.weight [E, I, H], P.U.weight [E, I, H], P.D.weight [E, H, I]           what ggml has
//
// Each may come with biases, one number a row: ".bias" for ".weight", "_bias" behind gate_up_proj and down_proj.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/family.hpp"
#include "checkpoint/mxfp4_weights.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

enum class expert_role : std::uint8_t { gate, up, down };
inline constexpr std::array<expert_role, 3> expert_roles = {expert_role::gate, expert_role::up, expert_role::down};

/// Every step-th number of a tensor of biases.
struct bias_rows {
  const plain_tensor* tensor = nullptr;
  std::int64_t first = 0, step = 1;
};

struct expert_matrix {
  weight_rows weight;
  std::optional<bias_rows> bias;
};

struct expert_layer {
  std::string prefix;                ///< P
  std::array<std::string, 3> names;  ///< of the roles in a name per expert or by part
  std::array<std::vector<expert_matrix>, 3>
      by_role;  ///< experts in order; all roles that are there have the same number

  [[nodiscard]] const std::string& name(expert_role role) const { return names[static_cast<std::size_t>(role)]; }
  [[nodiscard]] const std::vector<expert_matrix>& experts(expert_role role) const {
    return by_role[static_cast<std::size_t>(role)];
  }
};

/// Points into the weight_list it was made from.
struct expert_model {
  std::vector<expert_layer> layers;         ///< in the order of their first weight
  std::vector<const mxfp4_weight*> dense;   ///< weights that are no expert's
  std::vector<const plain_tensor*> others;  ///< tensors that are neither weights nor biases of experts
};

/// @param family  says what experts are called where the checkpoint has stacks alone.
/// @param where   begins the messages: the checkpoint's path.
/// @throws file_error for an expert that is missing, there twice, or of another shape than its neighbours, and for
///         biases that do not fit.
[[nodiscard]] expert_model group_experts(const weight_list& list, const model_family& family, const std::string& where);

}  // namespace mxfp4::checkpoint
