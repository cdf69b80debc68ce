// tests/support/normal.hpp -- what a recipe loses of normally distributed weights: the number that the README gives.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <vector>

#include "mxfp4/format/block.hpp"
#include "mxfp4/format/recipe_id.hpp"
#include "support/random.hpp"

namespace mxfp4::test {

/// |W - Q| / |W| of 2^18 weights.
inline double relative_error_of_normal_weights(recipe_id id) {
  using numbers = std::array<float, block_size>;
  static const std::vector<numbers> weights = [] {
    splitmix random(2026);
    std::vector<numbers> all(8192);
    for (numbers& block : all)
      for (float& w : block) {  // Box and Muller
        const double u = (static_cast<double>(random.bits()) + 1) / 0x1p32,
                     v = static_cast<double>(random.bits()) / 0x1p32;
        w = static_cast<float>(0.02 * std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v));
      }
    return all;
  }();
  double error = 0, norm = 0;
  visit_recipe(id, [&]<class R>() {
    for (const numbers& w : weights) {
      const auto q = decode_block(encode_block<R>(w));
      for (std::size_t i = 0; i < w.size(); ++i) {
        error += (double{w[i]} - double{q[i]}) * (double{w[i]} - double{q[i]});
        norm += double{w[i]} * double{w[i]};
      }
    }
  });
  return std::sqrt(error / norm);
}

}  // namespace mxfp4::test
