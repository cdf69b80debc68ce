// refused: say which numbers these bits are: make_bf16_view, make_f16_view or make_e4m3_view
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <span>

#include "mxfp4/tensor/view.hpp"

void f(std::span<const std::uint16_t> words) {
#ifdef MXFP4_CONTROL
  static_cast<void>(mxfp4::make_bf16_view(words, 1, 4));
#else
  static_cast<void>(mxfp4::make_dense_view(words, 1, 4));
#endif
}
