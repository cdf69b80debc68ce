// mxfp4/status.hpp -- what a call says of its arguments: status, errc, message(), result<T>.
// SPDX-License-Identifier: Apache-2.0
//
// No call throws or prints: a call returns a status, or a result<T>, which is a value or a status. Both
// are [[nodiscard]]. message(s) makes the sentence: the argument, its value, what was expected, what to do.
//
// Example:
//
//   std::vector<std::uint8_t> codes(100), scales(100);
//   const auto w = mxfp4::make_view(codes, scales, 64, 256);  // too little memory
//   if (!w) std::puts(mxfp4::message(w.error()).c_str());     // codes holds 100, expected at least 8192: ...
#pragma once

#include "mxfp4/core/status.hpp"
