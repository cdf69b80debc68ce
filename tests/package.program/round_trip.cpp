// What a consumer's first program does: encode a block, decode it, see the same numbers. Prints the version it got.
#include <cstdio>

#include "mxfp4/block.hpp"
#include "mxfp4/version.hpp"

int main() {
  float x[mxfp4::block_size]{};
  for (int i = 0; i < mxfp4::block_size; ++i) x[i] = static_cast<float>(i % 5) - 2.0f;  // all of them E2M1 values

  float y[mxfp4::block_size]{};
  mxfp4::decode_block(mxfp4::encode_block(x), y);

  std::printf("mxfp4 %d.%d.%d\n", mxfp4::version_major, mxfp4::version_minor, mxfp4::version_patch);
  for (int i = 0; i < mxfp4::block_size; ++i)
    if (x[i] != y[i]) return 1;
  return 0;
}
