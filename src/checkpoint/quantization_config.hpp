// src/checkpoint/quantization_config.hpp -- config.json of an MXFP4 checkpoint, and how its readers resolve it.
// SPDX-License-Identifier: Apache-2.0
//
//   "quantization_config": {"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized",
//     "config_groups": {"group_0": {"targets": ["re:.*\\.experts\\.[0-9]+\\.(gate_proj|up_proj|down_proj|w1|w2|w3)$"],
//                                   "weights": {4 bits, float, groups of 32, scales uint8},
//                                   "input_activations": null, ...}},
//     "ignore": ["re:.*\\.embed_tokens$", "re:.*\\.q_proj$", ..., "re:.*\\.gate$", "lm_head"], ...}
//
// A module takes the scheme of the group with a target that fits it: its exact name before a "re:" pattern, a pattern
// before its class; what fits `ignore` takes none. Patterns are Python's, matched from the start, open at the end. So:
//   - experts are a pattern, which holds the names of the file and those by which vLLM asks for them,
//     "<layer>.mlp.experts.0.gate_proj". The class Linear, the target where other layers are quantised too, would take
//     in what transformers builds under names that no tensor has (deepseek_v4, phimoe).
//   - every pattern of ignore ends in '$': "re:.*\\.gate" would fit gate_proj, and an "mlp" would fit vLLM's experts.
//     None of them fits a quantised module, under either name.
//   - ignore names every module whose matrix is left, the router's gate among them: each is of class Linear to some
//     reader. lm_head is named although a tied model has no such tensor.
//   - FP8 that stays beside MXFP4 is of class Linear, and MXFP4 has the patterns: transformers takes for experts the
//     first group whose patterns say "experts", for others the first whose do not.
// Source: compressed-tensors quantization/{quant_config,quant_args,quant_scheme}.py and utils/match.py, presets
// MXFP4A16 and FP8_BLOCK; vLLM quantization/compressed_tensors/{utils,compressed_tensors,compressed_tensors_moe}.py.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/name_pattern.hpp"
#include "mxfp4/checkpoint/activations.hpp"
#include "mxfp4/checkpoint/plan.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// The module that a weight belongs to: "a.b.weight", "a.b.weight_packed" -> "a.b". A stack's module is its own name.
[[nodiscard]] std::string module_of(std::string_view tensor);

/// The same of a tensor of the source: its stacks of experts have the module that loaders know them by.
[[nodiscard]] std::string module_of(const io::tensor_info& tensor);

/// What vLLM calls an expert of a checkpoint: "a.block_sparse_moe.experts.7.w1" -> "a.mlp.experts.7.gate_proj". Other
/// names stay as they are, but for the part block_sparse_moe.
[[nodiscard]] std::string vllm_module_name(std::string_view module);

/// Is this the weight of a linear layer, quantised or not? Matrices called weight, but for embeddings; stacked experts.
[[nodiscard]] bool is_linear_weight(const io::tensor_info& tensor);

/// The modules of a checkpoint that have a matrix, by what it is stored as. An expert's is one of itself; a stack, too,
/// stands for those of its experts.
struct linear_modules {
  std::vector<std::string> mxfp4, fp8, left;  ///< left: in any other type
  declared_activations activations = declared_activations::none;
  std::string_view also_ignored = {};  ///< names and patterns between blanks, where they fit none that is not left
};

/// Is this a matrix that some reader may take for a linear layer's, be it an embedding? A tensor X.weight, or a stack.
[[nodiscard]] bool has_matrix(const io::tensor_info& tensor);

/// @throws file_error beginning with `where` if there is no MXFP4 module.
[[nodiscard]] nlohmann::ordered_json make_quantization_config(const linear_modules& modules, const std::string& where);
/// The same for the plan's output; that of gpt-oss, which its loaders take with the form, where the plan writes it.
/// @param model_type  chooses what the family has different.
/// @throws file_error for activations that the form of gpt-oss cannot declare, and for FP8 ones of rows that are no
///         whole groups of 128.
[[nodiscard]] nlohmann::ordered_json make_quantization_config(
    const quantization_plan& plan, std::string_view model_type, const std::string& where,
    declared_activations activations = declared_activations::none);

/// What a quantization_config declares of the activations that MXFP4 weights are multiplied with (activations.hpp), and
/// what a server does with it: a sentence. The group of MXFP4 weights decides: FP8 beside them has a group of its own.
/// @param config  may be null.
[[nodiscard]] std::string activations_text(const nlohmann::ordered_json& config);

/// {"quant_method": "mxfp4", "modules_to_not_convert": [...]}. @param left  modules that are not MXFP4.
[[nodiscard]] nlohmann::ordered_json make_gpt_oss_config(const std::vector<std::string>& left);

/// The source's config.json with "quantization_config" in the place of the old one, or at the end, and none in its
/// "text_config"; every other key as it is. To be written with an indent of 2.
[[nodiscard]] nlohmann::ordered_json make_config(nlohmann::ordered_json source, const quantization_plan& plan,
                                                 const std::string& where,
                                                 declared_activations activations = declared_activations::none);

/// Says in "dtype", or "torch_dtype" where that is what there is, that the weights are bfloat16; in parts of it that
/// say a type, such as "text_config", too.
void set_bf16(nlohmann::ordered_json& config);

/// Takes what "text_config" and its like say of a quantization, which is no longer true.
void remove_nested_quantization(nlohmann::ordered_json& config);

/// Which group of a quantization_config a module belongs to, by the rules above.
class module_resolver {
 public:
  /// @param config  the quantization_config.  @param where  begins the messages.
  /// @throws file_error where config_groups, targets or ignore are not what they should be, or a pattern is none.
  module_resolver(const nlohmann::ordered_json& config, std::string where);

  /// The places that hold patterns which RE2 does not have, with what it says of them. Where there is one, group_of and
  /// ignores do not know the answer: such a pattern fits nothing.
  [[nodiscard]] const std::vector<std::string>& unchecked() const noexcept { return unchecked_; }

  /// The group's name; empty where the module keeps its precision.
  [[nodiscard]] std::string group_of(const std::string& module, const std::string& module_class = "Linear") const;
  [[nodiscard]] bool ignores(const std::string& module, const std::string& module_class = "Linear") const;

 private:
  struct target {
    std::string text;                     // exact name or class
    std::optional<name_pattern> pattern;  // of "re:..."
    std::string group;
  };
  [[nodiscard]] target make_target(const nlohmann::ordered_json& text, const std::string& place,
                                   const std::string& group);
  [[nodiscard]] static bool fits(const target& t, const std::string& module);

  std::string where_;
  std::vector<target> targets_, ignore_;
  std::vector<std::string> unchecked_;
};

}  // namespace mxfp4::checkpoint
