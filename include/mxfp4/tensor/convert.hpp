// mxfp4/tensor/convert.hpp -- from one layout to another, without loss.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "mxfp4/tensor/call_options.hpp"
#include "mxfp4/tensor/tasks.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

inline namespace MXFP4_ISA_NS {

/// Moves every code and every scale byte to its place in another layout; the padding of swizzled scales is written as
/// byte 0. No byte is interpreted, so converting back gives the same bytes; what scale byte 255 and code 8 mean is up
/// to who decodes them (dialect.hpp).
/// @param in   rows x cols.  @param out  the same shape; must not overlap `in`.
/// @return     ok, or what is wrong with the arguments; nothing is written then.
template <class Byte, block_layout From, block_layout To>
status convert(const basic_mx_view<Byte, From>& in, const mx_view<To>& out, const run_options& options = {}) {
  if (const status s = detail::check_same_shape(in, "in", out); !s.ok()) return s;
  if (detail::overlap(in, out) || detail::overlap_itself(out)) return {errc::overlap, "out"};
  if (in.rows == 0 || in.cols == 0) return {};
  const block_tasks tasks(in.rows, in.blocks());
  options.executor.run(tasks.count(), [&](std::size_t index) noexcept {
    tasks.for_each_row(index, [&](std::int64_t r, std::int64_t first, std::int64_t last) noexcept {
      for (std::int64_t b = first; b < last; ++b) {
        e2m1 codes[block_size]{};
        unpack_block<typename From::order>(in.block_codes(r, b), codes);
        pack_block<typename To::order>(codes, out.block_codes(r, b));
        *out.block_scale(r, b) = *in.block_scale(r, b);
      }
    });
  });
  detail::fill_padding(out);
  return {};
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4
