// mxfp4/moe_workspace.hpp -- floor 8: the memory that moe() works in, and how tokens are put in the order of experts.
// SPDX-License-Identifier: Apache-2.0
//
//   pair   a token and one of its k slots, numbered m * k + slot
//   place  where a pair stands once pairs are sorted by expert, tokens ascending: what an expert works on is one run
//   unit   up to 16 pairs of an expert whose activations are stored together
//
//   [pair at a place][place of a pair][counts][active experts][units] | [activations of all units] | [gate, up | down]
//
// Reads: view.hpp, activation.hpp, aligned_buffer.hpp.  Read by: moe.hpp and its parts.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "mxfp4/activation.hpp"
#include "mxfp4/aligned_buffer.hpp"
#include "mxfp4/view.hpp"

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

/// Activations of up to 16 pairs of an expert, and what the int8 kernels want to know of them.
struct moe_unit {
  std::int64_t first;   ///< place of the first pair
  std::int64_t offset;  ///< in the memory of activations, in tokens
  int tokens, width;    ///< pairs, and as many as memory is taken for
  gain_range gains;
  float finish[token_group];
};

/// An expert with tokens.
struct moe_expert {
  std::int64_t expert;
  std::int64_t first, last;            ///< its places
  std::int64_t first_unit, last_unit;  ///< its units
  std::int64_t up_tasks, down_tasks;   ///< tasks of the experts up to this one, itself included
};

/// Widths of an expert's units are so much more than its pairs, at the most: only the last unit is rounded up, to 8.
inline constexpr std::int64_t moe_padding = 7;

/// How many tokens a unit has, and takes memory for.
struct moe_unit_rule {
  int tokens;     ///< at the most
  bool constant;  ///< every unit takes memory for so many; else as int8_activations rounds up
  [[nodiscard]] constexpr int width(int count) const noexcept {
    return constant ? tokens : int8_activations::width_of(count);
  }
};

/// The parts of a workspace.
struct moe_memory {
  std::span<std::int64_t> pair_at, place_of, ends;  ///< ends[e]: places of the experts up to e
  std::span<moe_expert> experts;
  std::span<moe_unit> units;
  std::uint8_t* activations;
  float* products;
};

/// What the tasks of a call of moe() have in common (moe_plan.hpp).
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
  std::int64_t pairs, active, pair_at, place_of, ends, experts, units, activations, products, bytes;
};

/// Where the parts of a workspace begin; bytes is -1 where they do not fit 63 bits. Larger shapes take no less.
[[nodiscard]] constexpr moe_offsets offsets_of(const moe_shape& s) noexcept {
  constexpr auto size = [](std::size_t bytes) { return static_cast<std::int64_t>(bytes); };
  moe_layout layout;
  moe_offsets o{};
  o.pairs = moe_layout::times(s.tokens, s.top_k);
  o.active = o.pairs < s.experts ? o.pairs : s.experts;
  o.pair_at = layout.add(o.pairs, size(sizeof(std::int64_t)));
  o.place_of = layout.add(o.pairs, size(sizeof(std::int64_t)));
  o.ends = layout.add(s.experts, size(sizeof(std::int64_t)));
  o.experts = layout.add(o.active, size(sizeof(moe_expert)));
  o.units = layout.add(o.pairs, size(sizeof(moe_unit)));
  const std::int64_t padding = moe_layout::times(o.active, moe_padding);
  const std::int64_t tokens = o.pairs < 0 || padding < 0 ? -1 : o.pairs + padding;
  const std::int64_t widest = s.hidden > s.intermediate ? s.hidden : s.intermediate;
  o.activations = layout.add(moe_layout::times(tokens, widest), size(sizeof(float)));
  const std::int64_t both = moe_layout::times(2, s.intermediate);
  o.products = layout.add(moe_layout::times(o.pairs, s.hidden > both ? s.hidden : both), size(sizeof(float)));
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
/// About M * k * (max(2 I, H) + max(I, H)) floats, and up to 7 tokens more for each expert that has any: 0.9 MiB for one
/// token of MiniMax-M2, 45 MiB for 128.
class moe_workspace {
 public:
  moe_workspace() = default;
  moe_workspace(moe_workspace&& other) noexcept
      : memory_(std::move(other.memory_)), bytes_(std::exchange(other.bytes_, 0)) {}
  moe_workspace& operator=(moe_workspace&& other) noexcept {
    memory_ = std::move(other.memory_);
    bytes_ = std::exchange(other.bytes_, 0);
    return *this;
  }

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
    return {part<std::int64_t>(o.pair_at, o.pairs),   part<std::int64_t>(o.place_of, o.pairs),
            part<std::int64_t>(o.ends, s.experts),    part<detail::moe_expert>(o.experts, o.active),
            part<detail::moe_unit>(o.units, o.pairs), memory_.get() + o.activations,
            part<float>(o.products, 0).data()};
  }

 private:
  template <class T>
  [[nodiscard]] std::span<T> part(std::int64_t offset, std::int64_t count) noexcept {
    return {reinterpret_cast<T*>(memory_.get() + offset), static_cast<std::size_t>(count)};
  }

  detail::aligned_buffer memory_;
  std::int64_t bytes_ = 0;
};

}  // namespace mxfp4
