// src/dispatch/isa_unit.hpp -- all kernels for one instruction set: what a unit <isa>.cpp includes, and nothing else.
// SPDX-License-Identifier: Apache-2.0
//
// Such a unit must not leave behind a function that the linker could take for another unit's of the same name: a
// program would run AVX-512 instructions on a CPU without them. Three things see to that: what stands here is in an
// unnamed namespace; the kernels are in a namespace of this unit alone, so that they do not meet those of a consumer
// either, who may have compiled them without optimisation; what is left is always inlined (config.hpp). Test
// dispatch.symbol_gate checks it. For the same reason nothing here owns memory.
#include "mxfp4/core/config.hpp"

#define MXFP4_DISPATCH_JOIN_(a, b) a##b
#define MXFP4_DISPATCH_JOIN(a, b) MXFP4_DISPATCH_JOIN_(a, b)
#define MXFP4_DISPATCH_TEXT_(name) #name
#define MXFP4_DISPATCH_TEXT(name) MXFP4_DISPATCH_TEXT_(name)

namespace {
consteval bool same_text(const char* a, const char* b) {
  while (*a != '\0' && *a == *b) ++a, ++b;
  return *a == *b;
}
static_assert(
    same_text(MXFP4_DISPATCH_TEXT(MXFP4_ISA_NS), "isa_" MXFP4_DISPATCH_TEXT(MXFP4_DISPATCH_UNIT)),
    "the compiler's flags are not those of this unit's instruction set: take -m options out of CMAKE_CXX_FLAGS");
}  // namespace

#undef MXFP4_ISA_NS
#define MXFP4_ISA_NS MXFP4_DISPATCH_JOIN(dispatch_, MXFP4_DISPATCH_UNIT)

#include "mxfp4/kernel/dequantize.hpp"
#include "mxfp4/kernel/measure_error.hpp"
#include "mxfp4/kernel/quantize.hpp"
#include "mxfp4/kernel/quantize_fp8.hpp"
#include "mxfp4/kernel/quantize_measured.hpp"
#include "mxfp4/linalg.hpp"
#include "mxfp4/moe/grouped_gemm.hpp"
#include "mxfp4/moe/moe.hpp"
#include "table.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::dispatch {

namespace detail {
/// Calls f with a pointer to row r of x, in x's element type. The kernels find it by argument-dependent lookup.
template <class F>
MXFP4_INLINE void with_row(const any_input& x, std::int64_t r, F f) noexcept {
  const auto row = [&]<class T>() { return static_cast<const T*>(x.data) + r * x.stride; };
  switch (x.type) {
    case element::f32:
      return f(row.template operator()<float>());
    case element::bf16:
      return f(row.template operator()<bf16>());
    case element::f16:
      return f(row.template operator()<f16>());
    case element::e4m3:
      return f(row.template operator()<e4m3>());
  }
}

/// Activations of a product in f32, of any kind: the kernels read them into panels of floats, and are compiled once.
class any_tokens {
 public:
  explicit any_tokens(const any_input& x) noexcept : rows(x.rows), cols(x.cols), dense_(x) {}
  explicit any_tokens(const const_mxfp8_view& x) noexcept : rows(x.rows), cols(x.cols), mxfp8_(x), is_mxfp8_(true) {}

  std::int64_t rows, cols;

  friend MXFP4_INLINE mxfp4::detail::operand operand_of(const any_tokens& x, const char* argument) noexcept {
    return x.is_mxfp8_ ? mxfp4::detail::operand_of(x.mxfp8_, argument) : detail::operand_of(x.dense_, argument);
  }
  friend MXFP4_INLINE any_tokens tokens_of(const any_tokens& x, std::int64_t first, std::int64_t count) noexcept {
    any_tokens part = x;
    part.rows = count;
    part.first_ += first;
    return part;
  }
  template <class F>
  friend MXFP4_INLINE void with_row(const any_tokens& x, std::int64_t r, F f) noexcept {
    if (x.is_mxfp8_) f(x.mxfp8_.row(x.first_ + r));
    else detail::with_row(x.dense_, x.first_ + r, f);
  }

 private:
  any_input dense_{};
  const_mxfp8_view mxfp8_{};
  bool is_mxfp8_ = false;
  std::int64_t first_ = 0;
};
}  // namespace detail

namespace unit {
namespace {

using detail::any_dense, detail::any_input, detail::any_mx, detail::any_output, detail::any_tokens;
using detail::any_weights;
using detail::grouped_call, detail::output_view, detail::packed_matrices, detail::view_matrices;
using detail::moe_call, detail::moe_m_tile_rule, detail::moe_plan, detail::packed_experts, detail::view_experts;
using mxfp4::detail::with_dialect, mxfp4::detail::with_recipe;

/// Calls f with the view that w stands for.
template <class Byte, class F>
status with_view(const any_mx<Byte>& w, F f) {
  const auto& v = w.bytes;
  if (w.ggml)
    return f(basic_mx_view<Byte, layout::ggml>{v.codes, v.scales, v.rows, v.cols, v.code_stride, v.scale_stride});
  return f(v);
}

/// Calls f with the weights of a dialect by scale byte, or returns errc::unknown_dialect.
template <class T, class F>
status with_table(dialect_id dialect, F f) {
  simd::weight_table<T> table{};
  const status s = with_dialect(dialect, [&table]<class D>() {
    table = simd::weight_table_of<T, D>;
    return status{};
  });
  return s.ok() ? f(table) : s;
}

/// Calls f with the dense view that x stands for, if its type is one of T.
template <class... T, class Void, class F>
status with_elements(const any_dense<Void>& x, F f) {
  status s;
  const auto as = [&]<class E>(std::type_identity<E>) {
    using pointee = std::conditional_t<std::is_const_v<Void>, const E, E>;
    s = f(dense_view<pointee>{static_cast<pointee*>(x.data), x.rows, x.cols, x.stride});
  };
  static_cast<void>(((x.type == detail::element_of<T> && (as(std::type_identity<T>{}), true)) || ...));
  return s;
}

/// `words`, or for a recipe that encodes no words its plain loop as compiled for this instruction set: others need
/// theirs for a block in a thousand.
template <class T>
simd::recipe_words native_words(recipe_id recipe, const simd::recipe_words& words) noexcept {
  simd::recipe_words native = words;
  if (!words.takes_words())
    visit_recipe(recipe, [&native]<class R>() {
      using resolved = typename R::template for_input<T>;
      if constexpr (!mxfp4::detail::word_recipe<resolved>) native.plain = &mxfp4::detail::encode_bits<resolved>;
    });
  return native;
}

template <element_type T>
status quantize(recipe_id recipe, const simd::recipe_words& words, const dense_view<const T>& w,
                const any_mx<std::uint8_t>& out, const quantize_options& options) {
  const simd::recipe_words native = native_words<T>(recipe, words);
  return with_view(out, [&](const auto& to) {
    if (const status s = kernel::check_quantize<simd::native_arch>(w, to, options.nonfinite); !s.ok()) return s;
    if (w.rows == 0 || w.cols == 0) return status{};
    return simd::visit_words(native, [&](const auto& kind) {
      kernel::quantize_checked<simd::native_arch>(kind, w, to, options.executor);
      return status{};
    });
  });
}
constexpr auto quantize_f32 = &quantize<float>;
constexpr auto quantize_bf16 = &quantize<bf16>;
constexpr auto quantize_f16 = &quantize<f16>;
constexpr auto quantize_e4m3 = &quantize<e4m3>;

status quantize_fp8(recipe_id recipe, const simd::recipe_words& words, const dense_view<const e4m3>& w,
                    const dense_view<const float>& scales, const mx_view<>& out, const quantize_options& options) {
  return simd::visit_words(native_words<bf16>(recipe, words), [&](const auto& kind) {
    return kernel::quantize_fp8_with<simd::native_arch>(kind, w, scales, out, options);
  });
}

status widen_fp8(const dense_view<const e4m3>& w, const dense_view<const float>& scales, const dense_view<bf16>& out,
                 const run_options& options) {
  return kernel::widen_fp8(w, scales, out, options);
}

status measure_error(const any_input& w, const const_mx_view<>& q, error_statistics& sum, const run_options& options) {
  return with_elements<float, bf16, f16>(
      w, [&](const auto& from) { return kernel::measure_error(from, q, sum, options); });
}

status quantize_fp8_measured(recipe_id recipe, const simd::recipe_words& words, const dense_view<const e4m3>& w,
                             const dense_view<const float>& scales, const mx_view<>& out, error_statistics& sum,
                             const quantize_options& options) {
  return simd::visit_words(native_words<bf16>(recipe, words), [&](const auto& kind) {
    return kernel::quantize_fp8_measured_with<simd::native_arch>(kind, w, scales, out, sum, options);
  });
}

status dequantize(const any_weights& w, const any_output& out, dialect_id dialect, const run_options& options) {
  return with_view(w, [&](const auto& from) {
    return with_elements<float, bf16, f16>(out, [&]<class T>(const dense_view<T>& to) {
      return with_table<T>(dialect, [&](const auto& table) {
        return kernel::dequantize_with<simd::native_arch>(table, from, to, options);
      });
    });
  });
}

status pack_rows(const any_weights& w, std::int64_t first, packed_matrix& packed, const run_options& options) {
  return with_view(w, [&](const auto& from) { return mxfp4::pack_rows(from, first, packed, options); });
}

status quantize_activations(const any_input& x, int8_activations& out, const run_options& options) {
  return with_elements<float, bf16, f16>(
      x, [&](const auto& from) { return mxfp4::quantize_activations(from, out, options); });
}

template <class W>
status product_f32(dialect_id dialect, const W& w, const any_tokens& x, const dense_view<float>& y,
                   const gemm_options& options) {
  return with_table<float>(
      dialect, [&](const auto& table) { return kernel::product_f32<simd::native_arch>(table, w, x, y, options); });
}

/// A function of its own, so that products of numbers and of MXFP8 have it in common.
[[gnu::noinline]] status product_of_view(dialect_id dialect, const any_weights& w, const any_tokens& x,
                                         const dense_view<float>& y, const gemm_options& options) {
  return with_view(w, [&](const auto& weights) { return product_f32(dialect, weights, x, y, options); });
}
[[gnu::noinline]] status product_of_packed(dialect_id dialect, const packed_view& w, const any_tokens& x,
                                           const dense_view<float>& y, const gemm_options& options) {
  return product_f32(dialect, w, x, y, options);
}

status gemm_f32(dialect_id dialect, const any_weights& w, const any_input& x, const dense_view<float>& y,
                const gemm_options& options) {
  return product_of_view(dialect, w, any_tokens(x), y, options);
}

status gemm_f32_packed(dialect_id dialect, const packed_view& w, const any_input& x, const dense_view<float>& y,
                       const gemm_options& options) {
  return product_of_packed(dialect, w, any_tokens(x), y, options);
}

status gemm_int8(const any_weights& w, const int8_activations& x, const dense_view<float>& y,
                 const gemm_options& options) {
  return with_view(w, [&](const auto& weights) { return mxfp4::gemm(weights, x, y, options); });
}

status gemm_int8_packed(const packed_matrix& w, const int8_activations& x, const dense_view<float>& y,
                        const gemm_options& options) {
  return mxfp4::gemm(w, x, y, options);
}

status quantize_mxfp8(const any_input& x, const mxfp8_view& out, mxfp8_scaling scaling, const run_options& options) {
  return with_elements<float, bf16, f16>(
      x, [&](const auto& from) { return mxfp4::quantize_activations(from, out, scaling, options); });
}

status gemm_mxfp8(dialect_id dialect, const any_weights& w, const const_mxfp8_view& x, const dense_view<float>& y,
                  const gemm_options& options) {
  return product_of_view(dialect, w, any_tokens(x), y, options);
}

status gemm_mxfp8_packed(dialect_id dialect, const packed_view& w, const const_mxfp8_view& x,
                         const dense_view<float>& y, const gemm_options& options) {
  return product_of_packed(dialect, w, any_tokens(x), y, options);
}

/// The same with outputs that are rounded; these arguments have been checked.
[[gnu::noinline]] status round_product_of_view(dialect_id dialect, const any_weights& w, const any_tokens& x,
                                               const output_view& y, const gemm_options& options) {
  return with_table<float>(dialect, [&](const auto& table) {
    return with_view(w, [&](const auto& weights) {
      kernel::round_product_f32<simd::native_arch>(table, weights, x, y, options);
      return status{};
    });
  });
}
[[gnu::noinline]] status round_product_of_packed(dialect_id dialect, const packed_view& w, const any_tokens& x,
                                                 const output_view& y, const gemm_options& options) {
  return with_table<float>(dialect, [&](const auto& table) {
    kernel::round_product_f32<simd::native_arch>(table, w, x, y, options);
    return status{};
  });
}

status gemm_f32_rounded(dialect_id dialect, const any_weights& w, const any_input& x, const output_view& y,
                        const gemm_options& options) {
  return round_product_of_view(dialect, w, any_tokens(x), y, options);
}

status gemm_f32_packed_rounded(dialect_id dialect, const packed_view& w, const any_input& x, const output_view& y,
                               const gemm_options& options) {
  return round_product_of_packed(dialect, w, any_tokens(x), y, options);
}

status gemm_mxfp8_rounded(dialect_id dialect, const any_weights& w, const const_mxfp8_view& x, const output_view& y,
                          const gemm_options& options) {
  return round_product_of_view(dialect, w, any_tokens(x), y, options);
}

status gemm_mxfp8_packed_rounded(dialect_id dialect, const packed_view& w, const const_mxfp8_view& x,
                                 const output_view& y, const gemm_options& options) {
  return round_product_of_packed(dialect, w, any_tokens(x), y, options);
}

status gemm_int8_rounded(const any_weights& w, const int8_activations& x, const output_view& y,
                         const gemm_options& options) {
  return with_view(w, [&](const auto& weights) {
    kernel::round_product_int8<simd::native_arch>(weights, x, y, options);
    return status{};
  });
}

status gemm_int8_packed_rounded(const packed_matrix& w, const int8_activations& x, const output_view& y,
                                const gemm_options& options) {
  kernel::round_product_int8<simd::native_arch>(w, x, y, options);
  return {};
}

using several_tokens = kernel::moe_f32_gemm<simd::native_arch, simd::weight_table<float>, any_input>;

constexpr moe_m_tile_rule f32_tokens = several_tokens::several_tokens;

template <class Products, class Experts, class X, class... Table>
void run_moe(const Experts& experts, const X& x, const moe_plan& plan, const moe_call& call, const Table&... table) {
  kernel::run_moe<simd::native_arch>(experts, Products(x, plan.memory, plan.shape.top_k, table...), plan, call.weights,
                                     call.y, call.options);
}

template <class Matrix, class Experts>
void moe_f32_of(const Experts& experts, const any_input& x, const moe_plan& plan, const moe_call& call) {
  using one_token = kernel::moe_f32_gemv<simd::native_arch, simd::weight_table<float>, any_input, Matrix>;
  static_cast<void>(with_table<float>(call.dialect, [&](const auto& table) {  // its id has been checked
    if (x.rows == 1) run_moe<one_token>(experts, x, plan, call, table);
    else run_moe<several_tokens>(experts, x, plan, call, table);
    return status{};
  }));
}

void moe_f32(const view_experts& experts, const any_input& x, const moe_plan& plan, const moe_call& call) {
  moe_f32_of<const_mx_view<>>(experts, x, plan, call);
}

void moe_f32_packed(const packed_experts& experts, const any_input& x, const moe_plan& plan, const moe_call& call) {
  moe_f32_of<packed_matrix>(experts, x, plan, call);
}

void moe_int8(const view_experts& experts, const int8_activations& x, const moe_plan& plan, const moe_call& call) {
  run_moe<kernel::moe_int8<simd::native_arch>>(experts, x, plan, call);
}

void moe_int8_packed(const packed_experts& experts, const int8_activations& x, const moe_plan& plan,
                     const moe_call& call) {
  run_moe<kernel::moe_int8<simd::native_arch>>(experts, x, plan, call);
}

template <class Matrix, class Weights>
void grouped_f32_of(const Weights& weights, const any_input& x, const moe_plan& plan, const grouped_call& call) {
  using products = kernel::grouped_f32<simd::native_arch, simd::weight_table<float>, any_input, Matrix>;
  static_cast<void>(with_table<float>(call.dialect, [&](const auto& table) {  // its id has been checked
    kernel::run_groups<simd::native_arch>(weights, products(x, plan.memory, table), plan, call.y, call.options);
    return status{};
  }));
}

void grouped_f32(const view_matrices& weights, const any_input& x, const moe_plan& plan, const grouped_call& call) {
  grouped_f32_of<const_mx_view<>>(weights, x, plan, call);
}

void grouped_f32_packed(const packed_matrices& weights, const any_input& x, const moe_plan& plan,
                        const grouped_call& call) {
  grouped_f32_of<packed_matrix>(weights, x, plan, call);
}

void grouped_int8(const view_matrices& weights, const int8_activations& x, const moe_plan& plan,
                  const grouped_call& call) {
  kernel::run_groups<simd::native_arch>(weights, kernel::grouped_int8<simd::native_arch>(x, plan.memory), plan, call.y,
                                        call.options);
}

void grouped_int8_packed(const packed_matrices& weights, const int8_activations& x, const moe_plan& plan,
                         const grouped_call& call) {
  kernel::run_groups<simd::native_arch>(weights, kernel::grouped_int8<simd::native_arch>(x, plan.memory), plan, call.y,
                                        call.options);
}

status route_topk(const dense_view<const float>& logits, const float* bias, const dense_view<std::int32_t>& indices,
                  const dense_view<float>& weights, const route_options& options) {
  return mxfp4::route_topk(logits, bias, indices, weights, options);
}

}  // namespace
}  // namespace unit

namespace detail::MXFP4_DISPATCH_JOIN(unit_, MXFP4_DISPATCH_UNIT) {
#define MXFP4_DISPATCH_FUNCTION(name) constinit const decltype(table::name) name = unit::name;
#include "functions.def"
}  // namespace detail::MXFP4_DISPATCH_JOIN(unit_,MXFP4_DISPATCH_UNIT)

}  // namespace mxfp4::dispatch
