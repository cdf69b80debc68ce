// src/dispatch/table.hpp -- the functions of each instruction set's unit, which dispatch.cpp calls.
// SPDX-License-Identifier: Apache-2.0
//
// units.hpp is written by cmake/dispatch.cmake: MXFP4_DISPATCH_UNITS(X, member), X(isa, member) for each unit built,
// best first.
#pragma once

#include "mxfp4/dispatch.hpp"
#include "mxfp4/moe/workspace.hpp"
#include "mxfp4/simd/words.hpp"
#include "units.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::dispatch::detail {

using mxfp4::detail::moe_plan, mxfp4::detail::moe_m_tile_rule;

[[nodiscard]] MXFP4_INLINE mxfp4::detail::operand operand_of(const any_input& x, const char* argument) noexcept {
  const auto as = [&]<class T>(const T* data) {
    return mxfp4::detail::operand_of(dense_view<const T>{data, x.rows, x.cols, x.stride}, argument);
  };
  switch (x.type) {
    case element::f32:
      return as(static_cast<const float*>(x.data));
    case element::bf16:
      return as(static_cast<const bf16*>(x.data));
    case element::f16:
      return as(static_cast<const f16*>(x.data));
    case element::e4m3:
      return as(static_cast<const e4m3*>(x.data));
  }
  return {};
}

template <element_type T>
using quantize_function = status (*)(recipe_id, const simd::recipe_words&, const dense_view<const T>&,
                                     const any_mx<std::uint8_t>&, const quantize_options&);

/// The functions of dispatch.hpp's detail, for one instruction set.
/// gemm_*_rounded: the arguments have been checked; moe_* and grouped_*: and the call planned.
/// There is no object of this type: each member is a constant of its own, unit_<isa>::<member>, so that a linker leaves
/// out the kernels that a program does not call (--gc-sections).
/// A public function that is added becomes a member here and in functions.def, a definition in isa_unit.hpp and a line
/// in dispatch.cpp.
struct table {
  quantize_function<float> quantize_f32;
  quantize_function<bf16> quantize_bf16;
  quantize_function<f16> quantize_f16;
  quantize_function<e4m3> quantize_e4m3;
  status (*quantize_fp8)(recipe_id, const simd::recipe_words&, const dense_view<const e4m3>&,
                         const dense_view<const float>&, const mx_view<>&, const quantize_options&);
  status (*widen_fp8)(const dense_view<const e4m3>&, const dense_view<const float>&, const dense_view<bf16>&,
                      const run_options&);
  status (*measure_error)(const any_input&, const const_mx_view<>&, error_statistics&, const run_options&);
  status (*quantize_fp8_measured)(recipe_id, const simd::recipe_words&, const dense_view<const e4m3>&,
                                  const dense_view<const float>&, const mx_view<>&, error_statistics&,
                                  const quantize_options&);
  status (*dequantize)(const any_weights&, const any_output&, dialect_id, const run_options&);
  status (*pack_rows)(const any_weights&, std::int64_t, packed_matrix&, const run_options&);
  status (*quantize_activations)(const any_input&, int8_activations&, const run_options&);
  status (*gemm_f32)(dialect_id, const any_weights&, const any_input&, const dense_view<float>&, const gemm_options&);
  status (*gemm_f32_packed)(dialect_id, const packed_view&, const any_input&, const dense_view<float>&,
                            const gemm_options&);
  status (*gemm_int8)(const any_weights&, const int8_activations&, const dense_view<float>&, const gemm_options&);
  status (*gemm_int8_packed)(const packed_matrix&, const int8_activations&, const dense_view<float>&,
                             const gemm_options&);
  status (*quantize_mxfp8)(const any_input&, const mxfp8_view&, mxfp8_scaling, const run_options&);
  status (*gemm_mxfp8)(dialect_id, const any_weights&, const const_mxfp8_view&, const dense_view<float>&,
                       const gemm_options&);
  status (*gemm_mxfp8_packed)(dialect_id, const packed_view&, const const_mxfp8_view&, const dense_view<float>&,
                              const gemm_options&);
  status (*gemm_f32_rounded)(dialect_id, const any_weights&, const any_input&, const output_view&, const gemm_options&);
  status (*gemm_f32_packed_rounded)(dialect_id, const packed_view&, const any_input&, const output_view&,
                                    const gemm_options&);
  status (*gemm_int8_rounded)(const any_weights&, const int8_activations&, const output_view&, const gemm_options&);
  status (*gemm_int8_packed_rounded)(const packed_matrix&, const int8_activations&, const output_view&,
                                     const gemm_options&);
  status (*gemm_mxfp8_rounded)(dialect_id, const any_weights&, const const_mxfp8_view&, const output_view&,
                               const gemm_options&);
  status (*gemm_mxfp8_packed_rounded)(dialect_id, const packed_view&, const const_mxfp8_view&, const output_view&,
                                      const gemm_options&);
  void (*moe_f32)(const view_experts&, const any_input&, const moe_plan&, const moe_call&);
  void (*moe_f32_packed)(const packed_experts&, const any_input&, const moe_plan&, const moe_call&);
  void (*moe_int8)(const view_experts&, const int8_activations&, const moe_plan&, const moe_call&);
  void (*moe_int8_packed)(const packed_experts&, const int8_activations&, const moe_plan&, const moe_call&);
  void (*grouped_f32)(const view_matrices&, const any_input&, const moe_plan&, const grouped_call&);
  void (*grouped_f32_packed)(const packed_matrices&, const any_input&, const moe_plan&, const grouped_call&);
  void (*grouped_int8)(const view_matrices&, const int8_activations&, const moe_plan&, const grouped_call&);
  void (*grouped_int8_packed)(const packed_matrices&, const int8_activations&, const moe_plan&, const grouped_call&);
  moe_m_tile_rule f32_tokens;  ///< how several tokens of an expert are put together; dispatch.cpp plans by it
  status (*route_topk)(const dense_view<const float>&, const float*, const dense_view<std::int32_t>&,
                       const dense_view<float>&, const route_options&);
};

#define MXFP4_DISPATCH_DECLARE(isa, name)    \
  namespace unit_##isa {                     \
    extern const decltype(table::name) name; \
  }
#define MXFP4_DISPATCH_FUNCTION(name) MXFP4_DISPATCH_UNITS(MXFP4_DISPATCH_DECLARE, name)
#include "functions.def"
#undef MXFP4_DISPATCH_DECLARE

}  // namespace mxfp4::dispatch::detail
