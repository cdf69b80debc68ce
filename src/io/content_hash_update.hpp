// src/io/content_hash_update.hpp -- xxHash inside a source file, and its loop for another instruction set.
// SPDX-License-Identifier: Apache-2.0
//
// The header compiled as static functions: nothing to link, and nothing that the linker could take from the unit that
// was compiled for AVX2. The state is the same in both, so they may take turns.
#pragma once

#include <cstddef>

#define XXH_INLINE_ALL
#define XXH_NO_PREFETCH  // the bytes were written or read a moment ago: asking for them costs a third of the time
#include <xxhash.h>

#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

using hash_update = void(XXH3_state_t* state, const void* bytes, std::size_t size);

#if defined(MXFP4_IO_HASH_AVX2)
hash_update update_hash_avx2;
#endif

}  // namespace mxfp4::io
