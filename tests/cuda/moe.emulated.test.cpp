// tests/cuda/moe.emulated.test.cpp -- routed products under the emulator, and indices that name no expert.
// SPDX-License-Identifier: Apache-2.0
//
// Expectations come from reference::gemm over all experts, of which each token slot picks its own rows.
#include <algorithm>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "cuda/product.support.hpp"
#include "mxfp4/cuda/moe.cuh"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;
using cuda::routing_shape;

/// E experts of N x K, M tokens, a routing; what comes of it by definition.
struct layer {
  routing_shape shape;
  std::int64_t n, k;
  device_weights w;
  tokens x;
  std::vector<std::int32_t> indices;
  bool in_parts = false;  ///< tiles of 64 token slots, 32 at a time

  layer(routing_shape s, std::int64_t rows, std::int64_t cols, std::uint64_t seed)
      : shape(s), n(rows), k(cols), w(s.experts * rows, cols), x(s.tokens, cols) {
    splitmix random(seed);
    fill(w.host, s.experts * n, k, byte_range(120, 129), random);
    x.fill([&](auto, auto) { return static_cast<float>(random.between(-2, 2)); });
    for (std::int64_t p = 0; p < s.token_slots(); ++p)
      indices.push_back(static_cast<std::int32_t>(random.between(0, s.experts - 1)));
  }
  bool is_bad(std::int64_t token_slot) const {
    const std::int32_t e = indices[static_cast<std::size_t>(token_slot)];
    return e < 0 || e >= shape.experts;
  }
  /// How many results are wrong; `rows_of_x`: M, or M k with the token repeated for each slot.
  template <class X>
  std::int64_t wrong(std::int64_t rows_of_x, cuda::moe_report expected_report = {true}) {
    tokens in(rows_of_x, k);
    in.fill([&](std::int64_t r, std::int64_t c) { return x.at(rows_of_x == shape.tokens ? r : r / shape.top_k, c); });
    const device_tokens<X> device_x(in, 8);
    const device_array<std::int32_t> device_indices(indices, "indices");
    device_array<std::uint8_t> workspace(static_cast<std::size_t>(cuda::moe_workspace_bytes(shape)), "workspace");
    device_results<float> y(shape.token_slots(), n, 3);
    const auto bytes = static_cast<std::int64_t>(workspace.size());
    const dense_view<const std::int32_t> view{device_indices.data(), shape.tokens, shape.top_k, shape.top_k};
    REQUIRE(cuda::moe_route(shape, view, workspace.data(), bytes, nullptr) == cudaSuccess);
    REQUIRE((in_parts ? cuda::kernel::launch_moe_gemm<64, false, 32>(shape, w.view(), device_x.view(), y.view(),
                                                                     workspace.data(), nullptr)
                      : cuda::moe_gemm(shape, w.view(), device_x.view(), y.view(), workspace.data(), bytes, nullptr)) ==
            cudaSuccess);
    cuda::moe_report report{false, -5, -5};
    REQUIRE(cuda::moe_status(shape, workspace.data(), nullptr, report) == cudaSuccess);
    CHECK(report.routed == expected_report.routed);
    CHECK(report.bad_token_slots == expected_report.bad_token_slots);
    CHECK(report.first_bad == expected_report.first_bad);

    const exact_product exact(w.host, shape.experts * n, x);
    const std::vector<float> values = y.values();
    std::int64_t count = 0;
    for (std::int64_t p = 0; p < shape.token_slots(); ++p)
      for (std::int64_t i = 0; i < n; ++i) {
        const float got = values[static_cast<std::size_t>(p * n + i)];
        if (is_bad(p)) {
          count += !std::isnan(got);
          continue;
        }
        const std::int64_t row = indices[static_cast<std::size_t>(p)] * n + i;
        count +=
            got != static_cast<float>(exact.sum[static_cast<std::size_t>(p / shape.top_k * shape.experts * n + row)]);
      }
    return count;
  }
};

}  // namespace

TEMPLATE_TEST_CASE("cuda::moe_gemm: few token slots, some, many", "[cuda][moe]", bf16, f16) {
  std::uint64_t seed = 1;
  // two token slots to a tile, eight, 64; K / 32 and N odd, so that experts begin anywhere in a word of scales
  for (const auto& [shape, n] : {std::pair{routing_shape{1, 4, 7}, 21}, std::pair{routing_shape{1, 1, 1}, 1},
                                 std::pair{routing_shape{7, 3, 5}, 35}, std::pair{routing_shape{45, 2, 5}, 131}}) {
    CAPTURE(shape.tokens, shape.top_k, shape.experts);
    device_settings.seed = ++seed;
    layer l(shape, n, 96, seed);
    CHECK(l.wrong<TestType>(shape.tokens) == 0);
    CHECK(l.wrong<TestType>(shape.token_slots()) == 0);
  }
}

TEST_CASE("cuda::moe_gemm: a tile of 64 token slots in two parts, as f16 on sm_120", "[cuda][moe]") {
  for (const std::int64_t m : {17, 32, 33, 64, 70}) {
    CAPTURE(m);
    layer l({m, 1, 2}, 20, 96, 9);
    for (std::int32_t& e : l.indices) e = 1;
    l.in_parts = true;
    CHECK(l.wrong<f16>(m) == 0);
  }
}

TEMPLATE_TEST_CASE("cuda::moe_gemm: many token slots by wgmma", "[cuda][moe][wgmma]", bf16, f16) {
  struct hopper {
    hopper() {
      device_settings.wgmma = true;
      device_settings.device = 1;
    }
    ~hopper() { device_settings = {}; }
  } const device;
  layer odd({45, 2, 5}, 131, 96, 4);  // K / 32 and N odd: experts begin anywhere in a word of scales
  CHECK(odd.wrong<TestType>(45) == 0);
  CHECK(cuda::emulator::launched_threads == cuda::gemm_wgmma_threads);
  layer one({70, 1, 2}, 20, 224, 5);  // a tile that is full, one that is not; none of the first expert
  for (std::int32_t& e : one.indices) e = 1;
  CHECK(one.wrong<TestType>(70) == 0);
  one.indices[3] = 2;
  CHECK(one.wrong<TestType>(70, {true, 1, 3}) == 0);
}

TEST_CASE("cuda::moe_gemm: all token slots to one expert, and more experts than threads", "[cuda][moe]") {
  for (const auto& shape : {routing_shape{3, 2, 6}, routing_shape{9, 2, 4}, routing_shape{70, 1, 2}}) {
    CAPTURE(shape.tokens);
    layer l(shape, 20, 64, 5);
    for (std::int32_t& e : l.indices) e = static_cast<std::int32_t>(shape.experts - 1);
    CHECK(l.wrong<bf16>(shape.tokens) == 0);
  }
  layer many({40, 8, 300}, 3, 32, 6);  // ten rounds of the warp that adds up
  CHECK(many.wrong<bf16>(40) == 0);
}

TEST_CASE("cuda::moe_gemm: an index that names no expert gives NaN, is reported, and harms no other", "[cuda][moe]") {
  constexpr std::int32_t lowest = std::numeric_limits<std::int32_t>::min(), most = 0x7FFFFFFF;
  for (const auto& shape : {routing_shape{1, 4, 5}, routing_shape{6, 3, 5}, routing_shape{30, 3, 5}}) {
    for (const std::int32_t odd : {-1, 5, lowest, most}) {
      CAPTURE(shape.tokens, odd);
      layer l(shape, 19, 64, 7);
      l.indices[1] = odd;
      l.indices.back() = odd;
      CHECK(l.wrong<bf16>(shape.tokens, {true, 2, 1}) == 0);
    }
  }
  layer all({4, 2, 5}, 19, 64, 8);
  for (std::int32_t& e : all.indices) e = 5;
  CHECK(all.wrong<f16>(4, {true, 8, 0}) == 0);
}

TEST_CASE("cuda::moe_route: by one block and by several, each token slot once and with its expert", "[cuda][moe]") {
  // one block at the most and two at the least that share it; a part of a block; 64 blocks; slots past the threads
  const routing_shape shapes[] = {{4096, 1, 5}, {4097, 1, 5},  {1366, 3, 2048}, {2049, 4, 300}, {150001, 1, 17},
                                  {7, 700, 1},  {1, 5000, 33}, {40, 300, 64},   {3, 255, 9},    {2, 1, 2048}};
  for (const routing_shape& shape : shapes) {
    CAPTURE(shape.tokens, shape.top_k, shape.experts);
    ++device_settings.seed;
    splitmix random(device_settings.seed);
    const std::int64_t slots = shape.token_slots(), gap = slots % 3;
    std::vector<std::int32_t> indices(static_cast<std::size_t>(shape.tokens * (shape.top_k + gap)), 0x7FFFFFFF);
    std::vector<std::int64_t> count(static_cast<std::size_t>(shape.experts + 1));
    const auto index = [&](std::int64_t p) -> std::int32_t& {
      return indices[static_cast<std::size_t>(p / shape.top_k * (shape.top_k + gap) + p % shape.top_k)];
    };
    std::int64_t first_bad = -1;
    for (std::int64_t p = 0; p < slots; ++p) {
      index(p) = random.in(0, 99) == 0 && p > slots / 3 ? -1 : random.in(0, static_cast<int>(shape.experts) - 1);
      if (index(p) < 0 && first_bad < 0) first_bad = p;
      ++count[static_cast<std::size_t>(index(p) < 0 ? shape.experts : index(p))];
    }
    const device_array<std::int32_t> device_indices(indices, "indices");
    const std::int64_t bytes = cuda::moe_workspace_bytes(shape);
    device_array<std::uint8_t> workspace(static_cast<std::size_t>(bytes), "workspace");
    REQUIRE(cuda::moe_route(shape, {device_indices.data(), shape.tokens, shape.top_k, shape.top_k + gap},
                            workspace.data(), bytes, nullptr) == cudaSuccess);
    cuda::moe_report report;
    REQUIRE(cuda::moe_status(shape, workspace.data(), nullptr, report) == cudaSuccess);
    CHECK(report.routed);
    CHECK(report.bad_token_slots == count.back());
    CHECK(report.first_bad == first_bad);

    const cuda::detail::moe_workspace_parts parts(shape);
    const auto word = [&](std::int64_t at) {
      std::uint32_t value = 0;
      std::memcpy(&value, workspace.data() + at, 4);
      return std::int64_t{value};
    };
    std::int64_t wrong = 0, next = 0, tiles = 0;
    std::vector<bool> seen(static_cast<std::size_t>(slots));
    const std::int64_t most = cuda::detail::moe_tile_tokens(shape);
    for (std::int64_t e = 0; e <= shape.experts; ++e)
      for (std::int64_t left = count[static_cast<std::size_t>(e)]; left > 0; left -= most, ++tiles) {
        const std::int64_t at = parts.header_bytes + 16 * tiles, size = left < most ? left : most;
        wrong += word(at) != e || word(at + 4) != next || word(at + 8) != size;
        for (std::int64_t i = 0; i < size; ++i, ++next) {
          const std::int64_t p = word(parts.order_at + 4 * next);
          if (p >= slots || seen[static_cast<std::size_t>(p)]) {
            ++wrong;
            continue;
          }
          seen[static_cast<std::size_t>(p)] = true;
          wrong += index(p) != (e == shape.experts ? -1 : e);
        }
      }
    CHECK(wrong == 0);
    CHECK(next == slots);
    CHECK(word(8) == tiles);
    CHECK(tiles <= parts.most_tiles);
  }
}

TEST_CASE("cuda::moe_route: a workspace serves one routing after the other", "[cuda][moe]") {
  const routing_shape shape{2, 2, 4};
  const auto bytes = cuda::moe_workspace_bytes(shape);
  device_array<std::uint8_t> workspace(static_cast<std::size_t>(bytes));
  for (const bool bad : {true, false, true}) {
    const device_array<std::int32_t> indices(std::vector<std::int32_t>{3, 3, bad ? 9 : 0, 1});
    REQUIRE(cuda::moe_route(shape, {indices.data(), 2, 2, 2}, workspace.data(), bytes, nullptr) == cudaSuccess);
    cuda::moe_report report;
    REQUIRE(cuda::moe_status(shape, workspace.data(), nullptr, report) == cudaSuccess);
    CHECK(report.ok() == !bad);
    CHECK(report.first_bad == (bad ? 2 : -1));
  }
}

TEST_CASE("cuda::moe_gemm: a workspace without the routing of this shape gives NaN and is read no further",
          "[cuda][moe][bad_input]") {
  // each way of multiplying; results that end within a tile; one block for a result, and fewer
  for (const auto& [shape, n] : {std::pair{routing_shape{2, 3, 8}, 21}, std::pair{routing_shape{7, 3, 5}, 35},
                                 std::pair{routing_shape{45, 2, 5}, 131}}) {
    CAPTURE(shape.tokens);
    layer l(shape, n, 64, 3);
    const device_tokens<bf16> x(l.x, 0);
    const auto bytes = static_cast<std::size_t>(cuda::moe_workspace_bytes(shape));
    const auto gives_nan = [&](const device_array<std::uint8_t>& workspace) {
      device_results<float> y(l.shape.token_slots(), l.n, 3);
      REQUIRE(cuda::moe_gemm(l.shape, l.w.view(), x.view(), y.view(), workspace.data(),
                             static_cast<std::int64_t>(workspace.size()), nullptr) == cudaSuccess);
      cuda::moe_report report{true, 7, 8};
      REQUIRE(cuda::moe_status(l.shape, workspace.data(), nullptr, report) == cudaSuccess);
      CHECK_FALSE(report.ok());
      CHECK((!report.routed && report.bad_token_slots == 0 && report.first_bad == -1));
      for (const float v : y.values())
        if (!std::isnan(v)) return false;
      return true;
    };
    for (const int byte : {0x00, 0x01, 0x7F, 0xFF})  // no moe_route yet
      CHECK(gives_nan(device_array<std::uint8_t>(std::vector<std::uint8_t>(bytes, static_cast<std::uint8_t>(byte)))));
    const routing_shape others[] = {{shape.tokens - 1, shape.top_k, shape.experts},
                                    {shape.tokens, shape.top_k + 1, shape.experts},
                                    {shape.tokens, shape.top_k, shape.experts - 1},
                                    {shape.top_k, shape.tokens, shape.experts},
                                    {4096, 2, 2000}};
    for (const routing_shape& other : others) {
      const auto need = static_cast<std::size_t>(cuda::moe_workspace_bytes(other));
      device_array<std::uint8_t> workspace(std::vector<std::uint8_t>(std::max(bytes, need)));
      const device_array<std::int32_t> indices(
          std::vector<std::int32_t>(static_cast<std::size_t>(other.token_slots())));
      const dense_view<const std::int32_t> view{indices.data(), other.tokens, other.top_k, other.top_k};
      REQUIRE(cuda::moe_route(other, view, workspace.data(), static_cast<std::int64_t>(workspace.size()), nullptr) ==
              cudaSuccess);
      CHECK(gives_nan(workspace));
    }
  }
}

TEST_CASE("cuda::moe: what is refused, before anything is written", "[cuda][moe][bad_input]") {
  const routing_shape shape{4, 2, 3};
  const auto bytes = cuda::moe_workspace_bytes(shape);
  device_array<std::uint8_t> workspace(static_cast<std::size_t>(bytes + 16));
  const device_array<std::int32_t> indices(std::vector<std::int32_t>(8, 1));
  const dense_view<const std::int32_t> good{indices.data(), 4, 2, 2};
  const auto refuses = [&](const char* sentence, const routing_shape& s, const dense_view<const std::int32_t>& i,
                           void* memory, std::int64_t size) {
    CHECK(message(cuda::check_moe_route(s, i, memory, size)).view() == sentence);
    CHECK(cuda::moe_route(s, i, memory, size, nullptr) != cudaSuccess);
    CHECK(workspace.untouched());
  };
  void* const at = workspace.data();
  refuses("shape.tokens is 0, expected 1", {0, 2, 3}, good, at, bytes);
  refuses("shape.top_k is -1, expected 1", {4, -1, 3}, good, at, bytes);
  refuses("shape.experts is 0, expected 1", {4, 2, 0}, good, at, bytes);
  refuses("shape.experts is 2049, expected at most 2048", {4, 2, 2049}, good, at, bytes);
  refuses("shape.tokens * top_k is 1073741824, expected at most 1073741823", {1 << 30, 2, 3}, good, at, bytes);
  refuses("indices.data is null, expected memory for 8 elements", shape, {nullptr, 4, 2, 2}, at, bytes);
  refuses("indices.rows is 3, expected 4", shape, {indices.data(), 3, 2, 2}, at, bytes);
  refuses("indices.cols is 1, expected 2", shape, {indices.data(), 4, 1, 2}, at, bytes);
  refuses("workspace is null, expected memory for 144 elements", shape, good, nullptr, bytes);
  refuses("workspace holds 143, expected at least 144: pass a larger buffer", shape, good, at, bytes - 1);
  refuses("workspace is 8 bytes past a multiple of 16: align it", shape, good, workspace.data() + 8, bytes);
  refuses("workspace overlaps an input: pass separate memory", shape,
          {reinterpret_cast<const std::int32_t*>(workspace.data() + 112), 4, 2, 2}, at, bytes);
  CHECK(cuda::moe_workspace_bytes({0, 1, 1}) == 0);

  layer l(shape, 8, 64, 9);
  const device_tokens<bf16> x(l.x, 0);
  device_results<float> y(8, 8);
  const auto gemm_refuses = [&](const char* sentence, auto&& change) {
    auto w = l.w.view();
    auto in = x.view();
    auto out = y.view();
    change(w, in, out);
    CHECK(message(cuda::check_moe_gemm(shape, w, in, out, at, bytes)).view() == sentence);
    CHECK(cuda::moe_gemm(shape, w, in, out, at, bytes, nullptr) != cudaSuccess);
    CHECK(y.untouched());
  };
  gemm_refuses("w.rows / experts is 7, expected 8", [](auto& w, auto&, auto&) { w.rows = 23; });
  gemm_refuses("w.codes is 8 bytes past a multiple of 16: align it", [](auto& w, auto&, auto&) { w.codes += 8; });
  gemm_refuses("x.rows is 3, expected 4", [](auto&, auto& in, auto&) { in.rows = 3; });
  gemm_refuses("x.cols is 32, expected 64", [](auto&, auto& in, auto&) { in.cols = 32; });
  gemm_refuses("y.rows is 4, expected 8", [](auto&, auto&, auto& out) { out.rows = 4; });
  gemm_refuses("y overlaps an input: pass separate memory", [&](auto&, auto&, auto& out) {
    out.data = reinterpret_cast<float*>(workspace.data() + 128);  // with its order
  });
  gemm_refuses("y overlaps an input: pass separate memory",
               [](auto&, auto& in, auto& out) { out.data = reinterpret_cast<float*>(const_cast<bf16*>(in.data)); });
  cuda::moe_report report;
  CHECK(cuda::moe_status(shape, nullptr, nullptr, report) == cudaErrorInvalidValue);
  CHECK(cuda::moe_status({0, 2, 3}, at, nullptr, report) == cudaErrorInvalidValue);
}
