// examples/common/dequantize_slab.hpp -- a slab of MXFP4 to numbers: the fastest kernel that was built.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mxfp4/quantize.hpp"
#if defined(MXFP4_TOOLS_DISPATCH)
#include "mxfp4/dispatch.hpp"
#endif

namespace mxfp4::tools {

/// What mxfp4::dequantize does and says; the same bits either way.
template <class T>
[[nodiscard]] status dequantize_slab(const basic_mx_view<const std::uint8_t, layout::compressed_tensors>& w,
                                     const dense_view<T>& out) {
#if defined(MXFP4_TOOLS_DISPATCH)
  return dispatch::dequantize(w, out);
#else
  return dequantize(w, out);
#endif
}

}  // namespace mxfp4::tools
