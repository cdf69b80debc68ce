// mxfp4/checkpoint/plan.hpp -- what becomes of each tensor of a checkpoint, before a weight is read.
// SPDX-License-Identifier: Apache-2.0
//
//   action      what it is for                              what is written
//   quantize    matrices that were asked for                X_packed U8 [.., cols / 2], X_scale U8 [.., cols / 32]
//   widen_fp8   other F8_E4M3 with block scales             X BF16: bf16(w * scale), nearest even
//   keep_fp8    the same, where FP8 is to stay              X F8_E4M3 as it is, X_scale F32: the block scales renamed
//   fp8_scales  X_scale_inv F32 of one of these             nothing of its own
//   copy        everything else                             the same bytes under the same name
//
// Shapes: a matrix is [rows, cols]; stacked experts are [experts, rows, cols]. The blocks lie along cols, which is the
// dimension that a layer sums over.
// Source of the names: compressed-tensors (mxfp4-pack-quantized, float-quantized), DeepSeek's FP8 (weight_scale_inv).
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mxfp4/core/version.hpp"
#include "mxfp4/io/safetensors.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

enum class tensor_action : std::uint8_t { quantize, widen_fp8, keep_fp8, fp8_scales, copy };
[[nodiscard]] const char* action_name(tensor_action action) noexcept;  ///< as the enumerator is written

/// What becomes of F8_E4M3 matrices that are not quantised. `copy` leaves weights and scales under the names they have:
/// right for a file by itself, but no reader of compressed-tensors checkpoints takes them.
enum class fp8_policy : std::uint8_t { widen, keep, copy };

struct plan_options {
  std::optional<std::string> include;  ///< RE2's syntax, searched in the tensor's name; without it: is_expert_weight
  std::optional<std::string> exclude;  ///< the same; wins over include
  fp8_policy others = fp8_policy::widen;
};

struct planned_tensor {
  static constexpr std::size_t no_scales = std::numeric_limits<std::size_t>::max();

  io::tensor_info source;
  tensor_action action = tensor_action::copy;
  std::string reason;                    ///< why it is not quantised; empty where it is
  std::vector<io::tensor_info> outputs;  ///< begin = 0, end = bytes; two for quantize and keep_fp8, none for fp8_scales
  std::size_t scales = no_scales;        ///< index of X_scale_inv in the plan; it may lie in another file than X

  [[nodiscard]] std::uint64_t output_bytes() const noexcept;
};

struct quantization_plan {
  std::vector<planned_tensor> tensors;  ///< in the order given

  std::int64_t experts = 0;                         ///< that are quantised, at least in part; a stack of E counts E
  std::int64_t matrices = 0;                        ///< that are quantised; a stack of E counts E
  std::int64_t weights = 0;                         ///< that are quantised
  std::uint64_t bytes_before = 0, bytes_after = 0;  ///< tensor data
};

/// A weight of an expert: "..experts.<n>.<part>.weight", 2-D, with a part of w1, w2, w3, gate_proj, up_proj, down_proj;
/// or "..experts.<part>", ".weight" or not, 3-D, with a part of gate_up_proj, gate_proj, up_proj, down_proj. Shared
/// experts are none: every token takes them.
[[nodiscard]] bool is_expert_weight(std::string_view name, std::size_t dimensions) noexcept;

/// @param tensors  of the whole checkpoint, names unique; begin and end as in their files.
/// @param where    the checkpoint's path, for the error.
/// An error for a pattern that RE2 does not take, a name that an output needs and that is taken, an expert's weights
/// that cannot be quantised where no include asks for fewer, and F8_E4M3 without fitting block scales, unless `others`
/// is copy.
[[nodiscard]] io::file_result<quantization_plan> make_plan(std::vector<io::tensor_info> tensors,
                                                           const plan_options& options, const std::string& where);

}  // namespace mxfp4::checkpoint
