// tests/vllm.layers.test.cpp -- what the vLLM plugin does without Python: layers of vLLM's tensors, run and checked.
// SPDX-License-Identifier: Apache-2.0
//
// Expectations are sums in double of the formats' values (support/oracle.hpp), bounds those of the products'
// docstrings: an f32 product of K terms is gamma(K) * sum |w x| away at most, gamma(K) = K 2^-24 / (1 - K 2^-24); SiLU
// and its clamped form have a slope of 1.1 at most.
#include <algorithm>
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "integrations/vllm/src/layers.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;
namespace vllm = mxfp4::vllm;

double gamma_of(std::int64_t k) {
  const double u = static_cast<double>(k) * 0x1p-24;
  return u / (1 - u);
}

/// Codes and scales of E matrices, one after another.
struct tensor {
  std::int64_t rows, cols;
  std::vector<std::uint8_t> codes, scales;

  tensor(std::int64_t count, std::int64_t n, std::int64_t k, splitmix& random)
      : rows(n),
        cols(k),
        codes(static_cast<std::size_t>(count * n * k / 2)),
        scales(static_cast<std::size_t>(count * n * k / 32)) {
    for (auto& c : codes) c = random.byte();
    for (auto& s : scales) s = static_cast<std::uint8_t>(random.in(120, 123));
  }
  [[nodiscard]] double at(std::int64_t e, std::int64_t n, std::int64_t k) const {
    const std::int64_t i = (e * rows + n) * cols + k;
    const unsigned byte = codes[static_cast<std::size_t>(i / 2)];
    return weight(k % 2 == 0 ? byte & 15u : byte >> 4, scales[static_cast<std::size_t>(i / 32)]);
  }
};

/// Numbers of at most 5 bits, so that every type has them: multiples of 1/8 up to 2.
std::vector<float> numbers(std::int64_t count, splitmix& random) {
  std::vector<float> x(static_cast<std::size_t>(count));
  for (auto& value : x) value = static_cast<float>(random.in(-16, 16)) / 8;
  return x;
}

template <class T>
std::vector<T> as(const std::vector<float>& x) {
  std::vector<T> to(x.size());
  std::ranges::transform(x, to.begin(), [](float value) { return encode<T>(value); });
  return to;
}

struct near {
  double value = 0, bound = 0;
};

/// A row of W times a row of x, and how far an f32 product may be from it.
near product(const tensor& w, std::int64_t e, std::int64_t n, const float* x, double bias) {
  near y{bias, 0};
  double all = std::abs(bias);
  for (std::int64_t k = 0; k < w.cols; ++k) {
    y.value += w.at(e, n, k) * x[k];
    all += std::abs(w.at(e, n, k) * x[k]);
  }
  y.bound = gamma_of(w.cols + 1) * all;
  return y;
}

/// A layer of experts, both orders of the rows of gate and up.
struct layer_case {
  static constexpr std::int64_t experts = 6, intermediate = 96, hidden = 64;
  splitmix random{7};
  tensor w13{experts, 2 * intermediate, hidden, random}, w2{experts, hidden, intermediate, random};
  std::vector<float> b13 = numbers(experts * 2 * intermediate, random), b2 = numbers(experts * hidden, random);
  bool in_turn = false, biased = false;
  moe_options options;

  [[nodiscard]] vllm::expert_layer::source source(std::int64_t first = 0, std::int64_t count = experts) const {
    vllm::expert_layer::source s{count, intermediate, hidden};
    s.w13 = w13.codes.data() + first * intermediate * hidden;
    s.w13_scale = w13.scales.data() + first * 2 * intermediate * hidden / 32;
    s.w2 = w2.codes.data() + first * hidden * intermediate / 2;
    s.w2_scale = w2.scales.data() + first * hidden * intermediate / 32;
    if (biased) {
      s.w13_bias = b13.data() + first * 2 * intermediate;
      s.w2_bias = b2.data() + first * hidden;
    }
    s.rows_in_turn = in_turn;
    return s;
  }
  [[nodiscard]] vllm::expert_layer make(std::int64_t first = 0, std::int64_t count = experts) const {
    result<vllm::expert_layer> made = vllm::expert_layer::create(source(first, count), options, {});
    REQUIRE(made);
    return *std::move(made);
  }

  /// Expert e of a token: H numbers.
  [[nodiscard]] std::vector<near> expert_of(std::int64_t e, const float* x) const {
    std::vector<near> inner(intermediate), y(hidden);
    for (std::int64_t i = 0; i < intermediate; ++i) {
      const std::int64_t g = in_turn ? 2 * i : i, u = in_turn ? 2 * i + 1 : intermediate + i;
      const auto bias = [&](std::int64_t n) {
        return biased ? static_cast<double>(b13[static_cast<std::size_t>(e * 2 * intermediate + n)]) : 0.0;
      };
      const near gate = product(w13, e, g, x, bias(g));
      near up = product(w13, e, u, x, bias(u));
      double value = 0;
      if (options.act == hidden_act::gpt_oss) {
        const double cut = std::min(gate.value, static_cast<double>(options.limit));
        value = cut / (1 + std::exp(-static_cast<double>(options.alpha) * cut));
        up.value = std::clamp(up.value, -static_cast<double>(options.limit), static_cast<double>(options.limit)) + 1;
      } else {
        value = gate.value / (1 + std::exp(-gate.value));
      }
      near& h = inner[static_cast<std::size_t>(i)];
      h.value = value * up.value;
      h.bound = 1.1 * gate.bound * std::abs(up.value) + std::abs(value) * up.bound + 0x1p-20 * std::abs(h.value);
    }
    for (std::int64_t n = 0; n < hidden; ++n) {
      near& sum = y[static_cast<std::size_t>(n)];
      sum.value = biased ? static_cast<double>(b2[static_cast<std::size_t>(e * hidden + n)]) : 0.0;
      double all = std::abs(sum.value);
      for (std::int64_t i = 0; i < intermediate; ++i) {
        const near& h = inner[static_cast<std::size_t>(i)];
        sum.value += w2.at(e, n, i) * h.value;
        sum.bound += std::abs(w2.at(e, n, i)) * h.bound;
        all += std::abs(w2.at(e, n, i) * h.value);
      }
      sum.bound += gamma_of(intermediate + 1) * all;
    }
    return y;
  }
};

/// Tokens with two experts each.
struct batch {
  std::int64_t tokens;
  std::vector<float> x, weights;
  std::vector<std::int32_t> indices;

  batch(std::int64_t m, splitmix& random) : tokens(m), x(numbers(m * layer_case::hidden, random)) {
    for (std::int64_t i = 0; i < 2 * m; ++i) {
      weights.push_back(static_cast<float>(random.in(1, 8)) / 8);
      indices.push_back(random.in(0, layer_case::experts - 1));
    }
  }
  [[nodiscard]] dense_view<const std::int32_t> index_view() const { return {indices.data(), tokens, 2, 2}; }
  [[nodiscard]] dense_view<const float> weight_view() const { return {weights.data(), tokens, 2, 2}; }
};

/// y of a batch against the sums in double.
void check_sums(const layer_case& layer, const batch& b, const std::vector<float>& y) {
  for (std::int64_t m = 0; m < b.tokens; ++m) {
    std::vector<near> sum(layer_case::hidden);
    for (std::int64_t s = 2 * m; s < 2 * m + 2; ++s) {
      const auto slot = static_cast<std::size_t>(s);
      const auto part = layer.expert_of(b.indices[slot], b.x.data() + m * layer_case::hidden);
      for (std::size_t n = 0; n < sum.size(); ++n) {
        sum[n].value += static_cast<double>(b.weights[slot]) * part[n].value;
        sum[n].bound += static_cast<double>(b.weights[slot]) * (part[n].bound + 0x1p-22 * std::abs(part[n].value));
      }
    }
    for (std::size_t n = 0; n < sum.size(); ++n) {
      CAPTURE(m, n, sum[n].value);
      REQUIRE(std::abs(static_cast<double>(y[static_cast<std::size_t>(m * layer_case::hidden) + n]) - sum[n].value) <=
              sum[n].bound);
    }
  }
}

template <class T>
void check_linear(vllm::number type, double rounding) {
  splitmix random(3);
  const std::int64_t n = 40, k = 96;
  const tensor w(1, n, k, random);
  const auto bias = numbers(n, random);
  result<vllm::linear> made = vllm::linear::create({w.codes.data(), w.scales.data(), n, k, k / 2, k / 32}, {});
  REQUIRE(made);
  vllm::workshop shop;
  shop.most_bytes = 0;  // runs of 16 tokens
  for (const std::int64_t m : {1, 3, 50}) {
    const auto values = numbers(m * (k + 5), random);
    const auto x = as<T>(values);
    std::vector<T> y(static_cast<std::size_t>(m * n));
    for (const float* b : {static_cast<const float*>(nullptr), bias.data()}) {
      REQUIRE(made->run({x.data(), m, k + 5}, b, {y.data()}, type, vllm::activations::exact, shop).ok());
      for (std::int64_t i = 0; i < m * n; ++i) {
        const near e = product(w, 0, i % n, values.data() + i / n * (k + 5), b == nullptr ? 0.0 : b[i % n]);
        CAPTURE(m, i, e.value);
        REQUIRE(std::abs(static_cast<double>(decode(y[static_cast<std::size_t>(i)])) - e.value) <=
                e.bound + rounding * (std::abs(e.value) + e.bound));
      }
    }
  }
}

}  // namespace

TEST_CASE("a linear layer: products, bias, every type of number, more tokens than fit a run", "[vllm]") {
  check_linear<float>(vllm::number::float32, 0);
  check_linear<bf16>(vllm::number::bfloat16, 0x1p-8);
  check_linear<f16>(vllm::number::float16, 0x1p-11);
}

TEST_CASE("a linear layer in int8: numbers of 5 bits are exact in two terms, as in f32", "[vllm]") {
  splitmix random(5);
  const tensor w(1, 40, 96, random);
  const auto made = vllm::linear::create({w.codes.data(), w.scales.data(), 40, 96, 48, 3}, {});
  REQUIRE(made);
  vllm::workshop shop;
  const auto x = numbers(3 * 96, random);
  for (const auto kind : {vllm::activations::residual2, vllm::activations::residual3}) {
    std::vector<float> y(3 * 40);
    REQUIRE(made->run({x.data(), 3, 96}, nullptr, {y.data()}, vllm::number::float32, kind, shop).ok());
    for (std::int64_t i = 0; i < 120; ++i) {
      const near e = product(w, 0, i % 40, x.data() + i / 40 * 96, 0);
      CHECK(std::abs(static_cast<double>(y[static_cast<std::size_t>(i)]) - e.value) <= e.bound);
    }
  }
}

TEST_CASE("experts: both orders of gate and up, biases, the clamped unit", "[vllm]") {
  for (const bool in_turn : {false, true})
    for (const bool biased : {false, true})
      for (const hidden_act act : {hidden_act::silu, hidden_act::gpt_oss}) {
        layer_case layer;
        layer.in_turn = in_turn;
        layer.biased = biased;
        layer.options.act = act;
        const vllm::expert_layer made = layer.make();
        vllm::workshop shop;
        shop.most_bytes = 0;
        for (const std::int64_t m : {1, 2, 37}) {
          CAPTURE(in_turn, biased, static_cast<int>(act), m);
          const batch b(m, layer.random);
          std::vector<float> y(b.x.size());
          REQUIRE(made.run({b.x.data(), m, layer_case::hidden}, b.index_view(), b.weight_view(), {}, {y.data()},
                           vllm::number::float32, vllm::activations::exact, shop)
                      .ok());
          check_sums(layer, b, y);
        }
      }
}

TEST_CASE("experts of two processes: each adds its own, together all", "[vllm]") {
  layer_case layer;
  layer.biased = true;
  const vllm::expert_layer low = layer.make(0, 2), high = layer.make(2, 4);
  const std::vector<std::int32_t> of_low{0, 1, -1, -1, -1, -1}, of_high{-1, -1, 0, 1, 2, 3};
  vllm::workshop shop;
  shop.most_bytes = 0;
  for (const std::int64_t m : {1, 21}) {
    batch b(m, layer.random);
    std::vector<float> y(b.x.size()), other(b.x.size());
    const auto run = [&](const vllm::expert_layer& part, std::span<const std::int32_t> local, std::vector<float>& to) {
      return part.run({b.x.data(), m, layer_case::hidden}, b.index_view(), b.weight_view(), local, {to.data()},
                      vllm::number::float32, vllm::activations::exact, shop);
    };
    REQUIRE(run(low, of_low, y).ok());
    REQUIRE(run(high, of_high, other).ok());
    std::ranges::transform(y, other, y.begin(), std::plus<>{});
    check_sums(layer, b, y);
    std::ranges::fill(b.indices, 5);  // nothing here
    REQUIRE(run(low, of_low, y).ok());
    CHECK(std::ranges::all_of(y, [](float value) { return value == 0.0f; }));
    b.indices.back() = 6;
    CHECK(std::string(message(run(low, of_low, y)).view()) ==
          "indices (row " + std::to_string(m - 1) + ", column 1) is 6, expected 0 to 5");
  }
}

TEST_CASE("routing: the choice of route_topk, and NaN for the tokens whose logits have one", "[vllm]") {
  layer_case layer;
  const vllm::expert_layer made = layer.make();
  vllm::workshop shop;
  const std::int64_t m = 3, e = layer_case::experts;
  batch b(m, layer.random);
  auto logits = numbers(m * e, layer.random);
  const auto bias = numbers(e, layer.random);
  const vllm::routing router{{logits.data(), m, e}, vllm::number::float32, bias.data(), 2, {.scale = 2.5f}};
  dense_view<std::int32_t> indices{b.indices.data(), m, 2, 2};
  dense_view<float> weights{b.weights.data(), m, 2, 2};
  REQUIRE(dispatch::route_topk({logits.data(), m, e, e}, bias.data(), indices, weights, router.options).ok());
  std::vector<float> y(b.x.size());
  const auto run = [&] {
    return made.run({b.x.data(), m, layer_case::hidden}, router, {}, {y.data()}, vllm::number::float32,
                    vllm::activations::exact, shop);
  };
  REQUIRE(run().ok());
  check_sums(layer, b, y);
  const std::vector<float> before = y;
  logits[static_cast<std::size_t>(e) + 1] = std::numeric_limits<float>::quiet_NaN();
  REQUIRE(run().ok());
  for (std::size_t i = 0; i < y.size(); ++i) {
    const bool broken = i / layer_case::hidden == 1;
    CHECK((broken ? std::isnan(y[i]) : y[i] == before[i]));
  }
}

namespace {
std::atomic<int> regions{0};

/// A library of three threads.
void three_threads(void (*body)(void*), void* data, unsigned threads, unsigned) {
  ++regions;
  CHECK(threads == 0);
  std::vector<std::jthread> team;
  for (int t = 0; t < 3; ++t) team.emplace_back([=] { body(data); });
}
}  // namespace

TEST_CASE("the process' team: every task once; alone where there is no library or one task", "[vllm]") {
  const vllm::process_team team({three_threads, [] { return 3; }}), alone;
  CHECK(team.threads() == 3);
  CHECK(alone.threads() == 1);
  for (const std::size_t tasks : {std::size_t{0}, std::size_t{1}, std::size_t{100}})
    for (const auto* one : {&team, &alone}) {
      regions = 0;
      std::vector<std::atomic<int>> calls(tasks);
      const auto count = [&](std::size_t i) { ++calls[i]; };
      one->run(tasks, count);
      CHECK(std::ranges::all_of(calls, [](const auto& n) { return n == 1; }));
      CHECK(regions == (one == &team && tasks > 1 ? 1 : 0));
    }
}

namespace {

/// A call of layer's on numbers of type T, by a team of three.
template <class T>
std::vector<T> run_as(vllm::number type, const vllm::expert_layer& layer, const batch& b,
                      std::span<const std::int32_t> local, vllm::activations kind) {
  vllm::workshop shop;
  shop.team = vllm::process_team({three_threads, [] { return 3; }});
  shop.most_bytes = 0;
  const auto x = as<T>(b.x);
  std::vector<T> y(b.x.size());
  REQUIRE(layer
              .run({x.data(), b.tokens, layer_case::hidden}, b.index_view(), b.weight_view(), local, {y.data()}, type,
                   kind, shop)
              .ok());
  return y;
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, all = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    all += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / all);
}

}  // namespace

// int8 rounds to 1 part in 254 of a block's largest number; a second and a third term each to 1 in 254 of what is left.
TEST_CASE("experts: every kind of activations and type of number, on one thread and on three", "[vllm][threads]") {
  struct row {
    vllm::activations kind;
    double least, most;  // distance to exact products
  };
  layer_case layer;
  layer.biased = true;
  const vllm::expert_layer made = layer.make(), high = layer.make(2, 4);
  const std::vector<std::int32_t> here{-1, -1, 0, 1, 2, 3};
  const batch b(37, layer.random);
  std::vector<float> exact;
  for (const row& r : {row{vllm::activations::exact, 0, 0}, row{vllm::activations::int8, 1e-4, 1.0 / 64},
                       row{vllm::activations::residual2, 1e-8, 1e-4}, row{vllm::activations::residual3, 0, 1e-6}}) {
    for (const std::span<const std::int32_t> local : {std::span<const std::int32_t>(), std::span(here)}) {
      CAPTURE(static_cast<int>(r.kind), local.size());
      const vllm::expert_layer& experts = local.empty() ? made : high;
      vllm::workshop alone;
      std::vector<float> y(b.x.size());
      REQUIRE(experts
                  .run({b.x.data(), b.tokens, layer_case::hidden}, b.index_view(), b.weight_view(), local, {y.data()},
                       vllm::number::float32, r.kind, alone)
                  .ok());
      if (local.empty()) {
        if (exact.empty()) exact = y;
        CHECK((distance(y, exact) >= r.least && distance(y, exact) <= r.most));
      }
      CHECK(run_as<float>(vllm::number::float32, experts, b, local, r.kind) == y);
      const auto narrow = run_as<bf16>(vllm::number::bfloat16, experts, b, local, r.kind);
      const auto half = run_as<f16>(vllm::number::float16, experts, b, local, r.kind);
      for (std::size_t i = 0; i < y.size(); ++i) {
        REQUIRE(decode(narrow[i]) == decode(encode<bf16>(y[i])));
        REQUIRE(decode(half[i]) == decode(encode<f16>(y[i])));
      }
    }
  }
}
