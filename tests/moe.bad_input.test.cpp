// tests/moe.bad_input.test.cpp -- the documented status for each wrong argument; no byte past the end of any buffer.
// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <deque>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "mxfp4/moe/moe.hpp"
#include "support/moe.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;

// What moe() takes for a list of experts.
using packed_expert = expert<packed_matrix>;
static_assert(expert_list<std::vector<packed_expert>> && expert_list<std::array<packed_expert, 2>>);
static_assert(expert_list<std::span<const packed_expert>> && expert_list<std::span<packed_expert, 3>>);
static_assert(expert_list<std::vector<expert<const_mx_view<layout::ggml>>>> && expert_list<packed_expert[4]>);
static_assert(!expert_list<std::deque<packed_expert>> && !expert_list<std::vector<int>>);
static_assert(!expert_list<packed_expert> && !expert_list<packed_expert*> && !expert_list<std::vector<expert<int>>>);

std::string say(const status& s) { return std::string(message(s).view()); }

}  // namespace

TEST_CASE("moe: bad input", "[moe][bad_input]") {
  splitmix random(81);
  const std::int64_t m = 4, k = 2, h = 64, i = 32;
  expert_memory<layout::compressed_tensors> memory(3, h, i, random);
  auto experts = memory.views();
  routing r(m, k, 3, random);
  r.indices = {0, 2, 2, 0, 0, 2, 0, 2};  // nobody goes to expert 1
  tokens x = tokens(m, h).fill([](std::int64_t, std::int64_t) { return 1.0f; });
  output y(m, h);
  moe_workspace workspace = *moe_workspace::create(memory.shape(m, k));
  const result<int8_activations> a = quantize_activations(x.view(), int8_scaling::e8m0);
  const auto f32 = [&] { return say(moe(experts, x.view(), r.expert_view(), r.weight_view(), y.view(), workspace)); };
  const auto int8 = [&] { return say(moe(experts, *a, r.expert_view(), r.weight_view(), y.view(), workspace)); };
  const auto both = [&](const char* sentence) {
    CHECK(f32() == sentence);
    CHECK(int8() == sentence);
  };

  SECTION("routing") {
    r.indices[5] = 3;
    both("indices (row 2, column 1) is 3, expected 0 to 2");
    r.indices[5] = -1;
    both("indices (row 2, column 1) is -1, expected 0 to 2");
    r.indices[5] = std::numeric_limits<std::int32_t>::max();
    both("indices (row 2, column 1) is 2147483647, expected 0 to 2");
    r.indices[5] = 0;
    r.rows = 3;
    both("indices.rows is 3, expected 4");
    r.rows = 4;
    const auto call = [&](dense_view<const std::int32_t> e, dense_view<const float> w) {
      return say(moe(experts, *a, e, w, y.view(), workspace));
    };
    CHECK(call(r.expert_view(), {r.weights.data(), 3, k, k}) == "weights.rows is 3, expected 4");
    CHECK(call(r.expert_view(), {r.weights.data(), m, 1, 1}) == "weights.cols is 1, expected 2");
    CHECK(call({nullptr, m, k, k}, r.weight_view()) == "indices.data is null, expected memory for 8 elements");
    CHECK(call(r.expert_view(), {nullptr, m, k, k}) == "weights.data is null, expected memory for 8 elements");
    CHECK(call({r.indices.data(), m, k, 1}, r.weight_view()) ==
          "indices.stride is 1, expected at least 2, the length of a row");
  }
  SECTION("experts") {
    const auto bad = [&](auto&& change, const char* sentence) {
      change(experts[2]);
      both(sentence);
      experts = memory.views();
    };
    bad([](auto& e) { e.gate.rows = 16; }, "gate.rows (number 2) is 16, expected 32");
    bad([](auto& e) { e.up.cols = 32; }, "up.cols (number 2) is 32, expected 64");
    bad([](auto& e) { e.down.rows = 32; }, "down.rows (number 2) is 32, expected 64");
    bad([](auto& e) { e.down.cols = 0; }, "down.cols (number 2) is 0, expected 32");
    bad([](auto& e) { e.up.codes = nullptr; }, "up.codes (number 2) is null, expected memory for 1024 elements");
    bad([](auto& e) { e.down.scale_stride = 0; },
        "down.scale_stride (number 2) is 0, expected at least 1, the length of a row");
    experts[0].gate.rows = 31;
    both("gate.rows (number 0) is 31, expected a multiple of 32: pad the rows, or leave this tensor as it is");
    experts[0].gate.rows = -1;
    both("gate.rows (number 0) is -1, expected 0 or more");
    experts.clear();
    both("indices (row 0, column 0) is 0, expected none, as there is nothing to choose from");
  }
  SECTION("x, y and the workspace") {
    const auto call = [&](dense_view<const float> in, dense_view<float> out) {
      return say(moe(experts, in, r.expert_view(), r.weight_view(), out, workspace));
    };
    CHECK(call({x.data.data(), m, 48, 64}, y.view()) ==
          "x.cols is 48, expected a multiple of 32: pad the rows, or leave this tensor as it is");
    CHECK(call(x.view(), {y.data.data(), m, 32, 64}) == "y.cols is 32, expected 64");
    CHECK(call(x.view(), {y.data.data(), 3, 64, 64}) == "y.rows is 3, expected 4");
    CHECK(call(x.view(), {y.data.data(), m, 64, 63}) == "y.stride is 63, expected at least 64, the length of a row");
    CHECK(call(x.view(), {nullptr, m, 64, 64}) == "y.data is null, expected memory for 256 elements");
    CHECK(call({nullptr, m, 64, 64}, y.view()) == "x.data is null, expected memory for 256 elements");
    CHECK(call(x.view(), {x.data.data(), m, 64, 64}) == "y overlaps an input: pass separate memory");
    auto* const in_weights = reinterpret_cast<float*>(r.weights.data());
    CHECK(call(x.view(), {in_weights, m, 64, 64}) == "y overlaps an input: pass separate memory");
    auto* const in_codes =
        reinterpret_cast<float*>((reinterpret_cast<std::uintptr_t>(experts[2].down.codes) + 3) / 4 * 4);
    CHECK(call(x.view(), {in_codes, m, 64, 64}) == "y overlaps an input: pass separate memory");
    experts[2].up_bias = y.data.data() + 5;
    CHECK(call(x.view(), y.view()) == "y overlaps an input: pass separate memory");
    experts[2].up_bias = nullptr;
    moe_workspace small = *moe_workspace::create(memory.shape(1, k));
    const status s = moe(experts, x.view(), r.expert_view(), r.weight_view(), y.view(), small);
    CHECK(s.code == errc::buffer_too_small);
    CHECK(std::string(s.argument) == "workspace");
    CHECK(s.value == small.bytes());
    CHECK(s.expected == workspace.bytes());
    moe_workspace none;
    CHECK(moe(experts, *a, r.expert_view(), r.weight_view(), y.view(), none).code == errc::buffer_too_small);
  }
  for (const float v : y.data) REQUIRE(v == -7.0f);
}

TEST_CASE("moe: bad shared experts", "[moe][bad_input]") {
  splitmix random(85);
  expert_memory<layout::compressed_tensors> memory(3, 64, 32, random), more(9, 64, 96, random);
  const auto experts = memory.views();
  const routing r(2, 1, 3, random);
  const tokens x = tokens(2, 64).fill([](std::int64_t, std::int64_t) { return 1.0f; });
  const result<int8_activations> a = quantize_activations(x.view(), int8_scaling::e8m0);
  output y(2, 64);
  std::vector<float> weights(4, 1.0f);
  moe_workspace workspace = *moe_workspace::create({2, 1, 3, 64, 32, 2, 96});
  auto list = more.views();
  const auto both = [&](std::int64_t count, dense_view<const float> shared_weights, const char* sentence) {
    const shared_experts<const_mx_view<>> shared{std::span(list).first(static_cast<std::size_t>(count)),
                                                 shared_weights};
    CHECK(say(moe(experts, shared, x.view(), r.expert_view(), r.weight_view(), y.view(), workspace)) == sentence);
    CHECK(say(moe(experts, shared, *a, r.expert_view(), r.weight_view(), y.view(), workspace)) == sentence);
    for (const float v : y.data) REQUIRE(v == -7.0f);
  };
  both(9, {}, "shared.experts is 9, expected at most 8");
  both(2, {weights.data(), 1, 2, 2}, "shared.weights.rows is 1, expected 2");
  both(2, {weights.data(), 2, 1, 2}, "shared.weights.cols is 1, expected 2");
  both(2, {weights.data(), 2, 2, 1}, "shared.weights.stride is 1, expected at least 2, the length of a row");
  both(2, {y.data.data(), 2, 2, 2}, "y overlaps an input: pass separate memory");
  list[1].up.rows = 64;
  both(2, {}, "shared.up.rows (number 1) is 64, expected 96");
  list[1].up.rows = 96;
  list[0].gate.cols = 32;
  both(2, {}, "shared.gate.cols (number 0) is 32, expected 64");
  list = more.views();
  moe_workspace small = *moe_workspace::create({2, 1, 3, 64, 32, 2, 64});
  const shared_experts<const_mx_view<>> two{std::span(list).first(2)};
  const status s = moe(experts, two, x.view(), r.expert_view(), r.weight_view(), y.view(), small);
  CHECK((s.code == errc::buffer_too_small && s.value == small.bytes()));
  CHECK(say(moe_workspace::create({2, 1, 3, 64, 32, -1, 96}).error()) ==
        "moe_shape.shared_experts is -1, expected 0 or more");
  CHECK(say(moe_workspace::create({2, 1, 3, 64, 32, 1, 33}).error()) ==
        "moe_shape.shared_intermediate is 33, expected a multiple of 32: pad the rows, or leave this tensor as it is");
  for (const float v : y.data) REQUIRE(v == -7.0f);
  CHECK(moe(experts, two, x.view(), r.expert_view(), r.weight_view(), y.view(), workspace).ok());
  output z = y;
  CHECK(moe(experts, shared_experts<packed_matrix>{}, x.view(), r.expert_view(), r.weight_view(), z.view(), workspace)
            .ok());
  output plain(2, 64);
  CHECK(moe(experts, x.view(), r.expert_view(), r.weight_view(), plain.view(), workspace).ok());
  CHECK(same_bits(z.data, plain.data));
}

TEST_CASE("moe: experts without tokens may be anything", "[moe][bad_input]") {
  splitmix random(82);
  expert_memory<layout::compressed_tensors> memory(3, 64, 32, random);
  auto experts = memory.views();
  experts[1] = {};
  experts[1].gate = {reinterpret_cast<const std::uint8_t*>(1), nullptr, 5, 7, -1, -1};
  routing r(2, 1, 3, random);
  r.indices = {0, 2};
  const tokens x = tokens(2, 64).fill([](std::int64_t, std::int64_t) { return 1.0f; });
  output y(2, 64);
  moe_workspace workspace = *moe_workspace::create(memory.shape(2, 1));
  CHECK(moe(experts, x.view(), r.expert_view(), r.weight_view(), y.view(), workspace).ok());
  for (std::int64_t n = 0; n < 64; ++n) REQUIRE(std::isfinite(y.at(1, n)));
}

TEST_CASE("moe: nothing to do", "[moe][bad_input]") {
  splitmix random(83);
  expert_memory<layout::compressed_tensors> memory(2, 64, 32, random);
  const auto experts = memory.packed();
  moe_workspace workspace = *moe_workspace::create(memory.shape(2, 1));
  const auto none = *int8_activations::create(0, 64);
  CHECK(moe(experts, none, {nullptr, 0, 1, 1}, {nullptr, 0, 1, 1}, {nullptr, 0, 64, 64}, workspace).ok());
  const tokens x = tokens(2, 64).fill([](std::int64_t, std::int64_t) { return 1.0f; });
  output y(2, 64);
  CHECK(moe(experts, x.view(), {nullptr, 2, 0, 0}, {nullptr, 2, 0, 0}, y.view(), workspace, {true, {}}).ok());
  CHECK(y.at(1, 63) == -7.0f);
  CHECK(moe(experts, x.view(), {nullptr, 2, 0, 0}, {nullptr, 2, 0, 0}, y.view(), workspace).ok());
  CHECK(y.at(1, 63) == 0.0f);
  // an expert without hidden columns gives zeros
  std::vector<expert<const_mx_view<>>> flat{
      {{nullptr, nullptr, 0, 64, 32, 2}, {nullptr, nullptr, 0, 64, 32, 2}, {nullptr, nullptr, 64, 0, 0, 0}}};
  const std::int32_t zeros[2] = {0, 0};
  const float ones[2] = {1.0f, 1.0f};
  CHECK(moe(flat, x.view(), {zeros, 2, 1, 1}, {ones, 2, 1, 1}, y.view(), workspace).ok());
  CHECK(y.at(1, 63) == 0.0f);
}

TEST_CASE("moe_workspace: shapes that cannot be", "[moe][bad_input]") {
  const auto says = [](const moe_shape& s, const char* sentence) {
    CHECK(say(moe_workspace::create(s).error()) == sentence);
  };
  says({-1, 1, 1, 32, 32}, "moe_shape.tokens is -1, expected 0 or more");
  says({1, -1, 1, 32, 32}, "moe_shape.top_k is -1, expected 0 or more");
  says({1, 1, -1, 32, 32}, "moe_shape.experts is -1, expected 0 or more");
  says({1, 1, 1, -32, 32}, "moe_shape.hidden is -32, expected 0 or more");
  says({1, 1, 1, 32, -32}, "moe_shape.intermediate is -32, expected 0 or more");
  says({1, 1, 1, 33, 32},
       "moe_shape.hidden is 33, expected a multiple of 32: pad the rows, or leave this tensor as it is");
  says({1, 1, 1, 32, 33},
       "moe_shape.intermediate is 33, expected a multiple of 32: pad the rows, or leave this tensor as it is");
  const std::int64_t huge = std::int64_t{1} << 40;
  says({huge, huge, 1, 32, 32},
       "moe_shape.tokens * top_k * hidden does not fit 63 bits, with 1099511627776 as the first factor: split the "
       "matrix");
  says({huge, 8, 256, huge, 32},
       "moe_shape.tokens * top_k * hidden does not fit 63 bits, with 1099511627776 as the first factor: split the "
       "matrix");
  CHECK(moe_workspace::create({}).error().ok());
}

TEST_CASE("moe: what an executor throws comes through", "[moe][bad_input]") {
  struct broken {
    void run(std::size_t, task_ref) const { throw std::runtime_error("no threads"); }
  } executor;
  splitmix random(84);
  expert_memory<layout::compressed_tensors> memory(2, 64, 32, random);
  const routing r(2, 1, 2, random);
  const tokens x = tokens(2, 64).fill([](std::int64_t, std::int64_t) { return 1.0f; });
  output y(2, 64);
  moe_workspace workspace = *moe_workspace::create(memory.shape(2, 1));
  CHECK_THROWS_AS(static_cast<void>(moe(memory.packed(), x.view(), r.expert_view(), r.weight_view(), y.view(),
                                        workspace, {false, executor})
                                        .ok()),
                  std::runtime_error);
}

TEST_CASE("moe: no byte past the end", "[moe][guard_page]") {
  for (const std::int64_t m : {1, 3}) {
    const std::int64_t h = 96, i = 32, k = 2;
    const page_end<std::uint8_t> codes(h * i / 2), scales(h * i / 32);
    for (std::int64_t b = 0; b < h * i / 2; ++b) codes.data()[b] = 0x22;
    for (std::int64_t b = 0; b < h * i / 32; ++b) scales.data()[b] = 120;
    const const_mx_view<> up{codes.data(), scales.data(), i, h, h / 2, h / 32};
    const const_mx_view<> down{codes.data(), scales.data(), h, i, i / 2, i / 32};
    const std::vector<expert<const_mx_view<>>> experts{{up, up, down}, {up, up, down}};
    const page_end<float> x(m * h), y(m * h), weights(m * k);
    const page_end<std::int32_t> indices(m * k);
    for (std::int64_t t = 0; t < m * h; ++t) x.data()[t] = 1.0f;
    for (std::int64_t t = 0; t < m * k; ++t) {
      weights.data()[t] = 0.5f;
      indices.data()[t] = static_cast<std::int32_t>(t % 2);
    }
    moe_workspace workspace = *moe_workspace::create({m, k, 2, h, i});
    const dense_view<const float> in{x.data(), m, h, h};
    const result<int8_activations> a = quantize_activations(in, int8_scaling::e8m0);
    // gate = up = 96 * 2^-7 = 0.75; hidden = silu(0.75) * 0.75; down = 32 * 2^-7 of it
    const double expected = 0.25 * 0.75 * 0.75 / (1.0 + std::exp(-0.75));
    REQUIRE(
        moe(experts, in, {indices.data(), m, k, k}, {weights.data(), m, k, k}, {y.data(), m, h, h}, workspace).ok());
    CHECK(std::fabs(static_cast<double>(y.data()[m * h - 1]) - expected) <= 1e-6 * expected);
    REQUIRE(
        moe(experts, *a, {indices.data(), m, k, k}, {weights.data(), m, k, k}, {y.data(), m, h, h}, workspace).ok());
    CHECK(std::fabs(static_cast<double>(y.data()[m * h - 1]) - expected) <= 1e-2 * expected);
  }
}
