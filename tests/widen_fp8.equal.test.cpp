// tests/widen_fp8.equal.test.cpp -- runs of any place and length, against the definition weight by weight.
// SPDX-License-Identifier: Apache-2.0
#include "common/widen_fp8.hpp"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

using namespace mxfp4;

bool is_nan(bf16 x) { return std::isnan(decode(x)); }

}  // namespace

TEST_CASE("widen_fp8: any run of any matrix", "[checkpoint]") {
  std::uint32_t state = 1;
  const auto random = [&state](std::uint32_t below) {
    state = state * 1664525u + 1013904223u;
    return static_cast<std::int64_t>((state >> 8) % below);
  };
  for (const std::int64_t rows : {1, 7, 8, 127, 128, 129, 300})
    for (const std::int64_t cols : {1, 32, 127, 128, 129, 160, 416}) {
      std::vector<e4m3> w(static_cast<std::size_t>(rows * cols));
      for (e4m3& x : w) x = static_cast<e4m3>(random(256));
      const std::int64_t scale_cols = (cols + 127) / 128;
      std::vector<float> scales(static_cast<std::size_t>((rows + 127) / 128 * scale_cols));
      for (float& s : scales) s = static_cast<float>(1 + random(1000)) * 0x1.3p-9f;
      for (int run = 0; run < 12; ++run) {
        const bool all = run == 0;
        const std::int64_t first = all ? 0 : random(static_cast<std::uint32_t>(rows * cols));
        const std::int64_t count = all ? rows * cols : random(static_cast<std::uint32_t>(rows * cols - first)) + 1;
        std::vector<bf16> out(static_cast<std::size_t>(count) + 1, bf16{0x7777});
        tools::widen_fp8(std::span<const e4m3>(w).subspan(static_cast<std::size_t>(first), out.size() - 1), first, cols,
                         scales.data(), std::span(out).first(out.size() - 1));
        std::int64_t wrong = 0;
        for (std::int64_t i = 0; i < count; ++i) {
          const std::int64_t r = (first + i) / cols, c = (first + i) % cols;
          const float scale = scales[static_cast<std::size_t>(r / 128 * scale_cols + c / 128)];
          const bf16 expected = encode_bf16(decode(w[static_cast<std::size_t>(first + i)]) * scale);
          const bf16 found = out[static_cast<std::size_t>(i)];
          if (is_nan(expected) ? !is_nan(found) : found != expected) ++wrong;  // a NaN's sign is nobody's business
        }
        CAPTURE(rows, cols, first, count);
        CHECK(wrong == 0);
        CHECK(out.back() == bf16{0x7777});
      }
    }
}
