// tests/kernel.dequantize.test.cpp -- the dequantising kernel gives the plain loop's bits: every weight there is.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cstring>
#include <vector>

#include "mxfp4/kernel/dequantize.hpp"
#include "mxfp4/reference/quantize.hpp"
#include "mxfp4/tensor/convert.hpp"
#include "support/arches.hpp"
#include "support/backward_executor.hpp"
#include "support/matrix.hpp"
#include "support/random.hpp"

namespace {

using namespace mxfp4;
using mxfp4::test::for_each_arch;

/// A layout that no checkpoint has, and anybody may define.
struct high_nibble_first : layout::compressed_tensors {
  using order = high_first;
  static constexpr const char* name = "high_nibble_first";
};

/// A dialect that nobody has either: every weight but zero is one ulp too large, which 16 bits cannot hold.
struct one_ulp_up {
  static constexpr const char* name = "one_ulp_up";
  static constexpr std::uint32_t weight(e2m1 code, e8m0 scale) noexcept {
    return detail::weight_bits(code, scale) + (static_cast<unsigned>(code) % 8 != 0 ? 1u : 0u);
  }
};

/// All 256 scale bytes, each with every code in every place of a block: 256 x 16 blocks.
struct every_weight {
  std::vector<std::uint8_t> bytes = std::vector<std::uint8_t>(4096 * block_bytes);

  every_weight() {
    for (std::size_t b = 0; b < 4096; ++b) {
      bytes[b * block_bytes] = static_cast<std::uint8_t>(b / 16);
      for (std::size_t j = 0; j < block_code_bytes; ++j) {
        const std::size_t low = (b + j) % 16, high = (b + 3 * j + 5) % 16;
        bytes[b * block_bytes + 1 + j] = static_cast<std::uint8_t>(low | high << 4);
      }
    }
  }
  const_mx_view<layout::ggml> view(std::int64_t rows) const {
    return *make_ggml_view(std::span(bytes), rows, 4096 / rows * block_size);
  }
};

template <class Dialect, class T, class Layout>
void check_against_scalar(const const_mx_view<Layout>& w) {
  const auto size = static_cast<std::size_t>(w.rows * w.cols);
  std::vector<T> expected(size), got(size + 1);
  REQUIRE(reference::dequantize<Dialect>(w, dense_view<T>{expected.data(), w.rows, w.cols, w.cols}).ok());
  for_each_arch([&]<class Arch>(const char* arch) {
    for (std::size_t shift : {0u, 1u}) {
      CAPTURE(Dialect::name, Layout::name, arch, sizeof(T), shift);
      std::memset(got.data(), 0xA5, got.size() * sizeof(T));
      REQUIRE(kernel::dequantize<Dialect, Arch>(w, dense_view<T>{got.data() + shift, w.rows, w.cols, w.cols}).ok());
      CHECK(std::memcmp(got.data() + shift, expected.data(), size * sizeof(T)) == 0);
    }
  });
}

}  // namespace

TEST_CASE("kernel::dequantize: every weight, dialect, type and order of nibbles", "[kernel][dequantize]") {
  const every_weight all;
  std::vector<std::uint8_t> codes(4096 * 16), scales(4096);
  const mx_view<> planar = *make_view(std::span(codes), std::span(scales), 64, 2048);
  REQUIRE(convert(all.view(64), planar).ok());
  const auto each = [&]<class T>(T) {
    check_against_scalar<dialect::ocp, T>(all.view(32));
    check_against_scalar<dialect::ggml, T>(all.view(4096));
    check_against_scalar<dialect::inf_at_255, T>(all.view(1));
    check_against_scalar<dialect::ocp, T>(const_mx_view<>(planar));
    check_against_scalar<dialect::ggml, T>(const_mx_view<>(planar));
    check_against_scalar<dialect::inf_at_255, T>(const_mx_view<>(planar));
    check_against_scalar<dialect::gpt_oss, T>(all.view(32));
    check_against_scalar<dialect::openvino, T>(const_mx_view<>(planar));
    check_against_scalar<dialect::ocp, T>(
        const_mx_view<high_nibble_first>{codes.data(), scales.data(), 64, 2048, 1024, 64});
  };
  each(float{});
  each(bf16{});
  each(f16{});
  check_against_scalar<one_ulp_up, float>(const_mx_view<>(planar));
}

TEST_CASE("kernel::dequantize: output past the cache is the same, in any order of tasks", "[kernel][dequantize]") {
  constexpr std::int64_t rows = 1030, cols = 8192;  // 17 and 34 MB: both sides of stream_from_bytes are crossed
  static_assert(2 * rows * cols > kernel::stream_from_bytes);
  test::splitmix random(7);
  std::vector<std::uint8_t> codes(rows * cols / 2), scales(rows * cols / 32);
  for (auto& c : codes) c = static_cast<std::uint8_t>(random.bits());
  for (auto& s : scales) s = static_cast<std::uint8_t>(random.in(110, 130));
  const const_mx_view<> w{codes.data(), scales.data(), rows, cols, cols / 2, cols / 32};
  const auto check = [&]<class T>(T) {
    std::vector<T> expected(rows * cols), got(rows * cols + 64);
    T* aligned = got.data();
    while (reinterpret_cast<std::uintptr_t>(aligned) % 64 != 0) ++aligned;
    REQUIRE(reference::dequantize(w, dense_view<T>{expected.data(), rows, cols, cols}).ok());
    test::backward_executor backward;
    REQUIRE(kernel::dequantize<>(w, dense_view<T>{aligned, rows, cols, cols}, {.executor = backward}).ok());
    CHECK(std::memcmp(aligned, expected.data(), expected.size() * sizeof(T)) == 0);
    CHECK(backward.tasks > 100);
  };
  check(float{});
  check(bf16{});
}

TEST_CASE("kernel::dequantize: gaps between rows are not written", "[kernel][dequantize]") {
  const every_weight all;
  std::vector<float> out(16 * 8200, -7.0f);
  REQUIRE(kernel::dequantize<>(all.view(16), dense_view<float>{out.data(), 16, 8192, 8200}).ok());
  for (std::size_t r = 0; r < 16; ++r)
    for (std::size_t c = 8192; c < 8200; ++c) REQUIRE(out[r * 8200 + c] == -7.0f);
}

TEST_CASE("kernel::dequantize: no read past the last byte, no write past the last number", "[kernel][dequantize]") {
  const test::page_end<std::uint8_t> codes(16), scales(1), blocks(17);
  const test::page_end<float> out(32);
  const test::page_end<bf16> words(32);
  CHECK(kernel::dequantize<>(const_mx_view<>{codes.data(), scales.data(), 1, 32, 16, 1},
                             dense_view<float>{out.data(), 1, 32, 32})
            .ok());
  CHECK(kernel::dequantize<>(const_mx_view<layout::ggml>{blocks.data() + 1, blocks.data(), 1, 32, 17, 17},
                             dense_view<bf16>{words.data(), 1, 32, 32})
            .ok());
}

TEST_CASE("kernel::dequantize: bad arguments leave the output as it was", "[kernel][dequantize]") {
  std::vector<std::uint8_t> codes(64), scales(4);
  std::vector<float> out(128, -7.0f);
  const const_mx_view<> w{codes.data(), scales.data(), 2, 64, 32, 2};
  CHECK(kernel::dequantize<>(w, dense_view<float>{out.data(), 2, 32, 64}).code == errc::shape_mismatch);
  CHECK(kernel::dequantize<>(w, dense_view<float>{nullptr, 2, 64, 64}).code == errc::null_pointer);
  CHECK(kernel::dequantize<>(w, dense_view<float>{out.data(), 2, 64, 63}).code == errc::stride_too_small);
  const_mx_view<> inside = w;
  inside.codes = reinterpret_cast<const std::uint8_t*>(out.data());
  CHECK(kernel::dequantize<>(inside, dense_view<float>{out.data(), 2, 64, 64}).code == errc::overlap);
  CHECK(out == std::vector<float>(128, -7.0f));
}
