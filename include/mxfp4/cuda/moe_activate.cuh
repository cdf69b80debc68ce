// mxfp4/cuda/moe_activate.cuh -- what an expert does between its products, and what becomes of their results.
// SPDX-License-Identifier: Apache-2.0
//
//   moe_gemm       x, gate and up   -->  products  (M k) x 2 I
//   moe_activate   products         -->  hidden    (M k) x I       + biases, silu(gate) * up or another unit
//   moe_gemm       hidden, down     -->  results   (M k) x H
//   moe_combine    results          -->  y         M x H           + biases, weighted sums over the slots of a token
//
// With results in float between the kernels a number is rounded where it is stored and nowhere else. A layer:
//
//   moe_route(shape, indices, workspace, bytes, stream);
//   moe_gemm(shape, gate_up, x, products, workspace, bytes, stream);
//   moe_activate(shape, indices, products, gate_up_bias, hidden, {.act = hidden_act::gpt_oss, ...}, stream);
//   moe_gemm(shape, down, hidden, results, workspace, bytes, stream);
//   moe_combine(shape, indices, weights, results, down_bias, y, stream);
#pragma once

#include <cstdint>

#include "mxfp4/cuda/device/glu.cuh"
#include "mxfp4/cuda/device/moe_plan.cuh"
#include "mxfp4/cuda/device/product.cuh"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

/// How the columns of gate and up stand in one matrix of 2 I columns, and in their biases.
enum class gate_up_order : std::uint8_t {
  split,       ///< those of gate, then those of up
  interleaved  ///< by turns, a gate first: gpt-oss
};

/// What moe_activate makes of a gate and an up: moe_options of the host's moe(), and the order of the columns.
struct moe_activation {
  hidden_act act = hidden_act::silu;           ///< of gate and up, after their biases
  gate_up_order order = gate_up_order::split;  ///< of the products' columns and of the biases
  float alpha = 1.702f;                        ///< of hidden_act::gpt_oss
  float limit = 7.0f;                          ///< of hidden_act::gpt_oss, above 0
};

namespace kernel {

/// Column `column` of row `row`, as float.
template <class T>
MXFP4_DEVICE float load_number(const dense_view<const T>& v, std::int64_t row, std::int64_t column) {
  return decode(device::load_constant(v.row(row) + column));
}
/// The same of a bias of expert `expert`, or `sum` where there is none.
MXFP4_DEVICE float with_bias(float sum, const dense_view<const float>& bias, int expert, std::int64_t column) {
  return bias.data == nullptr ? sum : sum + device::load_constant(bias.row(expert) + column);
}
/// The number as a T; any NaN is the canonical one.
template <class T>
MXFP4_DEVICE void store_number(T* to, float v) {
  device::store(to, encode<T>(v == v ? v : mxfp4::detail::float_from_bits(mxfp4::detail::f32_nan)));
}

template <class P, class H>
struct moe_activate {
  static constexpr int threads = 256;
  static constexpr int blocks_per_processor = 4;
  struct arguments {
    dense_view<const std::int32_t> indices;
    dense_view<const P> products;
    dense_view<const float> bias;
    dense_view<H> hidden;
    moe_activation how;
    int experts, top_k;
  };
  static MXFP4_DEVICE void run(const arguments& a) {
    const std::int64_t step = std::int64_t{device::grid_x()} * threads, cols = a.hidden.cols;
    const bool split = a.how.order == gate_up_order::split;
    for (std::int64_t p = device::block_y(); p < a.hidden.rows; p += device::grid_y()) {
      const int expert = device::load_constant(a.indices.row(p / a.top_k) + p % a.top_k);
      const bool good = expert >= 0 && expert < a.experts;
      for (std::int64_t i = std::int64_t{device::block_x()} * threads + device::thread_index(); i < cols; i += step) {
        float v = mxfp4::detail::float_from_bits(mxfp4::detail::f32_nan);
        if (good) {
          const std::int64_t gate_at = split ? i : 2 * i, up_at = split ? cols + i : 2 * i + 1;
          const float gate = with_bias(load_number(a.products, p, gate_at), a.bias, expert, gate_at);
          const float up = with_bias(load_number(a.products, p, up_at), a.bias, expert, up_at);
          v = device::glu(a.how.act, gate, up, a.how.alpha, a.how.limit);
        }
        store_number(a.hidden.row(p) + i, v);
      }
    }
  }
};

template <class P, class Y>
struct moe_combine {
  static constexpr int threads = 256;
  static constexpr int blocks_per_processor = 4;
  struct arguments {
    dense_view<const std::int32_t> indices;
    dense_view<const float> weights;
    dense_view<const P> results;
    dense_view<const float> bias;
    dense_view<Y> y;
    int experts, top_k;
    bool accumulate;
  };
  static MXFP4_DEVICE void run(const arguments& a) {
    const std::int64_t step = std::int64_t{device::grid_x()} * threads;
    for (std::int64_t m = device::block_y(); m < a.y.rows; m += device::grid_y())
      for (std::int64_t n = std::int64_t{device::block_x()} * threads + device::thread_index(); n < a.y.cols;
           n += step) {
        float sum = a.accumulate ? decode(device::load(a.y.row(m) + n)) + 0.0f : 0.0f;
        for (int s = 0; s < a.top_k; ++s) {
          const int expert = device::load_constant(a.indices.row(m) + s);
          const bool good = expert >= 0 && expert < a.experts;
          const float down = load_number(a.results, m * a.top_k + s, n);
          const float result =
              good ? with_bias(down, a.bias, expert, n) : mxfp4::detail::float_from_bits(mxfp4::detail::f32_nan);
          sum = device::fused_multiply_add(device::load_constant(a.weights.row(m) + s), result, sum);
        }
        store_number(a.y.row(m) + n, sum);
      }
  }
};

template <class Y>
struct add_bias {
  static constexpr int threads = 256;
  static constexpr int blocks_per_processor = 4;
  struct arguments {
    dense_view<const float> sums;
    const float* bias;
    dense_view<Y> y;
  };
  static MXFP4_DEVICE void run(const arguments& a) {
    const std::int64_t step = std::int64_t{device::grid_x()} * threads;
    for (std::int64_t m = device::block_y(); m < a.y.rows; m += device::grid_y())
      for (std::int64_t n = std::int64_t{device::block_x()} * threads + device::thread_index(); n < a.y.cols; n += step)
        store_number(a.y.row(m) + n, load_number(a.sums, m, n) + device::load_constant(a.bias + n));
  }
};

}  // namespace kernel

namespace detail {

/// Rows of `cols` biases, one for each expert, or no data: none.
[[nodiscard]] inline status check_bias(const dense_view<const float>& bias, std::int64_t experts, std::int64_t cols,
                                       mxfp4::detail::byte_range out, const char* out_name) noexcept {
  if (bias.data == nullptr) return {};
  if (const status s = check_aligned(bias, std::int64_t{sizeof(float)}, "bias"); !s.ok()) return s;
  if (bias.rows != experts) return {errc::shape_mismatch, "rows", bias.rows, experts, "bias"};
  if (bias.cols != cols) return {errc::shape_mismatch, "cols", bias.cols, cols, "bias"};
  if (mxfp4::detail::overlap(mxfp4::detail::data_of(bias), out)) return {errc::overlap, out_name};
  return {};
}
[[nodiscard]] inline status check_indices(const routing_shape& shape, const dense_view<const std::int32_t>& indices,
                                          mxfp4::detail::byte_range out, const char* out_name) noexcept {
  if (const status s = check_moe(shape); !s.ok()) return s;
  if (const status s = check_aligned(indices, std::int64_t{sizeof(std::int32_t)}, "indices"); !s.ok()) return s;
  if (indices.rows != shape.tokens) return {errc::shape_mismatch, "rows", indices.rows, shape.tokens, "indices"};
  if (indices.cols != shape.top_k) return {errc::shape_mismatch, "cols", indices.cols, shape.top_k, "indices"};
  if (mxfp4::detail::overlap(mxfp4::detail::data_of(indices), out)) return {errc::overlap, out_name};
  return {};
}

}  // namespace detail

/// For preload.
template <result_type P, result_type H, result_type Y>
using moe_step_kernels = kernel_set<kernel::moe_activate<P, H>, kernel::moe_combine<P, Y>>;

/// Is this what moe_activate takes?
/// @return ok, or what is wrong first: with the shape; with products or hidden alone; with indices, of another shape or
///         not 4-byte aligned; products.rows, hidden.rows not M top_k; products.cols not 2 hidden.cols; how.act,
///         how.order; how.limit or how.alpha where it is NaN; the bias; hidden sharing bytes with an input.
template <result_type P, result_type H>
[[nodiscard]] status check_moe_activate(const routing_shape& shape, const dense_view<const std::int32_t>& indices,
                                        const dense_view<const P>& products, const dense_view<const float>& bias,
                                        const dense_view<H>& hidden, const moe_activation& how) noexcept {
  if (const status s = detail::check_moe(shape); !s.ok()) return s;
  if (const status s = detail::check_aligned(products, std::int64_t{sizeof(P)}, "products"); !s.ok()) return s;
  if (const status s = detail::check_aligned(hidden, std::int64_t{sizeof(H)}, "hidden"); !s.ok()) return s;
  const mxfp4::detail::byte_range out = mxfp4::detail::data_of(hidden);
  if (const status s = detail::check_indices(shape, indices, out, "hidden"); !s.ok()) return s;
  if (products.rows != shape.token_slots())
    return {errc::shape_mismatch, "rows", products.rows, shape.token_slots(), "products"};
  if (hidden.rows != shape.token_slots())
    return {errc::shape_mismatch, "rows", hidden.rows, shape.token_slots(), "hidden"};
  if (products.cols != 2 * hidden.cols)
    return {errc::shape_mismatch, "cols", products.cols, 2 * hidden.cols, "products"};
  if (how.act > hidden_act::gelu_tanh) return {errc::out_of_range, "act", static_cast<std::int64_t>(how.act), 2, "how"};
  if (how.order > gate_up_order::interleaved)
    return {errc::out_of_range, "order", static_cast<std::int64_t>(how.order), 1, "how"};
  if (how.act == hidden_act::gpt_oss && (how.limit != how.limit || how.alpha != how.alpha))
    return {errc::not_a_number, how.limit != how.limit ? "limit" : "alpha", 0, 0, "how"};
  if (const status s = detail::check_bias(bias, shape.experts, products.cols, out, "hidden"); !s.ok()) return s;
  if (mxfp4::detail::overlap(mxfp4::detail::data_of(products), out)) return {errc::overlap, "hidden"};
  return {};
}

/// hidden[p][i] = glu(gate + bias, up + bias) of token slot p = m * top_k + slot and of its expert's biases: the bits
/// of reference/glu.hpp, rounded to H to nearest even. Subnormals must not be flushed (nvcc's default).
///
/// @param indices   M x top_k, as moe_route's: which expert's biases. Where one names no expert, NaN.
/// @param products  (M top_k) x 2 I, of moe_gemm: float, bf16 or f16.
/// @param bias      E x 2 I in the order of the columns; no data: none.
/// @param hidden    (M top_k) x I, overwritten: bf16 or f16 for moe_gemm, or float.
/// @return          cudaSuccess, or why there is no launch: cudaErrorInvalidValue for what check_moe_activate names;
///                  nothing is written then.
/// Special: as reference/glu.hpp. Any NaN is the canonical one.
template <result_type P, result_type H>
[[nodiscard]] cudaError_t moe_activate(const routing_shape& shape, const dense_view<const std::int32_t>& indices,
                                       const dense_view<const P>& products, const dense_view<const float>& bias,
                                       const dense_view<H>& hidden, const moe_activation& how, cudaStream_t stream) {
  if (const status s = check_moe_activate(shape, indices, products, bias, hidden, how); !s.ok())
    return detail::error_of(s);
  using body = kernel::moe_activate<P, H>;
  return launch<body>(
      detail::rows_grid(hidden.rows, hidden.cols, body::threads), 0, stream,
      {indices, products, bias, hidden, how, static_cast<int>(shape.experts), static_cast<int>(shape.top_k)});
}

/// Is this what moe_combine takes? As check_moe_activate: results (M top_k) x H, weights M x top_k, y M x H, which
/// shares no byte with an input.
template <result_type P, result_type Y>
[[nodiscard]] status check_moe_combine(const routing_shape& shape, const dense_view<const std::int32_t>& indices,
                                       const dense_view<const float>& weights, const dense_view<const P>& results,
                                       const dense_view<const float>& bias, const dense_view<Y>& y) noexcept {
  if (const status s = detail::check_moe(shape); !s.ok()) return s;
  if (const status s = detail::check_aligned(results, std::int64_t{sizeof(P)}, "results"); !s.ok()) return s;
  if (const status s = detail::check_aligned(y, std::int64_t{sizeof(Y)}, "y"); !s.ok()) return s;
  const mxfp4::detail::byte_range out = mxfp4::detail::data_of(y);
  if (const status s = detail::check_indices(shape, indices, out, "y"); !s.ok()) return s;
  if (const status s = detail::check_aligned(weights, std::int64_t{sizeof(float)}, "weights"); !s.ok()) return s;
  if (weights.rows != shape.tokens) return {errc::shape_mismatch, "rows", weights.rows, shape.tokens, "weights"};
  if (weights.cols != shape.top_k) return {errc::shape_mismatch, "cols", weights.cols, shape.top_k, "weights"};
  if (results.rows != shape.token_slots())
    return {errc::shape_mismatch, "rows", results.rows, shape.token_slots(), "results"};
  if (y.rows != shape.tokens) return {errc::shape_mismatch, "rows", y.rows, shape.tokens, "y"};
  if (y.cols != results.cols) return {errc::shape_mismatch, "cols", y.cols, results.cols, "y"};
  if (const status s = detail::check_bias(bias, shape.experts, y.cols, out, "y"); !s.ok()) return s;
  for (const auto& in : {mxfp4::detail::data_of(weights), mxfp4::detail::data_of(results)})
    if (mxfp4::detail::overlap(in, out)) return {errc::overlap, "y"};
  return {};
}

/// y[m][n] = sum over slots s of weights[m][s] * (results[m * top_k + s][n] + bias[indices[m][s]][n]): in this order,
/// one FMA each, from +0 or, with `accumulate`, from y; then rounded to Y, nearest even. The host's moe() adds so too.
///
/// @param indices, weights  M x top_k; an index that names no expert makes its token NaN.
/// @param results  (M top_k) x H of moe_gemm, float, bf16 or f16.  @param bias  E x H; no data: none.
/// @param y        M x H: float, bf16 or f16.
/// @return         as moe_activate, for what check_moe_combine names. Any NaN is the canonical one.
template <result_type P, result_type Y>
[[nodiscard]] cudaError_t moe_combine(const routing_shape& shape, const dense_view<const std::int32_t>& indices,
                                      const dense_view<const float>& weights, const dense_view<const P>& results,
                                      const dense_view<const float>& bias, const dense_view<Y>& y, cudaStream_t stream,
                                      bool accumulate = false) {
  if (const status s = check_moe_combine(shape, indices, weights, results, bias, y); !s.ok())
    return detail::error_of(s);
  using body = kernel::moe_combine<P, Y>;
  return launch<body>(
      detail::rows_grid(y.rows, y.cols, body::threads), 0, stream,
      {indices, weights, results, bias, y, static_cast<int>(shape.experts), static_cast<int>(shape.top_k), accumulate});
}

/// Is this what add_bias takes? sums and y M x N, `bias` 4-byte aligned; y shares no byte with them.
template <result_type Y>
[[nodiscard]] status check_add_bias(const dense_view<const float>& sums, const float* bias,
                                    const dense_view<Y>& y) noexcept {
  if (const status s = detail::check_aligned(sums, std::int64_t{sizeof(float)}, "sums"); !s.ok()) return s;
  if (const status s = detail::check_aligned(y, std::int64_t{sizeof(Y)}, "y"); !s.ok()) return s;
  if (y.rows != sums.rows) return {errc::shape_mismatch, "rows", y.rows, sums.rows, "y"};
  if (y.cols != sums.cols) return {errc::shape_mismatch, "cols", y.cols, sums.cols, "y"};
  if (bias == nullptr) return {errc::null_pointer, "bias", 0, y.cols};
  if (const status s = detail::check_alignment(bias, sizeof(float), "bias", ""); !s.ok()) return s;
  const mxfp4::detail::byte_range out = mxfp4::detail::data_of(y), added{bias, y.cols * std::int64_t{sizeof(float)}};
  if (mxfp4::detail::overlap(mxfp4::detail::data_of(sums), out) || mxfp4::detail::overlap(added, out))
    return {errc::overlap, "y"};
  return {};
}

/// y[m][n] = sums[m][n] + bias[n], rounded to Y: the bias of a gemm whose sums were stored as float, so that they are
/// rounded to bf16 or f16 once, as gemm of linalg.hpp does with options.bias.
/// @return  as moe_activate, for what check_add_bias names. Any NaN is the canonical one.
template <result_type Y>
[[nodiscard]] cudaError_t add_bias(const dense_view<const float>& sums, const float* bias, const dense_view<Y>& y,
                                   cudaStream_t stream) {
  if (const status s = check_add_bias(sums, bias, y); !s.ok()) return detail::error_of(s);
  using body = kernel::add_bias<Y>;
  return launch<body>(detail::rows_grid(y.rows, y.cols, body::threads), 0, stream, {sums, bias, y});
}

}  // namespace mxfp4::cuda
