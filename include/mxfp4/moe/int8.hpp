// mxfp4/moe/int8.hpp -- the products of moe() in int8.
// SPDX-License-Identifier: Apache-2.0
//
// An M tile (workspace.hpp) is a group of tokens as the int8 kernels read it (tensor/activation.hpp), a lane for each
// term: copied from x for the first products, quantised from the hidden activations for the last one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mxfp4/kernel/activation.hpp"
#include "mxfp4/linalg/int8.hpp"
#include "mxfp4/moe/plan.hpp"
#include "mxfp4/tensor/activation.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::kernel {
inline namespace MXFP4_ISA_NS {

/// The M tiles with the interface of int8_activations' groups, for multiply_int8_tile; rows of Y are permuted rows.
class m_tile_groups {
 public:
  m_tile_groups(const mxfp4::detail::moe_memory& memory, int8_scaling scaling, std::int64_t blocks) noexcept
      : m_tiles_(memory.m_tiles.data()), memory_(memory.activations), scaling_(scaling), blocks_(blocks) {}

  [[nodiscard]] int8_scaling scaling() const noexcept { return scaling_; }
  [[nodiscard]] int width(std::int64_t m_tile) const noexcept { return m_tiles_[m_tile].width; }
  [[nodiscard]] int rows_in(std::int64_t m_tile) const noexcept { return m_tiles_[m_tile].tokens; }
  [[nodiscard]] std::int64_t first_row(std::int64_t m_tile) const noexcept { return m_tiles_[m_tile].first; }
  [[nodiscard]] const float* finish(std::int64_t m_tile) const noexcept { return m_tiles_[m_tile].finish; }
  [[nodiscard]] mxfp4::detail::scale_exponent_range scale_exponents(std::int64_t m_tile) const noexcept {
    return m_tiles_[m_tile].scale_exponents;
  }
  [[nodiscard]] std::uint8_t* block(std::int64_t m_tile, std::int64_t b) const noexcept {
    return memory_ + m_tiles_[m_tile].offset * blocks_ * int8_activations::block_bytes_at(1) +
           b * int8_activations::block_bytes_at(m_tiles_[m_tile].width);
  }

 private:
  const mxfp4::detail::moe_m_tile* m_tiles_;
  std::uint8_t* memory_;
  int8_scaling scaling_;
  std::int64_t blocks_;
};

template <class Arch>
class moe_int8 {
 public:
  [[nodiscard]] static mxfp4::detail::moe_m_tile_rule rule(const int8_activations& x) noexcept {
    return mxfp4::detail::int8_m_tile_rule(x.scaling());
  }

  moe_int8(const int8_activations& x, const mxfp4::detail::moe_memory& memory, std::int64_t top_k) noexcept
      : x_(x), memory_(memory), top_k_(top_k) {}

  /// Copies the tokens of M tile `index` from x. Its range of scale exponents is that of the groups of x that they come
  /// from, perhaps wider than theirs alone: it only decides between two kernels that give the same bits.
  void load(std::int64_t index) const noexcept {
    mxfp4::detail::moe_m_tile& m_tile = memory_.m_tiles[static_cast<std::size_t>(index)];
    const m_tile_groups to(memory_, x_.scaling(), x_.blocks());
    clear(m_tile, to.block(index, 0), x_.blocks());
    for (int t = 0; t < m_tile.tokens; ++t) {
      const std::int64_t m = memory_.token_slot_at[static_cast<std::size_t>(m_tile.first + t)] / top_k_;
      const std::int64_t group = x_.group_of(m);
      const int lane = x_.lane_of(m), from_width = x_.width(group);
      const int terms = x_.terms();
      const mxfp4::detail::scale_exponent_range scale_exponents = x_.scale_exponents(group);
      if (t == 0 || scale_exponents.low < m_tile.scale_exponents.low) m_tile.scale_exponents.low = scale_exponents.low;
      if (t == 0 || scale_exponents.high > m_tile.scale_exponents.high)
        m_tile.scale_exponents.high = scale_exponents.high;
      m_tile.finish[t] = x_.finish(group)[m - x_.first_row(group)];
      for (std::int64_t b = 0; b < x_.blocks(); ++b) {
        const std::uint8_t* const from = x_.block(group, b) + 4 * lane;
        std::uint8_t* const at = to.block(index, b) + 4 * t * terms;
        for (int word = 0; word < block_quads + 2; ++word)  // the codes, then initial_sum and the scale
          for (int term = 0; term < terms; ++term)
            std::memcpy(at + 4 * (word * m_tile.width + term), from + 4 * (word * from_width + term), 4);
      }
    }
  }

  /// Quantises the hidden activations of M tile `index`.
  void load_hidden(std::int64_t index, const dense_view<float>& hidden) const noexcept {
    mxfp4::detail::moe_m_tile& m_tile = memory_.m_tiles[static_cast<std::size_t>(index)];
    const std::int64_t blocks = hidden.cols / block_size;
    std::uint8_t* const at = m_tile_groups(memory_, x_.scaling(), blocks).block(index, 0);
    clear(m_tile, at, blocks);
    token_writer writer{at, x_.scaling(), 0, m_tile.width};
    for (; writer.token < m_tile.tokens; ++writer.token)
      m_tile.finish[writer.token] =
          quantize_token<Arch>(static_cast<const float*>(hidden.row(m_tile.first + writer.token)), blocks, writer);
    if (writer.scale_exponents.low <= writer.scale_exponents.high) m_tile.scale_exponents = writer.scale_exponents;
  }

  /// The part's tiles of W times the M tiles of its expert, to the permuted rows of y.
  template <class W>
  void multiply(const W& w, const moe_part& part, const dense_view<float>& y) const noexcept {
    const auto source = int8_source(w);
    const m_tile_groups x(memory_, x_.scaling(), source.blocks());
    const std::int64_t last_m_tile = part.expert.last_m_tile;
    for (std::int64_t g = part.expert.first_m_tile; g < last_m_tile; g += groups_at_once)
      for (std::int64_t t = part.first; t < part.last; ++t)
        multiply_int8_tile<Arch>(source, x, y, t, g,
                                 g + groups_at_once < last_m_tile ? g + groups_at_once : last_m_tile, false);
  }

 private:
  /// Zeros for the lanes that fill up an M tile.
  void clear(mxfp4::detail::moe_m_tile& m_tile, std::uint8_t* at, std::int64_t blocks) const noexcept {
    m_tile.scale_exponents = {};
    if (m_tile.width > m_tile.tokens * x_.terms())
      std::memset(at, 0, static_cast<std::size_t>(blocks * int8_activations::block_bytes_at(m_tile.width)));
  }

  const int8_activations& x_;
  const mxfp4::detail::moe_memory& memory_;
  std::int64_t top_k_;
};

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
