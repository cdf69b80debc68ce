// src/io/content_hash_avx2.cpp -- the loop of XXH3, compiled for AVX2 (cmake/files.cmake); others compile nothing here.
// SPDX-License-Identifier: Apache-2.0
#if defined(MXFP4_IO_HASH_AVX2)

#include "io/content_hash_update.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

void update_hash_avx2(XXH3_state_t* state, const void* bytes, std::size_t size) {
  static_cast<void>(XXH3_128bits_update(state, bytes, size));
}

}  // namespace mxfp4::io

#endif
