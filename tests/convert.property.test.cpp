// tests/convert.property.test.cpp -- every pair of layouts: all bytes arrive and come back, nothing else is touched.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/tensor/convert.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cstddef>
#include <cstdint>
#include <tuple>

#include "support/backward_executor.hpp"
#include "support/matrix.hpp"

namespace {

using namespace mxfp4;
using mxfp4::test::layouts;
using mxfp4::test::mx_memory;
using mxfp4::test::splitmix;

template <class A, class B>
std::int64_t differences(mx_memory<A>& a, mx_memory<B>& b, std::int64_t rows, std::int64_t cols) {
  std::int64_t count = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t k = 0; k < cols; ++k) count += a.code(r, k) != b.code(r, k);
    for (std::int64_t block = 0; block < cols / 32; ++block) count += a.scale(r, block) != b.scale(r, block);
  }
  return count;
}

struct shape {
  std::int64_t rows, cols, gap, shift;
  std::size_t tasks;
};

}  // namespace

TEMPLATE_LIST_TEST_CASE("convert: there and back for every pair", "[convert][property]", layouts) {
  using from = TestType;
  const auto check_pair = []<class To>(To) {
    splitmix random(2);
    for (const auto& [rows, cols, gap, shift, tasks] : {shape{1, 32, 0, 0, 1},
                                                        {33, 96, 0, 0, 1},
                                                        {129, 160, 3, 1, 1},
                                                        {3, 4096, 1, 0, 1},
                                                        {520, 160, 2, 1, 2},
                                                        {2, 67200, 0, 0, 4}}) {
      CAPTURE(from::name, To::name, rows, cols, gap, shift);
      mx_memory<from> source(rows, cols, gap, shift);
      source.fill_randomly(random);
      mx_memory<from> original = source;
      mx_memory<To> there(rows, cols, 2 * gap, 1);
      const const_mx_view<from> in = source.view();  // from a const view: what a reader of a file has
      REQUIRE(convert(in, there.view()).ok());
      REQUIRE(differences(original, there, rows, cols) == 0);
      REQUIRE(differences(original, source, rows, cols) == 0);
      REQUIRE(there.only_its_own_bytes_were_written());
      mx_memory<from> back(rows, cols, gap, 0);
      mxfp4::test::backward_executor backward;
      REQUIRE(convert(there.view(), back.view(), {.executor = backward}).ok());
      REQUIRE(backward.tasks == tasks);
      REQUIRE(differences(original, back, rows, cols) == 0);
      REQUIRE(back.only_its_own_bytes_were_written());
    }
  };
  std::apply([&](auto... to) { (check_pair(to), ...); }, layouts{});
}

TEMPLATE_LIST_TEST_CASE("convert: every scale byte under every code", "[convert][property]", layouts) {
  mx_memory<layout::compressed_tensors> in(256, 32);
  for (int scale = 0; scale < 256; ++scale) {
    in.scale(scale, 0) = static_cast<std::uint8_t>(scale);
    for (unsigned k = 0; k < 32; ++k) in.set_code(scale, k, (k * 5 + static_cast<unsigned>(scale)) % 16);
  }
  mx_memory<TestType> out(256, 32);
  REQUIRE(convert(in.view(), out.view()).ok());
  CHECK(differences(in, out, 256, 32) == 0);
}

TEMPLATE_LIST_TEST_CASE("convert: no rows or no columns write nothing", "[convert]", layouts) {
  mx_memory<TestType> out(3, 64);
  mx_view<TestType> empty = out.view();
  empty.rows = 0;
  CHECK(convert(const_mx_view<>{nullptr, nullptr, 0, 64, 32, 2}, empty).ok());
  empty = out.view();
  empty.cols = 0;
  CHECK(convert(const_mx_view<>{nullptr, nullptr, 3, 0, 0, 0}, empty).ok());
  CHECK(out.is_untouched());
}
