// packaging/conan/test_package/consumer.cpp -- a block there and back by the packaged headers.
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <mxfp4/block.hpp>
#include <mxfp4/version.hpp>

int main() {
  float x[mxfp4::block_size]{}, y[mxfp4::block_size]{};
  for (int i = 0; i < mxfp4::block_size; ++i) x[i] = static_cast<float>(i % 5) - 2.0f;  // all of them E2M1 values
  mxfp4::decode_block(mxfp4::encode_block(x), y);
  for (int i = 0; i < mxfp4::block_size; ++i)
    if (x[i] != y[i]) return 1;
  std::printf("mxfp4 %d.%d.%d\n", mxfp4::version_major, mxfp4::version_minor, mxfp4::version_patch);
}
