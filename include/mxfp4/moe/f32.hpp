// mxfp4/moe/f32.hpp -- the products of moe() in f32.
// SPDX-License-Identifier: Apache-2.0
//
// One token is multiplied as in gemv, more tokens as in gemm. The activations of an M tile (workspace.hpp) are stored
// as the panel that these kernels read.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "mxfp4/kernel/f32_gemm.hpp"
#include "mxfp4/kernel/f32_gemv.hpp"
#include "mxfp4/linalg/f32.hpp"
#include "mxfp4/moe/plan.hpp"
#include "mxfp4/tensor/packed_matrix.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::kernel {
inline namespace MXFP4_ISA_NS {

/// What the two classes below have in common: the tokens, and the M tiles made of them.
template <class X, class Table>
class moe_f32_m_tiles {
 public:
  moe_f32_m_tiles(const X& x, const mxfp4::detail::moe_memory& memory, std::int64_t top_k, const Table& table) noexcept
      : table_(table), x_(x), memory_(memory), top_k_(top_k) {}

 protected:
  [[no_unique_address]] Table table_;

  [[nodiscard]] mxfp4::detail::moe_m_tile& m_tile(std::int64_t index) const noexcept {
    return memory_.m_tiles[static_cast<std::size_t>(index)];
  }
  template <class F>
  void with_token(std::int64_t permuted_row, F f) const noexcept {
    with_row(x_, memory_.token_slot_at[static_cast<std::size_t>(permuted_row)] / top_k_, f);
  }
  [[nodiscard]] float* panel(std::int64_t index, std::int64_t cols) const noexcept {
    return reinterpret_cast<float*>(memory_.activations) + m_tile(index).offset * cols;
  }
  [[nodiscard]] std::int64_t cols() const noexcept { return x_.cols; }

 private:
  const X& x_;
  const mxfp4::detail::moe_memory& memory_;
  std::int64_t top_k_;
};

/// The products for several tokens.
/// @tparam Table  of the dialect: simd::static_weight_table or simd::weight_table.
template <class Arch, class Table, class X>
class moe_f32_gemm : moe_f32_m_tiles<X, Table> {
  using tile = detail::register_tile<Arch>;
  static_assert(tile::tokens - 1 <= mxfp4::detail::moe_padding);

 public:
  static constexpr mxfp4::detail::moe_m_tile_rule several_tokens{tile::tokens, true};
  [[nodiscard]] static mxfp4::detail::moe_m_tile_rule rule(const X&) noexcept { return several_tokens; }

  using moe_f32_m_tiles<X, Table>::moe_f32_m_tiles;

  void load(std::int64_t index) const noexcept {
    for (int t = 0; t < this->m_tile(index).tokens; ++t)
      this->with_token(this->m_tile(index).first + t, [&](const auto* from) { widen(from, this->cols(), index, t); });
    look_at(index, this->cols());
  }
  void load_hidden(std::int64_t index, const dense_view<float>& hidden) const noexcept {
    for (int t = 0; t < this->m_tile(index).tokens; ++t)
      widen(static_cast<const float*>(hidden.row(this->m_tile(index).first + t)), hidden.cols, index, t);
    look_at(index, hidden.cols);
  }

  template <class W>
  void multiply(const W& w, const moe_part& part, const dense_view<float>& y) const noexcept {
    const auto source = detail::f32_source<Arch>(f32_weights(w), this->table_);
    const std::int64_t cols = source.blocks() * block_size;
    const float* const tokens = this->panel(part.expert.first_m_tile, cols);
    const detail::token_tiles<Arch> all{part.expert.first, part.expert.last};
    const std::int64_t count = all.count(), most = tile::panel_tokens / tile::tokens, stride = tile::tokens * cols;
    if constexpr (decltype(source)::has_lines) {
      bool hold = detail::suits_lines(all, source.rows());
      for (std::int64_t i = part.expert.first_m_tile; hold && i < part.expert.last_m_tile; ++i)
        hold = this->m_tile(i).lines_hold;
      if (hold) {
        detail::for_each_pass(cols, detail::columns_at_once<Arch>(count), false,
                              [&](std::int64_t done, std::int64_t now, bool add) {
                                detail::multiply_f32_by_lines<Arch>(source, part.first, part.last, done, now,
                                                                    tokens + done * tile::tokens, stride, all, y, add);
                              });
        return;
      }
    }
    for (std::int64_t top = 0; top < count; top += most) {
      const std::int64_t bottom = std::min(top + most, count);
      detail::for_each_pass(cols, detail::columns_at_once<Arch>(bottom - top), false,
                            [&](std::int64_t done, std::int64_t now, bool add) {
                              detail::multiply_f32_tiles<Arch>(source, part.first, part.last, done, now,
                                                               tokens + top * stride + done * tile::tokens, stride, all,
                                                               top, bottom, y, add);
                            });
    }
  }

 private:
  template <class Element>
  void widen(const Element* from, std::int64_t cols, std::int64_t index, int token) const noexcept {
    detail::widen_tokens<Arch, tile::tokens>(dense_view<const Element>{from, 1, cols, cols}, 0, 1, 0, cols,
                                             this->panel(index, cols) + token);
  }
  void look_at(std::int64_t index, std::int64_t cols) const noexcept {
    mxfp4::detail::moe_m_tile& m = this->m_tile(index);
    if (simd::line_decoder<Arch>::available && m.tokens <= detail::line_shape<Arch>::most_tokens)
      m.lines_hold = detail::lines_hold<tile::tokens>(this->panel(index, cols), cols, m.tokens);
  }
};

/// The products for one token: an M tile is one, in the order that the kernel for W's layout reads.
template <class Arch, class Table, class X, class W>
class moe_f32_gemv : moe_f32_m_tiles<X, Table> {
  using weights = decltype(f32_weights(std::declval<const W&>()));  // packed_view or a view

 public:
  [[nodiscard]] static mxfp4::detail::moe_m_tile_rule rule(const X&) noexcept { return {1, true}; }

  using moe_f32_m_tiles<X, Table>::moe_f32_m_tiles;

  void load(std::int64_t index) const noexcept {
    this->with_token(this->m_tile(index).first, [&](const auto* from) { widen(index, from, this->cols(), weights{}); });
  }
  void load_hidden(std::int64_t index, const dense_view<float>& hidden) const noexcept {
    widen(index, static_cast<const float*>(hidden.row(this->m_tile(index).first)), hidden.cols, weights{});
  }

  void multiply(const W& w, const moe_part& part, const dense_view<float>& y) const noexcept {
    const weights rows = f32_weights(w);
    const std::int64_t cols = columns(rows);
    const std::int64_t top = part.first * tile_rows, bottom = std::min(part.last * tile_rows, rows.rows);
    for (std::int64_t index = part.expert.first_m_tile; index < part.expert.last_m_tile; ++index)
      detail::for_each_pass(cols, gemv_columns, false, [&](std::int64_t done, std::int64_t now, bool add) {
        multiply_rows(rows, top, bottom, done, now, this->panel(index, cols) + done, y.row(this->m_tile(index).first),
                      add);
      });
  }

 private:
  static std::int64_t columns(const packed_view& w) noexcept { return w.cols(); }
  template <block_layout Layout>
  static std::int64_t columns(const const_mx_view<Layout>& w) noexcept {
    return w.cols;
  }

  template <class Element, block_layout Layout>
  void widen(std::int64_t index, const Element* from, std::int64_t cols, const const_mx_view<Layout>&) const noexcept {
    detail::widen_for_rows<Arch, typename Layout::order>(from, cols, this->panel(index, cols));
  }
  template <class Element>
  void widen(std::int64_t index, const Element* from, std::int64_t cols, const packed_view&) const noexcept {
    detail::widen_for_tiles<Arch>(from, cols, this->panel(index, cols));
  }

  template <block_layout Layout>
  void multiply_rows(const const_mx_view<Layout>& w, std::int64_t top, std::int64_t bottom, std::int64_t done,
                     std::int64_t cols, const float* x, float* y, bool add) const noexcept {
    detail::multiply_f32_rows<Arch>(this->table_, w, top, bottom, done, cols, x, y, add);
  }
  void multiply_rows(const packed_view& w, std::int64_t top, std::int64_t bottom, std::int64_t done, std::int64_t cols,
                     const float* x, float* y, bool add) const noexcept {
    detail::multiply_f32_rows<Arch>(this->table_, w, top, bottom, done, cols, x, detail::all_small(x, cols), y, add);
  }
};

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
