// refused: make_bf16_view takes elements of type bf16, std::uint16_t or std::bfloat16_t
// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include "mxfp4/tensor/view.hpp"

void f(std::vector<float>& numbers, std::vector<mxfp4::bf16>& narrow) {
#ifdef MXFP4_CONTROL
  static_cast<void>(mxfp4::make_bf16_view(narrow, 1, 4));
  static_cast<void>(mxfp4::make_dense_view(std::span(numbers), 1, 4));
#else
  static_cast<void>(narrow);
  static_cast<void>(mxfp4::make_bf16_view(numbers, 1, 4));
#endif
}
