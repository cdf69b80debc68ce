// mxfp4/io/elements.hpp -- numbers in and out of tensors, in the host's byte order.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "mxfp4/core/version.hpp"
#include "mxfp4/io/byte_order.hpp"
#include "mxfp4/io/safetensors_reader.hpp"
#include "mxfp4/io/safetensors_writer.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

/// Fills `out` with the elements of a tensor from `first` on, in the host's byte order.
template <class T>
file_result<void> read_elements(const safetensors_reader& file, const tensor_info& tensor, std::int64_t first,
                                std::span<T> out) {
  auto done = file.read(tensor, static_cast<std::uint64_t>(first) * sizeof(T), std::as_writable_bytes(out));
  if (done) swap_if_big_endian(out);
  return done;
}

/// Appends elements in the host's byte order, which are left in that of the file.
template <class T>
file_result<void> append_elements(safetensors_writer& file, std::string_view name, std::span<T> elements) {
  swap_if_big_endian(elements);
  return file.append(name, std::as_bytes(elements));
}

}  // namespace mxfp4::io
