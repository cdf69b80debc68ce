// mxfp4/moe/workspace.hpp -- the memory that moe() works in, and how tokens are put in the order of experts.
// SPDX-License-Identifier: Apache-2.0
//
//   token slot   a token and one of its k slots, numbered m * k + slot
//   permuted row  where a token slot stands once token slots are sorted by expert, tokens ascending: what an expert
//   works on is one run
//   m_tile   up to 16 token slots of an expert whose activations are stored together
//
//   [token slot at a permuted row][permuted row of a token slot][counts][active experts][m_tiles] | [activations of all
//   m_tiles] | [gate, up | down]
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "mxfp4/core/aligned_buffer.hpp"
#include "mxfp4/tensor/activation.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4 {

/// The sizes of a mixture of experts and of its input.
struct moe_shape {
  std::int64_t tokens = 0;        ///< M
  std::int64_t top_k = 0;         ///< experts of a token
  std::int64_t experts = 0;       ///< E
  std::int64_t hidden = 0;        ///< H: columns of x, gate and up, rows of down
  std::int64_t intermediate = 0;  ///< I: rows of gate and up, columns of down
};

namespace detail {

/// Activations of up to 16 token slots of an expert, and what the int8 kernels want to know of them.
struct moe_m_tile {
  std::int64_t first;   ///< permuted row of the first token slot
  std::int64_t offset;  ///< in the memory of activations, in tokens
  int tokens, width;    ///< token slots, and as many as memory is taken for
  scale_exponent_range scale_exponents;
  float finish[token_group];
};

/// An expert with tokens.
struct moe_expert {
  std::int64_t expert;
  std::int64_t first, last;                ///< its permuted rows
  std::int64_t first_m_tile, last_m_tile;  ///< its m_tiles
  std::int64_t up_tasks, down_tasks;       ///< tasks of the experts up to this one, itself included
};

/// Widths of an expert's m_tiles are so much more than its token slots, at the most: only the last m_tile is rounded
/// up, to 8.
inline constexpr std::int64_t moe_padding = 7;

/// How many tokens a m_tile has, and takes memory for.
struct moe_m_tile_rule {
  int tokens;     ///< at the most
  bool constant;  ///< every m_tile takes memory for so many; else as int8_activations rounds up
  [[nodiscard]] constexpr int width(int count) const noexcept {
    return constant ? tokens : int8_activations::width_of(count);
  }
};

/// The parts of a workspace.
struct moe_memory {
  std::span<std::int64_t> token_slot_at, permuted_row_of, ends;  ///< ends[e]: permuted rows of the experts up to e
  std::span<moe_expert> experts;
  std::span<moe_m_tile> m_tiles;
  std::uint8_t* activations;
  float* products;
};

/// What the tasks of a call of moe() have in common (moe/plan.hpp).
struct moe_plan {
  moe_shape shape{};
  moe_memory memory{};
};

/// Sizes one after the other, each from a cache line on; -1 once something does not fit 63 bits.
class moe_layout {
 public:
  [[nodiscard]] static constexpr std::int64_t times(std::int64_t a, std::int64_t b) noexcept {
    return a < 0 || b < 0 || (b > 0 && a > int64_max / 2 / b) ? -1 : a * b;
  }
  /// Where the next `count` elements of `size` bytes begin.
  constexpr std::int64_t add(std::int64_t count, std::int64_t size) noexcept {
    const std::int64_t begin = end_, bytes = times(count, size);
    end_ = begin < 0 || bytes < 0 || bytes > int64_max / 2 - begin ? -1 : (begin + bytes + 63) / 64 * 64;
    return begin;
  }
  [[nodiscard]] constexpr std::int64_t end() const noexcept { return end_; }

 private:
  std::int64_t end_ = 0;
};

struct moe_offsets {
  std::int64_t token_slots, active, token_slot_at, permuted_row_of, ends, experts, m_tiles, activations, products,
      bytes;
};

/// Where the parts of a workspace begin; bytes is -1 where they do not fit 63 bits. Larger shapes take no less.
[[nodiscard]] constexpr moe_offsets offsets_of(const moe_shape& s) noexcept {
  constexpr auto size = [](std::size_t bytes) { return static_cast<std::int64_t>(bytes); };
  moe_layout layout;
  moe_offsets o{};
  o.token_slots = moe_layout::times(s.tokens, s.top_k);
  o.active = o.token_slots < s.experts ? o.token_slots : s.experts;
  o.token_slot_at = layout.add(o.token_slots, size(sizeof(std::int64_t)));
  o.permuted_row_of = layout.add(o.token_slots, size(sizeof(std::int64_t)));
  o.ends = layout.add(s.experts, size(sizeof(std::int64_t)));
  o.experts = layout.add(o.active, size(sizeof(moe_expert)));
  o.m_tiles = layout.add(o.token_slots, size(sizeof(moe_m_tile)));
  const std::int64_t padding = moe_layout::times(o.active, moe_padding);
  const std::int64_t tokens = o.token_slots < 0 || padding < 0 ? -1 : o.token_slots + padding;
  const std::int64_t widest = s.hidden > s.intermediate ? s.hidden : s.intermediate;
  o.activations = layout.add(moe_layout::times(tokens, widest), size(sizeof(float)));
  const std::int64_t both = moe_layout::times(2, s.intermediate);
  o.products = layout.add(moe_layout::times(o.token_slots, s.hidden > both ? s.hidden : both), size(sizeof(float)));
  o.bytes = layout.end();
  return o;
}

}  // namespace detail

/// Is this a shape that moe() can work on?
constexpr status check(const moe_shape& s) noexcept {
  if (s.tokens < 0) return {errc::negative_size, "tokens", s.tokens, 0, "moe_shape"};
  if (s.top_k < 0) return {errc::negative_size, "top_k", s.top_k, 0, "moe_shape"};
  if (s.experts < 0) return {errc::negative_size, "experts", s.experts, 0, "moe_shape"};
  if (s.hidden < 0) return {errc::negative_size, "hidden", s.hidden, 0, "moe_shape"};
  if (s.intermediate < 0) return {errc::negative_size, "intermediate", s.intermediate, 0, "moe_shape"};
  if (s.hidden % block_size != 0) return {errc::not_blocks, "hidden", s.hidden, 0, "moe_shape"};
  if (s.intermediate % block_size != 0) return {errc::not_blocks, "intermediate", s.intermediate, 0, "moe_shape"};
  if (detail::offsets_of(s).bytes < 0)
    return {errc::size_overflow, "tokens * top_k * hidden", s.tokens, 0, "moe_shape"};
  return {};
}

/// Memory for moe(), owned, movable; for one call at a time. What it holds between calls is nobody's business.
/// About M * k * (max(2 I, H) + max(I, H)) floats, and up to 7 tokens more for each expert that has any: 0.9 MiB for
/// one token of MiniMax-M2, 45 MiB for 128.
class moe_workspace {
 public:
  moe_workspace() = default;

  /// For any call whose sizes are all at most these. errc::negative_size, not_blocks (H and I are multiples of 32),
  /// size_overflow, out_of_memory.
  [[nodiscard]] static result<moe_workspace> create(const moe_shape& largest) noexcept {
    if (const status s = check(largest); !s.ok()) return s;
    moe_workspace w;
    w.bytes_ = detail::offsets_of(largest).bytes;
    w.memory_ = detail::allocate(w.bytes_);
    if (w.memory_ == nullptr) return status{errc::out_of_memory, "moe_workspace", w.bytes_};
    return result<moe_workspace>(std::move(w));
  }

  [[nodiscard]] std::int64_t bytes() const noexcept { return bytes_; }

  /// The parts for a shape that fits: offsets_of(s).bytes <= bytes().
  [[nodiscard]] detail::moe_memory parts(const moe_shape& s) noexcept {
    const detail::moe_offsets o = detail::offsets_of(s);
    return {part<std::int64_t>(o.token_slot_at, o.token_slots),
            part<std::int64_t>(o.permuted_row_of, o.token_slots),
            part<std::int64_t>(o.ends, s.experts),
            part<detail::moe_expert>(o.experts, o.active),
            part<detail::moe_m_tile>(o.m_tiles, o.token_slots),
            memory_.get() + o.activations,
            part<float>(o.products, 0).data()};
  }

 private:
  template <class T>
  [[nodiscard]] std::span<T> part(std::int64_t offset, std::int64_t count) noexcept {
    return {reinterpret_cast<T*>(memory_.get() + offset), static_cast<std::size_t>(count)};
  }

  detail::aligned_buffer memory_;
  detail::owned_size bytes_;
};

}  // namespace mxfp4
