// src/calibrate/importance.hpp -- MXFP4 blocks with the least error where the columns are not of equal importance.
// SPDX-License-Identifier: Apache-2.0
//
//   sum over c of importance[c] * (w[c] - q[c])^2       least over all scales 2^e and all codes
//
// Under a scale each code by itself is the nearest one, whatever the importance: what is to be found is the scale. None
// above the one after the OCP rule's can be better: of the numbers that are near enough to count, this one has all that
// the larger one has. Below, the numbers that saturate lose more from scale to scale, and where they alone lose as much
// as the best one so far, it ends.
#pragma once

#include <cstdint>
#include <span>

#include "mxfp4/checkpoint/code_source.hpp"

namespace mxfp4::calibrate {

/// @param weights     whole blocks of a matrix, row after row.
/// @param importance  of its columns, each finite and not negative.
/// @param first       block of the matrix with which they begin.
/// @param codes       low_first, 16 bytes a block: what is there stays where nothing is better, and where a block has
///                    NaN or infinity. @param scales  likewise.
/// @return what the codes cost before and after, of blocks without NaN and infinity.
checkpoint::code_costs choose_by_importance(std::span<const float> weights, std::span<const float> importance,
                                            std::int64_t first, std::span<std::uint8_t> codes,
                                            std::span<std::uint8_t> scales);

}  // namespace mxfp4::calibrate
