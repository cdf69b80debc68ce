// tests/status.golden.test.cpp -- every errc as its literal sentence; result<T>.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/core/status.hpp"

#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#if defined(__unix__) || defined(__APPLE__)
#include "support/last_words.hpp"
#endif

namespace {

using mxfp4::errc;
using mxfp4::message;
using mxfp4::status;
constexpr std::int64_t lowest = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t highest = std::numeric_limits<std::int64_t>::max();

struct row {
  status in;
  const char* sentence = "";
};
constexpr row rows[] = {
    {{}, "ok"},
    {{errc::ok, "w", 1, 2}, "ok"},
    {{errc::null_pointer, "x", 0, 32}, "x is null, expected memory for 32 elements"},
    {{errc::negative_size, "rows", -1}, "rows is -1, expected 0 or more"},
    {{errc::negative_size, "cols", lowest}, "cols is -9223372036854775808, expected 0 or more"},
    {{errc::not_blocks, "cols", 33},
     "cols is 33, expected a multiple of 32: pad the rows, or leave this tensor as it is"},
    {{errc::size_overflow, "rows * stride", highest},
     "rows * stride does not fit 63 bits, with 9223372036854775807 as the first factor: split the matrix"},
    {{errc::buffer_too_small, "codes", 15, 16}, "codes holds 15, expected at least 16: pass a larger buffer"},
    {{errc::stride_too_small, "scale_stride", 0, 10}, "scale_stride is 0, expected at least 10, the length of a row"},
    {{errc::shape_mismatch, "out.cols", highest, 64}, "out.cols is 9223372036854775807, expected 64"},
    {{errc::not_blocks, "cols", 1, 0, "out"},
     "out.cols is 1, expected a multiple of 32: pad the rows, or leave this tensor as it is"},
    {{errc::out_of_range, "indices", 256, 255, "", 3, 1}, "indices (row 3, column 1) is 256, expected 0 to 255"},
    {{errc::out_of_range, "indices", 0, -1, "", 0, 0},
     "indices (row 0, column 0) is 0, expected none, as there is nothing to choose from"},
    {{errc::too_large, "rows", 9, 8, "x"}, "x.rows is 9, expected at most 8"},
    {{errc::not_ascending, "offsets", 3, 5, "", 2}, "offsets (number 2) is 3, expected at least 5, the one before it"},
    {{errc::misaligned, "data", 4, 16, "x"}, "x.data is 4 bytes past a multiple of 16: align it"},
    {{errc::out_of_memory, "packed", 4096},
     "packed asked for 4096 bytes and did not get them: free memory, or split the matrix"},
    {{errc::not_a_number, "bias", 0, 0, "", 7}, "bias (number 7) is NaN, expected a number: repair the input"},
    {{errc::shape_mismatch, "rows", 5, 6, "experts.up", 0}, "experts.up.rows (number 0) is 5, expected 6"},
    {{errc::overlap, "y"}, "y overlaps an input: pass separate memory"},
    {{errc::nonfinite, "w", 4096},
     "w has a NaN or an infinity at element 4096 (row-major): repair it, or allow non-finite blocks"},
    {{errc::unknown_recipe, "recipe", 200}, "recipe is 200, expected one of the recipe_id enumerators"},
    {{errc::unknown_dialect, "dialect", 3}, "dialect is 3, expected one of the dialect_id enumerators"},
    {{errc::isa_unavailable, "avx9000", 0, 0, "avx2 sse2"},
     "MXFP4_ISA is 'avx9000', expected one that this CPU and this build have: avx2 sse2; or unset it"},
};

}  // namespace

TEST_CASE("status: each error makes its sentence", "[status][golden]") {
  for (const auto& [in, sentence] : rows) CHECK(message(in).view() == sentence);
}

TEST_CASE("status: the default is ok, everything else is not", "[status]") {
  STATIC_CHECK(status{}.ok());
  for (const row& r : rows) CHECK(r.in.ok() == (r.in.code == errc::ok));
}

TEST_CASE("status: a text too long for the buffer is cut, never overrun", "[status]") {
  const std::string name(1000, 'n');
  const mxfp4::status_text text = message({errc::negative_size, name.c_str(), -1});
  CHECK(text.view().size() == 240);
  CHECK(text.view() == std::string(240, 'n'));
}

TEST_CASE("status: the sentence is a constant expression", "[status]") {
  STATIC_CHECK(message({errc::overlap, "out"}).view() == "out overlaps an input: pass separate memory");
}

TEST_CASE("result: holds a value, or says why not", "[status]") {
  struct thing {
    int number = 7;
  };
  constexpr mxfp4::result<thing> good = thing{3};
  STATIC_CHECK(static_cast<bool>(good));
  STATIC_CHECK((*good).number == 3);
  STATIC_CHECK(good->number == 3);
  STATIC_CHECK(good.value_or_abort().number == 3);
  STATIC_CHECK(mxfp4::result<thing>(thing{4}).value_or_abort().number == 4);
  STATIC_CHECK(good.error().ok());

  constexpr mxfp4::result<thing> bad = status{errc::negative_size, "rows", -4};
  STATIC_CHECK_FALSE(static_cast<bool>(bad));
  STATIC_CHECK(bad.error().code == errc::negative_size);
  STATIC_CHECK(bad.error().value == -4);
  STATIC_CHECK(std::string_view(bad.error().what) == "rows");
}

#if defined(__unix__) || defined(__APPLE__)
TEST_CASE("result: a value that is not there ends the program with the true cause", "[status]") {
  using mxfp4::test::last_words;
  const mxfp4::result<int> bad = status{errc::buffer_too_small, "codes", 15, 16};
  const std::string words =
      "mxfp4: a result was used that holds no value: codes holds 15, expected at least 16: pass a larger buffer\n";
  CHECK(last_words([&] { static_cast<void>(bad.value_or_abort()); }) == words);
  CHECK(last_words([&] { static_cast<void>(mxfp4::result<int>(bad).value_or_abort()); }) == words);
  CHECK(last_words([] {}).empty());
#if defined(NDEBUG)
  CHECK(*bad == 0);  // a default value, so that a reader who did not ask reads no garbage
#else
  CHECK(last_words([&] { static_cast<void>(*bad); }) == words);
  CHECK(last_words([&] { static_cast<void>(*mxfp4::result<int>(bad)); }) == words);
  CHECK(last_words([&] { static_cast<void>(bad.operator->()); }) == words);
#endif
}
#endif
