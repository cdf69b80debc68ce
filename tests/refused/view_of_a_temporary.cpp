// refused: lasting_range
// SPDX-License-Identifier: Apache-2.0
// lines: 30
#include <cstdint>
#include <vector>

#include "mxfp4/tensor/view.hpp"

void f(std::vector<std::uint8_t>& codes, std::vector<std::uint8_t>& scales) {
#ifdef MXFP4_CONTROL
  static_cast<void>(mxfp4::make_view(codes, scales, 1, 32));
#else
  static_cast<void>(codes);
  static_cast<void>(mxfp4::make_view(std::vector<std::uint8_t>(16), scales, 1, 32));
#endif
}
