// src/dispatch/dispatch.cpp -- picks an instruction set, once, and hands every call on; compiled for any CPU.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/dispatch.hpp"

#include <cstddef>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "cpu.hpp"
#include "mxfp4/moe/plan.hpp"
#include "mxfp4/moe/plan_groups.hpp"
#include "table.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::dispatch {
namespace {

struct candidate {
  const char* name;
  bool (*runs)() noexcept;
};

constexpr candidate candidates[] = {
#define MXFP4_DISPATCH_CANDIDATE(isa, member) {#isa, detail::cpu::runs_##isa},
    MXFP4_DISPATCH_UNITS(MXFP4_DISPATCH_CANDIDATE, )
#undef MXFP4_DISPATCH_CANDIDATE
};
constexpr std::size_t candidate_count = sizeof candidates / sizeof candidates[0];

/// A member of the table, of each candidate.
template <class Member>
using members = const Member* const[candidate_count];

#define MXFP4_DISPATCH_MEMBER(isa, name) &detail::unit_##isa::name,
#define MXFP4_DISPATCH_FUNCTION(name) \
  constexpr members<decltype(detail::table::name)> all_##name = {MXFP4_DISPATCH_UNITS(MXFP4_DISPATCH_MEMBER, name)};
#include "functions.def"
#undef MXFP4_DISPATCH_MEMBER

/// A text of at most Size characters; more are dropped.
template <std::size_t Size>
class short_text {
 public:
  void add(std::string_view part) noexcept {
    for (const char c : part)
      if (length_ < Size - 1) text_[length_++] = c;
  }
  [[nodiscard]] const char* c_str() const noexcept { return text_; }

 private:
  char text_[Size]{};
  std::size_t length_ = 0;
};

/// The choice of an instruction set, made once. It holds the texts that its status points to.
class choice {
 public:
  choice() noexcept {
    const char* const asked = std::getenv("MXFP4_ISA");
    const std::string_view wanted = asked != nullptr ? asked : "";
    for (const candidate& c : candidates) {
      if (!c.runs()) continue;
      list_.add(count_ > 0 ? " " : "");
      list_.add(c.name);
      names_[count_++] = c.name;
      if (chosen_ == nullptr && (wanted.empty() || wanted == c.name)) chosen_ = &c;
    }
    wanted_.add(wanted);
    if (chosen_ == nullptr) status_ = {errc::isa_unavailable, wanted_.c_str(), 0, 0, list_.c_str()};
  }
  choice(const choice&) = delete;
  choice& operator=(const choice&) = delete;

  [[nodiscard]] const candidate* chosen() const noexcept { return chosen_; }
  template <class Member>
  [[nodiscard]] Member of(const members<Member>& all) const noexcept {
    return *all[chosen_ - candidates];
  }
  [[nodiscard]] const mxfp4::status& why_not() const noexcept { return status_; }
  [[nodiscard]] std::span<const char* const> names() const noexcept { return {names_, count_}; }

 private:
  const candidate* chosen_ = nullptr;
  mxfp4::status status_;
  const char* names_[candidate_count]{};
  std::size_t count_ = 0;
  short_text<48> wanted_;
  short_text<96> list_;
};

const choice& chosen() noexcept {
  static const choice c;
  return c;
}

template <class... Parameter, class... Argument>
status call(const members<status (*)(Parameter...)>& all, Argument&&... arguments) {
  const choice& c = chosen();
  if (c.chosen() == nullptr) return c.why_not();
  return c.of(all)(std::forward<Argument>(arguments)...);
}

[[nodiscard]] mxfp4::detail::operand weights_operand(const detail::any_weights& w) noexcept {
  const basic_mx_view<const std::uint8_t>& v = w.bytes;
  if (!w.ggml) return mxfp4::detail::operand_of(v, "w");
  return mxfp4::detail::operand_of(
      const_mx_view<layout::ggml>{v.codes, v.scales, v.rows, v.cols, v.code_stride, v.scale_stride}, "w");
}
template <class W>
[[nodiscard]] mxfp4::detail::operand weights_operand(const W& w) noexcept {
  return mxfp4::detail::operand_of(w, "w");
}
[[nodiscard]] mxfp4::detail::operand tokens_operand(const detail::any_input& x) noexcept {
  return detail::operand_of(x, "x");
}
template <class X>
[[nodiscard]] mxfp4::detail::operand tokens_operand(const X& x) noexcept {
  return mxfp4::detail::operand_of(x, "x");
}

/// Checks a product whose outputs are rounded here, so that this code is not in every unit.
template <class... Parameter, class W, class X, class... Dialect>
status call_rounded(const members<status (*)(Parameter...)>& all, const W& w, const X& x, const detail::output_view& y,
                    const gemm_options& options, const Dialect&... dialect) {
  if (chosen().chosen() == nullptr) return chosen().why_not();
  if (const status s = mxfp4::detail::check_product(weights_operand(w), tokens_operand(x),
                                                    mxfp4::detail::operand_of(y, "y"), options.bias);
      !s.ok())
    return s;
  return chosen().of(all)(dialect..., w, x, y, options);
}

/// A recipe's plain loop for one block. In this unnamed namespace, so that no consumer's copy, compiled for another
/// instruction set, takes its place.
template <class Resolved>
block_codes encode_plain(const std::uint32_t (&bits)[block_size]) noexcept {
  return Resolved::encode(bits);
}
template <class Resolved, bool Exact>
constexpr simd::recipe_words words_of = mxfp4::detail::static_words<Resolved, Exact>::value(&encode_plain<Resolved>);

/// Calls f with the words of a recipe for numbers of T.
template <element_type T, class F>
status with_words(recipe_id recipe, F f) {
  return mxfp4::detail::with_recipe(recipe, [&]<class R>() {
    constexpr bool exact = std::same_as<T, bf16> || std::same_as<T, e4m3>;
    return f(words_of<typename R::template for_input<T>, exact>);
  });
}

template <element_type T>
status quantize_by(const members<detail::quantize_function<T>>& all, recipe_id recipe, const dense_view<const T>& w,
                   const detail::any_mx<std::uint8_t>& out, const quantize_options& options) {
  return with_words<T>(recipe,
                       [&](const simd::recipe_words& words) { return call(all, recipe, words, w, out, options); });
}

template <class Experts, class X>
using moe_function = void (*)(const Experts&, const X&, const detail::moe_plan&, const detail::moe_call&);

/// Checks the arguments of moe() and sorts the tokens here, so that this code is not in every unit.
template <class Experts, class X>
status moe(const members<moe_function<Experts, X>>& all, const Experts& experts, const X& x,
           const mxfp4::detail::operand& in, detail::moe_m_tile_rule rule, const detail::moe_call& call) {
  detail::moe_plan plan;
  if (const status s = kernel::plan_moe(experts, in, call.indices, call.weights, call.y, call.workspace, rule, plan);
      !s.ok())
    return s;
  chosen().of(all)(experts, x, plan, call);
  return {};
}

/// The same and experts that every token passes, added after the others; `all_shared` for those of their kind.
template <class Experts, class Shared, class X>
status moe(const members<moe_function<Experts, X>>& all, const members<moe_function<Shared, X>>& all_shared,
           const Experts& experts, const Shared& shared, const dense_view<const float>& shared_weights, const X& x,
           const mxfp4::detail::operand& in, detail::moe_m_tile_rule rule, const detail::moe_call& call) {
  detail::moe_plan plan;
  if (const status s =
          kernel::check_moe(in, call.indices, call.weights, call.y, static_cast<std::int64_t>(experts.size()));
      !s.ok())
    return s;
  const auto plan_those = [&] {
    return kernel::plan_shared(shared, shared_weights, call.y, call.workspace, rule, plan);
  };
  if (const status s = plan_those(); !s.ok()) return s;
  if (const status s = kernel::plan_checked(experts, call.indices, call.y, call.workspace, rule, plan); !s.ok())
    return s;
  chosen().of(all)(experts, x, plan, call);
  if (shared.size() == 0) return {};
  static_cast<void>(plan_those());
  moe_options added = call.options;
  added.accumulate = true;
  const dense_view<const float> weights =
      kernel::weights_of_shared(call.y.rows, static_cast<std::int64_t>(shared.size()), shared_weights);
  chosen().of(all_shared)(shared, x, plan, {call.indices, weights, call.y, call.workspace, added, call.dialect});
  return {};
}
template <class Experts, class X>
status moe(const members<moe_function<Experts, X>>& all,
           const members<moe_function<detail::packed_experts, X>>& all_packed,
           const members<moe_function<detail::view_experts, X>>& all_views, const Experts& experts,
           const detail::any_shared& shared, const X& x, const mxfp4::detail::operand& in, detail::moe_m_tile_rule rule,
           const detail::moe_call& call) {
  if (shared.views.count > 0) return moe(all, all_views, experts, shared.views, shared.weights, x, in, rule, call);
  return moe(all, all_packed, experts, shared.packed, shared.weights, x, in, rule, call);
}

/// What is wrong before the arguments of products in f32 are looked at: no instruction set, an unknown dialect.
status check_f32(dialect_id dialect) {
  if (chosen().chosen() == nullptr) return chosen().why_not();
  return mxfp4::detail::with_dialect(dialect, []<class>() { return status{}; });
}
detail::moe_m_tile_rule f32_rule(const detail::any_input& x) {
  return x.rows == 1 ? detail::moe_m_tile_rule{1, true} : chosen().of(all_f32_tokens);
}

template <class Experts, class... Shared>
status moe_f32(const detail::any_input& x, const detail::moe_call& call, const Experts& experts,
               const members<moe_function<Experts, detail::any_input>>& all, const Shared&... shared) {
  if (const status s = check_f32(call.dialect); !s.ok()) return s;
  const mxfp4::detail::operand in = detail::operand_of(x, "x");
  if constexpr (sizeof...(Shared) == 0) return moe(all, experts, x, in, f32_rule(x), call);
  else return moe(all, all_moe_f32_packed, all_moe_f32, experts, shared..., x, in, f32_rule(x), call);
}

template <class Experts, class... Shared>
status moe_int8(const int8_activations& x, const detail::moe_call& call, const Experts& experts,
                const members<moe_function<Experts, int8_activations>>& all, const Shared&... shared) {
  if (chosen().chosen() == nullptr) return chosen().why_not();
  const mxfp4::detail::operand in = mxfp4::detail::operand_of(x, "x");
  const detail::moe_m_tile_rule rule = mxfp4::detail::int8_m_tile_rule(x.scaling());
  if constexpr (sizeof...(Shared) == 0) return moe(all, experts, x, in, rule, call);
  else return moe(all, all_moe_int8_packed, all_moe_int8, experts, shared..., x, in, rule, call);
}

template <class Weights, class X>
using grouped_function = void (*)(const Weights&, const X&, const detail::moe_plan&, const detail::grouped_call&);

/// Checks the arguments of grouped_gemm() and plans the tasks here, likewise.
template <class Weights, class X>
status grouped(const members<grouped_function<Weights, X>>& all, const Weights& weights, const X& x,
               const mxfp4::detail::operand& in, const kernel::rule_of_rows& rule_of,
               const detail::grouped_call& call) {
  detail::moe_plan plan;
  if (const status s = kernel::plan_groups(weights, call.offsets, in, mxfp4::detail::operand_of(call.y, "y"),
                                           call.options.bias, call.workspace, rule_of, plan);
      !s.ok())
    return s;
  chosen().of(all)(weights, x, plan, call);
  return {};
}

template <class Weights>
status grouped_f32(const members<grouped_function<Weights, detail::any_input>>& all, const Weights& weights,
                   const detail::any_input& x, const detail::grouped_call& call) {
  if (const status s = check_f32(call.dialect); !s.ok()) return s;
  return grouped(all, weights, x, detail::operand_of(x, "x"), {chosen().of(all_f32_tokens)}, call);
}

template <class Weights>
status grouped_int8(const members<grouped_function<Weights, int8_activations>>& all, const Weights& weights,
                    const int8_activations& x, const detail::grouped_call& call) {
  if (chosen().chosen() == nullptr) return chosen().why_not();
  const detail::moe_m_tile_rule rule = mxfp4::detail::int8_m_tile_rule(x.scaling());
  return grouped(all, weights, x, mxfp4::detail::operand_of(x, "x"), {rule, rule}, call);
}

}  // namespace

result<const char*> isa() noexcept {
  const choice& c = chosen();
  if (c.chosen() == nullptr) return c.why_not();
  return c.chosen()->name;
}

std::span<const char* const> available_isas() noexcept { return chosen().names(); }

status gemm(const packed_matrix& w, const int8_activations& x, const dense_view<float>& y,
            const gemm_options& options) {
  return call(all_gemm_int8_packed, w, x, y, options);
}

status route_topk(const dense_view<const float>& logits, const float* bias, const dense_view<std::int32_t>& indices,
                  const dense_view<float>& weights, const route_options& options) {
  return call(all_route_topk, logits, bias, indices, weights, options);
}

status route_topk_sigmoid(const dense_view<const float>& logits, const float* bias,
                          const dense_view<std::int32_t>& indices, const dense_view<float>& weights,
                          const route_options& options) {
  route_options by_sigmoid = options;
  by_sigmoid.scoring = scoring_func::sigmoid;
  return dispatch::route_topk(logits, bias, indices, weights, by_sigmoid);
}

namespace detail {

status quantize(recipe_id recipe, const dense_view<const float>& w, const any_mx<std::uint8_t>& out,
                const quantize_options& options) {
  return quantize_by(all_quantize_f32, recipe, w, out, options);
}
status quantize(recipe_id recipe, const dense_view<const bf16>& w, const any_mx<std::uint8_t>& out,
                const quantize_options& options) {
  return quantize_by(all_quantize_bf16, recipe, w, out, options);
}
status quantize(recipe_id recipe, const dense_view<const f16>& w, const any_mx<std::uint8_t>& out,
                const quantize_options& options) {
  return quantize_by(all_quantize_f16, recipe, w, out, options);
}
status quantize(recipe_id recipe, const dense_view<const e4m3>& w, const any_mx<std::uint8_t>& out,
                const quantize_options& options) {
  return quantize_by(all_quantize_e4m3, recipe, w, out, options);
}

status quantize_fp8(recipe_id recipe, const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                    const mx_view<>& out, const quantize_options& options) {
  return with_words<bf16>(recipe, [&](const simd::recipe_words& words) {
    return call(all_quantize_fp8, recipe, words, w, scales, out, options);
  });
}

status widen_fp8(const dense_view<const e4m3>& w, const dense_view<const float>& scales, const dense_view<bf16>& out,
                 const run_options& options) {
  return call(all_widen_fp8, w, scales, out, options);
}

status measure_error(const any_input& w, const const_mx_view<>& q, error_statistics& sum, const run_options& options) {
  return call(all_measure_error, w, q, sum, options);
}

status quantize_fp8_measured(recipe_id recipe, const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                             const mx_view<>& out, error_statistics& sum, const quantize_options& options) {
  return with_words<bf16>(recipe, [&](const simd::recipe_words& words) {
    return call(all_quantize_fp8_measured, recipe, words, w, scales, out, sum, options);
  });
}

status dequantize(const any_weights& w, const any_output& out, dialect_id dialect, const run_options& options) {
  return call(all_dequantize, w, out, dialect, options);
}

result<packed_matrix> pack(const any_weights& w, const run_options& options) {
  if (const auto name = isa(); !name) return name.error();
  const basic_mx_view<const std::uint8_t>& v = w.bytes;
  const basic_mx_view<const std::uint8_t, layout::ggml> blocks{v.codes, v.scales,      v.rows,
                                                               v.cols,  v.code_stride, v.scale_stride};
  if (const status s = w.ggml ? check(blocks, "w") : check(v, "w"); !s.ok()) return s;
  result<packed_matrix> made = packed_matrix::uninitialized(v.rows, v.cols);
  if (!made) return made;
  packed_matrix packed = *std::move(made);
  if (const status s = pack_rows(w, 0, packed, options); !s.ok()) return s;
  return result<packed_matrix>(std::move(packed));
}

status pack_rows(const any_weights& w, std::int64_t first, packed_matrix& packed, const run_options& options) {
  return call(all_pack_rows, w, first, packed, options);
}

status quantize_activations(const any_input& x, int8_activations& out, const run_options& options) {
  return call(all_quantize_activations, x, out, options);
}

status gemm(dialect_id dialect, const any_weights& w, const any_input& x, const dense_view<float>& y,
            const gemm_options& options) {
  return call(all_gemm_f32, dialect, w, x, y, options);
}

status gemm(dialect_id dialect, const packed_view& w, const any_input& x, const dense_view<float>& y,
            const gemm_options& options) {
  return call(all_gemm_f32_packed, dialect, w, x, y, options);
}

status gemm(const any_weights& w, const int8_activations& x, const dense_view<float>& y, const gemm_options& options) {
  return call(all_gemm_int8, w, x, y, options);
}

status quantize_activations(const any_input& x, const mxfp8_view& out, mxfp8_scaling scaling,
                            const run_options& options) {
  return call(all_quantize_mxfp8, x, out, scaling, options);
}

status gemm(dialect_id dialect, const any_weights& w, const const_mxfp8_view& x, const dense_view<float>& y,
            const gemm_options& options) {
  return call(all_gemm_mxfp8, dialect, w, x, y, options);
}

status gemm(dialect_id dialect, const packed_view& w, const const_mxfp8_view& x, const dense_view<float>& y,
            const gemm_options& options) {
  return call(all_gemm_mxfp8_packed, dialect, w, x, y, options);
}

status gemm(dialect_id dialect, const any_weights& w, const any_input& x, const output_view& y,
            const gemm_options& options) {
  return call_rounded(all_gemm_f32_rounded, w, x, y, options, dialect);
}

status gemm(dialect_id dialect, const packed_view& w, const any_input& x, const output_view& y,
            const gemm_options& options) {
  return call_rounded(all_gemm_f32_packed_rounded, w, x, y, options, dialect);
}

status gemm(dialect_id dialect, const any_weights& w, const const_mxfp8_view& x, const output_view& y,
            const gemm_options& options) {
  return call_rounded(all_gemm_mxfp8_rounded, w, x, y, options, dialect);
}

status gemm(dialect_id dialect, const packed_view& w, const const_mxfp8_view& x, const output_view& y,
            const gemm_options& options) {
  return call_rounded(all_gemm_mxfp8_packed_rounded, w, x, y, options, dialect);
}

status gemm(const any_weights& w, const int8_activations& x, const output_view& y, const gemm_options& options) {
  return call_rounded(all_gemm_int8_rounded, w, x, y, options);
}

status gemm(const packed_matrix& w, const int8_activations& x, const output_view& y, const gemm_options& options) {
  return call_rounded(all_gemm_int8_packed_rounded, w, x, y, options);
}

status moe(const packed_experts& experts, const any_input& x, const moe_call& call) {
  return moe_f32(x, call, experts, all_moe_f32_packed);
}

status moe(const view_experts& experts, const any_input& x, const moe_call& call) {
  return moe_f32(x, call, experts, all_moe_f32);
}

status moe(const packed_experts& experts, const int8_activations& x, const moe_call& call) {
  return moe_int8(x, call, experts, all_moe_int8_packed);
}

status moe(const view_experts& experts, const int8_activations& x, const moe_call& call) {
  return moe_int8(x, call, experts, all_moe_int8);
}

status moe(const packed_experts& experts, const any_shared& shared, const any_input& x, const moe_call& call) {
  return moe_f32(x, call, experts, all_moe_f32_packed, shared);
}

status moe(const view_experts& experts, const any_shared& shared, const any_input& x, const moe_call& call) {
  return moe_f32(x, call, experts, all_moe_f32, shared);
}

status moe(const packed_experts& experts, const any_shared& shared, const int8_activations& x, const moe_call& call) {
  return moe_int8(x, call, experts, all_moe_int8_packed, shared);
}

status moe(const view_experts& experts, const any_shared& shared, const int8_activations& x, const moe_call& call) {
  return moe_int8(x, call, experts, all_moe_int8, shared);
}

status grouped_gemm(const packed_matrices& weights, const any_input& x, const grouped_call& call) {
  return grouped_f32(all_grouped_f32_packed, weights, x, call);
}

status grouped_gemm(const view_matrices& weights, const any_input& x, const grouped_call& call) {
  return grouped_f32(all_grouped_f32, weights, x, call);
}

status grouped_gemm(const packed_matrices& weights, const int8_activations& x, const grouped_call& call) {
  return grouped_int8(all_grouped_int8_packed, weights, x, call);
}

status grouped_gemm(const view_matrices& weights, const int8_activations& x, const grouped_call& call) {
  return grouped_int8(all_grouped_int8, weights, x, call);
}

}  // namespace detail
}  // namespace mxfp4::dispatch
