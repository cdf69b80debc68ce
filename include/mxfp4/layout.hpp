// mxfp4/layout.hpp -- where the codes and scales of a matrix lie.
// SPDX-License-Identifier: Apache-2.0
//
// A layout says where block (row, b) of a matrix lies in memory. It is a template argument of views; the default is
// what compressed-tensors writes: codes [rows][cols/2], scales [rows][cols/32]. A layout of your own is a struct with
// the members that the concept block_layout names.
//
// Example:
//
//   const auto need = mxfp4::bytes_needed<mxfp4::layout::swizzled_128x4>(96, 256).value_or_abort();
//   std::vector<std::uint8_t> codes(static_cast<std::size_t>(need.codes));
//   std::vector<std::uint8_t> scales(static_cast<std::size_t>(need.scales));  // padded to 128 rows
//   auto w = mxfp4::make_view<mxfp4::layout::swizzled_128x4>(codes, scales, 96, 256).value_or_abort();
#pragma once

#include "mxfp4/tensor/layout.hpp"
