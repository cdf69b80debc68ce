// A unit that has mxfp4::format alone: the same names are the plain loops here.
#include "unit.hpp"

#include <mxfp4/quantize.hpp>
#include <mxfp4/reference/int8.hpp>

#if MXFP4_KERNELS
#error "linked to mxfp4::format alone, the plain names must be the plain loops"
#endif

namespace plain {

void work(outcome& o) {
  static float w[rows * cols];
  for (int i = 0; i < rows * cols; ++i) w[i] = static_cast<float>(i % 101 - 50);
  const mxfp4::dense_view<const float> numbers{w, rows, cols, cols};
  const mxfp4::mx_view<> bytes{o.codes, o.scales, rows, cols, cols / 2, cols / 32};
  o.table = &mxfp4::e2m1_values;
  if (!mxfp4::quantize(mxfp4::recipe_id::compressed_tensors, numbers, bytes).ok()) return;
  const float x[mxfp4::block_size]{1.5f};
  float back[mxfp4::block_size]{};
  mxfp4::decode_block(mxfp4::encode_block(x), back);
  o.done = back[0] == 1.5f;
}

}  // namespace plain
