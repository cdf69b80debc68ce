// mxfp4/convert.hpp -- from one layout to another, without loss.
// SPDX-License-Identifier: Apache-2.0
//
// The same codes and scale bytes in another order: from compressed-tensors' to ggml's blocks, to the scales that cuBLAS
// reads, and back, byte for byte. No number is interpreted, so nothing is lost; speed is that of a plain loop.
//
// Example:
//
//   const std::int64_t rows = 64, cols = 256;
//   std::vector<std::uint8_t> codes(rows * cols / 2), scales(rows * cols / 32), blocks(rows * cols / 32 * 17);
//   const auto from = mxfp4::make_view(codes, scales, rows, cols).value_or_abort();
//   const auto to = mxfp4::make_ggml_view(blocks, rows, cols).value_or_abort();
//   mxfp4::status s = mxfp4::convert(from, to, {});  // {.executor = pool}
#pragma once

#include "mxfp4/tensor/convert.hpp"
