// tests/cuda/moe_activate.emulated.test.cpp -- the steps between and after an expert's products, under the emulator.
// SPDX-License-Identifier: Apache-2.0
//
// Expectations: reference/glu.hpp and fma number by number; for a whole layer, the host's moe().
#include <bit>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "cuda/product.support.hpp"
#include "mxfp4/cuda/gemm.cuh"
#include "mxfp4/cuda/moe.cuh"
#include "mxfp4/cuda/moe_activate.cuh"
#include "mxfp4/moe.hpp"
#include "mxfp4/reference/glu.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;
using cuda::gate_up_order;
using cuda::moe_activation;
using cuda::routing_shape;
constexpr float infinity = std::numeric_limits<float>::infinity();

template <class T>
T rounded(float v) {
  return encode<T>(std::isnan(v) ? std::bit_cast<float>(0x7FC00000u) : v);
}
template <class T>
float number(T v) {
  return decode(v);
}
bool same(float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); }

/// Rows of `cols` numbers, one after the other; device memory.
template <class T>
struct device_matrix {
  device_matrix(const std::vector<float>& from, std::int64_t c, const char* name)
      : rows(static_cast<std::int64_t>(from.size()) / c), cols(c), data(make(from), name) {}
  dense_view<const T> view() const { return {data.data(), rows, cols, cols}; }
  static std::vector<T> make(const std::vector<float>& from) {
    std::vector<T> to;
    for (const float v : from) to.push_back(encode<T>(v));
    return to;
  }
  std::int64_t rows, cols;
  device_array<T> data;
};

std::vector<float> numbers(std::int64_t count, splitmix& random, int low = 110, int high = 131) {
  std::vector<float> all;
  for (std::int64_t i = 0; i < count; ++i) all.push_back(random.with_exponent(low, high));
  return all;
}

/// moe_activate in every order and with and without biases against glu(): how many results are wrong.
template <class P, class H>
std::int64_t wrong_hidden(const routing_shape& shape, std::int64_t inner, hidden_act act, std::uint64_t seed) {
  splitmix random(seed);
  const std::int64_t slots = shape.token_slots();
  std::vector<std::int32_t> indices;
  for (std::int64_t p = 0; p < slots; ++p)
    indices.push_back(static_cast<std::int32_t>(random.between(0, shape.experts - 1)));
  if (slots > 3) indices[3] = -1;
  const device_array<std::int32_t> device_indices(indices, "indices");
  const dense_view<const std::int32_t> which{device_indices.data(), shape.tokens, shape.top_k, shape.top_k};
  std::vector<float> products = numbers(slots * 2 * inner, random);
  products[0] = infinity;
  products[1] = -infinity;
  products[2] = std::nanf("");
  products[4] = -0.0f;
  products[5] = -200.0f;
  products[6] = 8.0f;
  const device_matrix<P> device_products(products, 2 * inner, "products");
  const device_matrix<float> bias(numbers(shape.experts * 2 * inner, random), 2 * inner, "bias");
  std::int64_t wrong = 0;
  for (const gate_up_order order : {gate_up_order::split, gate_up_order::interleaved})
    for (const bool biased : {false, true}) {
      const moe_activation how{act, order, 1.5f, 6.0f};
      device_results<H> hidden(slots, inner, 3);
      REQUIRE(cuda::moe_activate(shape, which, device_products.view(), biased ? bias.view() : dense_view<const float>{},
                                 hidden.view(), how, nullptr) == cudaSuccess);
      const std::vector<float> got = hidden.values();
      for (std::int64_t p = 0; p < slots; ++p)
        for (std::int64_t i = 0; i < inner; ++i) {
          const std::int32_t e = indices[static_cast<std::size_t>(p)];
          const auto at = [&](std::int64_t col) {
            const float sum = number(device_products.view().row(p)[col]);
            return biased && e >= 0 ? sum + bias.view().row(e)[col] : sum;
          };
          const bool split = order == gate_up_order::split;
          float expected = glu(act, at(split ? i : 2 * i), at(split ? inner + i : 2 * i + 1), how.alpha, how.limit);
          if (e < 0) expected = std::nanf("");
          wrong += !same(got[static_cast<std::size_t>(p * inner + i)], number(rounded<H>(expected)));
        }
    }
  return wrong;
}

}  // namespace

TEMPLATE_TEST_CASE("cuda::moe_activate: the host's bits", "[cuda][moe]", float, bf16, f16) {
  std::uint64_t seed = 11;
  for (const hidden_act act : {hidden_act::silu, hidden_act::gpt_oss, hidden_act::gelu_tanh})
    for (const auto& [shape, inner] :
         {std::pair{routing_shape{1, 1, 1}, 5}, {routing_shape{3, 2, 4}, 33}, {routing_shape{2, 3, 2}, 300}}) {
      CAPTURE(static_cast<int>(act), inner);
      device_settings.seed = ++seed;
      CHECK(wrong_hidden<TestType, float>(shape, inner, act, seed) == 0);
      CHECK(wrong_hidden<float, TestType>(shape, inner, act, seed) == 0);
    }
}

TEST_CASE("cuda::moe_activate: gates of every size", "[cuda][moe]") {
  // every exponent and sign of a float, an up of 1
  std::vector<float> products;
  for (std::uint32_t high = 0; high < 1u << 16; high += 3)
    products.push_back(std::bit_cast<float>(high << 16 | 0x5A5Au));
  const auto inner = static_cast<std::int64_t>(products.size());
  products.insert(products.end(), products.size(), 1.0f);
  const device_matrix<float> device_products(products, 2 * inner, "products");
  const device_array<std::int32_t> indices(std::vector<std::int32_t>{0}, "indices");
  for (const hidden_act act : {hidden_act::silu, hidden_act::gpt_oss, hidden_act::gelu_tanh}) {
    device_results<float> hidden(1, inner);
    REQUIRE(cuda::moe_activate<float, float>({1, 1, 1}, {indices.data(), 1, 1, 1}, device_products.view(), {},
                                             hidden.view(), {.act = act}, nullptr) == cudaSuccess);
    const std::vector<float> got = hidden.values();
    std::int64_t wrong = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      const float expected = glu(act, products[i], 1.0f);
      wrong += !(std::isnan(expected) ? std::isnan(got[i]) : same(got[i], expected));
    }
    CHECK(wrong == 0);
  }
}

TEMPLATE_TEST_CASE("cuda::moe_combine: slots in their order, one fma each", "[cuda][moe]", float, bf16, f16) {
  splitmix random(12);
  for (const auto& [shape, h] :
       {std::pair{routing_shape{1, 1, 1}, 3}, {routing_shape{5, 3, 4}, 40}, {routing_shape{2, 8, 16}, 270}}) {
    CAPTURE(h);
    const std::int64_t k = shape.top_k;
    std::vector<std::int32_t> indices;
    for (std::int64_t p = 0; p < shape.token_slots(); ++p)
      indices.push_back(static_cast<std::int32_t>(random.between(0, shape.experts - 1)));
    if (shape.tokens > 2) indices[static_cast<std::size_t>(2 * k)] = static_cast<std::int32_t>(shape.experts);
    const device_array<std::int32_t> device_indices(indices, "indices");
    const device_matrix<TestType> results(numbers(shape.token_slots() * h, random), h, "results");
    const device_matrix<float> weights(numbers(shape.token_slots(), random, 120, 127), k, "weights"),
        bias(numbers(shape.experts * h, random), h, "bias"), before(numbers(shape.tokens * h, random), h, "before");
    for (const bool biased : {false, true})
      for (const bool accumulate : {false, true}) {
        CAPTURE(biased, accumulate);
        device_array<TestType> y(device_matrix<TestType>::make(
                                     std::vector<float>(before.data.data(), before.data.data() + shape.tokens * h)),
                                 "y");
        REQUIRE(cuda::moe_combine(shape, {device_indices.data(), shape.tokens, k, k}, weights.view(), results.view(),
                                  biased ? bias.view() : dense_view<const float>{},
                                  dense_view<TestType>{y.data(), shape.tokens, h, h}, nullptr,
                                  accumulate) == cudaSuccess);
        std::int64_t wrong = 0;
        for (std::int64_t m = 0; m < shape.tokens; ++m)
          for (std::int64_t n = 0; n < h; ++n) {
            float sum = accumulate ? number(encode<TestType>(before.view().row(m)[n])) + 0.0f : 0.0f;
            for (std::int64_t s = 0; s < k; ++s) {
              const std::int32_t e = indices[static_cast<std::size_t>(m * k + s)];
              float down = number(results.view().row(m * k + s)[n]);
              if (e == shape.experts) down = std::nanf("");
              else if (biased) down += bias.view().row(e)[n];
              sum = std::fma(weights.view().row(m)[s], down, sum);
            }
            wrong +=
                y.data()[m * h + n] != rounded<TestType>(sum) && !(std::is_same_v<TestType, float> && std::isnan(sum));
            wrong += std::isnan(sum) && !std::isnan(number(y.data()[m * h + n]));
          }
        CHECK(wrong == 0);
      }
  }
}

TEMPLATE_TEST_CASE("cuda::add_bias: one rounding of a product's float sums", "[cuda][gemm]", float, bf16, f16) {
  splitmix random(13);
  device_weights w(37, 96);
  fill(w.host, 37, 96, byte_range(120, 126), random);
  const tokens x = tokens(5, 96).fill([&](auto, auto) { return static_cast<float>(random.between(-2, 2)); });
  const exact_product exact(w.host, 37, x);
  const device_tokens<bf16> device_x(x, 8);
  device_results<float> sums(5, 37, 1);
  REQUIRE(cuda::gemm(w.view(), device_x.view(), sums.view(), nullptr) == cudaSuccess);
  const std::vector<float> added = numbers(37, random);
  const device_array<float> bias(added, "bias");
  device_results<TestType> y(5, 37, 3);
  const auto in = sums.view();
  REQUIRE(cuda::add_bias(dense_view<const float>(in), bias.data(), y.view(), nullptr) == cudaSuccess);
  const std::vector<float> got = y.values();
  for (std::size_t i = 0; i < got.size(); ++i)
    CHECK(got[i] == number(encode<TestType>(static_cast<float>(exact.sum[i]) + added[i % 37])));
}

TEST_CASE("cuda: a layer of experts as the host's moe() computes it", "[cuda][moe]") {
  constexpr std::int64_t m = 6, k = 2, e = 3, h = 64, inner = 32;
  const routing_shape shape{m, k, e};
  for (const hidden_act act : {hidden_act::silu, hidden_act::gpt_oss, hidden_act::gelu_tanh}) {
    CAPTURE(static_cast<int>(act));
    splitmix random(14);
    device_weights gate_up(e * 2 * inner, h), down(e * h, inner);
    fill(gate_up.host, e * 2 * inner, h, byte_range(122, 124), random);
    fill(down.host, e * h, inner, byte_range(122, 124), random);
    const std::vector<float> gate_up_bias = numbers(e * 2 * inner, random, 124, 126),
                             down_bias = numbers(e * h, random, 124, 126), weights = numbers(m * k, random, 124, 126);
    const tokens x = tokens(m, h).fill([&](auto, auto) { return static_cast<float>(random.between(-2, 2)); });
    std::vector<std::int32_t> indices;
    for (std::int64_t p = 0; p < m * k; ++p) indices.push_back(static_cast<std::int32_t>(random.between(0, e - 1)));

    // the host: rows of gate and up by turns, as in gpt-oss; in float
    std::vector<expert<const_mx_view<>>> experts;
    std::vector<std::vector<float>> gates(e), ups(e);
    for (std::int64_t i = 0; i < e; ++i) {
      const auto at = static_cast<std::size_t>(i);
      for (std::int64_t n = 0; n < inner; ++n) {
        gates[at].push_back(gate_up_bias[static_cast<std::size_t>(i * 2 * inner + 2 * n)]);
        ups[at].push_back(gate_up_bias[static_cast<std::size_t>(i * 2 * inner + 2 * n + 1)]);
      }
      const auto all = gate_up.host.view();
      const auto rows = [&](std::int64_t first) -> const_mx_view<> {
        return {all.block_codes(i * 2 * inner + first, 0),
                all.block_scale(i * 2 * inner + first, 0),
                inner,
                h,
                2 * all.code_stride,
                2 * all.scale_stride};
      };
      const auto of_down = down.host.view();
      experts.push_back({rows(0),
                         rows(1),
                         {of_down.block_codes(i * h, 0), of_down.block_scale(i * h, 0), h, inner, of_down.code_stride,
                          of_down.scale_stride},
                         gates[at].data(),
                         ups[at].data(),
                         down_bias.data() + i * h});
    }
    std::vector<float> expected(m * h);
    moe_workspace memory = *moe_workspace::create({m, k, e, h, inner});
    REQUIRE(mxfp4::moe(experts, x.view(), {indices.data(), m, k, k}, {weights.data(), m, k, k},
                       {expected.data(), m, h, h}, memory, {.act = act})
                .ok());

    // the device: hidden activations in bf16
    const device_tokens<bf16> device_x(x, 0);
    const device_array<std::int32_t> device_indices(indices, "indices");
    const dense_view<const std::int32_t> which{device_indices.data(), m, k, k};
    const device_matrix<float> device_weights_of_slots(weights, k, "weights"),
        first_bias(gate_up_bias, 2 * inner, "bias"), second_bias(down_bias, h, "bias");
    const std::int64_t bytes = cuda::moe_workspace_bytes(shape);
    device_array<std::uint8_t> workspace(static_cast<std::size_t>(bytes), "workspace");
    device_results<float> products(m * k, 2 * inner), results(m * k, h), y(m, h);
    device_results<bf16> hidden(m * k, inner);
    REQUIRE(cuda::moe_route(shape, which, workspace.data(), bytes, nullptr) == cudaSuccess);
    REQUIRE(cuda::moe_gemm(shape, gate_up.view(), device_x.view(), products.view(), workspace.data(), bytes, nullptr) ==
            cudaSuccess);
    const auto made = products.view();
    REQUIRE(cuda::moe_activate(shape, which, dense_view<const float>(made), first_bias.view(), hidden.view(),
                               {.act = act, .order = gate_up_order::interleaved}, nullptr) == cudaSuccess);
    const auto in = hidden.view();
    REQUIRE(cuda::moe_gemm(shape, down.view(), dense_view<const bf16>(in), results.view(), workspace.data(), bytes,
                           nullptr) == cudaSuccess);
    const auto out = results.view();
    REQUIRE(cuda::moe_combine(shape, which, device_weights_of_slots.view(), dense_view<const float>(out),
                              second_bias.view(), y.view(), nullptr) == cudaSuccess);
    const std::vector<float> got = y.values();
    const std::vector<float> h_values = hidden.values();
    double largest = 0;
    for (const float v : h_values) largest = std::fmax(largest, std::fabs(static_cast<double>(v)));
    std::int64_t outside = 0, different = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      const auto row = static_cast<std::int64_t>(i) / h, n = static_cast<std::int64_t>(i) % h;
      double bound = 1e-6;  // half a unit of bf16 in each hidden number, and the sums of both in float
      for (std::int64_t s = 0; s < k; ++s) {
        const auto p = static_cast<std::size_t>(row * k + s);
        double magnitude = 0;
        for (std::int64_t j = 0; j < inner; ++j) {
          const std::int64_t r = indices[p] * h + n;
          magnitude += std::fabs(static_cast<double>(
              decode_weight(static_cast<e2m1>(down.host.code(r, j)), static_cast<e8m0>(down.host.scale(r, 0))) *
              h_values[p * inner + static_cast<std::size_t>(j)]));
        }
        bound += std::fabs(static_cast<double>(weights[p])) * magnitude * (0x1p-8 + 0x1p-18);
      }
      outside += !(std::fabs(static_cast<double>(got[i] - expected[i])) <= bound);
      different += std::fabs(static_cast<double>(expected[i])) > 16 * bound;
    }
    CHECK(outside == 0);
    CHECK(different > 100);  // most results are far larger than the bound
  }
}

TEST_CASE("cuda::moe_activate, moe_combine, add_bias: what is refused, before anything is written",
          "[cuda][moe][bad_input]") {
  constexpr std::int64_t m = 2, k = 2, e = 3, inner = 8;
  const routing_shape shape{m, k, e};
  const device_array<std::int32_t> indices(std::vector<std::int32_t>(4, 1), "indices");
  splitmix random(15);
  const device_matrix<float> products(numbers(m * k * 2 * inner, random), 2 * inner, "products"),
      bias(numbers(e * 2 * inner, random), 2 * inner, "bias"), weights(numbers(m * k, random), k, "weights");
  device_results<float> hidden(m * k, inner), y(m, 2 * inner);
  struct arguments {
    routing_shape shape;
    dense_view<const std::int32_t> indices;
    dense_view<const float> weights, products, bias;
    dense_view<float> hidden, y;
    moe_activation how{};
  };
  const arguments good{shape,   {indices.data(), m, k, k}, weights.view(), products.view(), bias.view(), hidden.view(),
                       y.view()};
  const auto activate = [&](const char* sentence, auto&& change) {
    arguments a = good;
    change(a);
    CHECK(message(cuda::check_moe_activate(a.shape, a.indices, a.products, a.bias, a.hidden, a.how)).view() ==
          sentence);
    CHECK(cuda::moe_activate(a.shape, a.indices, a.products, a.bias, a.hidden, a.how, nullptr) != cudaSuccess);
    CHECK(hidden.untouched());
  };
  const auto combine = [&](const char* sentence, auto&& change) {
    arguments a = good;
    change(a);
    CHECK(message(cuda::check_moe_combine(a.shape, a.indices, a.weights, a.products, a.bias, a.y)).view() == sentence);
    CHECK(cuda::moe_combine(a.shape, a.indices, a.weights, a.products, a.bias, a.y, nullptr) != cudaSuccess);
    CHECK(y.untouched());
  };
  activate("shape.experts is 0, expected 1", [](auto& a) { a.shape.experts = 0; });
  activate("indices.rows is 1, expected 2", [](auto& a) { a.indices.rows = 1; });
  activate("indices.data is 1 bytes past a multiple of 4: align it", [](auto& a) {
    a.indices.data = reinterpret_cast<const std::int32_t*>(reinterpret_cast<const char*>(a.indices.data) + 1);
  });
  activate("products.rows is 3, expected 4", [](auto& a) { a.products.rows = 3; });
  activate("products.cols is 15, expected 16", [](auto& a) { a.products.cols = 15; });
  activate("products.data is null, expected memory for 64 elements", [](auto& a) { a.products.data = nullptr; });
  activate("hidden.rows is 3, expected 4", [](auto& a) { a.hidden.rows = 3; });
  activate("how.act is 3, expected 0 to 2", [](auto& a) { a.how.act = static_cast<hidden_act>(3); });
  activate("how.order is 2, expected 0 to 1", [](auto& a) { a.how.order = static_cast<gate_up_order>(2); });
  activate("how.limit is NaN, expected a number: repair the input", [](auto& a) {
    a.how.act = hidden_act::gpt_oss;
    a.how.limit = std::nanf("");
  });
  activate("bias.rows is 2, expected 3", [](auto& a) { a.bias.rows = 2; });
  activate("bias.cols is 8, expected 16", [](auto& a) { a.bias.cols = 8; });
  activate("hidden overlaps an input: pass separate memory", [&](auto& a) {
    a.products = {a.hidden.data, m * k, 2 * inner, 2 * inner};
  });
  combine("weights.cols is 1, expected 2", [](auto& a) { a.weights.cols = 1; });
  combine("results.rows is 3, expected 4", [](auto& a) { a.products.rows = 3; });
  combine("y.rows is 1, expected 2", [](auto& a) { a.y.rows = 1; });
  combine("y.cols is 15, expected 16", [](auto& a) { a.y.cols = 15; });
  combine("bias.stride is 15, expected at least 16, the length of a row", [](auto& a) { a.bias.stride = 15; });
  combine("y overlaps an input: pass separate memory", [](auto& a) { a.bias.data = a.y.data; });
  const auto refused = [&](const dense_view<const float>& sums, const float* added, const dense_view<float>& to) {
    CHECK(cuda::add_bias(sums, added, to, nullptr) == cudaErrorInvalidValue);
    return std::string(message(cuda::check_add_bias(sums, added, to)).view());
  };
  const dense_view<const float> sums{products.data.data(), m, 2 * inner, 2 * inner};
  CHECK(refused(sums, nullptr, y.view()) == "bias is null, expected memory for 16 elements");
  CHECK(refused(sums, bias.data.data(), {y.view().data, m, inner, inner}) == "y.cols is 8, expected 16");
  CHECK(refused(sums, y.view().data, y.view()) == "y overlaps an input: pass separate memory");
  CHECK(y.untouched());
}
