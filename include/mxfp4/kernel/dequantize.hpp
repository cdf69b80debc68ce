// mxfp4/kernel/dequantize.hpp -- MXFP4 -> numbers at the speed of the stores.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "mxfp4/format/dialect.hpp"
#include "mxfp4/simd/simd.hpp"
#include "mxfp4/tensor/call_options.hpp"
#include "mxfp4/tensor/tasks.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::kernel {

/// Output from this size on is written with streaming stores, which go past the cache: otherwise the processor reads
/// each line from memory before it is written. Smaller output is better kept in the cache; streaming it would halve the
/// rate (bench/README.md).
inline constexpr std::int64_t stream_from_bytes = std::int64_t{16} << 20;

inline namespace MXFP4_ISA_NS {

/// Blocks [first, last) of a row. The view comes by value: a store of bytes may alias one behind a reference, whose
/// fields would then be loaded again for every block.
template <class Arch, simd::store Store, class Table, class Byte, block_layout Layout, element_type T>
void dequantize_row(Table table, basic_mx_view<Byte, Layout> w, std::int64_t row, std::int64_t first, std::int64_t last,
                    T* out) noexcept {
  const std::uint8_t* codes = w.block_codes(row, first);
  T* to = out + first * block_size;
  for (std::int64_t b = first; b < last; ++b) {
    simd::decode_codes<Arch, typename Layout::order, Store>(table, codes, *w.block_scale(row, b), to);
    codes += Layout::code_offset(0, 1, 0);  // blocks of a row follow one another in every layout
    to += block_size;
  }
}

/// dequantize with the table of a dialect: simd::static_weight_table or simd::weight_table.
template <class Arch, class Table, class Byte, block_layout Layout, element_type T>
status dequantize_with(const Table& table, const basic_mx_view<Byte, Layout>& w, const dense_view<T>& out,
                       const run_options& options) {
  if (const status s = mxfp4::detail::check_same_shape(w, "w", out); !s.ok()) return s;
  if (mxfp4::detail::overlap(w, out)) return {errc::overlap, "out"};
  const bool aligned = reinterpret_cast<std::uintptr_t>(out.data) % 64 == 0 &&
                       out.stride % (64 / static_cast<std::int64_t>(sizeof(T))) == 0;
  const bool stream =
      simd::has_stream<Arch> && aligned && w.rows * w.cols >= stream_from_bytes / static_cast<std::int64_t>(sizeof(T));
  const block_tasks tasks(w.rows, w.blocks());
  options.executor.run(tasks.count(), [&](std::size_t index) noexcept {
    tasks.for_each_row(index, [&](std::int64_t r, std::int64_t first, std::int64_t last) noexcept {
      if (stream) dequantize_row<Arch, simd::store::stream>(table, w, r, first, last, out.row(r));
      else dequantize_row<Arch, simd::store::cached>(table, w, r, first, last, out.row(r));
    });
    if (stream) simd::finish_stores<Arch, simd::store::stream>();
  });
  return {};
}

/// W -> numbers, as `Dialect` reads them: the bits of reference::dequantize, on every architecture and for any number
/// of tasks.
///
/// @param w     rows x cols, any layout and stride.
/// @param out   the same shape, overwritten: float, bf16 or f16; must not overlap w.
/// @return      ok, or what is wrong with the arguments; nothing is written then.
template <decode_dialect Dialect = dialect::ocp, class Arch = simd::native_arch, class Byte, block_layout Layout,
          element_type T>
status dequantize(const basic_mx_view<Byte, Layout>& w, const dense_view<T>& out, const run_options& options = {}) {
  return dequantize_with<Arch>(simd::static_weight_table<T, Dialect>{}, w, out, options);
}

/// The same with the dialect chosen at run time; errc::unknown_dialect besides.
template <class Arch = simd::native_arch, class Byte, block_layout Layout, element_type T>
status dequantize(dialect_id dialect, const basic_mx_view<Byte, Layout>& w, const dense_view<T>& out,
                  const run_options& options = {}) {
  return mxfp4::detail::with_dialect(dialect, [&]<class D>() { return kernel::dequantize<D, Arch>(w, out, options); });
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
