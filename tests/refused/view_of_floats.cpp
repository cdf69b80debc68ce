// refused: make_view takes codes and scales as bytes, std::uint8_t
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <vector>

#include "mxfp4/tensor/view.hpp"

void f(std::vector<std::uint8_t>& codes, std::vector<float>& scales) {
#ifdef MXFP4_CONTROL
  static_cast<void>(scales);
  static_cast<void>(mxfp4::make_view(codes, codes, 1, 32));
#else
  static_cast<void>(mxfp4::make_view(codes, scales, 1, 32));
#endif
}
