// A unit with kernels, compiled three times: for AVX2, for the base, for the base with optimisation.
#include "unit.hpp"

#include <cstring>
#include <mxfp4/mxfp4.hpp>
#include <utility>

namespace UNIT {

void work(outcome& o) {
  static float w[rows * cols];
  for (int i = 0; i < rows * cols; ++i) w[i] = static_cast<float>(i % 101 - 50);
  const mxfp4::dense_view<const float> numbers{w, rows, cols, cols};
  const mxfp4::mx_view<> bytes{o.codes, o.scales, rows, cols, cols / 2, cols / 32};
  const mxfp4::dense_view<float> y{o.product, rows, rows, rows};
  o.table = &mxfp4::e2m1_values;
  if (!mxfp4::quantize<mxfp4::recipe::compressed_tensors>(numbers, bytes).ok()) return;
  const mxfp4::result<mxfp4::packed_matrix> packed = mxfp4::pack(bytes);
  mxfp4::result<mxfp4::int8_activations> made = mxfp4::int8_activations::create(rows, cols, mxfp4::int8_scaling::e8m0);
  mxfp4::int8_activations x = *std::move(made);
  if (!mxfp4::quantize_activations(numbers, x).ok() || !mxfp4::gemm(*packed, x, y).ok()) return;
  const mxfp4::result<mxfp4::packed_matrix> loaded = mxfp4::packed_matrix::from_bytes(rows, cols, packed->bytes());
  if (loaded->bytes().size() != sizeof o.saved) return;
  std::memcpy(o.saved, loaded->bytes().data(), sizeof o.saved);
  mxfp4::error_statistics lost;
  if (!mxfp4::measure_error(numbers, bytes, lost).ok() || !(lost.relative_error() < 0.2)) return;
  const mxfp4::status refused =
      mxfp4::dequantize(bytes, mxfp4::dense_view<float>{nullptr, rows, cols, cols}, {.executor = mxfp4::serial});
  o.done = std::strcmp(mxfp4::message(refused).c_str(), "out.data is null, expected memory for 4608 elements") == 0;
}

}  // namespace UNIT
