// tests/support/moe.hpp -- experts, tokens and routings for the tests of moe(), and what comes of them by definition.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <vector>

#include "mxfp4/kernel/pack.hpp"
#include "mxfp4/moe/moe.hpp"
#include "mxfp4/reference/int8.hpp"
#include "support/product.hpp"

namespace mxfp4::test {

/// E experts in a checkpoint's layout, random codes under scale bytes [low, high].
template <class Layout = layout::compressed_tensors>
struct expert_memory {
  expert_memory(std::int64_t count, std::int64_t h, std::int64_t i, splitmix& random, int low = 118, int high = 124)
      : hidden(h), intermediate(i) {
    for (std::int64_t e = 0; e < count; ++e) {
      experts.push_back({mx_memory<Layout>(i, h, 2, 1), mx_memory<Layout>(i, h), mx_memory<Layout>(h, i)});
      fill(experts.back().gate, i, h, byte_range(low, high), random);
      fill(experts.back().up, i, h, byte_range(low, high), random);
      fill(experts.back().down, h, i, byte_range(low, high), random);
    }
  }
  std::vector<expert<const_mx_view<Layout>>> views() {
    std::vector<expert<const_mx_view<Layout>>> all;
    for (auto& e : experts)
      all.push_back(
          {e.gate.view(), e.up.view(), e.down.view(), data_of(e.gate_bias), data_of(e.up_bias), data_of(e.down_bias)});
    return all;
  }
  std::vector<expert<packed_matrix>> packed() {
    std::vector<expert<packed_matrix>> all;
    for (auto& e : experts)
      all.push_back({*pack(e.gate.view()), *pack(e.up.view()), *pack(e.down.view()), data_of(e.gate_bias),
                     data_of(e.up_bias), data_of(e.down_bias)});
    return all;
  }
  /// Biases in [-4, 4] for all experts but every third, which has one of down alone.
  void add_biases(splitmix& random) {
    const auto fill_up = [&random](std::vector<float>& bias, std::int64_t size) {
      for (std::int64_t n = 0; n < size; ++n) bias.push_back(static_cast<float>(random.in(-4096, 4096)) * 0x1p-10f);
    };
    for (std::size_t e = 0; e < experts.size(); ++e) {
      fill_up(experts[e].down_bias, hidden);
      if (e % 3 == 2) continue;
      fill_up(experts[e].gate_bias, intermediate);
      fill_up(experts[e].up_bias, intermediate);
    }
  }
  moe_shape shape(std::int64_t tokens, std::int64_t top_k) const {
    return {tokens, top_k, static_cast<std::int64_t>(experts.size()), hidden, intermediate};
  }

  struct matrices {
    mx_memory<Layout> gate, up, down;
    std::vector<float> gate_bias = {}, up_bias = {}, down_bias = {};  // empty: none
  };
  static const float* data_of(const std::vector<float>& bias) { return bias.empty() ? nullptr : bias.data(); }
  std::int64_t hidden, intermediate;
  std::vector<matrices> experts;
};

/// M x k different experts of each token, and weights in [-1/2, 1].
struct routing {
  routing(std::int64_t m, std::int64_t k, std::int64_t experts, splitmix& random)
      : rows(m), top_k(k), indices(static_cast<std::size_t>(m * k)), weights(indices.size()) {
    std::vector<std::int32_t> all(static_cast<std::size_t>(experts));
    for (std::int64_t t = 0; t < m; ++t) {
      std::iota(all.begin(), all.end(), 0);
      for (std::int64_t s = 0; s < k; ++s) {
        std::swap(all[static_cast<std::size_t>(s)], all[static_cast<std::size_t>(random.between(s, experts - 1))]);
        indices[static_cast<std::size_t>(t * k + s)] = all[static_cast<std::size_t>(s)];
        weights[static_cast<std::size_t>(t * k + s)] = static_cast<float>(random.in(-512, 1024)) * 0x1p-10f;
      }
    }
  }
  dense_view<const std::int32_t> expert_view() const { return {indices.data(), rows, top_k, top_k}; }
  dense_view<const float> weight_view() const { return {weights.data(), rows, top_k, top_k}; }

  std::int64_t rows, top_k;
  std::vector<std::int32_t> indices;
  std::vector<float> weights;
};

/// A result with a gap of three floats behind each row.
struct output {
  output(std::int64_t m, std::int64_t h, float start = -7.0f)
      : rows(m), cols(h), data(static_cast<std::size_t>(m * (h + 3)), start) {}
  dense_view<float> view() { return {data.data(), rows, cols, cols + 3}; }
  float at(std::int64_t m, std::int64_t n) const { return data[static_cast<std::size_t>(m * (cols + 3) + n)]; }

  std::int64_t rows, cols;
  std::vector<float> data;
};

/// The definition of the int8 moe, a token at a time: reference::gemm, biases, glu, int8 again, one fma for each slot.
template <class Layout>
void reference_moe(expert_memory<Layout>& experts, const tokens& x, int8_scaling scaling, const routing& r,
                   const dense_view<float>& y, bool accumulate = false, hidden_act act = hidden_act::silu) {
  const std::int64_t h = experts.hidden, i = experts.intermediate;
  const auto quantized = [scaling](const float* row, std::int64_t cols) {
    return *quantize_activations(dense_view<const float>{row, 1, cols, cols}, scaling);
  };
  const auto product = [](mx_memory<Layout>& w, const std::vector<float>& bias, const int8_activations& a,
                          std::int64_t rows) {
    std::vector<float> out(static_cast<std::size_t>(rows));
    if (!reference::gemm(w.view(), a, dense_view<float>{out.data(), 1, rows, rows}).ok()) out.clear();
    for (std::size_t n = 0; n < bias.size(); ++n) out[n] += bias[n];
    return out;
  };
  for (std::int64_t m = 0; m < r.rows; ++m) {
    const int8_activations token = quantized(x.view().row(m), h);
    std::vector<float> sum(static_cast<std::size_t>(h));
    for (std::int64_t n = 0; accumulate && n < h; ++n) sum[static_cast<std::size_t>(n)] = y.row(m)[n] + 0.0f;
    for (std::int64_t s = 0; s < r.top_k; ++s) {
      auto& e = experts.experts[static_cast<std::size_t>(r.expert_view().row(m)[s])];
      std::vector<float> hidden = product(e.gate, e.gate_bias, token, i);
      const std::vector<float> up = product(e.up, e.up_bias, token, i);
      for (std::size_t n = 0; n < hidden.size(); ++n) hidden[n] = glu(act, hidden[n], up[n]);
      const std::vector<float> down = product(e.down, e.down_bias, quantized(hidden.data(), i), h);
      for (std::size_t n = 0; n < sum.size(); ++n) sum[n] = std::fma(r.weight_view().row(m)[s], down[n], sum[n]);
    }
    for (std::int64_t n = 0; n < h; ++n) y.row(m)[n] = detail::canonical(sum[static_cast<std::size_t>(n)]);
  }
}

/// The same in double from the decoded weights, with a bound on what f32 arithmetic may be off by.
///
/// With u = 2^-24 and g(n) = n u / (1 - n u): a gate is off by G = g(H + 1) (sum |w x| + |bias|), an up by U likewise.
/// The factor f = x sigmoid(z) that an activation makes of its gate has a slope of at most 1.2 (silu and gpt-oss 1.1,
/// gelu 1.13), it has an error of its own of (10 + 4 |z|) u, and cuts make no difference larger; so hidden is off by
///   D = 1.2 G (|up| + U) + |f| U + its own error,
/// down by g(I + 1) (sum |w| (|hidden| + D) + |bias|) + sum |w| D, and k weighted terms by g(k + 1) of their
/// magnitudes.
struct exact_moe {
  template <class Layout>
  exact_moe(expert_memory<Layout>& experts, const tokens& x, const routing& r, hidden_act act = hidden_act::silu)
      : value(static_cast<std::size_t>(r.rows * experts.hidden)), bound(value.size()) {
    constexpr double u = 0x1p-24;
    const auto g = [](double n) { return n * u / (1.0 - n * u); };
    const std::int64_t h = experts.hidden, i = experts.intermediate;
    const auto bias_at = [](const std::vector<float>& bias, std::size_t n) {
      return bias.empty() ? 0.0 : static_cast<double>(bias[n]);
    };
    for (std::int64_t m = 0; m < r.rows; ++m) {
      tokens token(1, h);
      token.fill([&](std::int64_t, std::int64_t k) { return x.view().row(m)[k]; });
      for (std::int64_t s = 0; s < r.top_k; ++s) {
        auto& e = experts.experts[static_cast<std::size_t>(r.expert_view().row(m)[s])];
        const exact_product gate(e.gate, i, token), up(e.up, i, token);
        std::vector<double> hidden(gate.sum.size()), error(hidden.size());
        for (std::size_t n = 0; n < hidden.size(); ++n) {
          const double gate_bias = bias_at(e.gate_bias, n), up_bias = bias_at(e.up_bias, n);
          const double rounds = static_cast<double>(h) + 1;
          const double gate_error = g(rounds) * (gate.magnitudes[n] + std::fabs(gate_bias));
          const double up_error = g(rounds) * (up.magnitudes[n] + std::fabs(up_bias));
          double x_gate = gate.sum[n] + gate_bias, x_up = up.sum[n] + up_bias, z = x_gate;
          if (act == hidden_act::gpt_oss) {
            x_gate = std::fmin(x_gate, 7.0);
            x_up = std::fmax(-7.0, std::fmin(x_up, 7.0)) + 1;
            z = static_cast<double>(1.702f) * x_gate;
          } else if (act == hidden_act::gelu_tanh) {
            z = 2 * std::sqrt(2 / 3.14159265358979323846) * (x_gate + 0.044715 * x_gate * x_gate * x_gate);
          }
          const double factor = x_gate / (1.0 + std::exp(-z));
          const double factor_error = 1.2 * gate_error;
          const double own = (10 + 4 * std::fabs(z)) * u;
          hidden[n] = factor * x_up;
          error[n] = factor_error * (std::fabs(x_up) + up_error) + std::fabs(factor) * up_error;
          error[n] += own * (std::fabs(hidden[n]) + error[n]) + u * std::fabs(factor);  // the last of up + 1
        }
        const double weight = static_cast<double>(r.weight_view().row(m)[s]);
        for (std::int64_t n = 0; n < h; ++n) {
          const double bias = bias_at(e.down_bias, static_cast<std::size_t>(n));
          double sum = bias, magnitude = std::fabs(bias), off = 0;
          for (std::int64_t k = 0; k < i; ++k) {
            const auto w = static_cast<double>(
                decode_weight(static_cast<e2m1>(e.down.code(n, k)), static_cast<e8m0>(e.down.scale(n, k / 32))));
            const auto at = static_cast<std::size_t>(k);
            sum += w * hidden[at];
            magnitude += std::fabs(w) * (std::fabs(hidden[at]) + error[at]);
            off += std::fabs(w) * error[at];
          }
          off += g(static_cast<double>(i) + 1) * magnitude;
          const auto to = static_cast<std::size_t>(m * h + n);
          value[to] += weight * sum;
          bound[to] += std::fabs(weight) * (off + g(static_cast<double>(r.top_k + 1)) * (std::fabs(sum) + off));
        }
      }
    }
  }
  std::vector<double> value, bound;
};

}  // namespace mxfp4::test
