// tests/view.bad_input.test.cpp -- sizes, strides, pointers and buffers that are wrong, and what each is told; overlap.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/tensor/view.hpp"

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "mxfp4/core/float_types.hpp"

namespace {

using namespace mxfp4;
constexpr std::int64_t highest = std::numeric_limits<std::int64_t>::max(),
                       lowest = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t highest_blocks = highest - 31;  // the largest multiple of 32

struct row {
  status got;
  errc code = errc::ok;
  const char* what = "";
  std::int64_t value = 0, expected = 0;
  const char* why = "";
};

void check_row(const row& r) {
  CAPTURE(r.why, message(r.got).view());
  CHECK(r.got.code == r.code);
  CHECK(std::string_view(r.got.what) == r.what);
  CHECK(r.got.value == r.value);
  CHECK(r.got.expected == r.expected);
}

std::uint8_t memory[4096];
float numbers[64];

template <class Layout = layout::compressed_tensors>
status check_mx(std::int64_t rows, std::int64_t cols, std::int64_t code_stride, std::int64_t scale_stride,
                bool codes = true, bool scales = true) {
  std::uint8_t* const first_codes = memory + (Layout::interleaved ? 1 : 0);
  return check(
      mx_view<Layout>{codes ? first_codes : nullptr, scales ? memory : nullptr, rows, cols, code_stride, scale_stride});
}
template <class T = float>
status check_dense(std::int64_t rows, std::int64_t cols, std::int64_t stride, bool data = true) {
  return check(dense_view<T>{data ? reinterpret_cast<T*>(numbers) : nullptr, rows, cols, stride});
}

/// codes and scales of `code_bytes` and `scale_bytes`, asked for a matrix.
template <class Layout = layout::compressed_tensors>
status make(std::size_t code_bytes, std::size_t scale_bytes, std::int64_t rows, std::int64_t cols) {
  return make_view<Layout>(std::span(memory, code_bytes), std::span(memory, scale_bytes), rows, cols).error();
}
status make_ggml(std::size_t bytes, std::int64_t rows, std::int64_t cols) {
  return make_ggml_view(std::span(memory, bytes), rows, cols).error();
}

}  // namespace

TEST_CASE("check: MXFP4 views", "[view][bad_input]") {
  using sw = layout::swizzled_128x4;
  using gg = layout::ggml;
  const row rows[] = {
      {check_mx(4, 64, 32, 2), errc::ok, "", 0, 0, "tight"},
      {check_mx(4, 64, 40, 7), errc::ok, "", 0, 0, "gaps"},
      {check_mx(0, 64, 32, 2, false, false), errc::ok, "", 0, 0, "no rows need no memory"},
      {check_mx(4, 0, 0, 0, false, false), errc::ok, "", 0, 0, "no columns need no memory"},
      {check_mx(0, highest_blocks / 8 / 32 * 32, highest, highest, false, false), errc::ok, "", 0, 0, "no huge rows"},
      {check_mx(-1, 64, 32, 2), errc::negative_size, "rows", -1, 0, "rows"},
      {check_mx(lowest, 64, 32, 2), errc::negative_size, "rows", lowest, 0, "the lowest"},
      {check_mx(4, -32, 32, 2), errc::negative_size, "cols", -32, 0, "cols"},
      {check_mx(4, 33, 32, 2), errc::not_blocks, "cols", 33, 0, "one more than a block"},
      {check_mx(4, 31, 32, 2), errc::not_blocks, "cols", 31, 0, "one less"},
      {check_mx(4, highest, highest, highest), errc::not_blocks, "cols", highest, 0, "not a multiple before too many"},
      {check_mx(1, highest_blocks, highest, highest), errc::size_overflow, "cols", highest_blocks, 0, "cols"},
      {check_mx(4, 64, 31, 2), errc::stride_too_small, "code_stride", 31, 32, "codes of two rows overlap"},
      {check_mx(4, 64, 32, 1), errc::stride_too_small, "scale_stride", 1, 2, "scales of two rows overlap"},
      {check_mx(4, 64, -32, 2), errc::stride_too_small, "code_stride", -32, 32, "negative"},
      {check_mx(4, 64, 32, lowest), errc::stride_too_small, "scale_stride", lowest, 2, "the lowest"},
      {check_mx(3, 32, highest / 2, 1), errc::size_overflow, "rows * code_stride", 3, 0, "16 bytes too many"},
      {check_mx(2, 32, highest - 16, 1), errc::ok, "", 0, 0, "just not"},
      {check_mx(2, 32, highest - 15, 1), errc::size_overflow, "rows * code_stride", 2, 0, "by one byte"},
      {check_mx(3, 32, 16, highest / 2), errc::ok, "", 0, 0, "2 * (2^62 - 1) + 1 fits exactly"},
      {check_mx(3, 32, 16, highest / 2 + 1), errc::size_overflow, "rows * scale_stride", 3, 0, "and no more"},
      {check_mx(highest, 32, 16, 1), errc::size_overflow, "rows * code_stride", highest, 0, "rows"},
      {check_mx(4, 64, 32, 2, false), errc::null_pointer, "codes", 0, 128, "codes"},
      {check_mx(4, 64, 40, 2, false), errc::null_pointer, "codes", 0, 152, "no gap behind the last row"},
      {check_mx(4, 64, 32, 2, true, false), errc::null_pointer, "scales", 0, 8, "scales"},
      {check_mx<sw>(129, 160, 80, 1024), errc::ok, "", 0, 0, "swizzled: two tiles a band"},
      {check_mx<sw>(129, 160, 80, 1023), errc::stride_too_small, "scale_stride", 1023, 1024, "swizzled: a band"},
      {check_mx<sw>(129, 160, 80, 1024, true, false), errc::null_pointer, "scales", 0, 2048, "swizzled: two bands"},
      {check_mx<gg>(2, 64, 34, 34), errc::ok, "", 0, 0, "ggml"},
      {check_mx<gg>(2, 64, 33, 34), errc::stride_too_small, "code_stride", 33, 34, "ggml: the row counts the scales"},
      {check_mx<gg>(2, 64, 34, 34, false), errc::null_pointer, "codes", 0, 67, "ggml: from byte 1 on"},
      {check_mx<sw>(1, std::int64_t{1} << 61, highest, highest), errc::size_overflow, "cols", std::int64_t{1} << 61, 0,
       "swizzled: four bytes a column"},
      {check_mx<gg>(2, 64, 34, 35), errc::shape_mismatch, "scale_stride", 35, 34, "ggml: one buffer, one stride"},
      {check_mx<gg>(2, 64, 34, 34, true, false), errc::null_pointer, "scales", 0, 68, "ggml"},
  };
  for (const row& r : rows) check_row(r);
}

TEST_CASE("check: codes and scales of an interleaved layout are one byte apart", "[view][bad_input]") {
  const status got = check(mx_view<layout::ggml>{memory, memory, 1, 32, 17, 17}, "out");
  CHECK(got.code == errc::shape_mismatch);
  CHECK(message(got).view() == "out.codes - scales is 0, expected 1");
}

TEST_CASE("check: dense views", "[view][bad_input]") {
  const row rows[] = {
      {check_dense(2, 3, 3), errc::ok, "", 0, 0, "any number of columns"},
      {check_dense(0, 3, 3, false), errc::ok, "", 0, 0, "no rows"},
      {check_dense(2, 0, 0, false), errc::ok, "", 0, 0, "no columns"},
      {check_dense(-2, 3, 3), errc::negative_size, "rows", -2, 0, "rows"},
      {check_dense(2, -3, 3), errc::negative_size, "cols", -3, 0, "cols"},
      {check_dense(2, 3, 2), errc::stride_too_small, "stride", 2, 3, "rows overlap"},
      {check_dense(1, 3, 2), errc::stride_too_small, "stride", 2, 3, "even with a single row"},
      {check_dense(2, 3, -3), errc::stride_too_small, "stride", -3, 3, "negative"},
      {check_dense(2, 3, 3, false), errc::null_pointer, "data", 0, 6, "null"},
      {check_dense(2, 3, 5, false), errc::null_pointer, "data", 0, 8, "no gap behind the last row"},
      {check_dense<e4m3>(2, 3, highest - 3), errc::ok, "", 0, 0, "2^63 - 1 bytes"},
      {check_dense<e4m3>(2, 3, highest - 2), errc::size_overflow, "rows * stride", 2, 0, "2^63 bytes"},
      {check_dense<float>(1, highest / 4, highest), errc::ok, "", 0, 0, "4 * (2^61 - 1) bytes"},
      {check_dense<float>(1, highest / 4 + 1, highest), errc::size_overflow, "rows * stride", 1, 0,
       "2^63 bytes of floats"},
      {check_dense<double>(1, highest / 4, highest), errc::size_overflow, "rows * stride", 1, 0, "the same as doubles"},
      {check_dense(highest, highest, highest), errc::size_overflow, "rows * stride", highest, 0, "all huge"},
  };
  for (const row& r : rows) check_row(r);
}

TEST_CASE("check: elements wider than a byte lie at a multiple of their size", "[view][bad_input]") {
  alignas(16) static std::uint8_t bytes[64];
  const auto at = []<class T>(T*, std::size_t offset, std::int64_t rows = 2) {
    return check(dense_view<T>{reinterpret_cast<T*>(bytes + offset), rows, 3, 3}, "w");
  };
  for (const std::size_t offset : {1u, 2u, 3u}) {
    const auto past = static_cast<std::int64_t>(offset);
    check_row({at(static_cast<float*>(nullptr), offset), errc::misaligned, "data", past, 4, "float"});
    check_row({at(static_cast<const float*>(nullptr), offset + 4), errc::misaligned, "data", past, 4, "const float"});
  }
  check_row({at(static_cast<float*>(nullptr), 4), errc::ok, "", 0, 0, "a float at a multiple of 4"});
  check_row({at(static_cast<double*>(nullptr), 4), errc::misaligned, "data", 4, 8, "double"});
  check_row({at(static_cast<bf16*>(nullptr), 3), errc::misaligned, "data", 1, 2, "bf16"});
  check_row({at(static_cast<f16*>(nullptr), 3), errc::misaligned, "data", 1, 2, "f16"});
  check_row({at(static_cast<bf16*>(nullptr), 2), errc::ok, "", 0, 0, "bf16 at a multiple of 2"});
  check_row({at(static_cast<e4m3*>(nullptr), 3), errc::ok, "", 0, 0, "bytes lie anywhere"});
  check_row({at(static_cast<float*>(nullptr), 1, 0), errc::ok, "", 0, 0, "nothing is read"});
  CHECK(message(at(static_cast<float*>(nullptr), 1)).view() == "w.data is 1 bytes past a multiple of 4: align it");
  const std::span<const float> crooked(reinterpret_cast<const float*>(bytes + 2), 6);
  check_row({make_dense_view(crooked, 2, 3).error(), errc::misaligned, "data", 2, 4, "make_dense_view"});
}

TEST_CASE("bytes_needed: sizes without gaps", "[view]") {
  const auto is = [](const result<mx_bytes>& need, std::int64_t codes, std::int64_t scales) {
    return need && need->codes == codes && need->scales == scales;
  };
  CHECK(is(bytes_needed(1536, 3072), 2359296, 147456));
  CHECK(is(bytes_needed<layout::mlx>(3, 96), 144, 9));
  CHECK(is(bytes_needed<layout::gpt_oss>(3, 96), 144, 9));
  CHECK(is(bytes_needed<layout::swizzled_128x4>(129, 160), 10320, 2048));
  CHECK(is(bytes_needed<layout::swizzled_128x4>(1, 32), 16, 512));
  CHECK(is(bytes_needed<layout::ggml>(3, 96), 153, 0));
  CHECK(is(bytes_needed(0, 96), 0, 0));
  CHECK(is(bytes_needed<layout::swizzled_128x4>(7, 0), 0, 0));
  const row rows[] = {
      {bytes_needed(-1, 32).error(), errc::negative_size, "rows", -1, 0, "rows"},
      {bytes_needed(1, -32).error(), errc::negative_size, "cols", -32, 0, "cols"},
      {bytes_needed(1, 48).error(), errc::not_blocks, "cols", 48, 0, "half a block"},
      {bytes_needed(1, highest_blocks).error(), errc::size_overflow, "cols", highest_blocks, 0, "cols"},
      {bytes_needed(highest, 32).error(), errc::size_overflow, "rows * cols", highest, 0, "rows"},
      {bytes_needed(std::int64_t{1} << 32, std::int64_t{1} << 32).error(), errc::size_overflow, "rows * cols",
       std::int64_t{1} << 32, 0, "2^63 bytes of codes"},
      {bytes_needed<layout::swizzled_128x4>(1, std::int64_t{1} << 61).error(), errc::size_overflow, "cols",
       std::int64_t{1} << 61, 0, "four bytes a column"},
      {bytes_needed<layout::swizzled_128x4>(highest, 32).error(), errc::size_overflow, "rows * cols", highest, 0,
       "padded rows"},
  };
  for (const row& r : rows) check_row(r);
}

TEST_CASE("make_view, make_ggml_view, make_dense_view: buffers", "[view][bad_input]") {
  using sw = layout::swizzled_128x4;
  const std::span<float> nothing;
  const row rows[] = {
      {make(48, 3, 1, 96), errc::ok, "", 0, 0, "exactly enough"},
      {make(47, 3, 1, 96), errc::buffer_too_small, "codes", 47, 48, "one code byte short"},
      {make(48, 2, 1, 96), errc::buffer_too_small, "scales", 2, 3, "one scale short"},
      {make(0, 0, 0, 96), errc::ok, "", 0, 0, "no rows"},
      {make(0, 0, 5, 0), errc::ok, "", 0, 0, "no columns"},
      {make(48, 3, 1, 97), errc::not_blocks, "cols", 97, 0, "cols"},
      {make(48, 3, -1, 96), errc::negative_size, "rows", -1, 0, "rows"},
      {make(48, 3, highest, highest_blocks), errc::size_overflow, "cols", highest_blocks, 0, "huge"},
      {make<sw>(32, 512, 2, 32), errc::ok, "", 0, 0, "swizzled: a whole tile"},
      {make<sw>(32, 511, 2, 32), errc::buffer_too_small, "scales", 511, 512, "swizzled: one byte of a tile short"},
      {make_ggml(102, 2, 96), errc::ok, "", 0, 0, "ggml"},
      {make_ggml(101, 2, 96), errc::buffer_too_small, "blocks", 101, 102, "ggml: one byte short"},
      {make_ggml(0, 0, 96), errc::ok, "", 0, 0, "ggml: no rows"},
      {make_ggml(102, 2, 95), errc::not_blocks, "cols", 95, 0, "ggml: cols"},
      {make_dense_view(std::span(numbers, 12), 3, 4).error(), errc::ok, "", 0, 0, "dense"},
      {make_dense_view(std::span(numbers, 11), 3, 4).error(), errc::buffer_too_small, "data", 11, 12,
       "dense: one short"},
      {make_dense_view(nothing, 3, 4).error(), errc::null_pointer, "data", 0, 12, "dense: nothing at all"},
      {make_dense_view(nothing, 3, 0).error(), errc::ok, "", 0, 0, "dense: nothing needed"},
      {make_dense_view(std::span(numbers, 12), -3, 4).error(), errc::negative_size, "rows", -3, 0, "dense: rows"},
      {make_dense_view(std::span(numbers, 12), highest, 4).error(), errc::size_overflow, "rows * stride", highest, 0,
       "dense: huge"},
  };
  for (const row& r : rows) check_row(r);
}

TEST_CASE("factories: what a good view holds", "[view]") {
  const auto tiles =
      make_view<layout::swizzled_128x4>(std::span(memory, 2064), std::span(memory + 2064, 1024), 129, 32);
  REQUIRE(tiles);
  CHECK((tiles->code_stride == 16 && tiles->scale_stride == 512 && tiles->block_scale(128, 0) == memory + 2576));
  const auto plain =
      make_view(std::span<const std::uint8_t>(memory, 48), std::span<const std::uint8_t>(memory + 48, 3), 1, 96);
  REQUIRE(plain);
  CHECK((plain->codes == memory && plain->scales == memory + 48 && plain->rows == 1 && plain->cols == 96));
  CHECK((plain->code_stride == 48 && plain->scale_stride == 3 && plain->blocks() == 3));
  CHECK((plain->block_codes(0, 2) == memory + 32 && plain->block_scale(0, 2) == memory + 50));
  const auto ggml = make_ggml_view(std::span(memory, 102), 2, 96);
  REQUIRE(ggml);
  CHECK((ggml->scales == memory && ggml->codes == memory + 1 && ggml->code_stride == 51 && ggml->scale_stride == 51));
  CHECK((ggml->block_scale(1, 1) == memory + 68 && ggml->block_codes(1, 1) == memory + 69));
  const auto dense = make_dense_view(std::span(numbers, 12), 3, 4);
  REQUIRE(dense);
  CHECK((dense->data == numbers && dense->stride == 4 && dense->row(2) == numbers + 8));
}

TEST_CASE("factories: vectors, arrays and spans; const where one of two is", "[view]") {
  std::vector<std::uint8_t> codes(48), scales(3), blocks(51);
  const std::vector<std::uint8_t> const_codes(48), const_scales(3);
  const auto is = [](const auto& made, const std::uint8_t* c, const std::uint8_t* s) {
    return made && made->codes == c && made->scales == s && made->rows == 1 && made->cols == 96;
  };
  const auto plain = make_view(codes, scales, 1, 96);
  STATIC_CHECK(std::is_same_v<decltype(plain), const result<mx_view<>>>);
  CHECK(is(plain, codes.data(), scales.data()));
  const auto both_const = make_view(const_codes, const_scales, 1, 96);
  STATIC_CHECK(std::is_same_v<decltype(both_const), const result<const_mx_view<>>>);
  CHECK(is(both_const, const_codes.data(), const_scales.data()));
  const auto const_scale = make_view(std::span(codes), const_scales, 1, 96);
  STATIC_CHECK(std::is_same_v<decltype(const_scale), const result<const_mx_view<>>>);
  CHECK(is(const_scale, codes.data(), const_scales.data()));
  const auto const_code = make_view<layout::mlx>(std::span<const std::uint8_t>(codes), std::span(scales), 1, 96);
  STATIC_CHECK(std::is_same_v<decltype(const_code), const result<const_mx_view<layout::mlx>>>);
  CHECK(is(const_code, codes.data(), scales.data()));
  std::uint8_t few[2];
  CHECK(make_view(codes, few, 1, 96).error().code == errc::buffer_too_small);
  std::array<std::uint8_t, 3> three{};
  CHECK(is(make_view(std::span<std::uint8_t, 48>(codes), three, 1, 96), codes.data(), three.data()));

  const auto ggml = make_ggml_view(blocks, 1, 96);
  STATIC_CHECK(std::is_same_v<decltype(ggml), const result<mx_view<layout::ggml>>>);
  CHECK(is(ggml, blocks.data() + 1, blocks.data()));
  STATIC_CHECK(std::is_same_v<decltype(make_ggml_view(const_codes, 1, 32)), result<const_mx_view<layout::ggml>>>);

  std::vector<float> x(6);
  const std::vector<float> const_x(6);
  const auto dense = make_dense_view(x, 2, 3);
  STATIC_CHECK(std::is_same_v<decltype(dense), const result<dense_view<float>>>);
  CHECK((dense && dense->data == x.data()));
  STATIC_CHECK(std::is_same_v<decltype(make_dense_view(const_x, 2, 3)), result<dense_view<const float>>>);
  STATIC_CHECK(std::is_same_v<decltype(make_dense_view<const float>(x, 2, 3)), result<dense_view<const float>>>);
  const std::span<float> span(x);
  CHECK(make_dense_view(span, 2, 3)->data == x.data());
  CHECK(make_dense_view(x, 7, 1).error().code == errc::buffer_too_small);
  CHECK(make_dense_view(numbers, 8, 8)->data == numbers);
}

TEST_CASE("views: mutable converts to const, never back", "[view]") {
  STATIC_CHECK(std::is_convertible_v<mx_view<>, const_mx_view<>>);
  STATIC_CHECK_FALSE(std::is_convertible_v<const_mx_view<>, mx_view<>>);
  STATIC_CHECK_FALSE(std::is_convertible_v<mx_view<layout::ggml>, const_mx_view<>>);
  STATIC_CHECK(std::is_convertible_v<dense_view<float>, dense_view<const float>>);
  STATIC_CHECK_FALSE(std::is_convertible_v<dense_view<const float>, dense_view<float>>);
  const const_mx_view<> mx = mx_view<>{memory, memory + 64, 3, 32, 17, 2};
  CHECK((mx.codes == memory && mx.scales == memory + 64 && mx.rows == 3 && mx.cols == 32));
  CHECK((mx.code_stride == 17 && mx.scale_stride == 2));
  const dense_view<const float> dense = dense_view<float>{numbers, 2, 3, 5};
  CHECK((dense.data == numbers && dense.rows == 2 && dense.cols == 3 && dense.stride == 5));
}

TEST_CASE("checks and factories are constant expressions", "[view]") {
  STATIC_CHECK(bytes_needed<layout::ggml>(2, 64)->codes == 68);
  STATIC_CHECK(check(dense_view<const float>{nullptr, 0, 5, 5}).ok());
  STATIC_CHECK(check(const_mx_view<>{nullptr, nullptr, 1, 32, 16, 1}).code == errc::null_pointer);
  STATIC_CHECK(check(const_mx_view<>{nullptr, nullptr, highest, highest_blocks, highest, highest}).code ==
               errc::size_overflow);
}

TEST_CASE("a view by default is an empty matrix", "[view]") {
  constexpr mx_view<> w;
  STATIC_CHECK((w.codes == nullptr && w.scales == nullptr && w.rows == 0 && w.cols == 0));
  STATIC_CHECK((w.code_stride == 0 && w.scale_stride == 0));
  constexpr dense_view<float> x;
  STATIC_CHECK((x.data == nullptr && x.rows == 0 && x.cols == 0 && x.stride == 0));
  constexpr mx_bytes bytes;
  STATIC_CHECK((bytes.codes == 0 && bytes.scales == 0));
}
