// mxfp4/block.hpp -- one number, and one block: 32 numbers <-> 17 bytes.
// SPDX-License-Identifier: Apache-2.0
//
// One block is 32 numbers that share a power-of-two scale: 17 bytes. Everything here is constexpr, noexcept, free of
// allocation, usable in CUDA device code, and gives the same bytes under any compiler flags or rounding mode. For a
// matrix see quantize.hpp.
//
// Example:
//
//   float x[mxfp4::block_size] = {0.0f, 0.5f, -1.25f, 6.0f};             // the rest is 0
//   const mxfp4::block b = mxfp4::encode_block<mxfp4::recipe::ocp>(x);  // b.scale, b.codes: low nibble first
//   const std::array<float, 32> y = mxfp4::decode_block(b);             // {0, 0.5, -1, 6, 0, ...}: ties to even
#pragma once

#include "mxfp4/core/e2m1.hpp"
#include "mxfp4/core/e8m0.hpp"
#include "mxfp4/core/float_types.hpp"
#include "mxfp4/format/block.hpp"
#include "mxfp4/format/mxfp8.hpp"
#include "mxfp4/format/peer_cast.hpp"
