// mxfp4/moe/workspace.hpp -- the memory that moe() works in, and how tokens are put in the order of experts.
// SPDX-License-Identifier: Apache-2.0
//
//   token slot     a token m and one of its k experts: number m * k + slot
//   permuted row   the position of a token slot when all are sorted by expert, and within an expert by token: the rows
//                  of an expert are side by side
//   M tile         up to 16 consecutive permuted rows of one expert, whose activations are stored together
//
// The workspace, one array after the other:
//
//   token_slot_at     [permuted row]     a token slot
//   permuted_row_of   [token slot]       a permuted row
//   ends              [expert]           where its permuted rows end
//   experts           [active expert]    its permuted rows, M tiles and tasks
//   m_tiles           [M tile]           its permuted rows, and where its activations are
//   activations       [M tile]           of x; later the hidden ones
//   products          [permuted row]     of gate and up; later of down
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "mxfp4/core/aligned_buffer.hpp"
#include "mxfp4/tensor/activation.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// The sizes of a mixture of experts and of its input.
struct moe_shape {
  std::int64_t tokens = 0;        ///< M
  std::int64_t top_k = 0;         ///< experts of a token
  std::int64_t experts = 0;       ///< E
  std::int64_t hidden = 0;        ///< H: columns of x, gate and up, rows of down
  std::int64_t intermediate = 0;  ///< I: rows of gate and up, columns of down

  std::int64_t shared_experts = 0;       ///< S: those that every token passes
  std::int64_t shared_intermediate = 0;  ///< their I
};

/// The sizes of a grouped product (grouped_gemm).
struct grouped_gemm_shape {
  std::int64_t tokens = 0;   ///< M: rows of x
  std::int64_t experts = 0;  ///< E
  std::int64_t rows = 0;     ///< N, of each matrix
  std::int64_t cols = 0;     ///< K
};

namespace detail {

/// An M tile: which permuted rows, where their activations are stored, and what the int8 kernels need besides.
struct moe_m_tile {
  std::int64_t first;   ///< permuted row
  std::int64_t offset;  ///< of its activations, in lanes
  int tokens, width;    ///< rows that exist, and lanes that memory is reserved for: one for each term of a token
  scale_exponent_range scale_exponents;
  float finish[token_group];
  bool lines_hold = false;  ///< f32: its activations may be multiplied by lines (kernel/f32_lines.hpp)
};

/// An expert with tokens.
struct moe_expert {
  std::int64_t expert;
  std::int64_t first, last;                ///< its permuted rows
  std::int64_t first_m_tile, last_m_tile;  ///< its M tiles
  std::int64_t up_tasks, down_tasks;       ///< number of tasks of all experts up to and including this one
};

/// By how much the widths of an expert's M tiles, added up, exceed the number of its rows, at most, where a row is one
/// lane: only the last tile is rounded up, by 7 at most.
inline constexpr std::int64_t moe_padding = 7;

/// How many rows an M tile has, and how many lanes it reserves memory for.
struct moe_m_tile_rule {
  int tokens;     ///< rows at the most
  bool constant;  ///< every M tile reserves memory for that many; else for as many as int8_activations would
  int terms = 1;  ///< lanes of a token
  /// Rows of an expert before its M tile i, of `tiles` for `count`: the f32 kernels want tiles of about the same size.
  [[nodiscard]] MXFP4_INLINE constexpr std::int64_t before(std::int64_t count, std::int64_t i,
                                                           std::int64_t tiles) const noexcept {
    const std::int64_t full = i * tokens;
    return constant ? count * i / tiles : full < count ? full : count;
  }
  [[nodiscard]] MXFP4_INLINE constexpr int width(int count) const noexcept {
    return constant ? tokens : int8_activations::width_of(count * terms);
  }
};
[[nodiscard]] MXFP4_INLINE constexpr moe_m_tile_rule int8_m_tile_rule(int8_scaling scaling) noexcept {
  return {token_group / terms_of(scaling), false, terms_of(scaling)};
}

/// Do the activations of an expert with up to `most` rows fit where floats for its rows and for moe_padding more do?
[[nodiscard]] consteval bool fits_floats(moe_m_tile_rule rule, int most) noexcept {
  for (int rows = 1; rows <= most; ++rows) {
    const std::int64_t full = rows / rule.tokens * rule.width(rule.tokens), last = rule.width(rows % rule.tokens);
    const std::int64_t floats = (rows + moe_padding) * std::int64_t{sizeof(float)};
    if (int8_activations::block_bytes_at(static_cast<int>(full + last)) > floats * block_size) return false;
  }
  return true;
}
static_assert(fits_floats(int8_m_tile_rule(int8_scaling::e8m0), 64) &&
              fits_floats(int8_m_tile_rule(int8_scaling::residual2), 64) &&
              fits_floats(int8_m_tile_rule(int8_scaling::residual3), 64));

/// The parts of a workspace.
struct moe_memory {
  std::span<std::int64_t> token_slot_at, permuted_row_of, ends;  ///< see the top of this file
  std::span<moe_expert> experts;
  std::span<moe_m_tile> m_tiles;
  std::uint8_t* activations;
  float* products;
};

/// What plan_moe (moe/plan.hpp) finds out for the tasks of a call of moe().
struct moe_plan {
  moe_shape shape{};
  moe_memory memory{};
};

/// Adds up the sizes of arrays, each of which begins at a cache line; -1 once the sum does not fit 63 bits.
class running_offset {
 public:
  [[nodiscard]] MXFP4_INLINE static constexpr std::int64_t times(std::int64_t a, std::int64_t b) noexcept {
    return a < 0 || b < 0 || (b > 0 && a > int64_max / 2 / b) ? -1 : a * b;
  }
  /// Where the next `count` elements of `size` bytes begin.
  MXFP4_INLINE constexpr std::int64_t add(std::int64_t count, std::int64_t size) noexcept {
    const std::int64_t begin = end_, bytes = times(count, size);
    end_ = begin < 0 || bytes < 0 || bytes > int64_max / 2 - begin ? -1 : (begin + bytes + 63) / 64 * 64;
    return begin;
  }
  [[nodiscard]] MXFP4_INLINE constexpr std::int64_t end() const noexcept { return end_; }

 private:
  std::int64_t end_ = 0;
};

struct moe_offsets {
  std::int64_t token_slots, active, token_slot_at, permuted_row_of, ends, experts, m_tiles, activations, products,
      bytes;
};

/// What a workspace has room for.
struct moe_room {
  std::int64_t token_slots, experts;
  std::int64_t widest;    ///< floats of a row of activations
  std::int64_t products;  ///< of a permuted row
};
[[nodiscard]] MXFP4_INLINE constexpr moe_room room_of(const moe_shape& s) noexcept {
  const std::int64_t both = running_offset::times(2, s.intermediate);
  return {running_offset::times(s.tokens, s.top_k), s.experts, s.hidden > s.intermediate ? s.hidden : s.intermediate,
          s.hidden > both && both >= 0 ? s.hidden : both};
}
/// Of the experts that every token passes.
[[nodiscard]] MXFP4_INLINE constexpr moe_shape shared_shape(const moe_shape& s) noexcept {
  return {s.tokens, s.shared_experts, s.shared_experts, s.hidden, s.shared_intermediate};
}

/// Where the parts of a workspace begin; bytes is -1 where they do not fit 63 bits. More room never takes fewer.
[[nodiscard]] MXFP4_INLINE constexpr moe_offsets offsets_of(const moe_room& room) noexcept {
  running_offset next;
  moe_offsets o{};
  o.token_slots = room.token_slots;
  o.active = o.token_slots < room.experts ? o.token_slots : room.experts;
  o.token_slot_at = next.add(o.token_slots, std::int64_t{sizeof(std::int64_t)});
  o.permuted_row_of = next.add(o.token_slots, std::int64_t{sizeof(std::int64_t)});
  o.ends = next.add(room.experts, std::int64_t{sizeof(std::int64_t)});
  o.experts = next.add(o.active, std::int64_t{sizeof(moe_expert)});
  o.m_tiles = next.add(o.token_slots, std::int64_t{sizeof(moe_m_tile)});
  const std::int64_t padding = running_offset::times(o.active, moe_padding);
  const std::int64_t tokens = o.token_slots < 0 || padding < 0 ? -1 : o.token_slots + padding;
  o.activations = next.add(running_offset::times(tokens, room.widest), std::int64_t{sizeof(float)});
  o.products = next.add(running_offset::times(o.token_slots, room.products), std::int64_t{sizeof(float)});
  o.bytes = next.end();
  return o;
}

/// Of moe()'s own experts; then of those and the shared ones, which take turns.
[[nodiscard]] MXFP4_INLINE constexpr std::int64_t bytes_of(const moe_room& room) noexcept {
  return offsets_of(room).bytes;
}
[[nodiscard]] MXFP4_INLINE constexpr std::int64_t bytes_of(const moe_shape& s) noexcept {
  const std::int64_t routed = bytes_of(room_of(s)), shared = bytes_of(room_of(shared_shape(s)));
  return routed < 0 || shared < 0 ? -1 : routed > shared ? routed : shared;
}

}  // namespace detail

/// Is this a shape that moe() can work on?
MXFP4_INLINE constexpr status check(const moe_shape& s) noexcept {
  if (s.tokens < 0) return {errc::negative_size, "tokens", s.tokens, 0, "moe_shape"};
  if (s.top_k < 0) return {errc::negative_size, "top_k", s.top_k, 0, "moe_shape"};
  if (s.experts < 0) return {errc::negative_size, "experts", s.experts, 0, "moe_shape"};
  if (s.hidden < 0) return {errc::negative_size, "hidden", s.hidden, 0, "moe_shape"};
  if (s.intermediate < 0) return {errc::negative_size, "intermediate", s.intermediate, 0, "moe_shape"};
  if (s.hidden % block_size != 0) return {errc::not_blocks, "hidden", s.hidden, 0, "moe_shape"};
  if (s.intermediate % block_size != 0) return {errc::not_blocks, "intermediate", s.intermediate, 0, "moe_shape"};
  if (s.shared_experts < 0) return {errc::negative_size, "shared_experts", s.shared_experts, 0, "moe_shape"};
  if (s.shared_intermediate < 0)
    return {errc::negative_size, "shared_intermediate", s.shared_intermediate, 0, "moe_shape"};
  if (s.shared_intermediate % block_size != 0)
    return {errc::not_blocks, "shared_intermediate", s.shared_intermediate, 0, "moe_shape"};
  if (detail::bytes_of(s) < 0) return {errc::size_overflow, "tokens * top_k * hidden", s.tokens, 0, "moe_shape"};
  return {};
}

namespace detail {
[[nodiscard]] MXFP4_INLINE constexpr moe_room room_of(const grouped_gemm_shape& s) noexcept {
  return {s.tokens, s.experts, s.cols, s.rows};
}
}  // namespace detail

/// Is this a shape that grouped_gemm() can work on?
MXFP4_INLINE constexpr status check(const grouped_gemm_shape& s) noexcept {
  if (s.tokens < 0) return {errc::negative_size, "tokens", s.tokens, 0, "grouped_gemm_shape"};
  if (s.experts < 0) return {errc::negative_size, "experts", s.experts, 0, "grouped_gemm_shape"};
  if (s.rows < 0) return {errc::negative_size, "rows", s.rows, 0, "grouped_gemm_shape"};
  if (s.cols < 0) return {errc::negative_size, "cols", s.cols, 0, "grouped_gemm_shape"};
  if (s.cols % block_size != 0) return {errc::not_blocks, "cols", s.cols, 0, "grouped_gemm_shape"};
  if (detail::bytes_of(detail::room_of(s)) < 0)
    return {errc::size_overflow, "tokens * (rows + cols)", s.tokens, 0, "grouped_gemm_shape"};
  return {};
}

/// Memory for moe() and grouped_gemm(), owned, movable; for one call at a time. Between calls its contents are
/// unspecified.
/// Size: about M * k * (max(2 I, H) + max(I, H)) floats, and max(I, H) floats for up to 7 more rows of each expert that
/// has tokens: 0.9 MiB for one token of MiniMax-M2, 45 MiB for 128.
class moe_workspace {
 public:
  MXFP4_INLINE moe_workspace() = default;  // declared, so that they are inlined too: see MXFP4_INLINE
  MXFP4_INLINE moe_workspace(moe_workspace&&) = default;
  MXFP4_INLINE moe_workspace& operator=(moe_workspace&&) = default;
  MXFP4_INLINE ~moe_workspace() = default;

  /// For any call whose sizes are all at most these. errc::negative_size, not_blocks (H and I are multiples of 32),
  /// size_overflow, out_of_memory. What a layer's moe() needs suffices for its products one by one, of M * k rows.
  [[nodiscard]] MXFP4_INLINE static result<moe_workspace> create(const moe_shape& largest) noexcept {
    if (const status s = check(largest); !s.ok()) return s;
    return of_size(detail::bytes_of(largest));
  }
  /// For any call of grouped_gemm() whose sizes are all at most these. The same errors; K is a multiple of 32.
  [[nodiscard]] MXFP4_INLINE static result<moe_workspace> create_grouped(const grouped_gemm_shape& largest) noexcept {
    if (const status s = check(largest); !s.ok()) return s;
    return of_size(detail::bytes_of(detail::room_of(largest)));
  }

  /// What it holds: memory, in bytes.
  [[nodiscard]] MXFP4_INLINE std::int64_t bytes() const noexcept { return bytes_; }

  /// The parts for what fits: bytes_of(room) <= bytes().
  [[nodiscard]] MXFP4_INLINE detail::moe_memory parts(const detail::moe_room& room) noexcept {
    const detail::moe_offsets o = detail::offsets_of(room);
    return {part<std::int64_t>(o.token_slot_at, o.token_slots),
            part<std::int64_t>(o.permuted_row_of, o.token_slots),
            part<std::int64_t>(o.ends, room.experts),
            part<detail::moe_expert>(o.experts, o.active),
            part<detail::moe_m_tile>(o.m_tiles, o.token_slots),
            memory_.get() + o.activations,
            part<float>(o.products, 0).data()};
  }

 private:
  [[nodiscard]] MXFP4_INLINE static result<moe_workspace> of_size(std::int64_t bytes) noexcept {
    moe_workspace w;
    w.bytes_ = bytes;
    w.memory_ = detail::allocate(w.bytes_);
    if (w.memory_ == nullptr) return status{errc::out_of_memory, "moe_workspace", w.bytes_};
    return result<moe_workspace>(std::move(w));
  }

  template <class T>
  [[nodiscard]] MXFP4_INLINE std::span<T> part(std::int64_t offset, std::int64_t count) noexcept {
    return {reinterpret_cast<T*>(memory_.get() + offset), static_cast<std::size_t>(count)};
  }

  detail::aligned_buffer memory_;
  detail::owned_size bytes_;
};

}  // namespace mxfp4
