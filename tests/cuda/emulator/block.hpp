// tests/cuda/emulator/block.hpp -- the block that runs: its threads, warps, barriers and launch.
// SPDX-License-Identifier: Apache-2.0
//
// The blocks of a launch run one after another, in an order drawn from the seed. A collective is a rendezvous: each
// thread leaves the address of its operands, the last to come computes for all, and who goes on first is drawn again.
#pragma once

#include <array>
#include <cstring>
#include <deque>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "cuda/emulator/fibers.hpp"
#include "cuda/emulator/global_memory.hpp"
#include "cuda/emulator/memory.hpp"
#include "cuda/emulator/wgmma_state.hpp"
#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::emulator {

struct extent {
  int x = 1, y = 1, z = 1;
};

/// What the emulated device is, and the order in which things happen. Tests set it.
struct settings {
  std::uint64_t seed = 1;
  int device = 0;  ///< its number: another one for another device, since what it has is asked only once
  int multiprocessors = 4;
  std::size_t max_shared_bytes = 99 * 1024;
  bool wgmma = false;         ///< the program was compiled for sm_90a, and runs there
  int fp8_fraction_bits = 0;  ///< what mma of e4m3 keeps of each term behind the point of the largest; 0: all
};
inline settings device_settings;

/// The threads that meet in a collective: lane or thread i's operands.
template <class Call>
class gathered {
 public:
  explicit gathered(void* const* calls) : calls_(calls) {}
  [[nodiscard]] Call& operator[](int i) const { return *static_cast<Call*>(calls_[i]); }

 private:
  void* const* calls_;
};

class block {
 public:
  struct copy {
    void* to;
    const void* from;
    std::size_t bytes;
  };
  struct thread {
    std::vector<copy> open;
    std::deque<std::vector<copy>> groups;
    bool fenced = false;
    std::vector<std::uint32_t> proxy_fences;  ///< when each was
    wgmma_registers registers;
  };

  block(fibers& running, shared_memory& memory, int size, extent blocks, extent number, std::uint32_t launch)
      : grid(blocks),
        index(number),
        count(size),
        shared(memory),
        threads(static_cast<std::size_t>(size)),
        fibers_(running),
        warps_(static_cast<std::size_t>(size / 32)) {
    order_.launch = launch;
    order_.block = (index.z * grid.y + index.y) * grid.x + index.x;
  }

  const extent grid, index;
  const int count;
  shared_memory& shared;
  std::vector<thread> threads;

  [[nodiscard]] int thread_index() const noexcept { return fibers_.current(); }
  [[nodiscard]] thread& self() { return threads[static_cast<std::size_t>(thread_index())]; }
  [[nodiscard]] moment here() const {
    const int t = thread_index();
    return {t, now_, last_block_barrier_, warps_[static_cast<std::size_t>(t / 32)].last_barrier,
            static_cast<std::uint32_t>(threads[static_cast<std::size_t>(t)].proxy_fences.size())};
  }
  /// What the hardware reads for all threads of the block: ordered after what a barrier of the block was after.
  [[nodiscard]] moment for_all() const { return {no_thread, now_, last_block_barrier_, last_block_barrier_, 0}; }
  /// What the warp has started.
  [[nodiscard]] wgmma_queue& wgmmas(int of_warp) { return warps_[static_cast<std::size_t>(of_warp)].wgmmas; }
  void proxy_fence() { self().proxy_fences.push_back(now_); }
  /// Whether thread `t` had a proxy fence after its first `fences`, and then all met at a barrier.
  [[nodiscard]] bool proxy_fenced(int t, std::uint32_t fences) const {
    const auto& all = threads[static_cast<std::size_t>(t)].proxy_fences;
    return fences < all.size() && all[fences] < last_block_barrier_;
  }
  [[nodiscard]] const block_moment& order() const noexcept { return order_; }

  /// All 32 lanes of the warp meet; `all(gathered<Call>)` runs once.
  template <class Call, class F>
  void meet_warp(const char* what, Call& call, F&& all) {
    const int t = thread_index(), first = t / 32 * 32;
    meeting& w = warps_[static_cast<std::size_t>(t / 32)].lanes;
    meet(w, what, first, 32, &call, [&] { all(gathered<Call>(w.calls.data())); });
  }
  /// Four warps, of which the first has a number divisible by four.
  template <class Call, class F>
  void meet_warpgroup(const char* what, Call& call, F&& all) {
    const int first = thread_index() / 128 * 128;
    if (first + 128 > count) throw fault(std::string(what) + ": the warp group has fewer than 128 threads");
    warpgroups_.resize(static_cast<std::size_t>(count / 128));
    meeting& g = warpgroups_[static_cast<std::size_t>(first / 128)];
    meet(g, what, first, 128, &call, [&] { all(gathered<Call>(g.calls.data())); });
  }
  void warp_barrier() {
    int nothing = 0;
    meet_warp("warp_barrier", nothing,
              [this](auto&&) { warps_[static_cast<std::size_t>(thread_index() / 32)].last_barrier = ++now_; });
  }
  void block_barrier() {
    meet(all_, "block_barrier", 0, count, nullptr, [this] {
      last_block_barrier_ = ++now_;
      for (warp& w : warps_) w.last_barrier = now_;
    });
  }

  void fence() { self().fenced = true; }
  /// An atomic of a thread that has fenced releases what its block wrote; every atomic acquires what others released.
  void atomic() {
    if (self().fenced) device_memory.release(order_);
    order_.acquired = true;
  }

 private:
  struct meeting {
    std::vector<void*> calls;
    int arrived = 0;
    const char* what = nullptr;
  };
  struct warp {
    meeting lanes;
    wgmma_queue wgmmas;
    std::uint32_t last_barrier = 0;
  };

  template <class F>
  void meet(meeting& m, const char* what, int first, int expected, void* call, F&& all) {
    const int t = thread_index();
    m.calls.resize(static_cast<std::size_t>(expected));
    m.calls[static_cast<std::size_t>(t - first)] = call;
    if (m.arrived == 0) m.what = what;
    else if (std::strcmp(m.what, what) != 0)
      throw fault(std::string("divergent: this thread is at ") + what + ", others of its group at " + m.what);
    if (++m.arrived < expected) return fibers_.wait(what);
    m.arrived = 0;
    all();
    for (int i = first; i < first + expected; ++i)
      if (i != t) fibers_.wake(i);
    fibers_.yield();
  }

  fibers& fibers_;
  std::vector<warp> warps_;
  std::vector<meeting> warpgroups_;
  meeting all_;
  std::uint32_t now_ = 1;
  std::uint32_t last_block_barrier_ = 1;
  block_moment order_{};
};

inline block* running = nullptr;
inline int launched_threads = 0;  ///< of each block of the latest launch

/// Runs body() in every thread of every block. Throws the first fault, with the block and thread that it is of.
inline void launch(extent grid, int threads, std::size_t shared_bytes, const std::function<void()>& body) {
  if (threads <= 0 || threads % 32 != 0 || threads > 1024)
    throw fault("a block has " + std::to_string(threads) + " threads, expected a multiple of 32 up to 1024");
  if (running != nullptr) throw fault("a kernel launches another");
  static std::uint32_t launches = 0;
  ++launches;
  launched_threads = threads;
  static fibers fibers;
  fibers.seed(device_settings.seed);
  shared_memory shared(shared_bytes);
  std::vector<int> blocks(static_cast<std::size_t>(grid.x) * static_cast<std::size_t>(grid.y) *
                          static_cast<std::size_t>(grid.z));
  std::iota(blocks.begin(), blocks.end(), 0);
  for (std::size_t i = blocks.size(); i > 1; --i) std::swap(blocks[i - 1], blocks[fibers.draw(i)]);
  struct reset {
    ~reset() { running = nullptr; }
  } reset_at_end;
  for (const int number : blocks) {
    shared.reset();
    block b(fibers, shared, threads, grid, {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y},
            launches);
    running = &b;
    fibers.run(threads, [&] {
      const int t = b.thread_index();
      const auto where = [&] {
        return "block (" + std::to_string(b.index.x) + ", " + std::to_string(b.index.y) + ", " +
               std::to_string(b.index.z) + "), thread " + std::to_string(t) + ": ";
      };
      try {
        body();
        for (const auto& group : b.self().groups)
          if (!group.empty()) throw fault("returns without having waited for its asynchronous copies");
        if (!b.self().open.empty()) throw fault("returns with asynchronous copies that it never committed");
        if (!b.self().registers.under_way.empty()) throw fault("returns without having waited for its wgmma");
      } catch (const fault& f) {
        throw fault(where() + f.what());
      }
    });
  }
}

}  // namespace mxfp4::cuda::emulator
