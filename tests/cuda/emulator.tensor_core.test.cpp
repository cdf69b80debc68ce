// tests/cuda/emulator.tensor_core.test.cpp -- the emulated tensor cores multiply: fragments filled by element, from
// the PTX ISA's maps give the product of the matrices, computed here by its definition.
//
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "cuda/fragments.support.cuh"
#include "mxfp4/cuda/device/launch.cuh"
#include "support/random.hpp"
#include "support/vectors.hpp"

namespace {

using namespace mxfp4::cuda;

/// Small integers, so that every sum is exact: 16 x K and K x 8.
template <int K>
struct problem {
  int a[16][static_cast<std::size_t>(K)], b[static_cast<std::size_t>(K)][8], sa[16], sb[8];

  explicit problem(std::uint64_t seed) {
    mxfp4::test::splitmix random(seed);
    for (auto& row : a)
      for (int& v : row) v = random.in(-3, 3);
    for (auto& row : b)
      for (int& v : row) v = random.in(-3, 3);
    for (int& v : sa) v = random.in(-3, 3);
    for (int& v : sb) v = random.in(-3, 3);
  }
  [[nodiscard]] double product(int row, int column, bool scaled) const {
    double sum = 0;
    for (int k = 0; k < K; ++k) sum += a[row][k] * b[k][column];
    return scaled ? std::ldexp(sum, sa[row] + sb[column]) : sum;
  }
};

/// K = 16, by element i of a lane: its row is the group's for i % 4 < 2, else 8 more; its column 2 * thread + (i & 1),
/// 8 more from i = 4 on. A register holds two elements.
template <class Multiply>
void check_16(Multiply multiply, std::uint32_t (*encode)(int)) {
  const problem<16> p(3);
  emulator::launch({}, 32, 0, [&] {
    const int group = device::lane_index() / 4, thread = device::lane_index() % 4;
    std::uint32_t a[4]{}, b[2]{};
    for (int i = 0; i < 8; ++i) {
      const int row = i % 4 < 2 ? group : group + 8, column = thread * 2 + (i & 1) + (i >= 4 ? 8 : 0);
      a[i / 2] |= encode(p.a[row][column]) << (i % 2 * 16);
    }
    for (int i = 0; i < 4; ++i) b[i / 2] |= encode(p.b[thread * 2 + (i & 1) + (i >= 2 ? 8 : 0)][group]) << (i % 2 * 16);
    float d[4] = {0.5f, 0.5f, 0.5f, 0.5f};
    multiply(d, a, b);
    for (int i = 0; i < 4; ++i) {
      const int row = i < 2 ? group : group + 8, column = thread * 2 + (i & 1);
      if (static_cast<double>(d[i]) != p.product(row, column, false) + 0.5) throw emulator::fault("wrong product");
    }
  });
}

/// K = 32: the row is the group's for i / 4 even, else 8 more; the column 4 * thread + (i & 3), 16 more from i = 8 on.
/// A register holds four elements.
template <class Multiply>
void check_32(Multiply multiply, std::uint32_t (*encode_a)(int), std::uint32_t (*encode_b)(int), bool scaled) {
  const problem<32> p(5);
  emulator::launch({}, 32, 0, [&] {
    const int group = device::lane_index() / 4, thread = device::lane_index() % 4;
    std::uint32_t a[4]{}, b[2]{};
    for (int i = 0; i < 16; ++i) {
      const int row = i / 4 % 2 == 0 ? group : group + 8, column = thread * 4 + (i & 3) + (i >= 8 ? 16 : 0);
      a[i / 4] |= encode_a(p.a[row][column]) << (i % 4 * 8);
    }
    for (int i = 0; i < 8; ++i)
      b[i / 4] |= encode_b(p.b[thread * 4 + (i & 3) + (i >= 4 ? 16 : 0)][group]) << (i % 4 * 8);
    // the other lanes and bytes hold NaN, which must not be looked at
    const std::uint32_t scale_a =
        thread < 2 ? 0xFF00FFFFu | static_cast<std::uint32_t>(127 + p.sa[group + 8 * thread]) << 16 : ~0u;
    const std::uint32_t scale_b = thread == 0 ? 0xFFFF00FFu | static_cast<std::uint32_t>(127 + p.sb[group]) << 8 : ~0u;
    float d[4]{};
    multiply(d, a, b, scale_a, scale_b);
    for (int i = 0; i < 4; ++i) {
      const int row = i < 2 ? group : group + 8, column = thread * 2 + (i & 1);
      if (static_cast<double>(d[i]) != p.product(row, column, scaled)) throw emulator::fault("wrong product");
    }
  });
}

std::uint32_t bf16_of(int v) { return emulator::to_small_float(v, 8, 7); }
std::uint32_t f16_of(int v) { return emulator::to_small_float(v, 5, 10); }
std::uint32_t e4m3_of(int v) {
  constexpr std::uint32_t magnitudes[4] = {0x00, 0x38, 0x40, 0x44};
  return magnitudes[v < 0 ? -v : v] | (v < 0 ? 0x80u : 0u);
}
std::uint32_t e2m1_container_of(int v) {
  constexpr std::uint32_t magnitudes[4] = {0, 2, 4, 5};
  return (magnitudes[v < 0 ? -v : v] | (v < 0 ? 8u : 0u)) << 2;
}

}  // namespace

TEST_CASE("emulator: mma m16n8k16", "[cuda][emulator]") {
  check_16([](auto& d, auto& a, auto& b) { device::mma_bf16(d, a, b); }, bf16_of);
  check_16([](auto& d, auto& a, auto& b) { device::mma_f16(d, a, b); }, f16_of);
}

TEST_CASE("emulator: mma m16n8k32", "[cuda][emulator]") {
  check_32([](auto& d, auto& a, auto& b, auto, auto) { device::mma_e4m3(d, a, b); }, e4m3_of, e4m3_of, false);
  check_32([](auto& d, auto& a, auto& b, std::uint32_t sa,
              std::uint32_t sb) { device::mma_e2m1_e4m3<2, 1>(d, a, b, sa, sb); },
           e2m1_container_of, e4m3_of, true);
}

TEST_CASE("emulator: sums that keep 13 bits", "[cuda][emulator]") {
  const double products[16] = {1.0, 0x1.8p-13, -0x1p-14, -0x1.8p-13};
  CHECK(emulator::add_cutting_off(13, 0.0, products) == 1.0);             // 1 + 2^-13 + 0 - 2^-13
  CHECK(emulator::add_cutting_off(13, 0x1.0004p0, products) == 2.0);      // what is there loses its 2^-14
  CHECK(emulator::add_cutting_off(13, 0x1.0008p0, products) == 2.0);      // 2^-13 more stays, until the sum is cut
  CHECK(emulator::add_cutting_off(13, -1.0, products) == 0.0);            // as much in magnitude
  CHECK(emulator::add_cutting_off(13, 0x1p13, products) == 0x1.0008p13);  // 1 is the last bit that is kept
}

TEST_CASE("emulator: ldmatrix", "[cuda][emulator]") {
  emulator::launch({}, 32, 512, [] {
    auto* const elements = reinterpret_cast<std::uint16_t*>(device::shared_memory());
    for (int i = device::lane_index(); i < 256; i += 32)
      device::store_shared(elements + i, static_cast<std::uint16_t>(i));
    device::warp_barrier();
    const int lane = device::lane_index();
    std::uint32_t plain[4], transposed[4], two[2];
    device::ldmatrix_x4(plain, elements + 8 * lane);  // element (row, column) of matrix m is 64 m + 8 row + column
    device::ldmatrix_x4_trans(transposed, elements + 8 * lane);
    device::ldmatrix_x2(two, elements + 8 * (lane % 16));
    for (int m = 0; m < 4; ++m) {
      const int first = 64 * m + 8 * (lane / 4) + lane % 4 * 2, flipped = 64 * m + 8 * (lane % 4 * 2) + lane / 4;
      if (plain[m] != static_cast<std::uint32_t>(first | (first + 1) << 16)) throw emulator::fault("ldmatrix_x4");
      if (transposed[m] != static_cast<std::uint32_t>(flipped | (flipped + 8) << 16))
        throw emulator::fault("ldmatrix_x4_trans");
      if (m < 2 && two[m] != plain[m]) throw emulator::fault("ldmatrix_x2");
    }
  });
}

TEST_CASE("emulator: small floats, their values and the nearest of them", "[cuda][emulator]") {
  using namespace emulator;
  CHECK(bf16_value(0x3FC0) == 1.5);
  CHECK(bf16_value(0x8001) == -0x1p-133);
  CHECK(f16_value(0x7BFF) == 65504.0);
  CHECK(f16_value(0x0001) == 0x1p-24);
  CHECK(e4m3_value(0x7E) == 448.0);
  CHECK(e4m3_value(0x01) == 0x1p-9);
  CHECK(std::isnan(e4m3_value(0xFF)));
  CHECK(ue8m0_value(0) == 0x1p-127);
  CHECK(to_small_float(65519.9, 5, 10) == 0x7BFF);
  CHECK(to_small_float(65520.0, 5, 10) == 0x7C00);
  CHECK(to_small_float(0x1p-25, 5, 10) == 0);
  CHECK(to_small_float(0x1.8p-24, 5, 10) == 2);
  for (std::uint32_t i = 0; i < 0x8000; ++i) {
    if ((i & 0x7C00u) != 0x7C00u) REQUIRE(to_small_float(f16_value(i), 5, 10) == i);
    if ((i & 0x7F80u) != 0x7F80u) REQUIRE(to_small_float(bf16_value(i), 8, 7) == i);
  }
  CHECK(device::permute_bytes(0x33221100, 0x77665544, 0x7531) == 0x77553311);
  CHECK(device::permute_bytes(0x80, 0, 0x8888) == 0xFFFFFFFF);
  CHECK(device::multiply_bf16x2(0x00403FC0, 0x7E804000) == 0x3F004040);  // 2^-127 * 2^126, 1.5 * 2
  CHECK(device::convert_f32x4_e4m3({1.0f, -500.0f, 0x1p-10f, 0x1.8p-9f}) == 0x0200FE38);
}

TEST_CASE("emulator: every intrinsic as hardware has it, where that was captured", "[cuda][emulator]") {
  int captured = 0;
  const auto compare = [&captured]<class Target>(Target, const std::string& arch) {
    using kernel = test::capture_fragments<Target>;
    const emulator::device_array<std::uint32_t> in(test::fragment_input(), "in");
    emulator::device_array<std::uint32_t> out(32 * test::fragment_outputs, "out");
    REQUIRE(launch<kernel>({}, kernel::shared_bytes, nullptr, {in.data(), out.data()}) == cudaSuccess);
    const std::string name = "cuda/fragments.sm_" + arch + ".u32";
    if (!std::filesystem::exists(std::string(MXFP4_TEST_VECTORS) + "/" + name)) return;
    ++captured;
    CAPTURE(name);
    CHECK(out.host() == mxfp4::test::load<std::uint32_t>(name));
  };
  compare(device::sm_80{}, "80");
  compare(device::sm_89{}, "89");
  compare(device::sm_90a{}, "90a");
  compare(device::sm_100a{}, "100a");
  compare(device::sm_120a{}, "120a");

  using kernel = test::capture_wgmma<device::sm_90a>;
  const emulator::device_array<std::uint32_t> in(test::wgmma_input(), "in");
  emulator::device_array<std::uint32_t> out(128 * test::wgmma_outputs, "out");
  REQUIRE(launch<kernel>({}, kernel::shared_bytes, nullptr, {in.data(), out.data()}) == cudaSuccess);
  if (std::filesystem::exists(std::string(MXFP4_TEST_VECTORS) + "/cuda/wgmma.sm_90a.u32")) {
    ++captured;
    CHECK(out.host() == mxfp4::test::load<std::uint32_t>("cuda/wgmma.sm_90a.u32"));
  }
  if (captured == 0) SKIP("no vectors: gpu_test --capture tests/vectors/cuda writes them on a GPU");
}
