// tests/cuda/emulator.faults.test.cpp -- the emulator finds what it is there to find: one wrong kernel for each fault.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cstdint>
#include <functional>
#include <vector>

#include "mxfp4/cuda/device/launch.cuh"

namespace emulator = mxfp4::cuda::emulator;
namespace device = mxfp4::cuda::device;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using emulator::fault;

namespace {

/// What the kernel is told to be at fault of; "" where it runs through.
std::string fault_of(const std::function<void()>& kernel, int threads = 64, int blocks = 1) {
  try {
    emulator::launch({blocks, 1, 1}, threads, 4096, kernel);
  } catch (const fault& f) {
    return f.what();
  }
  return "";
}

std::uint32_t* words() { return reinterpret_cast<std::uint32_t*>(device::shared_memory()); }

}  // namespace

TEST_CASE("emulator: a barrier missing between a write and a read of shared memory", "[cuda][emulator]") {
  for (emulator::device_settings.seed = 1; emulator::device_settings.seed < 20; ++emulator::device_settings.seed) {
    const auto exchange = [](const std::function<void()>& barrier) {
      return [barrier] {
        device::store_shared(words() + device::thread_index(), 7u);
        barrier();
        (void)device::load_shared(words() + (device::thread_index() ^ 33));
      };
    };
    CHECK_THAT(fault_of(exchange([] {})), ContainsSubstring("shared byte"));
    CHECK_THAT(fault_of(exchange([] { device::warp_barrier(); })), ContainsSubstring("shared byte"));
    CHECK(fault_of(exchange([] { device::block_barrier(); })) == "");
  }
}

TEST_CASE("emulator: within a warp its own barrier orders, a shuffle does not", "[cuda][emulator]") {
  const auto exchange = [](const std::function<void()>& barrier) {
    return [barrier] {
      device::store_shared(words() + device::thread_index(), 7u);
      barrier();
      (void)device::load_shared(words() + (device::thread_index() ^ 1));
    };
  };
  CHECK(fault_of(exchange([] { device::warp_barrier(); })) == "");
  CHECK_THAT(fault_of(exchange([] { (void)device::shuffle_xor(1u, 1); })), ContainsSubstring("without a barrier"));
}

TEST_CASE("emulator: shared memory written again while others may still read it", "[cuda][emulator]") {
  const auto reuse = [](const std::function<void()>& barrier) {
    return [barrier] {
      device::store_shared(words() + device::thread_index(), 7u);
      device::block_barrier();
      for (int i = 0; i < 64; ++i) (void)device::load_shared(words() + i);
      barrier();
      device::store_shared(words() + device::thread_index(), 8u);
    };
  };
  CHECK_THAT(fault_of(reuse([] {})), ContainsSubstring("without a barrier"));
  CHECK_THAT(fault_of(reuse([] { device::warp_barrier(); })), ContainsSubstring("without a barrier"));
  CHECK(fault_of(reuse([] { device::block_barrier(); })) == "");
}

TEST_CASE("emulator: shared memory that nobody wrote, outside, misaligned", "[cuda][emulator]") {
  CHECK_THAT(fault_of([] { (void)device::load_shared(words() + 5); }), ContainsSubstring("never written"));
  CHECK_THAT(fault_of([] { device::store_shared(words() + 1024, 1u); }), ContainsSubstring("outside the 4096 bytes"));
  CHECK_THAT(fault_of([] { device::store_shared(words() - 1, 1u); }), ContainsSubstring("outside the 4096 bytes"));
  CHECK_THAT(fault_of([] {
               device::store_shared(reinterpret_cast<device::word4*>(words() + 32 * device::thread_index() % 512 + 1),
                                    {});
             }),
             ContainsSubstring("not aligned to 16"));
  CHECK_THAT(fault_of([] {
               std::uint32_t d[4];
               device::ldmatrix_x4(d, device::shared_memory() + 8);
             }),
             ContainsSubstring("not aligned to 16"));
}

TEST_CASE("emulator: asynchronous copies arrive at the wait and not before", "[cuda][emulator]") {
  std::vector<std::uint32_t> source(64);
  for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::uint32_t>(1000 + i);
  emulator::device_array<std::uint32_t> from(source);
  const auto copy = [&](int groups, const std::function<void()>& wait) {
    return [&, groups, wait] {
      for (int g = 0; g < groups; ++g) {
        device::copy_async<4>(words() + 64 * g + device::thread_index(), from.data() + device::thread_index());
        device::copy_async_commit();
      }
      wait();
      const std::uint32_t seen = device::load_shared(words() + device::thread_index());
      if (seen != static_cast<std::uint32_t>(1000 + device::thread_index())) throw fault("wrong data");
      device::copy_async_wait<0>();
    };
  };
  CHECK_THAT(fault_of(copy(1, [] {})), ContainsSubstring("under way"));
  CHECK_THAT(fault_of(copy(2, [] { device::copy_async_wait<2>(); })), ContainsSubstring("under way"));
  CHECK(fault_of(copy(2, [] { device::copy_async_wait<1>(); })) == "");
  CHECK_THAT(fault_of([&] {
               device::copy_async<4>(words() + device::thread_index(), from.data());
               device::copy_async_commit();
             }),
             ContainsSubstring("without having waited"));
  CHECK_THAT(fault_of([&] {
               device::copy_async<4>(words() + device::thread_index(), from.data());
               device::copy_async_commit();
               device::copy_async_wait<0>();
               (void)device::load_shared(words() + (device::thread_index() ^ 1));  // the neighbour's, without a barrier
             }),
             ContainsSubstring("shared byte"));
  CHECK(fault_of([&] {  // what is not valid is not read, and arrives as zeros
          device::copy_async<16>(words() + 4 * device::thread_index(), nullptr, false);
          device::copy_async_commit();
          device::copy_async_wait<0>();
          if (device::load_shared(words() + 4 * device::thread_index() + 3) != 0) throw fault("not zero");
        }) == "");
}

TEST_CASE("emulator: global memory outside, misaligned, unwritten", "[cuda][emulator]") {
  emulator::device_array<std::uint32_t> data(std::vector<std::uint32_t>(16, 5u), "data");
  emulator::device_array<std::uint32_t> out(16, "out");
  CHECK_THAT(fault_of([&] { (void)device::load(data.data() + 16); }),
             ContainsSubstring("in no device array, at offset 64"));
  CHECK_THAT(fault_of([&] { (void)device::load(out.data() + 3); }), ContainsSubstring("never written"));
  std::uint32_t host = 0;
  CHECK_THAT(fault_of([&] { (void)device::load(&host); }), ContainsSubstring("in no device array"));
  CHECK_THAT(fault_of([&] { (void)device::load(reinterpret_cast<device::word4*>(data.data() + 1)); }),
             ContainsSubstring("not aligned to 16"));
  CHECK_THAT(fault_of([&] { (void)device::load(reinterpret_cast<device::word4*>(data.data() + 13)); }),
             ContainsSubstring("in no device array"));
  CHECK(out.untouched());
  CHECK(fault_of([&] { device::store(out.data() + 3, 9u); }, 32) != "");  // 32 threads write one place
  CHECK(fault_of([&] {
          if (device::thread_index() == 0) device::store(out.data() + 4, 9u);
          device::block_barrier();
          if (device::load(out.data() + 4) != 9) throw fault("wrong data");
        }) == "");
  CHECK_THROWS_AS(out.host(), fault);  // the others were never written
}

TEST_CASE("emulator: blocks of one launch are ordered by fence and atomic alone", "[cuda][emulator]") {
  const auto last_block_sums = [](bool fenced) {
    emulator::device_array<std::uint32_t> parts(8, "parts"), counter(std::vector<std::uint32_t>{0}, "counter");
    emulator::device_array<std::uint32_t> sum(1, "sum");
    return fault_of(
        [&] {
          if (device::thread_index() != 0) return;
          device::store(parts.data() + device::block_x(), static_cast<std::uint32_t>(device::block_x()));
          if (fenced) device::memory_fence();
          if (device::atomic_add(counter.data(), 1u) != 7) return;
          std::uint32_t total = 0;
          for (int i = 0; i < 8; ++i) total += device::load(parts.data() + i);
          device::store(sum.data(), total);
          if (total != 28) throw fault("wrong sum");
        },
        32, 8);
  };
  CHECK(last_block_sums(true) == "");
  CHECK_THAT(last_block_sums(false), ContainsSubstring("without order"));
}

TEST_CASE("emulator: collectives that some threads do not reach", "[cuda][emulator]") {
  CHECK_THAT(fault_of([] {
               if (device::thread_index() != 5) device::block_barrier();
             }),
             ContainsSubstring("deadlock"));
  CHECK_THAT(fault_of([] {
               if (device::lane_index() < 16) (void)device::shuffle_xor(1u, 1);
               else (void)device::ballot(true);
             }),
             ContainsSubstring("divergent"));
  CHECK_THAT(fault_of([] {
               if (device::lane_index() < 16) (void)device::warp_add(1u);
             }),
             ContainsSubstring("deadlock"));
  CHECK_THAT(fault_of([] { (void)device::shuffle(1u, 32); }), ContainsSubstring("lane 32"));
}

TEST_CASE("emulator: warp collectives", "[cuda][emulator]") {
  for (emulator::device_settings.seed = 1; emulator::device_settings.seed < 5; ++emulator::device_settings.seed)
    CHECK(fault_of([] {
            const auto lane = static_cast<std::uint32_t>(device::lane_index());
            if (device::shuffle_xor(lane, 3) != (lane ^ 3u)) throw fault("shuffle_xor");
            if (device::shuffle(lane, 31 - device::lane_index()) != 31 - lane) throw fault("shuffle");
            if (device::shuffle_up(lane, 2) != (lane < 2 ? lane : lane - 2)) throw fault("shuffle_up");
            if (device::ballot(lane % 2 == 0) != 0x55555555u) throw fault("ballot");
            if (device::warp_max(lane ^ 5u) != 31) throw fault("warp_max");
            if (device::warp_add(lane) != 496) throw fault("warp_add");
          }) == "");
}
