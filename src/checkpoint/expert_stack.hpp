// src/checkpoint/expert_stack.hpp -- which way a stack of experts lies, and its matrices read out of it.
// SPDX-License-Identifier: Apache-2.0
//
//   stack [experts, rows, cols] or [experts, cols, rows]          what tells which of the two
//   P.gate_up_proj with P.down_proj                               gate_up has twice as many rows as down has columns
//   P.gate_up_proj_bias [experts, rows], P.down_proj_bias         the rows
//   any, where the rows and the columns differ                    cols of gate and up, rows of down: hidden_size
//   any                                                           the family
//
// Matrix m of a stack is that of expert m / parts; of gate_up_proj the gate matrix comes first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/family.hpp"
#include "checkpoint/fp8_tiles.hpp"
#include "mxfp4/checkpoint/plan.hpp"
#include "mxfp4/checkpoint/tensor_job.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// What is known beside the stack.
struct stack_context {
  std::function<const io::tensor_info*(const std::string& name)> find;  ///< nullptr where there is none
  const model_family& family;
  std::int64_t hidden_size = 0;  ///< 0: not known
};

struct stack_axes_result {
  stack_axes axes = stack_axes::unknown;
  std::string why;  ///< why nothing tells; empty where something does
};

/// @param stack  3-D, is_expert_weight.
[[nodiscard]] stack_axes_result find_axes(const io::tensor_info& stack, const stack_context& context);

/// @param apart  a stack gate_up_proj is two matrices of each expert, and not one of twice the rows.
[[nodiscard]] stack_layout layout_of(const io::tensor_info& stack, stack_axes axes, bool apart);

/// "P.experts.gate_up_proj" of a stack of that name or of "P.input_linear.weight".
[[nodiscard]] std::string stack_module(std::string_view stack);

/// "P.<e>.gate_proj.weight" of matrix m of a stack "P.gate_up_proj".
[[nodiscard]] std::string matrix_name(std::string_view stack, const stack_layout& layout, std::int64_t matrix);

/// A tile of a matrix in the order in which the file has it, elements of `size` bytes: of a transposed stack these are
/// columns, which arrange_tile puts in order.
void read_matrix_tile(const read_function& read, const stack_layout& layout, std::int64_t matrix, const fp8_tile& tile,
                      std::int64_t size, std::span<std::byte> out);

/// [cols, rows] to [rows, cols]: what read_matrix_tile has read of a transposed stack.
void arrange_tile(const stack_layout& layout, const fp8_tile& tile, std::int64_t size, std::span<std::byte> bytes,
                  std::vector<std::byte>& scratch);

/// The place of element [row, col] of a matrix in the stack, as "1, 5, 7".
[[nodiscard]] std::string place_in_stack(const stack_layout& layout, std::int64_t matrix, std::int64_t row,
                                         std::int64_t col);

}  // namespace mxfp4::checkpoint
