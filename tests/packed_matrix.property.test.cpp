// tests/packed_matrix.property.test.cpp -- tile16x32_v1: where each code is, pack and unpack as inverses, saved bytes.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "mxfp4/kernel/pack.hpp"
#include "mxfp4/moe/workspace.hpp"
#include "mxfp4/tensor/activation.hpp"
#include "mxfp4/tensor/mxfp8_activations.hpp"
#include "support/backward_executor.hpp"
#include "support/matrix.hpp"

namespace {

using namespace mxfp4;
using mxfp4::test::layouts;
using mxfp4::test::mx_memory;
using mxfp4::test::page_end;
using mxfp4::test::splitmix;

/// The order written down a second time, from its description.
struct place_in_tile {
  std::int64_t byte;
  bool high;
};
place_in_tile code_place(std::int64_t n, std::int64_t k, std::int64_t blocks) {
  const std::int64_t block = n / 16 * blocks + k / 32, element = k % 32;
  return {block * 256 + element % 16 / 4 * 64 + n % 16 * 4 + element % 4, element >= 16};
}

/// @param first  a multiple of the layout's rows_per_band.
template <class Byte, class Layout>
basic_mx_view<Byte, Layout> rows_of(basic_mx_view<Byte, Layout> v, std::int64_t first, std::int64_t count) {
  v.codes += first * v.code_stride;
  v.scales += first / Layout::rows_per_band * v.scale_stride;
  v.rows = count;
  return v;
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("pack: every code in its place, unpack gives back every byte", "[packed][property]", layouts) {
  splitmix random(7);
  for (const std::int64_t rows : {1, 15, 16, 17, 130, 259})
    for (const std::int64_t cols : {32, 96, 1056}) {
      CAPTURE(rows, cols);
      mx_memory<TestType> w(rows, cols, 5, 1), back(rows, cols, 3, 2);
      w.fill_randomly(random);
      result<packed_matrix> packed = pack(w.view());
      REQUIRE(packed);
      const std::int64_t tiles = (rows + 15) / 16, blocks = cols / 32;
      const auto bytes = packed->bytes();
      REQUIRE(static_cast<std::int64_t>(bytes.size()) == tiles * blocks * 272);
      REQUIRE(reinterpret_cast<std::uintptr_t>(bytes.data()) % 64 == 0);
      bool codes = true, scales = true;
      for (std::int64_t n = 0; n < tiles * 16; ++n)
        for (std::int64_t k = 0; k < cols; ++k) {
          const auto [at, high] = code_place(n, k, blocks);
          const unsigned byte = bytes[static_cast<std::size_t>(at)], code = high ? byte >> 4 : byte & 15u;
          codes = codes && code == (n < rows ? w.code(n, k) : 0u);
          const std::int64_t scale_at = tiles * blocks * 256 + (n / 16 * blocks + k / 32) * 16 + n % 16;
          scales = scales && bytes[static_cast<std::size_t>(scale_at)] == (n < rows ? w.scale(n, k / 32) : 127);
        }
      REQUIRE(codes);
      REQUIRE(scales);
      mxfp4::test::backward_executor backward;
      REQUIRE(unpack(*packed, back.view(), {.executor = backward}).ok());
      REQUIRE(backward.tasks == (rows == 130 && cols == 1056 ? 3u : rows == 259 && cols == 1056 ? 5u : 1u));
      bool same = true;
      for (std::int64_t n = 0; n < rows; ++n)
        for (std::int64_t k = 0; k < cols; ++k)
          same = same && back.code(n, k) == w.code(n, k) && back.scale(n, k / 32) == w.scale(n, k / 32);
      REQUIRE(same);
      REQUIRE(back.only_its_own_bytes_were_written());

      // In pieces, the last one first: the same bytes and ranges.
      packed_matrix pieces = *packed_matrix::uninitialized(rows, cols);
      constexpr std::int64_t piece = TestType::rows_per_band == 1 ? 48 : TestType::rows_per_band;
      for (std::int64_t first = (rows - 1) / piece * piece; first >= 0; first -= piece)
        REQUIRE(pack_rows(rows_of(w.view(), first, std::min(piece, rows - first)), first, pieces).ok());
      REQUIRE(std::ranges::equal(pieces.bytes(), bytes));
      for (std::int64_t t = 0; t < tiles; ++t) REQUIRE(pieces.range(t) == packed->range(t));
    }
}

TEST_CASE("packed_matrix: the range of a tile's scale bytes", "[packed][golden]") {
  mx_memory<layout::compressed_tensors> w(18, 64);
  for (std::int64_t n = 0; n < 18; ++n)
    for (std::int64_t k = 0; k < 64; ++k) {
      w.set_code(n, k, 1);
      w.scale(n, k / 32) = 120;
    }
  w.scale(3, 1) = 90;
  w.scale(15, 0) = 131;
  for (std::int64_t k = 0; k < 32; ++k)
    w.set_code(5, k, k % 2 == 0 ? 8 : 0);  // zeros of either sign: byte 0 is harmless
  w.scale(5, 0) = 0;
  for (std::int64_t k = 0; k < 64; ++k) {
    w.set_code(16, k, 0);
    w.set_code(17, k, 0);
  }
  w.scale(17, 1) = 255;
  const result<packed_matrix> packed = pack(w.view());
  REQUIRE(packed->range(0) == scale_range{90, 131});
  REQUIRE(packed->range(1) == scale_range{255, 255});  // no nonzero weight; a NaN scale
}

TEST_CASE("packed_matrix: saved bytes, executors", "[packed][property]") {
  splitmix random(8);
  mx_memory<layout::compressed_tensors> w(300, 96);
  w.fill_randomly(random);
  result<packed_matrix> made = pack(w.view());
  const std::vector<std::uint8_t> saved(made->bytes().begin(), made->bytes().end());
  const result<packed_matrix> loaded = packed_matrix::from_bytes(300, 96, saved);
  REQUIRE(loaded);
  REQUIRE(std::ranges::equal(loaded->bytes(), saved));
  for (std::int64_t t = 0; t < made->tiles(); ++t) REQUIRE(loaded->range(t) == made->range(t));
  for (const std::size_t shift : {1u, 3u, 32u}) {  // a file's bytes lie anywhere; the matrix is aligned all the same
    std::vector<std::uint8_t> file(saved.size() + shift);
    std::ranges::copy(saved, file.begin() + static_cast<std::ptrdiff_t>(shift));
    const result<packed_matrix> again = packed_matrix::from_bytes(300, 96, std::span(file).subspan(shift));
    REQUIRE(again);
    CHECK(reinterpret_cast<std::uintptr_t>(again->bytes().data()) % 64 == 0);
    CHECK(std::ranges::equal(again->bytes(), saved));
  }
  struct backwards {
    void run(std::size_t tasks, task_ref body) const {
      while (tasks > 0) body(--tasks);
    }
  } executor;
  REQUIRE(std::ranges::equal(pack(w.view(), {.executor = executor})->bytes(), saved));
}

TEST_CASE("objects with memory of their own: moved from is empty and of use again, moved to has it all", "[packed]") {
  const auto check = [](auto make, auto sizes, auto address) {
    auto a = make();
    const auto before = sizes(a);
    const void* const memory = address(a);
    REQUIRE(memory != nullptr);
    auto b = std::move(a);
    CHECK(sizes(b) == before);
    CHECK(address(b) == memory);
    CHECK(sizes(a) == decltype(before){});
    CHECK(address(a) == nullptr);
    a = std::move(b);  // into one that is empty, then into one that is not
    CHECK(sizes(a) == before);
    CHECK(sizes(b) == decltype(before){});
    b = make();
    b = std::move(a);
    CHECK(sizes(b) == before);
    CHECK(address(b) == memory);
    auto& same = b;
    b = std::move(same);
    CHECK(sizes(b) == before);
    CHECK(address(b) == memory);
    static_assert(!std::is_copy_constructible_v<decltype(a)> && !std::is_copy_assignable_v<decltype(a)>);
    static_assert(std::is_nothrow_move_constructible_v<decltype(a)> && std::is_nothrow_move_assignable_v<decltype(a)>);
  };
  const auto rows_and_cols = [](const auto& x) { return std::pair{x.rows(), x.cols()}; };
  check([] { return *packed_matrix::uninitialized(17, 64); }, rows_and_cols,
        [](const packed_matrix& w) { return static_cast<const void*>(w.bytes().data()); });
  check([] { return *int8_activations::create(3, 64, int8_scaling::row); }, rows_and_cols,
        [](const int8_activations& x) { return static_cast<const void*>(x.bytes().begin); });
  check([] { return *mxfp8_activations::create(3, 64); }, rows_and_cols,
        [](const mxfp8_activations& x) { return static_cast<const void*>(x.view().elements); });
  check(
      [] {
        return *moe_workspace::create({2, 1, 3, 64, 32});
      },
      [](const moe_workspace& w) { return w.bytes(); },
      [](moe_workspace& w) { return static_cast<const void*>(w.parts({}).activations); });
}

TEST_CASE("packed_matrix: bad input", "[packed][bad_input]") {
  mx_memory<layout::compressed_tensors> w(4, 64);
  const std::vector<std::uint8_t> saved(100);
  const status short_file = packed_matrix::from_bytes(4, 64, saved).error();
  CHECK(short_file.code == errc::shape_mismatch);
  CHECK(short_file.expected == 544);
  CHECK(packed_matrix::from_bytes(4, 64, std::vector<std::uint8_t>(545)).error().code == errc::shape_mismatch);
  CHECK(packed_matrix::from_bytes(4, 65, saved).error().code == errc::not_blocks);
  CHECK(packed_matrix::from_bytes(-4, 64, saved).error().code == errc::negative_size);
  CHECK(packed_matrix::uninitialized(-1, 32).error().code == errc::negative_size);
  CHECK(packed_matrix::uninitialized(1, 33).error().code == errc::not_blocks);
  CHECK(packed_matrix::uninitialized(std::int64_t{1} << 61, 1024).error().code == errc::size_overflow);
  CHECK(packed_matrix::uninitialized(std::int64_t{1} << 40, 1 << 16).error().code == errc::out_of_memory);
  auto view = w.view();
  view.codes = nullptr;
  CHECK(pack(view).error().code == errc::null_pointer);
  const result<packed_matrix> packed = pack(w.view());
  mx_memory<layout::compressed_tensors> other(5, 64);
  CHECK(unpack(*packed, other.view()).code == errc::shape_mismatch);
  CHECK(other.is_untouched());
  auto own = w.view();
  own.codes = const_cast<std::uint8_t*>(packed->bytes().data());
  CHECK(unpack(*packed, own).code == errc::overlap);
  mx_memory<layout::compressed_tensors> itself(4, 64);
  auto same_bytes = itself.view();
  same_bytes.scales = same_bytes.codes;
  CHECK(unpack(*packed, same_bytes).code == errc::overlap);
  CHECK(itself.is_untouched());
  packed_matrix part = *packed_matrix::uninitialized(40, 64);
  mx_memory<layout::compressed_tensors> sixteen(16, 64), narrow(16, 32), twelve(12, 64);
  CHECK(message(pack_rows(narrow.view(), 0, part)).view() == "w.cols is 32, expected 64");
  CHECK(message(pack_rows(sixteen.view(), -16, part)).view() == "first is -16, expected 0 to 40");
  CHECK(message(pack_rows(sixteen.view(), 41, part)).view() == "first is 41, expected 0 to 40");
  CHECK(message(pack_rows(sixteen.view(), 24, part)).view() == "first is 24, expected 16");
  CHECK(message(pack_rows(sixteen.view(), 32, part)).view() == "w.rows is 16, expected at most 8");
  CHECK(message(pack_rows(twelve.view(), 16, part)).view() == "w.rows is 12, expected 16");
  auto inside = sixteen.view();
  inside.codes = part.codes(1);
  CHECK(pack_rows(inside, 0, part).code == errc::overlap);
  CHECK(pack_rows(const_mx_view<>{nullptr, nullptr, 16, 64, 32, 2}, 0, part).code == errc::null_pointer);
  CHECK(pack_rows(const_mx_view<>{nullptr, nullptr, 0, 64, 32, 2}, 32, part).ok());
  CHECK(pack(const_mx_view<>{})->tiles() == 0);
  CHECK(pack(const_mx_view<>{nullptr, nullptr, 3, 0, 0, 0})->tiles() == 1);
}

TEST_CASE("a packed matrix in the caller's memory is the same, and leaves the memory when it goes", "[packed]") {
  splitmix random(11);
  for (const std::int64_t rows : {0, 1, 16, 40})
    for (const std::int64_t cols : {0, 32, 96}) {
      const std::int64_t need = packed_matrix::memory_bytes(rows, cols), tiles = (rows + 15) / 16;
      CHECK(need == (cols == 0 ? 0 : (tiles * (cols / 32 * 272 + 2) + 63) / 64 * 64));
      mx_memory<layout::compressed_tensors> w(rows, cols);
      w.fill_randomly(random);
      const packed_matrix own = *pack(w.view());
      alignas(64) static std::uint8_t memory[8192];
      std::fill(std::begin(memory), std::end(memory), std::uint8_t{0xA5});
      {
        auto made = packed_matrix::uninitialized(rows, cols, {memory, static_cast<std::size_t>(need)});
        REQUIRE(made);
        packed_matrix in_place = *std::move(made);
        REQUIRE(pack_rows(w.view(), 0, in_place).ok());
        CHECK(std::ranges::equal(in_place.bytes(), own.bytes()));
        for (std::int64_t t = 0; cols > 0 && t < tiles; ++t) CHECK(in_place.range(t) == own.range(t));
        const packed_matrix moved = std::move(in_place);
        CHECK(moved.bytes().data() == memory);
      }
      CHECK(std::ranges::equal(std::span(memory, own.bytes().size()), own.bytes()));
      CHECK(std::all_of(memory + need, std::end(memory), [](std::uint8_t b) { return b == 0xA5; }));
    }
  alignas(64) std::uint8_t memory[1024];
  const std::span<std::uint8_t> all(memory);
  CHECK(message(packed_matrix::uninitialized(40, 32, all.first(831)).error()).view() ==
        "memory holds 831, expected at least 832: pass a larger buffer");
  CHECK(packed_matrix::uninitialized(40, 32, all.first(832)));
  CHECK(packed_matrix::uninitialized(40, 32, std::span<std::uint8_t>{}).error().code == errc::null_pointer);
  CHECK(packed_matrix::memory_bytes(std::int64_t{1} << 61, 1024) == 0);
  CHECK(packed_matrix::memory_bytes(-1, 32) == 0);
  CHECK(packed_matrix::uninitialized(40, 32, all.subspan(1)).error().code == errc::misaligned);
  CHECK(packed_matrix::uninitialized(40, 33, all).error().code == errc::not_blocks);
  CHECK(packed_matrix::uninitialized(-1, 32, all).error().code == errc::negative_size);
}

TEST_CASE("pack: no byte past the end", "[packed][guard_page]") {
  for (const std::int64_t rows : {1, 17})
    for (const std::int64_t cols : {32, 96}) {
      const page_end<std::uint8_t> codes(rows * cols / 2), scales(rows * cols / 32);
      REQUIRE(pack(const_mx_view<>{codes.data(), scales.data(), rows, cols, cols / 2, cols / 32}));
    }
}
