// bench/products.hpp -- gemv and gemm as rows: with f32 and with int8 activations, of a view and of packed weights.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "limits.hpp"
#include "mxfp4/linalg.hpp"
#include "mxfp4/reference/gemm.hpp"

namespace mxfp4::bench {

/// What is counted, and its limit: bytes of weights and reading them for one token, operations and `peak` for more.
template <class Run>
[[nodiscard]] subject product_subject(const row& r, matrices& w, bool is_right, work peak, Run run) {
  if (r.m > 1)
    return {is_right, "Gop/s", {r.kernel, 2e-9 * static_cast<double>(r.n * r.k * r.m), run}, {std::move(peak)}};
  const bool packed = r.weights == "packed";
  return {is_right, "GB/s", {r.kernel, 1e-9 * packed_bytes(r), run}, read_limits(r.threads, [&w, packed] {
            w.next();
            return packed ? w.packed().bytes() : w.view_bytes();
          })};
}

/// Calls f with the current matrix, in the form that the row is about.
template <class F>
auto with_weights(const row& r, const matrices& w, F f) {
  return r.weights == "packed" ? f(w.packed()) : f(w.view());
}

template <class Arch>
void add_f32(row r) {
  r.activation = r.output = "f32";
  r.isa = simd::isa_name<Arch>;
  add(r, [r] {
    matrices& w = matrices_for(r);
    const auto data = std::make_shared<product_data>(r);
    const dense_view<const float> x{data->x.data(), r.m, r.k, r.k};
    const dense_view<float> y{data->y.data(), r.m, r.n, r.n};
    const auto run = [=, &w] {
      w.next();
      return with_weights(r, w, [&](const auto& weights) {
        return gemm<dialect::ocp, Arch>(weights, x, y, {false, executor_for(r.threads)}).ok();
      });
    };
    const bool is_right = run() && at_the_corners(r, w.view(), *data, is_close);
    return product_subject(r, w, is_right, fma_peak<Arch>(r.threads), [run, data] { run(); });
  });
}

[[nodiscard]] inline const char* name_of(int8_scaling scaling) {
  constexpr const char* names[] = {"int8_e8m0", "int8_f32", "int8_row", "int8_residual2", "int8_residual3"};
  return names[static_cast<int>(scaling)];
}

/// Activations are quantised before, but for residual2 and residual3: these stand in for f32 activations, and what it
/// takes to make them counts.
template <class Arch>
void add_int8(row r, int8_scaling scaling) {
  r.activation = name_of(scaling);
  r.output = "f32";
  r.isa = simd::isa_name<Arch>;
  add(r, [r, scaling] {
    matrices& w = matrices_for(r);
    const auto data = std::make_shared<product_data>(r);
    const dense_view<const float> tokens{data->x.data(), r.m, r.k, r.k};
    const auto x = std::make_shared<int8_activations>(*quantize_activations(tokens, scaling));
    const dense_view<float> y{data->y.data(), r.m, r.n, r.n};
    const auto run = [=, &w] {
      w.next();
      if (terms_of(scaling) > 1 && !quantize_activations<Arch>(tokens, *x, {executor_for(r.threads)}).ok())
        return false;
      return with_weights(r, w, [&](const auto& weights) {
        return gemm<Arch>(weights, *x, y, {false, executor_for(r.threads)}).ok();
      });
    };
    const auto is_equal = [&](const const_mx_view<>& rows, const float* token, const float* outputs) {
      const auto alone = quantize_activations(dense_view<const float>{token, 1, r.k, r.k}, scaling);
      std::vector<float> expected(size(rows.rows));
      return reference::gemm(rows, *alone, dense_view<float>{expected.data(), 1, rows.rows, rows.rows}).ok() &&
             std::equal(expected.begin(), expected.end(), outputs);
    };
    const bool is_right = run() && at_the_corners(r, w.view(), *data, is_equal);
    return product_subject(r, w, is_right, dot_peak<Arch>(r.threads), [run, data] { run(); });
  });
}

}  // namespace mxfp4::bench
