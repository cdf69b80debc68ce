// src/io/slabs.hpp -- long tensors in pieces, and tensors copied.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "mxfp4/io/safetensors_reader.hpp"
#include "mxfp4/io/safetensors_writer.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

/// Calls body(first, count) for [0, total) in slabs of at most `slab`.
template <class Body>
void for_each_slab(std::int64_t total, std::int64_t slab, Body body) {
  for (std::int64_t first = 0; first < total; first += slab) body(first, std::min(slab, total - first));
}

/// Copies a tensor byte for byte, and throws where that fails. done(bytes) is called after each slab.
template <class Done>
void copy_tensor(const safetensors_reader& in, const tensor_info& tensor, safetensors_writer& out, Done done) {
  constexpr std::int64_t slab_bytes = 4 << 20;
  std::vector<std::byte> buffer;
  for_each_slab(static_cast<std::int64_t>(tensor.bytes()), slab_bytes, [&](std::int64_t first, std::int64_t count) {
    buffer.resize(static_cast<std::size_t>(count));
    in.read(tensor, static_cast<std::uint64_t>(first), buffer).value();
    out.append(tensor.name, buffer).value();
    done(static_cast<std::uint64_t>(count));
  });
}

}  // namespace mxfp4::io
