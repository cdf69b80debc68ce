// tests/quantize.bad_input.test.cpp -- wrong arguments of whole-matrix functions are named, and nothing is written.
// SPDX-License-Identifier: Apache-2.0
//
// Each row spoils one thing of a call that would succeed. All outputs are poisoned before and must still be after.
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "mxfp4/reference/gemm.hpp"
#include "mxfp4/reference/quantize.hpp"
#include "mxfp4/tensor/convert.hpp"
#include "mxfp4/tensor/encode_row.hpp"
#include "support/matrix.hpp"

namespace {

using namespace mxfp4;
using mxfp4::test::guarded_bytes;
using mxfp4::test::mx_memory;
constexpr std::int64_t highest = std::numeric_limits<std::int64_t>::max();
constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();

/// Runs `spoil` on fresh arguments, calls, and compares.
template <class Arguments>
struct spoiled {
  const char* why;
  std::function<void(Arguments&)> spoil;
  errc code;
  const char* what;
  std::int64_t value, expected;
};

template <class Arguments>
void check_all(const std::vector<spoiled<Arguments>>& rows) {
  {
    Arguments good;
    REQUIRE(good.call().ok());
    REQUIRE_FALSE(good.is_untouched());  // else the rows below prove nothing
  }
  for (const auto& [why, spoil, code, what, value, expected] : rows) {
    Arguments arguments;
    spoil(arguments);
    const status got = arguments.call();
    CAPTURE(why, message(got).view());
    CHECK(got.code == code);
    CHECK(std::string_view(got.what) == what);
    CHECK(got.value == value);
    CHECK(got.expected == expected);
    CHECK(arguments.is_untouched());
  }
}

struct quantize_call {
  std::vector<float> numbers = std::vector<float>(128, 1.0f);
  mx_memory<layout::compressed_tensors> memory{2, 64};
  dense_view<const float> w{numbers.data(), 2, 64, 64};
  mx_view<> out = memory.view();
  recipe_id recipe = recipe_id::ocp;
  on_nonfinite policy = on_nonfinite::encode;

  status call() const { return reference::quantize(recipe, w, out, {.nonfinite = policy}); }
  bool is_untouched() const { return memory.is_untouched(); }
};

struct quantize_fp8_call {
  std::vector<e4m3> numbers = std::vector<e4m3>(20800, e4m3{0x38});
  std::vector<float> scale_numbers = std::vector<float>(4, 1.0f);
  mx_memory<layout::ggml> memory{130, 160};
  dense_view<const e4m3> w{numbers.data(), 130, 160, 160};
  dense_view<const float> scales{scale_numbers.data(), 2, 2, 2};
  mx_view<layout::ggml> out = memory.view();
  recipe_id recipe = recipe_id::ocp;
  on_nonfinite policy = on_nonfinite::encode;

  status call() const { return reference::quantize_fp8(recipe, w, scales, out, {.nonfinite = policy}); }
  bool is_untouched() const { return memory.is_untouched(); }
};

struct dequantize_call {
  std::vector<std::uint8_t> codes = std::vector<std::uint8_t>(64), scales = std::vector<std::uint8_t>(4);
  guarded_bytes memory{256};
  const_mx_view<> w{codes.data(), scales.data(), 2, 64, 32, 2};
  dense_view<bf16> out{reinterpret_cast<bf16*>(memory.data()), 2, 64, 64};

  status call() const { return reference::dequantize(w, out); }
  bool is_untouched() const { return memory.is_untouched(); }
};

struct convert_call {
  std::vector<std::uint8_t> codes = std::vector<std::uint8_t>(64), scales = std::vector<std::uint8_t>(4);
  mx_memory<layout::swizzled_128x4> memory{2, 64};
  const_mx_view<> in{codes.data(), scales.data(), 2, 64, 32, 2};
  mx_view<layout::swizzled_128x4> out = memory.view();

  status call() const { return convert(in, out); }
  bool is_untouched() const { return memory.is_untouched(); }
};

struct gemm_call {
  std::vector<std::uint8_t> codes = std::vector<std::uint8_t>(96, 0x22), scales = std::vector<std::uint8_t>(6, 127);
  std::vector<float> numbers = std::vector<float>(128, 1.0f);
  guarded_bytes memory{48};
  const_mx_view<> w{codes.data(), scales.data(), 3, 64, 32, 2};
  dense_view<const float> x{numbers.data(), 2, 64, 64};
  dense_view<double> y{reinterpret_cast<double*>(memory.data()), 2, 3, 3};

  status call() const { return reference::gemm(w, x, y); }
  bool is_untouched() const { return memory.is_untouched(); }
};

}  // namespace

TEST_CASE("empty matrices are done at once, however many rows of nothing they have", "[quantize][bad_input]") {
  const dense_view<const float> none{nullptr, highest, 0, 0};
  CHECK(reference::quantize<>(none, mx_view<>{nullptr, nullptr, highest, 0, 0, 0}).ok());
  CHECK(reference::dequantize(const_mx_view<>{nullptr, nullptr, highest, 0, 0, 0},
                              dense_view<float>{nullptr, highest, 0, 0})
            .ok());
  CHECK(convert(const_mx_view<>{nullptr, nullptr, highest, 0, 0, 0},
                mx_view<layout::swizzled_128x4>{nullptr, nullptr, highest, 0, 0, 0})
            .ok());
  CHECK(reference::gemm(const_mx_view<>{nullptr, nullptr, 0, 0, 0, 0}, dense_view<const float>{nullptr, highest, 0, 0},
                        dense_view<double>{nullptr, highest, 0, 0})
            .ok());
}

TEST_CASE("quantize: a message names the argument", "[quantize][bad_input]") {
  quantize_call c;
  c.out.cols = 63;
  CHECK(message(c.call()).view() ==
        "out.cols is 63, expected a multiple of 32: pad the rows, or leave this tensor as it is");
}

TEST_CASE("quantize: bad arguments", "[quantize][bad_input]") {
  using call = quantize_call;
  check_all<call>({
      {"w: null", [](call& c) { c.w.data = nullptr; }, errc::null_pointer, "data", 0, 128},
      {"w: negative rows", [](call& c) { c.w.rows = -1; }, errc::negative_size, "rows", -1, 0},
      {"w: negative cols", [](call& c) { c.w.cols = -64; }, errc::negative_size, "cols", -64, 0},
      {"w: stride", [](call& c) { c.w.stride = 63; }, errc::stride_too_small, "stride", 63, 64},
      {"w: stride overflows", [](call& c) { c.w.stride = highest; }, errc::size_overflow, "rows * stride", 2, 0},
      {"w: fewer rows", [](call& c) { c.w.rows = 1; }, errc::shape_mismatch, "out.rows", 2, 1},
      {"w: fewer cols", [](call& c) { c.w.cols = 32; }, errc::shape_mismatch, "out.cols", 64, 32},
      {"w: not blocks", [](call& c) { c.w.cols = 63; }, errc::shape_mismatch, "out.cols", 64, 63},
      {"out: null codes", [](call& c) { c.out.codes = nullptr; }, errc::null_pointer, "codes", 0, 64},
      {"out: null scales", [](call& c) { c.out.scales = nullptr; }, errc::null_pointer, "scales", 0, 4},
      {"out: negative rows", [](call& c) { c.out.rows = -2; }, errc::negative_size, "rows", -2, 0},
      {"out: negative cols", [](call& c) { c.out.cols = -64; }, errc::negative_size, "cols", -64, 0},
      {"out: not blocks", [](call& c) { c.out.cols = 63; }, errc::not_blocks, "cols", 63, 0},
      {"out: code stride", [](call& c) { c.out.code_stride = 31; }, errc::stride_too_small, "code_stride", 31, 32},
      {"out: scale stride", [](call& c) { c.out.scale_stride = 1; }, errc::stride_too_small, "scale_stride", 1, 2},
      {"out: overflow", [](call& c) { c.out.code_stride = highest; }, errc::size_overflow, "rows * code_stride", 2, 0},
      {"out: fewer rows", [](call& c) { c.out.rows = 1; }, errc::shape_mismatch, "out.rows", 1, 2},
      {"out: codes and scales are one", [](call& c) { c.out.scales = c.out.codes + 1; }, errc::overlap, "out", 0, 0},
      {"recipe: one too many", [](call& c) { c.recipe = static_cast<recipe_id>(25); }, errc::unknown_recipe, "recipe",
       25, 0},
      {"recipe: 255", [](call& c) { c.recipe = static_cast<recipe_id>(255); }, errc::unknown_recipe, "recipe", 255, 0},
      {"refuse: NaN",
       [](call& c) {
         c.numbers[70] = nan;
         c.policy = on_nonfinite::refuse;
       },
       errc::nonfinite, "w", 70, 0},
      {"refuse: the first of several",
       [](call& c) {
         c.numbers[127] = nan;
         c.numbers[33] = -inf;
         c.policy = on_nonfinite::refuse;
       },
       errc::nonfinite, "w", 33, 0},
      {"refuse: the very first",
       [](call& c) {
         c.numbers[0] = nan;
         c.policy = on_nonfinite::refuse;
       },
       errc::nonfinite, "w", 0, 0},
      {"refuse: the very last",
       [](call& c) {
         c.numbers[127] = inf;
         c.policy = on_nonfinite::refuse;
       },
       errc::nonfinite, "w", 127, 0},
      {"overlap: codes in w", [](call& c) { c.w.data = reinterpret_cast<const float*>(c.out.codes); }, errc::overlap,
       "out", 0, 0},
      {"overlap: scales in w", [](call& c) { c.w.data = reinterpret_cast<const float*>(c.out.scales); }, errc::overlap,
       "out", 0, 0},
  });
}

TEST_CASE("quantize: the index of a non-finite number is row-major, strides left out", "[quantize][bad_input]") {
  std::vector<float> w(200, nan);  // 36 NaN behind each row belong to nobody
  for (std::size_t r = 0; r < 2; ++r)
    for (std::size_t k = 0; k < 64; ++k) w[100 * r + k] = 1.0f;
  mx_memory<layout::ggml> out(2, 64);
  const dense_view<const float> view{w.data(), 2, 64, 100};
  REQUIRE(reference::quantize(view, out.view(), {.nonfinite = on_nonfinite::refuse}).ok());
  w[100 + 5] = inf;
  const status s = reference::quantize(view, out.view(), {.nonfinite = on_nonfinite::refuse});
  CHECK(s.code == errc::nonfinite);
  CHECK(s.value == 69);
  REQUIRE(reference::quantize(view, out.view(), {.nonfinite = on_nonfinite::encode}).ok());
  CHECK(out.scale(1, 0) == 255);
}

TEST_CASE("quantize: refuse sees every type's own NaN and infinity, and no finite number", "[quantize][bad_input]") {
  const auto refused = []<class T>(T x) {
    T w[32]{};
    w[9] = x;
    mx_memory<layout::compressed_tensors> out(1, 32);
    const status s =
        reference::quantize(dense_view<const T>{w, 1, 32, 32}, out.view(), {.nonfinite = on_nonfinite::refuse});
    return s.code == errc::nonfinite && s.value == 9 && out.is_untouched();
  };
  CHECK((refused(bf16{0x7F80}) && refused(bf16{0xFF80}) && refused(bf16{0x7F81}) && !refused(bf16{0x7F7F})));
  CHECK((refused(f16{0x7C00}) && refused(f16{0xFC00}) && refused(f16{0xFC01}) && !refused(f16{0xFBFF})));
  CHECK((refused(e4m3{0x7F}) && refused(e4m3{0xFF}) && !refused(e4m3{0x7E}) && !refused(e4m3{0xFE})));
  CHECK((refused(inf) && refused(-nan) && !refused(std::numeric_limits<float>::max())));
}

TEST_CASE("quantize_fp8: bad arguments", "[quantize][bad_input]") {
  using call = quantize_fp8_call;
  check_all<call>({
      {"w: null", [](call& c) { c.w.data = nullptr; }, errc::null_pointer, "data", 0, 20800},
      {"w: stride", [](call& c) { c.w.stride = 159; }, errc::stride_too_small, "stride", 159, 160},
      {"w: fewer rows", [](call& c) { c.w.rows = 129; }, errc::shape_mismatch, "out.rows", 130, 129},
      {"w: fewer cols", [](call& c) { c.w.cols = 128; }, errc::shape_mismatch, "out.cols", 160, 128},
      {"scales: null", [](call& c) { c.scales.data = nullptr; }, errc::null_pointer, "data", 0, 4},
      {"scales: negative", [](call& c) { c.scales.rows = -2; }, errc::negative_size, "rows", -2, 0},
      {"scales: a row short", [](call& c) { c.scales.rows = 1; }, errc::shape_mismatch, "scales.rows", 1, 2},
      {"scales: a column short", [](call& c) { c.scales.cols = 1; }, errc::shape_mismatch, "scales.cols", 1, 2},
      {"scales: too many columns",
       [](call& c) {
         c.scales.cols = 3;
         c.scales.stride = 3;
         c.scales.rows = 1;
       },
       errc::shape_mismatch, "scales.rows", 1, 2},
      {"out: null", [](call& c) { c.out.codes = nullptr; }, errc::null_pointer, "codes", 0, 11049},
      {"out: stride", [](call& c) { c.out.scale_stride = 84; }, errc::stride_too_small, "scale_stride", 84, 85},
      {"out: not blocks", [](call& c) { c.out.cols = 150; }, errc::not_blocks, "cols", 150, 0},
      {"recipe", [](call& c) { c.recipe = static_cast<recipe_id>(77); }, errc::unknown_recipe, "recipe", 77, 0},
      {"refuse: NaN",
       [](call& c) {
         c.numbers[300] = e4m3{0x7F};
         c.policy = on_nonfinite::refuse;
       },
       errc::nonfinite, "w", 300, 0},
      {"refuse: the very first",
       [](call& c) {
         c.numbers[0] = e4m3{0xFF};
         c.policy = on_nonfinite::refuse;
       },
       errc::nonfinite, "w", 0, 0},
      {"refuse: a NaN scale",
       [](call& c) {
         c.scale_numbers[1] = nan;
         c.policy = on_nonfinite::refuse;
       },
       errc::nonfinite, "w", 128, 0},
      {"refuse: a product beyond bf16",
       [](call& c) {
         c.scale_numbers[2] = 0x1.FFp127f;
         c.policy = on_nonfinite::refuse;
       },
       errc::nonfinite, "w", 20480, 0},
      {"overlap: w", [](call& c) { c.w.data = reinterpret_cast<const e4m3*>(c.out.scales); }, errc::overlap, "out", 0,
       0},
      {"overlap: scales", [](call& c) { c.scales.data = reinterpret_cast<const float*>(c.out.scales + 4096); },
       errc::overlap, "out", 0, 0},
  });
}

TEST_CASE("dequantize: bad arguments", "[quantize][bad_input]") {
  using call = dequantize_call;
  check_all<call>({
      {"w: null codes", [](call& c) { c.w.codes = nullptr; }, errc::null_pointer, "codes", 0, 64},
      {"w: null scales", [](call& c) { c.w.scales = nullptr; }, errc::null_pointer, "scales", 0, 4},
      {"w: negative", [](call& c) { c.w.rows = -2; }, errc::negative_size, "rows", -2, 0},
      {"w: not blocks", [](call& c) { c.w.cols = 60; }, errc::not_blocks, "cols", 60, 0},
      {"w: stride", [](call& c) { c.w.code_stride = 16; }, errc::stride_too_small, "code_stride", 16, 32},
      {"out: null", [](call& c) { c.out.data = nullptr; }, errc::null_pointer, "data", 0, 128},
      {"out: stride", [](call& c) { c.out.stride = 32; }, errc::stride_too_small, "stride", 32, 64},
      {"out: overflow", [](call& c) { c.out.stride = highest / 2; }, errc::size_overflow, "rows * stride", 2, 0},
      {"out: rows", [](call& c) { c.out.rows = 1; }, errc::shape_mismatch, "out.rows", 1, 2},
      {"out: cols", [](call& c) { c.out.cols = 32; }, errc::shape_mismatch, "out.cols", 32, 64},
      {"overlap: codes", [](call& c) { c.w.codes = c.memory.data() + 200; }, errc::overlap, "out", 0, 0},
      {"overlap: scales", [](call& c) { c.w.scales = c.memory.data() + 255; }, errc::overlap, "out", 0, 0},
  });
}

TEST_CASE("convert: bad arguments", "[convert][bad_input]") {
  using call = convert_call;
  check_all<call>({
      {"in: null codes", [](call& c) { c.in.codes = nullptr; }, errc::null_pointer, "codes", 0, 64},
      {"in: not blocks", [](call& c) { c.in.cols = 65; }, errc::not_blocks, "cols", 65, 0},
      {"in: stride", [](call& c) { c.in.scale_stride = 1; }, errc::stride_too_small, "scale_stride", 1, 2},
      {"out: null scales", [](call& c) { c.out.scales = nullptr; }, errc::null_pointer, "scales", 0, 512},
      {"out: stride", [](call& c) { c.out.scale_stride = 511; }, errc::stride_too_small, "scale_stride", 511, 512},
      {"out: rows", [](call& c) { c.out.rows = 3; }, errc::shape_mismatch, "out.rows", 3, 2},
      {"out: cols", [](call& c) { c.out.cols = 32; }, errc::shape_mismatch, "out.cols", 32, 64},
      {"overlap: codes and codes", [](call& c) { c.in.codes = c.out.codes + 63; }, errc::overlap, "out", 0, 0},
      {"overlap: codes and scales", [](call& c) { c.in.codes = c.out.scales + 511; }, errc::overlap, "out", 0, 0},
      {"overlap: scales and codes", [](call& c) { c.in.scales = c.out.codes - 3; }, errc::overlap, "out", 0, 0},
      {"overlap: scales and scales", [](call& c) { c.in.scales = c.out.scales + 100; }, errc::overlap, "out", 0, 0},
  });
}

TEST_CASE("reference::gemm: bad arguments", "[reference][bad_input]") {
  using call = gemm_call;
  check_all<call>({
      {"w: null codes", [](call& c) { c.w.codes = nullptr; }, errc::null_pointer, "codes", 0, 96},
      {"w: not blocks", [](call& c) { c.w.cols = 65; }, errc::not_blocks, "cols", 65, 0},
      {"x: null", [](call& c) { c.x.data = nullptr; }, errc::null_pointer, "data", 0, 128},
      {"x: stride", [](call& c) { c.x.stride = 63; }, errc::stride_too_small, "stride", 63, 64},
      {"x: K", [](call& c) { c.x.cols = 32; }, errc::shape_mismatch, "cols", 32, 64},
      {"y: null", [](call& c) { c.y.data = nullptr; }, errc::null_pointer, "data", 0, 6},
      {"y: stride", [](call& c) { c.y.stride = 2; }, errc::stride_too_small, "stride", 2, 3},
      {"y: M", [](call& c) { c.y.rows = 1; }, errc::shape_mismatch, "rows", 1, 2},
      {"y: N", [](call& c) { c.y.cols = 2; }, errc::shape_mismatch, "cols", 2, 3},
      {"overlap: codes", [](call& c) { c.w.codes = c.memory.data() + 47; }, errc::overlap, "y", 0, 0},
      {"overlap: scales", [](call& c) { c.w.scales = c.memory.data() - 5; }, errc::overlap, "y", 0, 0},
      {"overlap: x", [](call& c) { c.x.data = reinterpret_cast<const float*>(c.memory.data()) + 11; }, errc::overlap,
       "y", 0, 0},
      {"overlap: x from below", [](call& c) { c.x.data = reinterpret_cast<const float*>(c.memory.data()) - 127; },
       errc::overlap, "y", 0, 0},
  });
  double y = 77.0;
  const std::uint8_t codes[16]{}, scale = 0;
  const status s = reference::gemv(const_mx_view<>{codes, &scale, 1, 32, 16, 1},
                                   std::span(static_cast<const float*>(nullptr), 32), std::span(&y, 1));
  CHECK(message(s).view() == "x.data is null, expected memory for 32 elements");
  CHECK(y == 77.0);
}

TEST_CASE("overlap: touching is no sharing, and strides do not matter", "[view][bad_input]") {
  alignas(8) std::uint8_t memory[4096]{};
  const auto convert_at = [&](std::int64_t in_codes, std::int64_t in_scales, std::int64_t out_blocks) {
    const const_mx_view<> in{memory + in_codes, memory + in_scales, 4, 32, 16, 1};  // 64 and 4 bytes
    const auto out = make_ggml_view(std::span(memory + out_blocks, 68), 4, 32);     // 68 bytes
    REQUIRE(out);
    return convert(in, *out).code;
  };
  CHECK(convert_at(1000, 1064, 1068) == errc::ok);       // codes, scales, blocks side by side
  CHECK(convert_at(1068, 1132, 1000) == errc::ok);       // the other way round
  CHECK(convert_at(1067, 1500, 1000) == errc::overlap);  // one byte
  CHECK(convert_at(937, 1500, 1000) == errc::overlap);   // one byte, the scale of the first block
  CHECK(convert_at(936, 1500, 1000) == errc::ok);
  CHECK(convert_at(2000, 997, 1000) == errc::overlap);
  CHECK(convert_at(2000, 996, 1000) == errc::ok);
  CHECK(convert_at(1000, 2000, 1000) == errc::overlap);  // in place

  // Rows that lie in each other's gaps share no byte, but the ranges do: refused.
  const const_mx_view<> in{memory, memory + 3000, 4, 32, 64, 1};
  CHECK(convert(in, mx_view<>{memory + 32, memory + 3100, 4, 32, 64, 1}).code == errc::overlap);
  CHECK(convert(in, mx_view<>{memory + 208, memory + 3100, 4, 32, 64, 1}).ok());  // behind the last row: 3 * 64 + 16

  // Two views for reading may be the same memory: x and the codes here.
  float x[32] = {1.0f};
  double y = 0.0;
  const const_mx_view<> w{
      reinterpret_cast<const std::uint8_t*>(x), reinterpret_cast<const std::uint8_t*>(x) + 16, 1, 32, 16, 1};
  CHECK(reference::gemv(w, x, std::span(&y, 1)).ok());
}

TEST_CASE("whole-matrix functions: nothing to do is no error, and nothing is written", "[quantize][bad_input]") {
  quantize_call q;
  q.w = {nullptr, 0, 64, 64};
  q.out = {nullptr, nullptr, 0, 64, 32, 2};
  CHECK(q.call().ok());
  q.w = {nullptr, 2, 0, 0};
  q.out = {nullptr, nullptr, 2, 0, 0, 0};
  CHECK(q.call().ok());
  mx_memory<layout::swizzled_128x4> tiles(2, 64);
  mx_view<layout::swizzled_128x4> none = tiles.view();
  none.cols = 0;
  CHECK(reference::quantize(q.w, none).ok());
  CHECK(tiles.is_untouched());
  quantize_fp8_call f;
  f.w = {nullptr, 0, 160, 160};
  f.scales = {nullptr, 0, 2, 2};
  f.out.rows = 0;
  CHECK(f.call().ok());
  CHECK(f.is_untouched());
  dequantize_call d;
  d.w.rows = 0;
  d.out.rows = 0;
  CHECK(d.call().ok());
  CHECK(d.is_untouched());
}

TEST_CASE("encode_row: bad arguments", "[quantize][bad_input]") {
  const float x[40]{};
  guarded_bytes codes(32), scales(2);
  const auto same = [](const status& s, errc code, const char* what, std::int64_t value, std::int64_t expected) {
    return s.code == code && std::string_view(s.what) == what && s.value == value && s.expected == expected;
  };
  const float* const no_numbers = nullptr;
  CHECK(same(encode_row(x, -1, codes.data(), scales.data()), errc::negative_size, "n", -1, 0));
  CHECK(same(encode_row(static_cast<recipe_id>(77), x, 40, codes.data(), scales.data()), errc::unknown_recipe, "recipe",
             77, 0));
  CHECK(same(encode_row(no_numbers, 40, codes.data(), scales.data()), errc::null_pointer, "x", 0, 40));
  CHECK(same(encode_row(x, 33, nullptr, scales.data()), errc::null_pointer, "codes", 0, 32));
  CHECK(same(encode_row(x, 33, codes.data(), nullptr), errc::null_pointer, "scales", 0, 2));
  CHECK(same(encode_row(x, highest, codes.data(), nullptr), errc::null_pointer, "scales", 0, highest / 32 + 1));
  CHECK(encode_row(no_numbers, 0, nullptr, nullptr).ok());
  CHECK((codes.is_untouched() && scales.is_untouched()));
}
