// tests/cuda/convert.emulated.test.cpp -- layouts on the device, under the emulator: every byte at its place, and back.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <vector>

#include "cuda/matrix.support.hpp"
#include "mxfp4/cuda/convert.cuh"
#include "mxfp4/cuda/mma16.cuh"
#include "mxfp4/tensor/convert.hpp"
#include "support/vectors.hpp"

namespace {

using namespace mxfp4;
using cuda::emulator::device_array;
using cuda::emulator::device_settings;
using cuda::test::device_mx;
using cuda::test::host_mx;

std::vector<std::uint8_t> random_bytes(std::int64_t n, std::uint64_t seed) {
  mxfp4::test::splitmix random(seed);
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(n));
  for (auto& b : bytes) b = random.byte();
  return bytes;
}

/// Element (row, k) is code (row * 5 + k * 3) % 16, scale (row, b) byte (row * 7 + b) % 256: known without a layout.
std::uint8_t code_at(std::int64_t row, std::int64_t k) { return static_cast<std::uint8_t>((row * 5 + k * 3) % 16); }
std::uint8_t scale_at(std::int64_t row, std::int64_t b) { return static_cast<std::uint8_t>((row * 7 + b) % 256); }

struct plain {
  std::vector<std::uint8_t> codes, scales;
  plain(std::int64_t rows, std::int64_t cols) {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t k = 0; k < cols; k += 2)
        codes.push_back(static_cast<std::uint8_t>(code_at(r, k) | code_at(r, k + 1) << 4));
      for (std::int64_t b = 0; b < cols / block_size; ++b) scales.push_back(scale_at(r, b));
    }
  }
};

}  // namespace

TEST_CASE("cuda::convert: to ggml's blocks and back", "[cuda][convert]") {
  for (const auto& [rows, cols] : {std::pair<std::int64_t, std::int64_t>{1, 32}, {3, 32 * 130}, {5, 96}}) {
    CAPTURE(rows, cols);
    const plain source(rows, cols);
    const device_array<std::uint8_t> codes(source.codes, "codes"), scales(source.scales, "scales");
    const const_mx_view<> from{codes.data(), scales.data(), rows, cols, cols / 2, cols / block_size};
    device_array<std::uint8_t> blocks(static_cast<std::size_t>(rows * cols / block_size * block_bytes), "blocks");
    const std::int64_t stride = cols / block_size * block_bytes;
    const mx_view<layout::ggml> ggml{blocks.data() + 1, blocks.data(), rows, cols, stride, stride};
    REQUIRE(cuda::convert(from, ggml, nullptr) == cudaSuccess);
    const std::vector<std::uint8_t> got = blocks.host();
    std::size_t wrong = 0;
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t b = 0; b < cols / block_size; ++b) {  // "scale, then byte j = element j, element j + 16"
        const auto* const block = got.data() + r * stride + b * block_bytes;
        wrong += block[0] != scale_at(r, b);
        for (std::int64_t j = 0; j < 16; ++j)
          wrong += block[1 + j] != (code_at(r, b * 32 + j) | code_at(r, b * 32 + j + 16) << 4);
      }
    CHECK(wrong == 0);
    device_mx<> back(rows, cols);
    REQUIRE(cuda::convert(ggml, back.view, nullptr) == cudaSuccess);
    CHECK(back.codes.host() == source.codes);
    CHECK(back.scales.host() == source.scales);
  }
}

TEST_CASE("cuda::convert: swizzled scales lie where CUTLASS has them, zeros between", "[cuda][convert]") {
  const std::int64_t rows = 200, blocks = 7, cols = blocks * block_size;
  const auto offsets = mxfp4::test::load<std::uint32_t>("swizzle/cutlass_sfa_offset_200x7.u32");
  REQUIRE(offsets.size() == static_cast<std::size_t>(rows * blocks));
  const plain source(rows, cols);
  const device_array<std::uint8_t> codes(source.codes, "codes"), scales(source.scales, "scales");
  const const_mx_view<> from{codes.data(), scales.data(), rows, cols, cols / 2, blocks};
  device_mx<layout::swizzled_128x4> to(rows, cols);
  REQUIRE(cuda::convert(from, to.view, nullptr) == cudaSuccess);
  std::vector<std::uint8_t> expected(to.scales.size(), 0);
  for (std::size_t i = 0; i < offsets.size(); ++i) expected[offsets[i]] = source.scales[i];
  CHECK(to.scales.host() == expected);
  CHECK(to.codes.host() == source.codes);
  device_mx<> back(rows, cols);
  REQUIRE(cuda::convert(to.view, back.view, nullptr) == cudaSuccess);
  CHECK(back.scales.host() == source.scales);
}

TEST_CASE("cuda::mma16: each lane's bytes, padding and back", "[cuda][convert]") {
  for (const auto& [rows, cols] : {std::pair<std::int64_t, std::int64_t>{16, 64}, {1, 32}, {37, 352}, {128, 1024}}) {
    CAPTURE(rows, cols);
    const plain source(rows, cols);
    const device_array<std::uint8_t> codes(source.codes, "codes"), scales(source.scales, "scales");
    const const_mx_view<> from{codes.data(), scales.data(), rows, cols, cols / 2, cols / block_size};
    const mx_bytes bytes = *cuda::mma16_bytes_needed(rows, cols);
    device_array<std::uint8_t> tile_codes(static_cast<std::size_t>(bytes.codes), "tiles.codes");
    device_array<std::uint8_t> tile_scales(static_cast<std::size_t>(bytes.scales), "tiles.scales");
    const cuda::mma16_view tiles{tile_codes.data(), tile_scales.data(), rows, cols};
    REQUIRE(cuda::pack_mma16(from, tiles, nullptr) == cudaSuccess);

    const std::int64_t all_tiles = (rows + 15) / 16, all_steps = (cols + 63) / 64;
    REQUIRE(bytes.codes == all_tiles * all_steps * 512);
    std::vector<std::uint8_t> expected_codes, expected_scales;
    for (std::int64_t tile = 0; tile < all_tiles; ++tile)
      for (std::int64_t step = 0; step < all_steps; ++step) {
        const auto row_of = [&](int g, int j) { return tile * 16 + g + (j == 1 || j == 3 ? 8 : 0); };
        const auto block_of = [&](int j) { return step * 2 + (j >= 2 ? 1 : 0); };
        for (int lane = 0; lane < 32; ++lane)
          for (int j = 0; j < 4; ++j)
            for (int byte = 0; byte < 4; ++byte) {
              constexpr int order[8] = {0, 2, 4, 6, 1, 3, 5, 7};  // code in nibble i
              const std::int64_t row = row_of(lane / 4, j), first = block_of(j) * 32 + 8 * (lane % 4);
              const bool real = row < rows && first < cols;
              expected_codes.push_back(static_cast<std::uint8_t>(
                  real ? code_at(row, first + order[2 * byte]) | code_at(row, first + order[2 * byte + 1]) << 4 : 0));
            }
        for (int g = 0; g < 8; ++g)
          for (int j = 0; j < 4; ++j) {
            const bool real = row_of(g, j) < rows && block_of(j) < cols / block_size;
            expected_scales.push_back(real ? scale_at(row_of(g, j), block_of(j)) : 127);
          }
      }
    CHECK(tile_codes.host() == expected_codes);
    CHECK(tile_scales.host() == expected_scales);

    device_mx<> back(rows, cols);
    device_settings.seed += 1;
    REQUIRE(cuda::unpack_mma16(tiles, back.view, nullptr) == cudaSuccess);
    CHECK(back.codes.host() == source.codes);
    CHECK(back.scales.host() == source.scales);
  }
}

TEST_CASE("cuda::convert, cuda::mma16: what they refuse, before a launch", "[cuda][convert][bad_input]") {
  const device_array<std::uint8_t> codes(random_bytes(64, 1), "codes"), scales(random_bytes(4, 2), "scales");
  device_array<std::uint8_t> out(1024, "out"), out_scales(64, "out.scales");
  const const_mx_view<> good{codes.data(), scales.data(), 2, 64, 32, 2};
  const mx_view<> to{out.data(), out_scales.data(), 2, 64, 32, 2};
  const cuda::mma16_view tiles{out.data(), out_scales.data(), 2, 64};
  CHECK(message(cuda::check_convert(const_mx_view<>{codes.data() + 4, scales.data(), 1, 64, 32, 2}, to)).view() ==
        "in.codes is 4 bytes past a multiple of 16: align it");
  CHECK(message(cuda::check_convert(good, mx_view<>{out.data(), out_scales.data(), 3, 64, 32, 2})).view() ==
        "out.rows is 3, expected 2");
  CHECK(cuda::convert(good, mx_view<>{out.data(), out.data() + 8, 2, 64, 32, 2}, nullptr) == cudaErrorInvalidValue);
  CHECK(message(cuda::check_mma16(good, cuda::mma16_view{out.data() + 8, out_scales.data(), 2, 64})).view() ==
        "tiles.codes is 8 bytes past a multiple of 16: align it");
  CHECK(message(cuda::check_mma16(good, cuda::mma16_view{nullptr, out_scales.data(), 2, 64})).view() ==
        "tiles.codes is null, expected memory for 512 elements");
  CHECK(message(cuda::check_mma16(good, cuda::mma16_view{out.data(), out_scales.data(), 2, 40})).view() ==
        "tiles.cols is 40, expected a multiple of 32: pad the rows, or leave this tensor as it is");
  CHECK(message(cuda::check_mma16(good, cuda::mma16_view{out.data(), out_scales.data(), 4, 64})).view() ==
        "tiles.rows is 4, expected 2");
  CHECK(message(cuda::check_mma16(good, cuda::mma16_view{out.data(), out.data() + 64, 2, 64})).view() ==
        "tiles overlaps an input: pass separate memory");
  CHECK(cuda::pack_mma16({codes.data(), scales.data(), std::int64_t{1} << 31, 64, 32, 2}, tiles, nullptr) ==
        cudaErrorInvalidValue);
  CHECK(cuda::mma16_bytes_needed(std::int64_t{1} << 60, 1 << 20).error().code == errc::size_overflow);
  CHECK(out.untouched());
  CHECK(cuda::pack_mma16(good, tiles, nullptr) == cudaSuccess);
  CHECK(cuda::convert(good, to, nullptr) == cudaSuccess);
}
