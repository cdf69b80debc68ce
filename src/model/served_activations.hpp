// src/model/served_activations.hpp -- activations as servers quantise them while they run, as numbers again.
// SPDX-License-Identifier: Apache-2.0
//
//   fp8     groups of 128 columns of a token: scale = amax / 448 in float, each number E4M3(x / scale) * scale
//   mxfp4   blocks of 32 by the recipe compressed_tensors: the rule of the library that declares such activations
//
// Products with these numbers are what a server computes but for the order and the width of its sums.
// Source: compressed-tensors' schemes MXFP4XFP8 and MXFP4 (quantization/quant_scheme.py).
#pragma once

#include "model/token_rows.hpp"
#include "mxfp4/view.hpp"

namespace mxfp4::model {

/// @param x  any number of columns: the last group may be shorter. NaN and infinity make their whole group NaN.
[[nodiscard]] token_rows as_fp8(dense_view<const float> x);

/// @param x  a multiple of 32 columns. NaN and infinity: as the recipe has them.
[[nodiscard]] token_rows as_mxfp4(dense_view<const float> x);

}  // namespace mxfp4::model
