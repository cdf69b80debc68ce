#include "mxfp4/mxfp4.hpp"

const void* table_in_two() { return &mxfp4::e2m1_values; }

float first_in_two(const mxfp4::block& b) {
  float x[mxfp4::block_size]{};
  mxfp4::decode_block(b, x);
  return x[0];
}
