// mxfp4/checkpoint/tensor_job.hpp -- tensors to be written, and how their bytes are made.
// SPDX-License-Identifier: Apache-2.0
//
// A command first makes the jobs, from headers alone, and whoever writes the file knows all names and sizes; then the
// jobs are run one after the other, each handing over its bytes in pieces. These functions are called by the library,
// and say what is wrong by throwing an io::file_error; whoever called the library gets it as its result.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "mxfp4/core/version.hpp"
#include "mxfp4/io/gguf.hpp"
#include "mxfp4/io/safetensors.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

inline constexpr std::int64_t copy_slab_bytes = 4 << 20;  ///< what a job reads and hands over at a time

/// Bytes [offset, offset + bytes.size()) of one tensor of a source.
using read_function = std::function<void(std::uint64_t offset, std::span<std::byte> bytes)>;

/// The next bytes of the output called `name`.
using append_function = std::function<void(std::string_view name, std::span<const std::byte> bytes)>;

/// The outputs of one job belong together: they go into one file.
template <class Tensor>
struct basic_job {
  std::vector<Tensor> outputs;  ///< in the order in which run() appends their bytes
  /// Reads, calculates, and calls append(name, bytes) until all outputs are whole.
  std::function<void(const append_function& append)> run;
};
/// A job for a safetensors file.
using tensor_job = basic_job<io::tensor_info>;
/// A job for a GGUF file.
using gguf_job = basic_job<io::gguf_tensor>;

/// Hands over the `bytes` of a tensor as they are.
inline void copy_bytes(const read_function& read, std::uint64_t bytes, std::string_view name,
                       const append_function& append) {
  std::vector<std::byte> buffer;
  for (std::uint64_t at = 0; at < bytes; at += buffer.size()) {
    buffer.resize(static_cast<std::size_t>(std::min<std::uint64_t>(bytes - at, copy_slab_bytes)));
    read(at, buffer);
    append(name, buffer);
  }
}

}  // namespace mxfp4::checkpoint
