// examples/gemv.cpp -- one token times a matrix of MXFP4 weights: from a checkpoint's own bytes, packed, and in int8.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdio>
#include <mxfp4/linalg.hpp>
#include <mxfp4/mxfp4.hpp>
#include <vector>
using namespace mxfp4;

int main() {
  const std::int64_t rows = 64, cols = 256;  // W is N x K, x has K numbers, y has N
  std::vector<float> weights(rows * cols), x(cols), y(rows), packed_y(rows), int8_y(rows);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = 0.02f * std::sin(static_cast<float>(i * i));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::cos(static_cast<float>(i));

  // W as a checkpoint has it: two buffers, here made on the spot.
  std::vector<std::uint8_t> codes(rows * cols / 2), scales(rows * cols / block_size);
  const auto w = make_view(codes, scales, rows, cols).value_or_abort();
  status s = quantize<recipe::compressed_tensors>(make_dense_view(weights, rows, cols).value_or_abort(), w);

  // Those bytes are enough. Packed once, they are faster; with int8 activations, faster still.
  if (s.ok()) s = gemv(w, x, y);
  const auto packed = pack(w).value_or_abort();
  if (s.ok()) s = gemv(packed, x, packed_y);
  const auto tokens = make_dense_view(x, 1, cols).value_or_abort();
  const auto in = quantize_activations(tokens, int8_scaling::e8m0).value_or_abort();
  if (s.ok()) s = gemv(packed, in, int8_y);
  if (!s.ok()) return std::printf("%s\n", message(s).c_str()), 1;

  double norm = 0, error = 0, int8_error = 0;
  for (std::size_t n = 0; n < y.size(); ++n) {
    norm += std::pow(y[n], 2);
    error += std::pow(packed_y[n] - y[n], 2);
    int8_error += std::pow(int8_y[n] - y[n], 2);
  }
  std::printf("y[0] = %.6f; relative difference: packed %.0e, int8 %.4f\n", y[0], std::sqrt(error / norm),
              std::sqrt(int8_error / norm));
}
