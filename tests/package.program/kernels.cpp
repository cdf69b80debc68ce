// A program that multiplies: exit code 0 if the product is right.
#include <cstdint>
#include <vector>

#include "mxfp4/linalg.hpp"

int main() {
  const std::vector<std::uint8_t> codes(16 * 3, 0x22), scales(3, 127);  // 3 x 32 ones
  const std::vector<float> x(32, 0.5f);
  std::vector<float> y(3);
  const auto w = mxfp4::make_view(codes, scales, 3, 32);
  const auto in = mxfp4::make_dense_view(x, 1, 32);
  const auto out = mxfp4::make_dense_view(y, 1, 3);
  if (!w || !in || !out || !mxfp4::gemm(*w, *in, *out).ok()) return 1;
  return y == std::vector<float>(3, 16.0f) ? 0 : 1;
}
