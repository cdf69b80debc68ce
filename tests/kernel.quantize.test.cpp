// tests/kernel.quantize.test.cpp -- the quantising kernel gives the plain loop's bytes: every recipe, type, layout.
// SPDX-License-Identifier: Apache-2.0
//
// Built once for each instruction set; the plain loop itself is proved against the peers in recipe.golden.test.cpp.
#include <catch2/catch_test_macros.hpp>
#include <limits>
#include <vector>

#include "mxfp4/kernel/quantize.hpp"
#include "mxfp4/reference/quantize.hpp"
#include "support/arches.hpp"
#include "support/backward_executor.hpp"
#include "support/matrix.hpp"
#include "support/random.hpp"
#include "support/vectors.hpp"

namespace {

using namespace mxfp4;

template <class T>
T element(std::uint32_t f32_bits) {
  return encode<T>(detail::float_from_bits(f32_bits));
}

/// Blocks that visit every exponent of T, every kind of special value, and values on and beside the boundaries.
template <class T>
std::vector<T> hard_blocks(std::int64_t count, std::uint64_t seed) {
  test::splitmix random(seed);
  std::vector<T> x;
  for (std::int64_t b = 0; b < count; ++b) {
    const int kind = random.in(0, 9), exponent = random.in(0, 255);
    for (int i = 0; i < block_size; ++i) {
      std::uint32_t bits = random.bits();
      if (kind < 4) bits = (bits & 0x807FFFFFu) | static_cast<std::uint32_t>(exponent > 250 ? 250 : exponent) << 23;
      if (kind == 1) bits -= (bits >> 3 & 7u) << 23;  // a spread of magnitudes
      if (kind == 4) bits = (bits & 0x80000000u) | (0x3E800000u + (bits >> 8 & 15u) * 0x00200000u + (bits & 2u) - 1u);
      if (kind == 5) bits &= 0x800FFFFFu;                                              // subnormals and zeros
      if (kind == 6 && i % 11 == 3) bits = (bits & 0x80000000u) | 0x7F800000u;         // infinity
      if (kind == 7 && i % 13 == 5) bits |= 0x7FC00000u;                               // NaN
      if (kind == 8) bits = i == 7 ? 0x7F7FFFFFu - (bits & 63u) : bits & 0x807FFFFFu;  // close to 2^128
      x.push_back(element<T>(bits));
    }
  }
  return x;
}

/// Largest magnitudes on and beside every threshold of every scale rule, at every exponent; the others an ulp from a
/// boundary under the scales that may come of it, or so small that a quotient by the scale underflows.
std::vector<float> edge_blocks(std::int64_t count) {
  constexpr std::uint32_t thresholds[] = {0, 0x07C3B8, 0x400000, 0x600000, 0x7FFFE0};
  constexpr std::uint32_t boundaries[] = {0x3E800000, 0x3F400000, 0x3FA00000, 0x3FE00000,
                                          0x40200000, 0x40600000, 0x40A00000};
  test::splitmix random(21);
  std::vector<float> x;
  for (std::int64_t b = 0; b < count; ++b) {
    const auto exponent = static_cast<std::uint32_t>(b % 255);
    const int wide = random.in(0, 1) != 0 ? 48 : 2;
    const std::uint32_t threshold = thresholds[random.in(0, 4)] + static_cast<std::uint32_t>(random.in(-wide, wide));
    const std::uint32_t amax = (exponent << 23) + threshold, largest = amax > 0x7F7FFFFFu ? 0x7F7FFFFFu : amax;
    for (int i = 0; i < block_size; ++i) {
      std::uint32_t bits = boundaries[random.in(0, 6)] + static_cast<std::uint32_t>(random.in(-1, 1));
      const auto shift = static_cast<std::uint32_t>(static_cast<int>(exponent) - 129 + random.in(0, 1)) << 23;
      if (bits + shift < largest) bits += shift;
      else bits = 1u << random.in(0, 22);
      if (i == 13) bits = largest;
      if (i % 8 == 5) bits = static_cast<std::uint32_t>(random.in(0, 3)) << random.in(0, 18);
      x.push_back(detail::float_from_bits(bits | (random.bits() & 0x80000000u)));
    }
  }
  return x;
}

template <class Layout>
struct buffers {
  std::vector<std::uint8_t> codes, scales;
  mx_view<Layout> view;

  buffers(std::int64_t rows, std::int64_t cols) {
    const mx_bytes need = *bytes_needed<Layout>(rows, cols);
    codes.assign(static_cast<std::size_t>(need.codes), 0xA5);
    scales.assign(static_cast<std::size_t>(need.scales), 0xA5);
    if constexpr (Layout::interleaved) view = *make_ggml_view(std::span(codes), rows, cols);
    else view = *make_view<Layout>(std::span(codes), std::span(scales), rows, cols);
  }
  bool operator==(const buffers& other) const { return codes == other.codes && scales == other.scales; }
};

template <class Layout, class T>
using quantizer = status (*)(const dense_view<const T>&, const mx_view<Layout>&, const quantize_options&);

/// By their addresses, so that this function is compiled once for all recipes.
template <class Layout, class T>
void check_equal(const char* recipe, quantizer<Layout, T> reference, quantizer<Layout, T> plain,
                 quantizer<Layout, T> native, const std::vector<T>& x, std::int64_t rows, std::int64_t cols) {
  CAPTURE(recipe, Layout::name, sizeof(T));
  const dense_view<const T> w{x.data(), rows, cols, cols};
  buffers<Layout> expected(rows, cols);
  REQUIRE(reference(w, expected.view, {}).ok());
  for (const quantizer<Layout, T> kernel : {plain, native}) {
    const bool is_native = kernel == native;
    CAPTURE(is_native);
    buffers<Layout> got(rows, cols);
    REQUIRE(kernel(w, got.view, {}).ok());
    CHECK(got == expected);
  }
}

template <class Recipe, class Layout, class T>
void check_recipe(const std::vector<T>& x, std::int64_t rows, std::int64_t cols) {
  check_equal<Layout, T>(Recipe::name, &reference::quantize<Recipe, const T, Layout>,
                         &kernel::quantize<Recipe, simd::scalar_arch, const T, Layout>,
                         &kernel::quantize<Recipe, simd::native_arch, const T, Layout>, x, rows, cols);
}

template <class T>
void check_all(const std::vector<T>& x) {
  const auto blocks = static_cast<std::int64_t>(x.size()) / block_size;
  for (int id = 0; id < recipe_count; ++id)
    visit_recipe(static_cast<recipe_id>(id),
                 [&]<class R>() { check_recipe<R, layout::compressed_tensors>(x, 1, blocks * block_size); });
  check_recipe<recipe::ggml, layout::ggml>(x, blocks / 7, 7 * block_size);
  check_recipe<recipe::ocp, layout::swizzled_128x4>(x, blocks / 5, 5 * block_size);
}

}  // namespace

TEST_CASE("kernel::quantize: hard blocks of each type", "[kernel][quantize]") {
  check_all(hard_blocks<float>(3000, 1));
  check_all(edge_blocks(255 * 40));
  check_all(hard_blocks<bf16>(1500, 2));
  check_all(hard_blocks<f16>(1500, 3));
  check_recipe<recipe::compressed_tensors, layout::compressed_tensors>(hard_blocks<e4m3>(500, 4), 1, 500 * block_size);
}

TEST_CASE("kernel::quantize: the recorded inputs of the peers", "[kernel][quantize]") {
  check_all(test::load<float>("dev/inputs.f32"));
  check_all(test::load<bf16>("dev/inputs.bf16"));
  check_all(test::load<f16>("dev/inputs.f16"));
}

TEST_CASE("kernel::quantize: strides, tasks in any order, unaligned memory", "[kernel][quantize]") {
  const std::vector<float> x = hard_blocks<float>(9000, 5);
  struct shape {
    std::int64_t rows, cols, stride;
  };
  for (const auto& [rows, cols, stride] :
       {shape{1, 32, 32}, shape{3, 64, 65}, shape{70, 2048, 2049}, shape{2, 131072, 140000}, shape{300, 32, 40},
        shape{0, 64, 64}, shape{64, 0, 0}}) {
    CAPTURE(rows, cols, stride);
    const dense_view<const float> w{x.data() + 1, rows, cols, stride};
    buffers<layout::compressed_tensors> expected(rows, cols), got(rows, cols);
    REQUIRE(reference::quantize<recipe::compressed_tensors>(w, expected.view).ok());
    test::backward_executor backward;
    REQUIRE(kernel::quantize<recipe::compressed_tensors>(w, got.view,
                                                         {.nonfinite = on_nonfinite::encode, .executor = backward})
                .ok());
    CHECK(got == expected);
    CHECK((backward.tasks > 0) == (rows > 0 && cols > 0));
  }
}

TEST_CASE("kernel::quantize: no read past the last element, no write past the last byte", "[kernel][quantize]") {
  const test::page_end<float> x(64);
  const test::page_end<std::uint8_t> codes(32), scales(2);
  const dense_view<const float> w{x.data(), 2, 32, 32};
  const mx_view<> out{codes.data(), scales.data(), 2, 32, 16, 1};
  CHECK(kernel::quantize<>(w, out).ok());
}

TEST_CASE("kernel::quantize: refused input leaves the output as it was", "[kernel][quantize]") {
  std::vector<float> x(256, 1.0f);
  buffers<layout::compressed_tensors> out(2, 128);
  const buffers<layout::compressed_tensors> before = out;
  const auto refuse = [&](const dense_view<const float>& w) {
    const status s = kernel::quantize<>(w, out.view, {.nonfinite = on_nonfinite::refuse});
    CHECK((out.codes == before.codes && out.scales == before.scales));
    return s;
  };
  CHECK(refuse({x.data(), 2, 64, 64}).code == errc::shape_mismatch);
  CHECK(refuse({nullptr, 2, 128, 128}).code == errc::null_pointer);
  CHECK(refuse({x.data(), 2, 128, 127}).code == errc::stride_too_small);
  CHECK(refuse({reinterpret_cast<const float*>(out.codes.data()), 2, 128, 128}).code == errc::overlap);
  x[200] = -std::numeric_limits<float>::infinity();
  const status s = refuse({x.data(), 2, 128, 128});
  CHECK(s.code == errc::nonfinite);
  CHECK(s.value == 200);
  std::vector<float> wide(5 * 32 * 11, 3.4e38f);  // five rows of eleven blocks: a group of eight, and three
  for (const std::size_t at : {1755u, 900u, 703u, 255u, 0u}) {
    wide[at] = std::numeric_limits<float>::quiet_NaN();
    buffers<layout::compressed_tensors> other(5, 352);
    const dense_view<const float> w{wide.data(), 5, 352, 352};
    CHECK(kernel::quantize<>(w, other.view, {.nonfinite = on_nonfinite::refuse}).value ==
          static_cast<std::int64_t>(at));
  }
}
