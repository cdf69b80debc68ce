// src/checkpoint/tensor_summary.cpp -- see tensor_summary.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/checkpoint/tensor_summary.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <span>
#include <vector>

#include "checkpoint/block_encoder.hpp"
#include "checkpoint/fp8_scales.hpp"
#include "io/guarded.hpp"
#include "io/slabs.hpp"
#include "mxfp4/block.hpp"
#include "mxfp4/io/byte_order.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

using bytes_function = std::function<void(std::uint64_t)>;

void add(tensor_summary& s, double x) {
  ++s.elements;
  if (!std::isfinite(x)) {
    ++s.nonfinite;
    return;
  }
  s.zeros += x == 0 ? 1 : 0;
  s.largest = std::max(s.largest, std::abs(x));
  s.sum += x;
  s.squares += x * x;
}

template <class T>
void read_elements_of(const checkpoint_reader& in, const checkpoint_tensor& t, std::int64_t first, std::span<T> out) {
  in.read(t, static_cast<std::uint64_t>(first) * sizeof(T), std::as_writable_bytes(out)).value();
  swap_if_big_endian(out);
}

void add_mxfp4(tensor_summary& s, const checkpoint_reader& in, const stored_tensor& t, const bytes_function& on_bytes) {
  std::vector<std::uint8_t> codes, scales;
  for_each_slab(t.elements() / block_size, slab_blocks, [&](std::int64_t first, std::int64_t count) {
    codes.resize(static_cast<std::size_t>(count * block_code_bytes));
    scales.resize(static_cast<std::size_t>(count));
    read_elements_of(in, *t.data, first * block_code_bytes, std::span(codes));
    read_elements_of(in, *t.scale, first, std::span(scales));
    for (std::int64_t b = 0; b < count; ++b) {
      const std::uint8_t scale = scales[static_cast<std::size_t>(b)];
      ++s.scales[scale];
      for (int i = 0; i < block_size; ++i) {
        const e2m1 code = get_code<low_first>(codes.data() + b * block_code_bytes, i);
        ++s.codes[static_cast<std::size_t>(code)];
        add(s, static_cast<double>(decode_weight(code, static_cast<e8m0>(scale))));
      }
    }
    on_bytes(codes.size() + scales.size());
  });
}

template <class T>
void add_plain(tensor_summary& s, const checkpoint_reader& in, const stored_tensor& t, const bytes_function& on_bytes) {
  std::vector<T> elements;
  for_each_slab(t.elements(), slab_weights, [&](std::int64_t first, std::int64_t count) {
    elements.resize(static_cast<std::size_t>(count));
    read_elements_of(in, *t.data, first, std::span(elements));
    for (const T x : elements) add(s, static_cast<double>(decode(x)));
    on_bytes(elements.size() * sizeof(T));
  });
}

/// bf16(w * scale), as readers widen it.
void add_fp8(tensor_summary& s, const checkpoint_reader& in, const stored_tensor& t, const bytes_function& on_bytes) {
  const std::int64_t rows = t.shape[t.shape.size() - 2], cols = t.shape.back();
  const std::int64_t matrices = t.shape.size() == 3 ? t.shape[0] : 1;
  const fp8_scale_reader reader(*t.scale->info, t.fp8_grid, rows, cols);
  const read_function read_scales = [&](std::uint64_t offset, std::span<std::byte> bytes) {
    in.read(*t.scale, offset, bytes).value();
  };
  fp8_scale_tile scales;
  std::vector<e4m3> weights;
  std::vector<bf16> numbers;
  for (std::int64_t m = 0; m < matrices; ++m)
    for_each_fp8_tile(rows, cols, slab_weights, [&](const fp8_tile& tile) {
      weights.resize(static_cast<std::size_t>(tile.size()));
      numbers.resize(weights.size());
      read_elements_of(in, *t.data, m * rows * cols + tile.first(cols), std::span(weights));
      reader.read(read_scales, m, tile, scales);
      static_cast<void>(widen_fp8_tile(weights.data(), tile, scales, numbers.data()));
      for (const bf16 x : numbers) add(s, static_cast<double>(decode(x)));
      on_bytes(weights.size());
    });
}

}  // namespace

double tensor_summary::mean() const noexcept {
  return elements > nonfinite ? sum / static_cast<double>(elements - nonfinite) : 0.0;
}

double tensor_summary::root_mean_square() const noexcept {
  return elements > nonfinite ? std::sqrt(squares / static_cast<double>(elements - nonfinite)) : 0.0;
}

file_result<tensor_summary> summarize(const checkpoint_reader& in, const stored_tensor& t,
                                      const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
  return guarded([&]() -> tensor_summary {
    tensor_summary s;
    std::uint64_t done = 0;
    const bytes_function on_bytes = [&](std::uint64_t bytes) { progress(done += bytes, t.bytes()); };
    if (t.kind == storage::mxfp4) {
      add_mxfp4(s, in, t, on_bytes);
    } else if (t.kind == storage::fp8) {
      add_fp8(s, in, t, on_bytes);
    } else {
      switch (t.data->info->type) {
        case dtype::f32:
          add_plain<float>(s, in, t, on_bytes);
          break;
        case dtype::f16:
          add_plain<f16>(s, in, t, on_bytes);
          break;
        case dtype::bf16:
          add_plain<bf16>(s, in, t, on_bytes);
          break;
        case dtype::f8_e4m3:
          add_plain<e4m3>(s, in, t, on_bytes);
          break;
        default:
          throw file_error({.file = in.path(),
                            .tensor = t.name,
                            .value = std::string("is ") + t.type_name(),
                            .expected = "MXFP4, F32, F16, BF16 or F8_E4M3 for statistics"});
      }
    }
    return s;
  });
}

}  // namespace mxfp4::checkpoint
