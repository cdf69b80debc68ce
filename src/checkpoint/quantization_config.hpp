// src/checkpoint/quantization_config.hpp -- config.json of an MXFP4 checkpoint, and how its readers resolve it.
// SPDX-License-Identifier: Apache-2.0
//
//   "quantization_config": {"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized",
//     "config_groups": {"group_0": {"targets": ["Linear"], "weights": {4 bits, float, groups of 32, scales uint8},
//                                   "input_activations": null, ...}},
//     "ignore": ["lm_head", "re:.*\\.q_proj$", ..., "re:.*\\.gate$"], ...}
//
// A module takes the scheme of the group with a target that fits it: its exact name before a "re:" pattern, a pattern
// before its class; what fits `ignore` takes none. Patterns are Python's, matched from the start, open at the end. So:
//   - targets ["Linear"]: vLLM asks for the experts of a layer as "<layer>.mlp.experts.0.gate_proj", whatever they are
//     called in the file; a pattern for w1, w2, w3 would leave them out.
//   - every pattern of ignore ends in '$': "re:.*\\.gate" would fit gate_proj, and an "mlp" would fit vLLM's experts.
//   - ignore names all linear layers that are left, the router's gate among them: some reader takes each for Linear.
//   - of FP8 layers vLLM asks for "qkv_proj" by pattern and class before it tries q_proj, k_proj, v_proj: the fused
//     name is a target too, or it would take the class's scheme, MXFP4.
// Source: compressed-tensors quantization/{quant_config,quant_args,quant_scheme}.py and utils/match.py, presets
// MXFP4A16 and FP8_BLOCK; vLLM quantization/compressed_tensors/{utils,compressed_tensors,compressed_tensors_moe}.py.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "mxfp4/checkpoint/plan.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// The module that a weight belongs to: "a.b.weight", "a.b.weight_packed" -> "a.b". A stack's module is its own name.
[[nodiscard]] std::string module_of(std::string_view tensor);

/// What vLLM calls an expert of a checkpoint: "a.block_sparse_moe.experts.7.w1" -> "a.mlp.experts.7.gate_proj". Other
/// names stay as they are, but for the part block_sparse_moe.
[[nodiscard]] std::string vllm_module_name(std::string_view module);

/// Is this the weight of a linear layer, quantised or not? Matrices called weight, but for embeddings; stacked experts.
[[nodiscard]] bool is_linear_weight(const io::tensor_info& tensor);

/// The linear layers of a checkpoint by what they are stored as.
struct linear_modules {
  std::vector<std::string> mxfp4, fp8, left;  ///< left: in any other type
};

/// @throws file_error beginning with `where` if there is no MXFP4 module.
[[nodiscard]] nlohmann::ordered_json make_quantization_config(const linear_modules& modules, const std::string& where);
/// The same for the plan's output.
[[nodiscard]] nlohmann::ordered_json make_quantization_config(const quantization_plan& plan, const std::string& where);

/// The source's config.json with "quantization_config" in the place of the old one, or at the end; every other key as
/// it is. To be written with an indent of 2.
[[nodiscard]] nlohmann::ordered_json make_config(nlohmann::ordered_json source, const quantization_plan& plan,
                                                 const std::string& where);

/// Which group of a quantization_config a module belongs to, by the rules above.
class module_resolver {
 public:
  /// @param config  the quantization_config.  @param where  begins the messages.
  /// @throws file_error where config_groups, targets or ignore are not what they should be, or a pattern is none.
  module_resolver(const nlohmann::ordered_json& config, std::string where);

  /// The group's name; empty where the module keeps its precision.
  [[nodiscard]] std::string group_of(const std::string& module, const std::string& module_class = "Linear") const;
  [[nodiscard]] bool ignores(const std::string& module, const std::string& module_class = "Linear") const;

 private:
  struct target {
    std::string text;                   // exact name or class
    std::optional<std::regex> pattern;  // of "re:..."
    std::string group;
  };
  [[nodiscard]] target make_target(const nlohmann::ordered_json& text, const std::string& place,
                                   const std::string& group) const;
  [[nodiscard]] static bool fits(const target& t, const std::string& module);

  std::string where_;
  std::vector<target> targets_, ignore_;
};

}  // namespace mxfp4::checkpoint
