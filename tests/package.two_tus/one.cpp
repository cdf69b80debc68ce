#include "mxfp4/mxfp4.hpp"

const void* table_in_two();
float first_in_two(const mxfp4::block& b);

int main() {
  const float x[mxfp4::block_size]{1.5f};
  return &mxfp4::e2m1_values == table_in_two() && first_in_two(mxfp4::encode_block(x)) == 1.5f ? 0 : 1;
}
