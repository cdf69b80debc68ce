// examples/common/widen_fp8.cpp -- a table for each block of 128 x 128 weights, where enough of them are asked for.
// SPDX-License-Identifier: Apache-2.0
#include "common/widen_fp8.hpp"

#include <algorithm>
#include <array>

#include "mxfp4/quantize.hpp"

namespace mxfp4::tools {

void widen_fp8(std::span<const e4m3> w, std::int64_t first, std::int64_t cols, const float* scales,
               std::span<bf16> out) noexcept {
  constexpr std::int64_t worth_a_table = 8;  // rows; one of 256 entries serves up to 128 * 128 weights
  const std::int64_t scale_cols = (cols + fp8_block - 1) / fp8_block, count = std::ssize(w);
  std::array<bf16, 256> table{};
  for (std::int64_t done = 0; done < count;) {
    // What is left of this row, or as many whole rows of one band as there are.
    const std::int64_t row = (first + done) / cols, col = (first + done) % cols, left = count - done;
    const std::int64_t rows = col > 0 ? 1 : std::clamp<std::int64_t>(left / cols, 1, fp8_block - row % fp8_block);
    const std::int64_t end = std::min(cols, col + left);
    const float* scale = scales + row / fp8_block * scale_cols;
    for (std::int64_t begin = col; begin < end;) {
      const std::int64_t stop = std::min(end, (begin / fp8_block + 1) * fp8_block);
      const float s = scale[begin / fp8_block];
      if (rows >= worth_a_table)
        for (std::size_t i = 0; i < table.size(); ++i) table[i] = decode_scaled(static_cast<e4m3>(i), s);
      for (std::int64_t r = 0; r < rows; ++r) {
        const e4m3* from = w.data() + done + r * cols - col;
        bf16* to = out.data() + done + r * cols - col;
        if (rows >= worth_a_table)
          for (std::int64_t c = begin; c < stop; ++c) to[c] = table[static_cast<std::size_t>(from[c])];
        else
          for (std::int64_t c = begin; c < stop; ++c) to[c] = decode_scaled(from[c], s);
      }
      begin = stop;
    }
    done += rows > 1 ? rows * cols : end - col;
  }
}

}  // namespace mxfp4::tools
