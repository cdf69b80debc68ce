// examples/read_checkpoint.cpp -- a matrix out of a compressed-tensors checkpoint, and a product with it.
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <exception>
#include <mxfp4/checkpoint/reader.hpp>
#include <mxfp4/linalg.hpp>
#include <string>
#include <vector>

int main(int count, char** arguments) try {
  if (count != 3) return std::puts("read_checkpoint DIR TENSOR, as in: DIR model.layers.0.mlp.down_proj.weight"), 2;
  const mxfp4::checkpoint::checkpoint_reader model(arguments[1]);
  const std::string name = arguments[2];
  const auto* codes_of = model.find(name + "_packed");
  const auto* scales_of = model.find(name + "_scale");
  if (codes_of == nullptr || scales_of == nullptr) return std::printf("no MXFP4 tensor %s\n", arguments[2]), 1;

  // The bytes as they are in the file: [rows, cols / 2] codes, [rows, cols / 32] scales. Nothing is converted.
  std::vector<std::uint8_t> codes(codes_of->info->bytes()), scales(scales_of->info->bytes());
  model.read(*codes_of, 0, std::as_writable_bytes(std::span(codes)));
  model.read(*scales_of, 0, std::as_writable_bytes(std::span(scales)));
  const std::int64_t rows = codes_of->info->shape[0], cols = 2 * codes_of->info->shape[1];
  const auto weights = mxfp4::make_view(codes, scales, rows, cols).value_or_abort();

  const std::vector<float> x(static_cast<std::size_t>(cols), 1.0f);
  std::vector<float> y(static_cast<std::size_t>(rows));
  if (const mxfp4::status s = mxfp4::gemv(weights, x, y); !s.ok())
    return std::printf("%s\n", mxfp4::message(s).c_str()), 1;
  std::printf("%lld x %lld weights; the sum of row 0 is %g\n", static_cast<long long>(rows),
              static_cast<long long>(cols), static_cast<double>(y[0]));
} catch (const std::exception& error) {
  return std::printf("%s\n", error.what()), 1;
}
