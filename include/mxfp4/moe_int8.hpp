// mxfp4/moe_int8.hpp -- floor 8: the products of moe() in int8.
// SPDX-License-Identifier: Apache-2.0
//
// A unit is a group of tokens as the int8 kernels read it (activation.hpp), its tokens copied from x or quantised from the
// hidden activations.
// Reads: linalg_int8.hpp, moe_plan.hpp.  Read by: moe.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mxfp4/activation.hpp"
#include "mxfp4/kernel/activation.hpp"
#include "mxfp4/linalg_int8.hpp"
#include "mxfp4/moe_plan.hpp"

namespace mxfp4::kernel {
inline namespace MXFP4_ISA_NS {

[[nodiscard]] inline packed_source int8_source(const packed_matrix& w) noexcept { return {w}; }
template <class Byte, block_layout Layout>
[[nodiscard]] view_source<Byte, Layout> int8_source(const basic_mx_view<Byte, Layout>& w) noexcept {
  return {w};
}

/// The units as multiply_tile asks for groups; rows of its Y are places.
class unit_groups {
 public:
  unit_groups(const mxfp4::detail::moe_memory& memory, int8_scaling scaling, std::int64_t blocks) noexcept
      : units_(memory.units.data()), memory_(memory.activations), scaling_(scaling), blocks_(blocks) {}

  [[nodiscard]] int8_scaling scaling() const noexcept { return scaling_; }
  [[nodiscard]] int width(std::int64_t unit) const noexcept { return units_[unit].width; }
  [[nodiscard]] int rows_in(std::int64_t unit) const noexcept { return units_[unit].tokens; }
  [[nodiscard]] std::int64_t first_row(std::int64_t unit) const noexcept { return units_[unit].first; }
  [[nodiscard]] const float* finish(std::int64_t unit) const noexcept { return units_[unit].finish; }
  [[nodiscard]] mxfp4::detail::gain_range gains(std::int64_t unit) const noexcept { return units_[unit].gains; }
  [[nodiscard]] std::uint8_t* block(std::int64_t unit, std::int64_t b) const noexcept {
    return memory_ + units_[unit].offset * blocks_ * int8_activations::block_bytes_at(1) +
           b * int8_activations::block_bytes_at(units_[unit].width);
  }

 private:
  const mxfp4::detail::moe_unit* units_;
  std::uint8_t* memory_;
  int8_scaling scaling_;
  std::int64_t blocks_;
};

template <class Arch>
class moe_int8 {
 public:
  static constexpr mxfp4::detail::moe_unit_rule rule{token_group, false};

  moe_int8(const int8_activations& x, const mxfp4::detail::moe_memory& memory, std::int64_t top_k) noexcept
      : x_(x), memory_(memory), top_k_(top_k) {}

  /// Unit `u` gets its tokens of x. The gains are those of all tokens in the groups they come from: that decides only
  /// which of two paths with the same bits is taken.
  void load(std::int64_t u) const noexcept {
    mxfp4::detail::moe_unit& unit = memory_.units[static_cast<std::size_t>(u)];
    const unit_groups to(memory_, x_.scaling(), x_.blocks());
    clear(unit, to.block(u, 0), x_.blocks());
    for (int t = 0; t < unit.tokens; ++t) {
      const std::int64_t m = memory_.pair_at[static_cast<std::size_t>(unit.first + t)] / top_k_;
      const std::int64_t group = m / token_group;
      const int lane = static_cast<int>(m % token_group), from_width = x_.width(group);
      const mxfp4::detail::gain_range gains = x_.gains(group);
      if (t == 0 || gains.low < unit.gains.low) unit.gains.low = gains.low;
      if (t == 0 || gains.high > unit.gains.high) unit.gains.high = gains.high;
      unit.finish[t] = x_.finish(group)[lane];
      for (std::int64_t b = 0; b < x_.blocks(); ++b) {
        const std::uint8_t* const from = x_.block(group, b) + 4 * lane;
        std::uint8_t* const at = to.block(u, b) + 4 * t;
        for (int word = 0; word < block_quads + 2; ++word)  // codes, seed, scale
          std::memcpy(at + 4 * word * unit.width, from + 4 * word * from_width, 4);
      }
    }
  }

  /// Unit `u` gets its rows of the hidden activations, quantised.
  void load_hidden(std::int64_t u, const dense_view<float>& hidden) const noexcept {
    mxfp4::detail::moe_unit& unit = memory_.units[static_cast<std::size_t>(u)];
    const std::int64_t blocks = hidden.cols / block_size;
    std::uint8_t* const at = unit_groups(memory_, x_.scaling(), blocks).block(u, 0);
    clear(unit, at, blocks);
    token_writer writer{at, x_.scaling(), 0, unit.width};
    for (; writer.token < unit.tokens; ++writer.token)
      unit.finish[writer.token] =
          quantize_token<Arch>(static_cast<const float*>(hidden.row(unit.first + writer.token)), blocks, writer);
    if (writer.gains.low <= writer.gains.high) unit.gains = writer.gains;
  }

  /// Rows of tiles [first, last) of W times an expert's units, into the places of y.
  template <class W>
  void multiply(const W& w, const moe_part& part, const dense_view<float>& y) const noexcept {
    const auto source = int8_source(w);
    const unit_groups x(memory_, x_.scaling(), source.blocks());
    const std::int64_t last_unit = part.expert.last_unit;
    for (std::int64_t g = part.expert.first_unit; g < last_unit; g += groups_at_once)
      for (std::int64_t t = part.first; t < part.last; ++t)
        multiply_tile<Arch>(source, x, y, t, g, g + groups_at_once < last_unit ? g + groups_at_once : last_unit, false);
  }

 private:
  /// Tokens that fill a unit up are zeros.
  static void clear(mxfp4::detail::moe_unit& unit, std::uint8_t* at, std::int64_t blocks) noexcept {
    unit.gains = {};
    if (unit.width > unit.tokens)
      std::memset(at, 0, static_cast<std::size_t>(blocks * int8_activations::block_bytes_at(unit.width)));
  }

  const int8_activations& x_;
  const mxfp4::detail::moe_memory& memory_;
  std::int64_t top_k_;
};

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
