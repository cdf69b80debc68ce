// src/checkpoint/expert_stack.cpp -- see expert_stack.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/expert_stack.hpp"

#include <algorithm>
#include <cstring>

#include "mxfp4/checkpoint/quantize_file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

constexpr std::string_view fused_part = "gate_up_proj", down_part = "down_proj", w_down_part = "w2";
constexpr std::string_view granite_fused = "input_linear", granite_down = "output_linear";

/// "P.experts.gate_up_proj", ".weight" or not, taken apart. GraniteMoe's "P.input_linear" and "P.output_linear" become
/// the same: loaders of MXFP4 know them by these names.
struct stack_name {
  std::string prefix, part;
  std::string fused, down;  ///< the names of these two of the same experts in the file
};

[[nodiscard]] stack_name parse(std::string_view name) {
  stack_name n;
  if (name.ends_with(weight_suffix)) name.remove_suffix(weight_suffix.size());
  const std::size_t dot = name.rfind('.');
  n.prefix = name.substr(0, dot + 1);
  n.part = name.substr(dot + 1);
  const bool is_granite = n.part == granite_fused || n.part == granite_down;
  n.fused = n.prefix + std::string(is_granite ? granite_fused : fused_part);
  n.down = n.prefix + std::string(is_granite ? granite_down : down_part);
  if (is_granite) {
    n.part = n.part == granite_fused ? fused_part : down_part;
    n.prefix += "experts.";
  }
  return n;
}

/// The sizes behind that which counts the experts.
struct sizes {
  std::int64_t first = 0, last = 0;
};
[[nodiscard]] sizes sizes_of(const tensor_info& stack) { return {stack.shape[1], stack.shape[2]}; }

[[nodiscard]] stack_axes by_pair(sizes gate_up, sizes down) {
  const bool out_in = gate_up.last == down.first && gate_up.first == 2 * down.last;
  const bool in_out = gate_up.first == down.last && gate_up.last == 2 * down.first;
  if (out_in == in_out) return stack_axes::unknown;
  return out_in ? stack_axes::out_in : stack_axes::in_out;
}

}  // namespace

stack_axes_result find_axes(const tensor_info& stack, const stack_context& context) {
  const stack_name name = parse(stack.name);
  const auto beside = [&](const std::string& other) -> const tensor_info* {
    for (const std::string_view suffix : {std::string_view(), weight_suffix})
      if (const tensor_info* t = context.find(other + std::string(suffix)))
        if (t->shape.size() == 3) return t;
    return nullptr;
  };
  const tensor_info *fused = beside(name.fused), *down = beside(name.down);
  if (fused != nullptr && down != nullptr && (name.part == fused_part || name.part == down_part)) {
    if (const stack_axes axes = by_pair(sizes_of(*fused), sizes_of(*down)); axes != stack_axes::unknown)
      return {axes, ""};
    return {stack_axes::unknown, quote_name(fused->name) + " " + shape_text(fused->shape) + " and " +
                                     quote_name(down->name) + " " + shape_text(down->shape) +
                                     " are not gate, up and down matrices of one size"};
  }
  const sizes s = sizes_of(stack);
  if (s.first != s.last) {
    const tensor_info* bias = context.find(name.prefix + name.part + "_bias");
    if (bias != nullptr && bias->shape.size() == 2) {
      if (bias->shape[1] == s.first) return {stack_axes::out_in, ""};
      if (bias->shape[1] == s.last) return {stack_axes::in_out, ""};
    }
    const bool first = s.first == context.hidden_size, last = s.last == context.hidden_size;
    if (first != last)
      return {last == (name.part != down_part && name.part != w_down_part) ? stack_axes::out_in : stack_axes::in_out,
              ""};
  }
  if (context.family.axes != stack_axes::unknown) return {context.family.axes, ""};
  return {stack_axes::unknown,
          "neither the shapes of the stacks nor hidden_size nor the model_type tell whether it is "
          "[experts, out, in] or [experts, in, out]"};
}

stack_layout layout_of(const tensor_info& stack, stack_axes axes, bool apart) {
  stack_layout l;
  l.transposed = axes == stack_axes::in_out;
  l.experts = stack.shape[0];
  l.parts = apart && parse(stack.name).part == fused_part ? 2 : 1;
  l.rows = stack.shape[l.transposed ? 2 : 1] / l.parts;
  l.cols = stack.shape[l.transposed ? 1 : 2];
  return l;
}

std::string stack_module(std::string_view stack) {
  const stack_name name = parse(stack);
  return name.prefix + name.part;
}

std::string matrix_name(std::string_view stack, const stack_layout& layout, std::int64_t matrix) {
  const stack_name name = parse(stack);
  const std::string part = layout.parts == 1 ? name.part : matrix % 2 == 0 ? "gate_proj" : "up_proj";
  return name.prefix + std::to_string(matrix / layout.parts) + "." + part + std::string(weight_suffix);
}

void read_matrix_tile(const read_function& read, const stack_layout& layout, std::int64_t matrix, const fp8_tile& tile,
                      std::int64_t size, std::span<std::byte> out) {
  const auto at = [size](std::int64_t element) { return static_cast<std::uint64_t>(element * size); };
  if (!layout.transposed) return read(at(matrix * layout.rows * layout.cols + tile.first(layout.cols)), out);
  const std::int64_t width = layout.parts * layout.rows, first = matrix % layout.parts * layout.rows + tile.row;
  const auto piece = static_cast<std::size_t>(tile.rows * size);
  for (std::int64_t c = 0; c < tile.cols; ++c)
    read(at((matrix / layout.parts * layout.cols + tile.col + c) * width + first),
         out.subspan(static_cast<std::size_t>(c) * piece, piece));
}

void arrange_tile(const stack_layout& layout, const fp8_tile& tile, std::int64_t size, std::span<std::byte> bytes,
                  std::vector<std::byte>& scratch) {
  if (!layout.transposed) return;
  scratch.assign(bytes.begin(), bytes.end());
  const auto width = static_cast<std::size_t>(size);
  // Squares, so that neither side leaves the cache between two elements of a line of it.
  constexpr std::int64_t edge = 64;
  for (std::int64_t c0 = 0; c0 < tile.cols; c0 += edge)
    for (std::int64_t r0 = 0; r0 < tile.rows; r0 += edge)
      for (std::int64_t r = r0; r < std::min(r0 + edge, tile.rows); ++r)
        for (std::int64_t c = c0; c < std::min(c0 + edge, tile.cols); ++c)
          std::memcpy(bytes.data() + (r * tile.cols + c) * size, scratch.data() + (c * tile.rows + r) * size, width);
}

std::string place_in_stack(const stack_layout& layout, std::int64_t matrix, std::int64_t row, std::int64_t col) {
  const std::int64_t r = matrix % layout.parts * layout.rows + row;
  return std::to_string(matrix / layout.parts) + ", " + std::to_string(layout.transposed ? col : r) + ", " +
         std::to_string(layout.transposed ? r : col);
}

}  // namespace mxfp4::checkpoint
