// tests/linalg_f32.property.test.cpp -- gemv and gemm with float activations: tasks, memory, bad arguments.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "mxfp4/linalg/f32.hpp"
#include "support/product.hpp"
#include "support/threads.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;

struct counting_executor {
  std::vector<std::size_t> tasks;
  void run(std::size_t count, task_ref body) {
    tasks.push_back(count);
    for (std::size_t i = 0; i < count; ++i) body(i);
  }
};

struct throwing_executor {
  void run(std::size_t, task_ref) const { throw std::runtime_error("no threads today"); }
};

/// 200 x 288 weights, three tokens, in both forms.
struct product {
  product() {
    splitmix random(21);
    fill(w, 200, 288, byte_range(110, 140), random);
    x.fill([&](auto, auto) { return static_cast<float>(random.between(-99999, 99999)) * 0x1.9p-9f; });
  }
  mx_memory<layout::compressed_tensors> w{200, 288};
  tokens x{3, 288};
  tiles_of packed() { return tiles_of(w, 200, 288); }
  dense_view<const float> token(std::int64_t m) { return {x.data.data() + m * 288, 1, 288, 288}; }
};

template <class W>
std::vector<float> run(const W& w, const dense_view<const float>& x, executor_ref executor) {
  std::vector<float> y(static_cast<std::size_t>(x.rows * 200));
  REQUIRE(gemm(w, x, dense_view<float>{y.data(), x.rows, 200, 200}, {false, executor}).ok());
  return y;
}

}  // namespace

TEST_CASE("gemv, gemm: the same bits for any number of threads and any order of tasks", "[linalg][determinism]") {
  product p;
  const tiles_of packed = p.packed();
  for (const dense_view<const float>& x : {p.token(0), p.x.view()}) {
    const std::vector<float> view = run(p.w.view(), x, serial), tiles = run(packed.view(), x, serial);
    for (const std::size_t count : {1u, 2u, 3u, 4u}) {
      const threads executor{count};
      CHECK(same_bits(run(p.w.view(), x, executor), view));
      CHECK(same_bits(run(packed.view(), x, executor), tiles));
    }
  }
}

TEST_CASE("gemm: the bits of a token do not depend on the other tokens", "[linalg][determinism]") {
  product p;
  const std::vector<float> three = run(p.w.view(), p.x.view(), serial);
  const std::vector<float> two = run(p.w.view(), dense_view<const float>{p.x.data.data() + 288, 2, 288, 288}, serial);
  CHECK(same_bits(std::vector<float>(three.begin() + 200, three.end()), two));
}

TEST_CASE("gemv, gemm: packed tiles, X and Y may lie anywhere", "[linalg][property]") {
  product p;
  const tiles_of tiles = p.packed();
  for (const dense_view<const float>& x : {p.token(0), p.x.view()}) {
    const std::vector<float> expected = run(tiles.view(), x, serial);
    for (const std::size_t shift : {1u, 2u, 4u, 17u}) {
      const packed_view at = tiles.view();
      const auto blocks = static_cast<std::size_t>(at.tiles * at.blocks);
      std::vector<std::uint8_t> codes(blocks * 256 + shift), scales(blocks * 16 + shift);
      std::copy_n(at.codes, blocks * 256, codes.data() + shift);
      std::copy_n(at.scales, blocks * 16, scales.data() + shift);
      const packed_view moved{codes.data() + shift, scales.data() + shift, at.tiles, at.blocks, at.rows};
      CHECK(same_bits(run(moved, x, serial), expected));
      std::vector<float> in(static_cast<std::size_t>(x.rows * x.stride) + shift), out(expected.size() + shift);
      std::copy_n(x.data, x.rows * x.stride, in.data() + shift);
      REQUIRE(gemm(moved, dense_view<const float>{in.data() + shift, x.rows, x.cols, x.stride},
                   dense_view<float>{out.data() + shift, x.rows, 200, 200})
                  .ok());
      CHECK(same_bits(std::vector<float>(out.begin() + static_cast<std::ptrdiff_t>(shift), out.end()), expected));
    }
  }
}

TEST_CASE("gemv, gemm: there is work for several threads, cut by the shape", "[linalg]") {
  product p;
  counting_executor first, second;
  (void)run(p.w.view(), p.x.view(), first);
  (void)run(p.packed().view(), p.x.view(), second);
  CHECK((first.tasks == second.tasks && !first.tasks.empty() && first.tasks.front() >= 2));
  counting_executor one;
  (void)run(p.w.view(), p.token(0), one);
  CHECK(one.tasks == std::vector<std::size_t>{4});
}

TEST_CASE("gemv, gemm: what an executor throws passes through", "[linalg]") {
  product p;
  std::vector<float> y(600);
  const throwing_executor executor;
  const gemm_options options{false, executor};
  CHECK_THROWS_AS((void)gemm(p.w.view(), p.x.view(), dense_view<float>{y.data(), 3, 200, 200}, options),
                  std::runtime_error);
  CHECK_THROWS_AS((void)gemv(p.packed().view(), std::span(p.x.data).first(288), std::span(y).first(200), options),
                  std::runtime_error);
}

TEMPLATE_LIST_TEST_CASE("gemv, gemm: no byte is read or written past the last", "[linalg][guard]", layouts) {
  using at = place<TestType>;
  for (const std::int64_t n : {1, 9, 16, 33})
    for (const std::int64_t k : {32, 160})
      for (const std::int64_t m : {1, 2, 9})
        for (const std::int64_t gap : {0, 5}) {
          CAPTURE(n, k, m, gap);
          const std::int64_t code_stride = at::code_row(k / 32) + gap, scale_stride = at::scale_line(k / 32) + gap;
          const page_end<std::uint8_t> codes(code_stride * n - gap), scales(scale_stride * at::scale_lines(n) - gap);
          const std::int64_t first = at::has_scale_buffer ? 0 : 1;
          const const_mx_view<TestType> w{
              codes.data() + first, at::has_scale_buffer ? scales.data() : codes.data(), n, k,
              code_stride,          at::has_scale_buffer ? scale_stride : code_stride};
          for (std::int64_t r = 0; r < n; ++r)
            for (std::int64_t b = 0; b < k / 32; ++b) {
              const_cast<std::uint8_t&>(*w.block_scale(r, b)) = 127;
              for (int i = 0; i < 16; ++i) const_cast<std::uint8_t&>(w.block_codes(r, b)[i]) = 0x22;  // ones
            }
          const page_end<float> x(m * (k + gap) - gap), y(m * (n + gap) - gap);
          for (std::int64_t i = 0; i < m * (k + gap) - gap; ++i) x.data()[i] = 1.0f;
          for (std::int64_t i = 0; i < m * (n + gap) - gap; ++i) y.data()[i] = 77.0f;
          const dense_view<const float> tokens_view{x.data(), m, k, k + gap};
          REQUIRE(gemm(w, tokens_view, dense_view<float>{y.data(), m, n, n + gap}).ok());
          std::int64_t wrong = 0;
          for (std::int64_t i = 0; i < m * (n + gap) - gap; ++i)
            wrong += y.data()[i] != (i % (n + gap) < n ? static_cast<float>(k) : 77.0f);
          CHECK(wrong == 0);

          const std::int64_t tiles = (n + 15) / 16;
          const page_end<std::uint8_t> lines(tiles * k / 32 * 256), bytes(tiles * k / 32 * 16);
          for (std::int64_t i = 0; i < tiles * k / 32 * 256; ++i) lines.data()[i] = 0x22;
          for (std::int64_t i = 0; i < tiles * k / 32 * 16; ++i) bytes.data()[i] = 127;
          const packed_view packed{lines.data(), bytes.data(), tiles, k / 32, n};
          REQUIRE(gemm(packed, tokens_view, dense_view<float>{y.data(), m, n, n + gap}, {true, {}}).ok());
          for (std::int64_t i = 0; i < m * (n + gap) - gap; ++i)
            wrong += y.data()[i] != (i % (n + gap) < n ? 2.0f * static_cast<float>(k) : 77.0f);
          CHECK(wrong == 0);

          const page_end<bf16> half(m * k);
          const page_end<e4m3> eighth(m * k);
          for (std::int64_t i = 0; i < m * k; ++i) half.data()[i] = bf16{0x3F80}, eighth.data()[i] = e4m3{0x38};
          REQUIRE(gemm(w, dense_view<bf16>{half.data(), m, k, k}, dense_view<float>{y.data(), m, n, n + gap}).ok());
          CHECK(y.data()[m * (n + gap) - gap - 1] == static_cast<float>(k));
          REQUIRE(
              gemm(packed, dense_view<e4m3>{eighth.data(), m, k, k}, dense_view<float>{y.data(), m, n, n + gap}).ok());
          CHECK(y.data()[m * (n + gap) - gap - 1] == static_cast<float>(k));
        }
}

TEST_CASE("gemv, gemm: empty sums and empty outputs", "[linalg]") {
  float y[8] = {77, 77, 77, 77, 77, 77, 77, 77};
  const float x[64] = {1.0f};
  const std::uint8_t codes[32] = {2}, scales[2] = {127, 127};
  const const_mx_view<> no_columns{nullptr, nullptr, 2, 0, 0, 0};
  SECTION("K = 0: zero, or what was there") {
    for (const std::int64_t m : {1, 2}) {
      const dense_view<float> out{y, m, 2, 3};
      REQUIRE(gemm(no_columns, dense_view<const float>{nullptr, m, 0, 0}, out, {true, {}}).ok());
      CHECK((y[0] == 77.0f && y[1] == 77.0f));
      REQUIRE(gemm(no_columns, dense_view<const float>{nullptr, m, 0, 0}, out).ok());
      CHECK((y[0] == 0.0f && y[1] == 0.0f && y[2] == 77.0f && y[3] == (m == 2 ? 0.0f : 77.0f)));
      y[0] = y[1] = y[3] = y[4] = 77.0f;
      REQUIRE(gemm(packed_view{nullptr, nullptr, 1, 0, 2}, dense_view<const float>{nullptr, m, 0, 0}, out).ok());
      CHECK((y[0] == 0.0f && y[1] == 0.0f && y[2] == 77.0f));
      y[0] = y[1] = y[3] = y[4] = 77.0f;
    }
  }
  SECTION("M = 0 and N = 0") {
    REQUIRE(gemm(const_mx_view<>{codes, scales, 2, 32, 16, 1}, dense_view<const float>{nullptr, 0, 32, 32},
                 dense_view<float>{y, 0, 2, 2})
                .ok());
    REQUIRE(gemm(const_mx_view<>{nullptr, nullptr, 0, 32, 16, 1}, dense_view<const float>{x, 2, 32, 32},
                 dense_view<float>{y, 2, 0, 0})
                .ok());
    REQUIRE(gemv(packed_view{nullptr, nullptr, 0, 1, 0}, std::span(x).first(32), std::span<float>()).ok());
    CHECK(y[0] == 77.0f);
  }
}

namespace {

bool is(const status& s, errc code, std::string_view what, std::int64_t value, std::int64_t expected) {
  const std::string argument(s.argument);
  return s.code == code && (argument.empty() ? "" : argument + ".") + s.what == what && s.value == value &&
         s.expected == expected;
}

}  // namespace

TEST_CASE("gemv, gemm: bad arguments are named and nothing is written", "[linalg][bad_input]") {
  const std::uint8_t codes[2 * 32] = {}, scales[4] = {};
  const float x[3 * 64] = {};
  float y[8] = {77, 77, 77, 77, 77, 77, 77, 77};
  const const_mx_view<> w{codes, scales, 2, 64, 32, 2};
  const dense_view<const float> tokens_view{x, 3, 64, 64};
  const dense_view<float> out{y, 3, 2, 2};
  REQUIRE(gemm(w, tokens_view, dense_view<float>{y, 3, 2, 2}).ok());
  for (float& value : y) value = 77.0f;

  const auto with = [&](auto change) {
    auto a = w;
    auto b = tokens_view;
    auto c = out;
    change(a, b, c);
    return gemm(a, b, c);
  };
  CHECK(is(with([](auto& a, auto&, auto&) { a.codes = nullptr; }), errc::null_pointer, "w.codes", 0, 64));
  CHECK(is(with([](auto& a, auto&, auto&) { a.cols = 48; }), errc::not_blocks, "w.cols", 48, 0));
  CHECK(is(with([](auto& a, auto&, auto&) { a.code_stride = 31; }), errc::stride_too_small, "w.code_stride", 31, 32));
  CHECK(is(with([](auto& a, auto&, auto&) { a.rows = -1; }), errc::negative_size, "w.rows", -1, 0));
  CHECK(is(with([](auto&, auto& b, auto&) { b.data = nullptr; }), errc::null_pointer, "x.data", 0, 192));
  CHECK(is(with([](auto&, auto& b, auto&) { b.stride = 63; }), errc::stride_too_small, "x.stride", 63, 64));
  CHECK(is(with([](auto&, auto& b, auto&) { b.cols = 32; }), errc::shape_mismatch, "x.cols", 32, 64));
  CHECK(is(with([](auto&, auto&, auto& c) { c.rows = 2; }), errc::shape_mismatch, "y.rows", 2, 3));
  CHECK(is(with([](auto&, auto&, auto& c) { c.cols = 1; }), errc::shape_mismatch, "y.cols", 1, 2));
  CHECK(is(with([](auto&, auto&, auto& c) { c.data = nullptr; }), errc::null_pointer, "y.data", 0, 6));
  CHECK(is(with([&](auto&, auto& b, auto&) {
             b.data = y;
             b.rows = 1;
             b.stride = 64;
             b.cols = 64;
           }),
           errc::shape_mismatch, "y.rows", 3, 1));
  CHECK(is(gemv(const_mx_view<>{codes, scales, 1, 32, 16, 1}, std::span(static_cast<const float*>(nullptr), 32),
                std::span(y).first(1)),
           errc::null_pointer, "x.data", 0, 32));

  float both[64 + 2] = {};
  CHECK(is(gemv(w, std::span(both).first(64), std::span(both).subspan(63, 2)), errc::overlap, "y", 0, 0));
  std::uint8_t memory[64 + 8] = {};
  CHECK(is(gemv(const_mx_view<>{memory, scales, 2, 64, 32, 2}, std::span(x).first(64),
                std::span(reinterpret_cast<float*>(memory + 60), 2)),
           errc::overlap, "y", 0, 0));

  alignas(4) std::uint8_t tile[512 + 8] = {};
  const std::uint8_t lines[512] = {}, bytes[32] = {};
  CHECK(is(gemv(packed_view{tile, bytes, 1, 2, 2}, std::span(x).first(64),
                std::span(reinterpret_cast<float*>(tile + 508), 2)),
           errc::overlap, "y", 0, 0));
  CHECK(is(gemv(packed_view{lines, tile + 2, 1, 2, 2}, std::span(x).first(64),
                std::span(reinterpret_cast<float*>(tile + 32), 2)),
           errc::overlap, "y", 0, 0));
  const auto packed = [&](packed_view tiles) { return gemv(tiles, std::span(x).first(64), std::span(y).first(2)); };
  REQUIRE(packed({lines, bytes, 1, 2, 2}).ok());
  for (float& value : y) value = 77.0f;
  CHECK(is(packed({lines, bytes, 2, 2, 2}), errc::shape_mismatch, "w.tiles", 2, 1));
  CHECK(is(packed({nullptr, bytes, 1, 2, 2}), errc::null_pointer, "w.codes", 0, 512));
  CHECK(is(packed({lines, nullptr, 1, 2, 2}), errc::null_pointer, "w.scales", 0, 32));
  CHECK(is(packed({lines, bytes, 1, -1, 2}), errc::negative_size, "w.blocks", -1, 0));
  CHECK(is(packed({lines, bytes, 0, 2, -2}), errc::negative_size, "w.rows", -2, 0));
  CHECK(is(packed({lines, bytes, 1, std::int64_t{1} << 60, 2}), errc::size_overflow, "w.tiles * blocks", 1, 0));
  CHECK(is(packed({lines, bytes, 0, std::int64_t{1} << 60, 0}), errc::size_overflow, "w.tiles * blocks", 0, 0));
  CHECK(is(gemm(packed_view{lines, bytes, 1, 1, 2}, tokens_view, out), errc::shape_mismatch, "x.cols", 64, 32));
  for (const float value : y) CHECK(value == 77.0f);
}
