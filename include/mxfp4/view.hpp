// mxfp4/view.hpp -- matrices that somebody else owns: mx_view, dense_view, mxfp8_view, and their checked factories.
// SPDX-License-Identifier: Apache-2.0
//
// Pointers, a shape and strides of memory that somebody else owns: the arguments of every whole-matrix function.
// make_view and its kin check a buffer against a shape; a view with gaps between rows is filled in by hand and checked
// by the call that gets it. Memory with bf16 under another name needs no copy: make_bf16_view.
//
// Example:
//
//   std::vector<std::uint16_t> bits(64 * 256);  // bf16, as a framework has it
//   const auto x = mxfp4::make_bf16_view(bits, 64, 256).value_or_abort();
//   const mxfp4::dense_view<const mxfp4::bf16> left_half{x.data, 64, 128, x.stride};
//   mxfp4::status s = mxfp4::check(left_half);
#pragma once

#include "mxfp4/tensor/mxfp8_view.hpp"
#include "mxfp4/tensor/view.hpp"
