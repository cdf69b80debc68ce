// mxfp4/moe_plan.hpp -- floor 8: which tokens an expert works on, and how its work is cut into tasks.
// SPDX-License-Identifier: Apache-2.0
//
//   indices M x k --> counting sort --> places of each expert --> units of up to 16 tokens, tasks of some tiles of 16 rows
//
// A task is about as much work as the others: reading a weight counts as much as four products with it. The tasks depend
// on the shape and on the routing, never on the executor.
// Reads: moe_workspace.hpp, packed_tiles.hpp.  Read by: moe.hpp and its parts.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "mxfp4/moe_workspace.hpp"
#include "mxfp4/packed_tiles.hpp"
#include "mxfp4/view.hpp"

namespace mxfp4::detail {

/// Some tiles of an expert's matrix.
struct moe_part {
  const moe_expert& expert;
  std::int64_t first, last;
};

/// Tasks for `matrices` of `rows` x `cols` and so many tokens: eight million products each, or a tile. Shorter runs cost
/// cold reads: a quarter of that, 82 % of the read limit for one token; this, 92 %.
[[nodiscard]] constexpr std::int64_t moe_tasks(std::int64_t matrices, std::int64_t rows, std::int64_t cols,
                                               std::int64_t tokens) noexcept {
  constexpr std::int64_t work = std::int64_t{1} << 23, reading = 4;
  const std::int64_t tiles = bands(rows, tile_rows), cost = matrices * tile_rows * cols * std::max(tokens, reading);
  return std::clamp<std::int64_t>(bands(tiles * cost, work), 1, std::max<std::int64_t>(tiles, 1));
}

/// Task `index` of those that `tasks`, up_tasks or down_tasks, counts.
[[nodiscard]] inline moe_part part_of(std::span<const moe_expert> experts, std::int64_t moe_expert::*tasks,
                                      std::size_t index, std::int64_t tiles) noexcept {
  const auto i = static_cast<std::int64_t>(index);
  const auto e = std::ranges::upper_bound(experts, i, {}, tasks);
  const std::int64_t before = e == experts.begin() ? 0 : (*(e - 1)).*tasks, parts = (*e).*tasks - before;
  return {*e, tiles * (i - before) / parts, tiles * (i - before + 1) / parts};
}

/// The inverse of a routing, in `memory`: whose spans of experts and units are cut to those that there are.
///
/// @param indices      M x k, each in [0, E).
/// @param unit_tokens  tokens of a unit at the most; width(tokens) is what memory is taken for.
template <class Width>
void sort_tokens(moe_memory& memory, const dense_view<const std::int32_t>& indices, int unit_tokens,
                 Width width) noexcept {
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  std::ranges::fill(memory.ends, 0);
  const auto expert_of = [&](std::int64_t m, std::int64_t slot) { return at(indices.row(m)[slot]); };
  for (std::int64_t m = 0; m < indices.rows; ++m)
    for (std::int64_t s = 0; s < indices.cols; ++s) ++memory.ends[expert_of(m, s)];
  std::int64_t place = 0;
  for (std::int64_t& end : memory.ends) {  // for now where an expert's places begin
    const std::int64_t count = end;
    end = place;
    place += count;
  }
  for (std::int64_t m = 0; m < indices.rows; ++m)
    for (std::int64_t s = 0; s < indices.cols; ++s) {
      const std::int64_t next = memory.ends[expert_of(m, s)]++, pair = m * indices.cols + s;
      memory.pair_at[at(next)] = pair;
      memory.place_of[at(pair)] = next;
    }
  std::int64_t first = 0, units = 0, experts = 0, offset = 0;
  for (std::size_t e = 0; e < memory.ends.size(); ++e) {
    const std::int64_t last = memory.ends[e], first_unit = units;
    for (std::int64_t p = first; p < last; p += unit_tokens) {
      const int tokens = static_cast<int>(std::min<std::int64_t>(unit_tokens, last - p));
      memory.units[at(units++)] = {p, offset, tokens, width(tokens), {}, {}};
      offset += width(tokens);
    }
    if (last > first)
      memory.experts[at(experts++)] = {static_cast<std::int64_t>(e), first, last, first_unit, units, 0, 0};
    first = last;
  }
  memory.experts = memory.experts.first(at(experts));
  memory.units = memory.units.first(at(units));
}

/// Counts the tasks of the experts.
inline void count_tasks(std::span<moe_expert> experts, std::int64_t hidden, std::int64_t intermediate) noexcept {
  std::int64_t up = 0, down = 0;
  for (moe_expert& e : experts) {
    e.up_tasks = up += moe_tasks(2, intermediate, hidden, e.last - e.first);
    e.down_tasks = down += moe_tasks(1, hidden, intermediate, e.last - e.first);
  }
}

}  // namespace mxfp4::detail
