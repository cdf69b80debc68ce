// examples/quickstart.cpp -- a block, then a matrix, to MXFP4 and back.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdio>
#include <mxfp4/quantize.hpp>
#include <vector>

int main() {
  // One block: 32 numbers become 17 bytes, a power-of-two scale and 32 codes of 4 bits.
  float x[mxfp4::block_size];
  for (int i = 0; i < mxfp4::block_size; ++i) x[i] = std::sin(0.3f * static_cast<float>(i));
  const mxfp4::block b = mxfp4::encode_block(x);
  const auto y = mxfp4::decode_block(b);
  std::printf("scale 2^%d, x[5] = %.4f is now %.4f\n", static_cast<int>(b.scale) - 127, x[5], y[5]);

  // A matrix of weights, with the bytes that compressed-tensors (vLLM) would write.
  const std::int64_t rows = 64, cols = 256;
  std::vector<float> w(rows * cols), back(w.size());
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = std::sin(0.1f * static_cast<float>(i)) * 0.02f;
  std::vector<std::uint8_t> codes(rows * cols / 2), scales(rows * cols / 32);

  const auto packed = mxfp4::make_view(std::span(codes), std::span(scales), rows, cols);
  const auto weights = mxfp4::make_dense_view(std::span(w), rows, cols);
  const auto decoded = mxfp4::make_dense_view(std::span(back), rows, cols);
  mxfp4::status s = mxfp4::quantize<mxfp4::recipe::compressed_tensors>(*weights, *packed);
  if (s.ok()) s = mxfp4::dequantize(*packed, *decoded);
  if (!s.ok()) return std::printf("%s\n", mxfp4::message(s).c_str()), 1;

  double error = 0, norm = 0;
  for (std::size_t i = 0; i < w.size(); ++i) {
    error += std::pow(w[i] - back[i], 2);
    norm += std::pow(w[i], 2);
  }
  std::printf("%zu bytes instead of %zu, relative error %.3f\n", codes.size() + scales.size(), 4 * w.size(),
              std::sqrt(error / norm));
}
