// tests/dispatch.f32.test.cpp -- products with float sums: the bits of the header-only functions for the same flags.
// SPDX-License-Identifier: Apache-2.0
//
// Compiled once for each instruction set and run with MXFP4_ISA set to it.
#include <catch2/catch_test_macros.hpp>
#include <vector>

#include "mxfp4/dispatch.hpp"
#include "mxfp4/linalg.hpp"
#include "support/product.hpp"

namespace {

using namespace mxfp4;

template <class Layout, class T>
void check_products(std::int64_t m) {
  constexpr std::int64_t n = 70, k = 416;
  CAPTURE(Layout::name, sizeof(T), m);
  test::splitmix random(static_cast<std::uint64_t>(m) + sizeof(T));
  test::mx_memory<Layout> w(n, k);
  test::fill(w, n, k, {0, 1, 2, 90, 120, 121, 122, 127, 130, 252, 253, 254, 255}, random);
  std::vector<T> x(static_cast<std::size_t>(m * k));
  for (T& v : x) v = encode<T>(random.with_exponent(110, 130));
  const dense_view<const T> tokens{x.data(), m, k, k};
  const result<packed_matrix> packed = pack(w.view());
  REQUIRE(packed);
  std::vector<float> a(static_cast<std::size_t>(m * n), 0.5f), b = a;
  const dense_view<float> to_a{a.data(), m, n, n}, to_b{b.data(), m, n, n};
  const auto same = [&] {
    for (float& v : a) v = detail::canonical(v);
    for (float& v : b) v = detail::canonical(v);
    return test::same_bits(a, b);
  };
  for (const bool accumulate : {false, true}) {
    REQUIRE(gemm(w.view(), tokens, to_a, {.accumulate = accumulate}).ok());
    REQUIRE(dispatch::gemm(w.view(), tokens, to_b, {.accumulate = accumulate}).ok());
    CHECK(same());
    REQUIRE(gemm(*packed, tokens, to_a, {.accumulate = accumulate}).ok());
    REQUIRE(dispatch::gemm(*packed, tokens, to_b, {.accumulate = accumulate}).ok());
    CHECK(same());
  }
}

}  // namespace

TEST_CASE("dispatch: float sums as the header-only functions add them", "[dispatch]") {
  if (!dispatch::isa()) SKIP("this CPU lacks the instructions of this build");
  for (const std::int64_t m : {1, 2, 13}) {
    check_products<layout::compressed_tensors, float>(m);
    check_products<layout::ggml, bf16>(m);
    check_products<layout::compressed_tensors, f16>(m);
  }
}
