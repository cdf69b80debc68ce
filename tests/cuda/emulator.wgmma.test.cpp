// tests/cuda/emulator.wgmma.test.cpp -- the emulated wgmma multiplies, and finds every misuse.
// SPDX-License-Identifier: Apache-2.0
//
// The operands are laid out element by element from the PTX ISA's maps; products are taken by their definition.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "mxfp4/cuda/device/launch.cuh"
#include "support/random.hpp"

namespace {

using namespace mxfp4::cuda;
using Catch::Matchers::ContainsSubstring;
using device::operand_order;
using device::shared_operand;
using emulator::fault;

std::string fault_of(const std::function<void()>& kernel, int threads = 128) {
  try {
    emulator::launch({}, threads, 16 * 1024, kernel);
  } catch (const fault& f) {
    return f.what();
  }
  return "";
}

/// Small integers, so that every sum is exact: 64 x 64 and 128 x 64, of which a test takes as many as it needs.
struct problem {
  int a[64][64], b[128][64];

  problem() {
    mxfp4::test::splitmix random(7);
    for (auto& row : a)
      for (int& v : row) v = random.in(-3, 3);
    for (auto& row : b)
      for (int& v : row) v = random.in(-3, 3);
  }
  [[nodiscard]] double product(int row, int column, int k) const {
    double sum = 0;
    for (int i = 0; i < k; ++i) sum += a[row][i] * b[column][i];
    return sum;
  }
};
const problem numbers;

std::uint16_t bf16_of(int v) { return static_cast<std::uint16_t>(emulator::to_small_float(v, 8, 7)); }
std::uint16_t f16_of(int v) { return static_cast<std::uint16_t>(emulator::to_small_float(v, 5, 10)); }

/// A's fragment of columns k_0 .. k_0 + 15: element i of a lane has the row group for i % 4 < 2, else 8 more; the
/// column 2 * thread + (i & 1), 8 more from i = 4 on.
void load_a(std::uint32_t (&a)[4], int k_0, std::uint16_t (*encode)(int)) {
  const int group = device::lane_index() / 4, thread = device::lane_index() % 4,
            first = 16 * (device::warp_index() % 4);
  for (std::uint32_t& r : a) r = 0;
  for (int i = 0; i < 8; ++i) {
    const int row = first + (i % 4 < 2 ? group : group + 8), column = k_0 + thread * 2 + (i & 1) + (i >= 4 ? 8 : 0);
    a[i / 2] |= std::uint32_t{encode(numbers.a[row][column])} << (i % 2 * 16);
  }
}

/// Is element i of a lane the right one? Row: 16 * warp + group, 8 more for i % 4 >= 2; column: 8 * (i / 4) + 2 *
/// thread + (i & 1).
void check_d(const float* d, int columns, int k) {
  const int group = device::lane_index() / 4, thread = device::lane_index() % 4,
            first = 16 * (device::warp_index() % 4);
  for (int i = 0; i < columns / 2; ++i) {
    const int row = first + (i % 4 < 2 ? group : group + 8), column = i / 4 * 8 + thread * 2 + (i & 1);
    if (static_cast<double>(d[i]) != numbers.product(row, column, k)) throw fault("wrong product");
  }
}

std::uint16_t* elements() { return reinterpret_cast<std::uint16_t*>(device::shared_memory()); }

/// Writes B[n][k], n < columns, k < depth, to the byte that at(n, k) says, and makes it known to wgmma.
template <class At>
void store_b(int columns, int depth, std::uint16_t (*encode)(int), At&& at) {
  for (int i = device::thread_index(); i < columns * depth; i += device::block_threads()) {
    const int n = i / depth, k = i % depth;
    device::store_shared(elements() + at(n, k) / 2, encode(numbers.b[n][k]));
  }
  device::async_proxy_fence();
  device::block_barrier();
}

/// depth / 16 wgmma, the first of which overwrites D.
template <bool F16, int Columns, class At>
void check_product(int depth, shared_operand first, int advance, At&& at) {
  const auto encode = F16 ? f16_of : bf16_of;
  store_b(Columns, depth, encode, at);
  std::uint32_t a[4][4];
  float d[static_cast<std::size_t>(Columns / 2)];
  for (int i = 0; i < depth / 16; ++i) load_a(a[i], 16 * i, encode);
  for (float& v : d) v = 1e9f;
  device::wgmma_fence(a, d);
  for (int i = 0; i < depth / 16; ++i) {
    const shared_operand b = first.advanced(advance * i);
    if constexpr (F16) {
      if (i == 0) device::wgmma_f16<false>(d, a[i], b);
      else device::wgmma_f16<true>(d, a[i], b);
    } else {
      if (i == 0) device::wgmma_bf16<false>(d, a[i], b);
      else device::wgmma_bf16<true>(d, a[i], b);
    }
  }
  device::wgmma_commit();
  for (const float v : d)
    if (!std::isnan(v)) throw fault("D is defined before the wait");
  device::wgmma_wait<0>(d);
  check_d(d, Columns, depth);
}

}  // namespace

TEST_CASE("emulator: wgmma with B in each of the canonical orders", "[cuda][emulator][wgmma]") {
  for (emulator::device_settings.seed = 1; emulator::device_settings.seed < 4; ++emulator::device_settings.seed) {
    CHECK(fault_of([] {  // 128 bytes a row: a piece of 16 bytes at its number xor the row's, modulo eight
            check_product<false, 128>(64, shared_operand::at(0, operand_order::swizzled_128, 1024), 32,
                                      [](int n, int k) { return n * 128 + ((k / 8) ^ (n % 8)) * 16 + k % 8 * 2; });
          }) == "");
    CHECK(fault_of([] {  // the same in other places: eight rows every 2048 bytes, from 1024 on
            check_product<true, 64>(
                64, shared_operand::at(1024, operand_order::swizzled_128, 2048), 32,
                [](int n, int k) { return 1024 + n / 8 * 2048 + n % 8 * 128 + ((k / 8) ^ (n % 8)) * 16 + k % 8 * 2; });
          }) == "");
    CHECK(fault_of([] {  // 64 bytes a row: two rows have a number
            check_product<false, 64>(
                32, shared_operand::at(512, operand_order::swizzled_64, 512), 32,
                [](int n, int k) { return 512 + n * 64 + ((k / 8) ^ (n / 2 % 4)) * 16 + k % 8 * 2; });
          }) == "");
    CHECK(fault_of([] {  // 32 bytes a row: four rows have a number
            check_product<true, 128>(
                16, shared_operand::at(256, operand_order::swizzled_32, 256), 32,
                [](int n, int k) { return 256 + n * 32 + ((k / 8) ^ (n / 4 % 2)) * 16 + k % 8 * 2; });
          }) == "");
    CHECK(fault_of([] {  // eight rows of one piece together, first those of all rows, then the next piece
            check_product<false, 64>(32, shared_operand::at(16, operand_order::plain, 128, 1024), 2048,
                                     [](int n, int k) { return 16 + k / 8 * 1024 + n * 16 + k % 8 * 2; });
          }) == "");
    CHECK(fault_of([] {  // first the two pieces of eight rows, then the next eight
            check_product<false, 128>(16, shared_operand::at(0, operand_order::plain, 256, 128), 0,
                                      [](int n, int k) { return n / 8 * 256 + k / 8 * 128 + n % 8 * 16 + k % 8 * 2; });
          }) == "");
  }
}

TEST_CASE("emulator: two warp groups, groups of wgmma that end one after the other", "[cuda][emulator][wgmma]") {
  const auto kernel = [] {
    store_b(64, 32, bf16_of, [](int n, int k) { return n * 64 + ((k / 8) ^ (n / 2 % 4)) * 16 + k % 8 * 2; });
    const shared_operand b = shared_operand::at(0, operand_order::swizzled_64, 512);
    std::uint32_t a[2][4];
    float first[32]{}, both[32]{};
    load_a(a[0], 0, bf16_of);
    load_a(a[1], 16, bf16_of);
    device::wgmma_fence(a, first, both);
    device::wgmma_bf16<true>(first, a[0], b);
    device::wgmma_commit();
    device::wgmma_bf16<true>(both, a[0], b);
    device::wgmma_bf16<true>(both, a[1], b.advanced(32));
    device::wgmma_commit();
    device::wgmma_wait<1>(first);
    check_d(first, 64, 16);
    if (!std::isnan(both[0])) throw fault("the second group has ended with the first");
    device::wgmma_wait<0>(both);
    check_d(both, 64, 32);
  };
  for (emulator::device_settings.seed = 1; emulator::device_settings.seed < 4; ++emulator::device_settings.seed)
    CHECK(fault_of(kernel, 256) == "");
}

namespace {

using action = std::function<void()>;
void nothing() {}

/// A right kernel, into whose middle a test puts what is wrong, or from which it leaves something out.
struct steps {
  action before_barrier = [] { device::async_proxy_fence(); };
  action barrier = [] { device::block_barrier(); };
  std::function<void(std::uint32_t (&)[4], float (&)[32])> fence = [](auto& a, auto& d) { device::wgmma_fence(a, d); };
  std::function<void(std::uint32_t (&)[4], float (&)[32])> after_fence = [](auto&, auto&) {};
  std::function<void(std::uint32_t (&)[4], float (&)[32])> under_way = [](auto&, auto&) {};
  std::function<void(float (&)[32])> wait = [](auto& d) { device::wgmma_wait<0>(d); };
  std::function<shared_operand()> operand = [] { return shared_operand::at(0, operand_order::swizzled_32, 256); };

  [[nodiscard]] std::string run(int threads = 128) const {
    return fault_of(
        [this] {
          for (int i = device::thread_index(); i < 64 * 16; i += device::block_threads()) {
            const int n = i / 16, k = i % 16, at = n * 32 + ((k / 8) ^ (n / 4 % 2)) * 16 + k % 8 * 2;
            device::store_shared(elements() + at / 2, bf16_of(numbers.b[n][k]));
          }
          before_barrier();
          barrier();
          std::uint32_t a[4];
          float d[32]{};
          load_a(a, 0, bf16_of);
          fence(a, d);
          after_fence(a, d);
          device::wgmma_bf16<true>(d, a, operand());
          device::wgmma_commit();
          under_way(a, d);
          wait(d);
          check_d(d, 64, 16);
        },
        threads);
  }
};

}  // namespace

TEST_CASE("emulator: wgmma whose wait, fences or barriers are missing", "[cuda][emulator][wgmma]") {
  CHECK(steps{}.run() == "");
  CHECK_THAT((steps{.wait = [](auto&) {}}).run(), ContainsSubstring("wrong product"));
  CHECK_THAT((steps{.wait = [](auto& d) { device::wgmma_wait<1>(d); }}).run(), ContainsSubstring("still under way"));
  CHECK_THAT((steps{.wait =
                        [](auto& d) {
                          for (int i = 0; i < 32; ++i) d[i] = 0;
                          device::wgmma_wait<0>(d);
                        }})
                 .run(),
             ContainsSubstring("register of D was written"));
  CHECK_THAT(fault_of([] {
               store_b(64, 16, bf16_of, [](int n, int k) { return n * 32 + ((k / 8) ^ (n / 4 % 2)) * 16 + k % 8 * 2; });
               std::uint32_t a[4]{};
               float d[32]{};
               device::wgmma_fence(a, d);
               device::wgmma_bf16<true>(d, a, shared_operand::at(0, operand_order::swizzled_32, 256));
               device::wgmma_commit();
             }),
             ContainsSubstring("without having waited for its wgmma"));
  CHECK_THAT((steps{.before_barrier = nothing}).run(), ContainsSubstring("without async_proxy_fence"));
  CHECK_THAT((steps{.before_barrier = nothing,
                    .barrier =
                        [] {
                          device::block_barrier();
                          device::async_proxy_fence();
                        }})
                 .run(),
             ContainsSubstring("without async_proxy_fence"));
  CHECK_THAT((steps{.barrier = nothing}).run(), ContainsSubstring("without a barrier"));
  CHECK_THAT((steps{.barrier = [] { device::warp_barrier(); }}).run(), ContainsSubstring("without a barrier"));
  CHECK_THAT((steps{.fence = [](auto&, auto&) {}}).run(), ContainsSubstring("no wgmma_fence"));
  CHECK_THAT((steps{.fence = [](auto& a, auto&) { device::wgmma_fence(a); }}).run(),
             ContainsSubstring("registers of D"));
  CHECK_THAT((steps{.fence = [](auto&, auto& d) { device::wgmma_fence(d); }}).run(),
             ContainsSubstring("registers of A"));
}

TEST_CASE("emulator: what a wgmma uses is changed", "[cuda][emulator][wgmma]") {
  CHECK_THAT((steps{.after_fence = [](auto& a, auto&) { a[2] ^= 1u; }}).run(),
             ContainsSubstring("A have changed since wgmma_fence"));
  CHECK_THAT((steps{.after_fence = [](auto&, auto& d) { d[31] = 1.0f; }}).run(),
             ContainsSubstring("D have changed since wgmma_fence"));
  CHECK_THAT((steps{.under_way = [](auto& a, auto&) { a[3] ^= 1u; }}).run(),
             ContainsSubstring("register of A changed while"));
  const auto refill = [](const action& before) {
    return steps{.under_way = [before](auto&, auto& d) {
      before();
      device::wgmma_wait<1>();
      if (device::thread_index() == 5) device::store_shared(elements() + 64, std::uint16_t{0});
      device::wgmma_wait<0>(d);
    }};
  };
  CHECK_THAT(refill(nothing).run(), ContainsSubstring("is written while a wgmma"));
  CHECK_THAT(refill([] { device::block_barrier(); }).run(), ContainsSubstring("is written while a wgmma"));
  const emulator::device_array<std::uint32_t> data(std::vector<std::uint32_t>(4, 5u), "data");
  CHECK_THAT((steps{.under_way =
                        [&](auto&, auto&) {
                          if (device::thread_index() == 5) device::copy_async<16>(elements(), data.data());
                        }})
                 .run(),
             ContainsSubstring("is written while a wgmma"));
  // it has ended for this warp, and not for the others
  CHECK_THAT((steps{.wait =
                        [](auto& d) {
                          device::wgmma_wait<0>(d);
                          if (device::thread_index() == 5) device::store_shared(elements() + 64, std::uint16_t{0});
                        }})
                 .run(),
             ContainsSubstring("shared byte 128"));
  CHECK((steps{.wait = [](auto& d) {
          device::wgmma_wait<0>(d);
          device::block_barrier();
          if (device::thread_index() == 5) device::store_shared(elements() + 64, std::uint16_t{0});
        }}).run() == "");
  CHECK_THAT((steps{.under_way =
                        [](auto& a, auto& d) {  // the registers of A are free again, and need a fence of their own
                          device::wgmma_wait<0>(d);
                          device::wgmma_fence(d);
                          device::wgmma_bf16<false>(d, a, shared_operand::at(0, operand_order::swizzled_32, 256));
                        }})
                 .run(),
             ContainsSubstring("no wgmma_fence since the registers of A"));
}

TEST_CASE("emulator: operands of wgmma that do not lie as their descriptor says", "[cuda][emulator][wgmma]") {
  const auto with = [](shared_operand b) { return steps{.operand = [b] { return b; }}.run(); };
  CHECK_THAT(with(shared_operand::at(64, operand_order::swizzled_32, 256)),
             ContainsSubstring("64 bytes past a multiple"));
  CHECK_THAT(with(shared_operand::at(16, operand_order::swizzled_32, 256)),
             ContainsSubstring("16 bytes past a multiple"));
  CHECK_THAT(with(shared_operand::at(0, operand_order::swizzled_32, 128)), ContainsSubstring("stride is 128"));
  CHECK_THAT(with(shared_operand::at(0, operand_order::swizzled_128, 1024)), ContainsSubstring("never written"));
  CHECK_THAT(with(shared_operand::at(16 * 1024, operand_order::swizzled_128, 1024)),
             ContainsSubstring("outside the 16384"));
  CHECK_THAT(with(shared_operand::at(0, operand_order::plain, 256, 128)), ContainsSubstring("wrong product"));
  CHECK_THAT(with({shared_operand::at(0, operand_order::swizzled_32, 256).bits | std::uint64_t{1} << 49}),
             ContainsSubstring("base offset"));
  CHECK_THAT(with({shared_operand::at(0, operand_order::swizzled_32, 256).bits | std::uint64_t{1} << 55}),
             ContainsSubstring("outside its fields"));
  CHECK_THAT((steps{.operand =
                        [] {
                          return shared_operand::at(device::thread_index() == 77 ? 256 : 0, operand_order::swizzled_32,
                                                    256);
                        }})
                 .run(),
             ContainsSubstring("descriptors differ"));
}

TEST_CASE("emulator: wgmma that some threads do not reach", "[cuda][emulator][wgmma]") {
  CHECK_THAT(steps{}.run(64), ContainsSubstring("fewer than 128 threads"));
  CHECK_THAT(fault_of([] {
               store_b(64, 16, bf16_of, [](int n, int k) { return n * 32 + ((k / 8) ^ (n / 4 % 2)) * 16 + k % 8 * 2; });
               std::uint32_t a[4]{};
               float d[32]{};
               device::wgmma_fence(a, d);
               if (device::warp_index() != 3)
                 device::wgmma_bf16<true>(d, a, shared_operand::at(0, operand_order::swizzled_32, 256));
             }),
             ContainsSubstring("deadlock"));
  CHECK_THAT(fault_of([] {
               if (device::lane_index() < 16) device::wgmma_commit();
               else device::wgmma_wait<0>();
             }),
             ContainsSubstring("divergent"));
}
