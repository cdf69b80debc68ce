// mxfp4/checkpoint/plan.hpp -- what becomes of each tensor of a checkpoint, before a weight is read.
// SPDX-License-Identifier: Apache-2.0
//
//   action      what it is for                              what is written
//   quantize    matrices that were asked for                X_packed U8 [rows, cols / 2], X_scale U8 [rows, cols / 32]
//               stacks of experts, which loaders take one   P.<e>.gate_proj.weight_packed, _scale, up_proj, down_proj
//               by one; those of gpt_oss as a whole         X_blocks U8 [experts, rows, cols / 32, 16], X_scales
//   widen_fp8   other F8_E4M3 with scales                   X BF16: bf16(w * scale), nearest even
//   keep_fp8    the same, where FP8 is to stay              X F8_E4M3 as it is, X_scale F32: the scales of 128 x 128
//                                                           weights, renamed
//   to_bf16     F16 and F32, where the model is to be BF16  X BF16, nearest even
//   fp8_scales  the scales of one of these, or of its       nothing of its own
//               activations
//   copy        everything else                             the same bytes under the same name
//
// Shapes: a matrix is [rows, cols]; stacked experts are [experts, rows, cols], in some families [experts, cols, rows].
// The blocks lie along cols, which is the dimension that a layer sums over. A stack gate_up_proj holds two matrices of
// each expert. Which way a stack lies is told by the shapes of gate_up_proj and down_proj together, else by the biases,
// by hidden_size, by the family; where nothing tells, it is refused. So is a gate_up_proj [experts, cols, rows] of a
// family that is not in the table: whether its gate and up rows are halves or take turns, no shape tells. GPT-2's files
// have its layers as [cols, rows], and vLLM, which alone loads them as MXFP4, wants [rows, cols]: their codes are those
// of the transposed matrix.
// Source of the names: compressed-tensors (mxfp4-pack-quantized, float-quantized), DeepSeek's FP8 (weight_scale_inv).
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mxfp4/checkpoint/scale_grid.hpp"
#include "mxfp4/core/version.hpp"
#include "mxfp4/io/safetensors.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// What becomes of a tensor.
enum class tensor_action : std::uint8_t { quantize, widen_fp8, keep_fp8, to_bf16, fp8_scales, copy };
[[nodiscard]] const char* action_name(tensor_action action) noexcept;  ///< as the enumerator is written

/// What becomes of F8_E4M3 matrices that are not quantised. `copy` leaves weights and scales under the names they have:
/// right for a file by itself, but no reader of compressed-tensors checkpoints takes them.
enum class fp8_policy : std::uint8_t { widen, keep, copy };

/// What decides a plan.
struct plan_options {
  std::optional<std::string> include;     ///< RE2's syntax, searched in the tensor's name; without it: is_expert_weight
  std::optional<std::string> exclude;     ///< the same; wins over include
  fp8_policy others = fp8_policy::widen;  ///< what becomes of FP8 that is not quantised

  bool linears = false;          ///< without include: every linear layer but routers and lm_head, not the experts alone
  bool any_matrix = false;       ///< false: include must not find what is no linear layer's weight, or a router's, and
                                 ///< the order of the rows of a stack must be known; true: halves
  bool to_bf16 = false;          ///< what is not quantised becomes BF16 where it has the model's type, F16 or F32
  std::string dtype = {};        ///< that type, as config.json has it: "float16"; empty: not known
  std::string model_type = {};   ///< as config.json has it; empty: not known
  std::int64_t hidden_size = 0;  ///< the same; 0: not known
  bool tied = false;             ///< the same: tie_word_embeddings, the output layer is the embedding
  std::optional<scale_grid> fp8_grid = {};  ///< weight_block_size of its quantization_config
};

/// A stack of experts: where each of its matrices [rows, cols] lies. A matrix that lies transposed is a stack of one.
struct stack_layout {
  std::int64_t experts = 1, parts = 1;  ///< matrices an expert has in it: gate_up_proj holds 2, one below the other
  std::int64_t rows = 0, cols = 0;      ///< of one matrix
  bool transposed = false;              ///< the stack is [experts, cols, parts * rows], the matrix [cols, rows]
};

/// A tensor of the input, and what becomes of it.
struct planned_tensor {
  /// The value of `scales` where there are none.
  static constexpr std::size_t no_scales = std::numeric_limits<std::size_t>::max();

  io::tensor_info source;                      ///< as the input has it
  tensor_action action = tensor_action::copy;  ///< what becomes of it
  std::string reason;                          ///< why it is not quantised; empty where it is
  /// begin = 0, end = bytes. Two for quantize, of a stack that is taken apart two for each matrix; two for keep_fp8,
  /// none for fp8_scales.
  std::vector<io::tensor_info> outputs;
  std::size_t scales = no_scales;  ///< index of the scales of FP8 in the plan; they may lie in another file than X
  scale_grid fp8_grid = {};        ///< what one of them is for

  std::optional<stack_layout> stack;  ///< of experts that are quantised, and of a matrix that is transposed for it

  [[nodiscard]] std::uint64_t output_bytes() const noexcept;  ///< of all its outputs
  /// Index of the codes of a matrix among the outputs; its scales follow.
  [[nodiscard]] std::size_t output_of(std::int64_t matrix) const noexcept {
    return outputs.size() == 2 ? 0 : 2 * static_cast<std::size_t>(matrix);
  }
};

/// What would be done, before a weight is read.
struct quantization_plan {
  std::vector<planned_tensor> tensors;  ///< in the order given

  std::int64_t experts = 0;                         ///< that are quantised, at least in part; a stack of E counts E
  std::int64_t matrices = 0;                        ///< that are quantised; a stack of E counts E
  std::int64_t weights = 0;                         ///< that are quantised
  std::uint64_t bytes_before = 0, bytes_after = 0;  ///< tensor data
  std::vector<std::string> warnings;                ///< what a user should know before weights are read
};

/// A weight of an expert: "..experts.<n>.<part>.weight", 2-D, with a part of w1, w2, w3, gate_proj, up_proj, down_proj;
/// or "..experts.<part>", ".weight" or not, 3-D, with one of these or gate_up_proj; or what GraniteMoe has for these,
/// "..input_linear", "..output_linear", 3-D. Shared experts are none: every token takes them.
[[nodiscard]] bool is_expert_weight(std::string_view name, std::size_t dimensions) noexcept;

/// @param tensors  of the whole checkpoint, names unique; begin and end as in their files.
/// @param where    the checkpoint's path, for the error.
/// An error for a pattern that RE2 does not take, a name that an output needs and that is taken, an expert's weights
/// that cannot be quantised where no include asks for fewer, experts of a family that nobody loads as MXFP4, a stack
/// that nothing tells the way of or the order of the rows, what include finds and is no linear layer's weight or the
/// embedding's, and F8_E4M3 without fitting scales, or to be kept with other scales than F32 of 128 x 128, unless
/// `others` is copy.
[[nodiscard]] io::file_result<quantization_plan> make_plan(std::vector<io::tensor_info> tensors,
                                                           const plan_options& options, const std::string& where);

}  // namespace mxfp4::checkpoint
