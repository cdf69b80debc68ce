// src/checkpoint/fp8_scales.hpp -- the scales of FP8 weights: where they are, what they lie over, and w * scale.
// SPDX-License-Identifier: Apache-2.0
//
//   weight X            F8_E4M3 [rows, cols], or a stack [experts, rows, cols]
//   its scales          X_scale_inv, X_scale, or P.scale where X is P.weight      F32, BF16, F16 or F8_E8M0
//
//   shape of the scales                                 a scale is for             found in
//   [], [1]                                             the tensor                 compressed-tensors, ModelOpt
//   [rows], [rows, 1]                                   a row                      compressed-tensors, FBGEMM
//   [ceil(rows / r), ceil(cols / c)]                    r x c weights              DeepSeek-V3, V4; r x c is
//                                                                                  weight_block_size, else 128 x 128
//   [rows, cols / 32], U8 or F8_E8M0                    32 of a row                MXFP8
//
// A stack has these for each of its experts, with [experts, 1, 1] or [experts] for one that is the expert's. Whatever
// the type, a scale multiplies: weight = bf16(w * scale), rounded once to nearest even, as vLLM and transformers read
// it. A byte of E8M0 is 2^(byte - 127), 255 is NaN.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/fp8_tiles.hpp"
#include "mxfp4/checkpoint/scale_grid.hpp"
#include "mxfp4/checkpoint/tensor_job.hpp"
#include "mxfp4/core/float_types.hpp"
#include "mxfp4/core/status.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// A tensor's type and shape, for a message.
[[nodiscard]] std::string described(const io::tensor_info& tensor);

/// A tensor by its name; nullptr where there is none.
using find_function = std::function<const io::tensor_info*(const std::string& name)>;

struct fp8_scales_result {
  const io::tensor_info* scales = nullptr;  ///< nullptr where `why` is not empty
  scale_grid grid;
  std::string why;  ///< what is wrong: "F8_E4M3 without 'X_scale_inv' or 'X_scale'"
};

/// @param weight      F8_E4M3.
/// @param block_size  what config.json says in weight_block_size.
[[nodiscard]] fp8_scales_result find_fp8_scales(const io::tensor_info& weight, const find_function& find,
                                                const std::optional<scale_grid>& block_size);

/// The weight whose scales a tensor of this name may hold, as find_fp8_scales looks for them; nullptr for none.
[[nodiscard]] const io::tensor_info* fp8_owner_of_scales(const std::string& name, const find_function& find);

/// What the scale of the activations that meet FP8 weights P.weight may be called: P.input_scale, P.activation_scale.
/// It is of no use where the weights are no longer FP8.
[[nodiscard]] std::vector<std::string> fp8_activation_names(const std::string& weight);

/// The FP8 weight of which `name` holds the scale of the activations; nullptr for none.
[[nodiscard]] const io::tensor_info* fp8_owner_of_activations(const std::string& name, const find_function& find);

/// The scales of a tile of FP8 weights.
struct fp8_scale_tile {
  std::vector<float> values;                  ///< row by row
  std::int64_t rows = 0, cols = 0;            ///< of scales
  std::int64_t rows_each = 0, cols_each = 0;  ///< weights that one is for
  std::int64_t first_col = 0;                 ///< weights of the first column of scales that lie before the tile

  [[nodiscard]] bool is_coarse() const noexcept { return rows_each == fp8_block; }  ///< 128 x 128, from its corner on
};

/// Reads the scales of one tensor, tile by tile.
class fp8_scale_reader {
 public:
  fp8_scale_reader() = default;
  /// @param rows, cols  of one matrix of the weight.
  fp8_scale_reader(const io::tensor_info& scales, scale_grid grid, std::int64_t rows, std::int64_t cols);

  /// @param matrix  of a stack; else 0.  @param tile  as for_each_fp8_tile has them, or one row from any column on.
  void read(const read_function& read, std::int64_t matrix, const fp8_tile& tile, fp8_scale_tile& out) const;

 private:
  io::dtype type_ = io::dtype::f32;
  scale_grid grid_;
  std::int64_t bands_ = 0, across_ = 0, rows_ = 0, cols_ = 0;
  bool coarse_ = true, for_all_ = false;
};

/// bf16(w * scale) of a tile, element after element.
[[nodiscard]] status widen_fp8_tile(const e4m3* w, const fp8_tile& tile, const fp8_scale_tile& scales, bf16* out);

}  // namespace mxfp4::checkpoint
