// mxfp4/io/elements.hpp -- numbers in and out of tensors, and tensors copied, a slab at a time.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "mxfp4/core/version.hpp"
#include "mxfp4/io/byte_order.hpp"
#include "mxfp4/io/safetensors_reader.hpp"
#include "mxfp4/io/safetensors_writer.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

/// Fills `out` with the elements of a tensor from `first` on, in the host's byte order.
template <class T>
void read_elements(const safetensors_reader& file, const tensor_info& tensor, std::int64_t first, std::span<T> out) {
  file.read(tensor, static_cast<std::uint64_t>(first) * sizeof(T), std::as_writable_bytes(out));
  swap_if_big_endian(out);
}

/// Appends elements in the host's byte order, which are left in that of the file.
template <class T>
void append_elements(safetensors_writer& file, std::string_view name, std::span<T> elements) {
  swap_if_big_endian(elements);
  file.append(name, std::as_bytes(elements));
}

/// Calls body(first, count) for [0, total) in slabs of at most `slab`.
template <class Body>
void for_each_slab(std::int64_t total, std::int64_t slab, Body body) {
  for (std::int64_t first = 0; first < total; first += slab) body(first, std::min(slab, total - first));
}

/// Copies a tensor byte for byte. done(bytes) is called after each slab.
template <class Done>
void copy_tensor(const safetensors_reader& in, const tensor_info& tensor, safetensors_writer& out, Done done) {
  constexpr std::int64_t slab_bytes = 4 << 20;
  std::vector<std::byte> buffer;
  for_each_slab(static_cast<std::int64_t>(tensor.bytes()), slab_bytes, [&](std::int64_t first, std::int64_t count) {
    buffer.resize(static_cast<std::size_t>(count));
    in.read(tensor, static_cast<std::uint64_t>(first), buffer);
    out.append(tensor.name, buffer);
    done(static_cast<std::uint64_t>(count));
  });
}

}  // namespace mxfp4::io
