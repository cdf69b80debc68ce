// tests/cuda/emulator/wgmma_state.hpp -- what is remembered of the wgmma that are under way.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::emulator {

/// Of a thread.
struct wgmma_registers {
  struct accumulator {
    std::vector<float> value;  ///< the registers themselves hold poison
    int wgmmas = 0;            ///< that have yet to add to it
  };
  std::map<const void*, std::vector<std::uint32_t>> fenced;  ///< arrays, as they were at wgmma_fence
  std::map<const float*, accumulator> under_way;
};

/// B: 16 rows of k by `columns`, in shared memory.
struct wgmma_operand {
  int columns = 0;
  std::vector<std::size_t> pieces;  ///< offsets of [column][two of 16 bytes]
  std::vector<double> value;        ///< [column][16], once it has been read
};

/// Of a warp: its 16 rows.
struct wgmma_operation {
  std::shared_ptr<wgmma_operand> b;
  double (*value_of)(std::uint32_t) = nullptr;
  bool accumulate = false;
  std::array<float*, 32> d{};
  std::array<const std::uint32_t*, 32> a{};
  std::array<std::array<std::uint32_t, 4>, 32> a_at_start{};
};

struct wgmma_queue {
  std::vector<wgmma_operation> open;  ///< not committed
  std::deque<std::vector<wgmma_operation>> groups;
};

}  // namespace mxfp4::cuda::emulator
