// bench/threads.hpp -- one thread or two, as executors.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>

#include "mxfp4/core/executor_ref.hpp"

namespace mxfp4::bench {

/// The caller and one more thread take task after task. The other one spins for a while between runs, because waking it
/// takes longer than some kernels; tasks do not throw.
class two_threads {
 public:
  two_threads() : other_([this] { serve(); }) {}
  two_threads(const two_threads&) = delete;
  two_threads& operator=(const two_threads&) = delete;
  ~two_threads() {
    body_ = nullptr;
    start();
    other_.join();
  }

  void run(std::size_t tasks, task_ref body) {
    body_ = &body;
    tasks_ = tasks;
    next_.store(0, std::memory_order_relaxed);
    start();
    take_tasks();
    const std::uint32_t started = started_.load(std::memory_order_relaxed);
    while (!soon([&] { return finished_.load(std::memory_order_acquire) == started; })) std::this_thread::yield();
  }

 private:
  void start() {
    started_.fetch_add(1, std::memory_order_release);
    started_.notify_one();
  }
  template <class F>
  static bool soon(F is_so) {
    for (int spin = 0; spin < 100000; ++spin)
      if (is_so()) return true;
    return false;
  }
  void take_tasks() {
    for (std::size_t i = next_++; i < tasks_; i = next_++) (*body_)(i);
  }
  void serve() {
    for (std::uint32_t seen = 0;;) {
      if (!soon([&] { return started_.load(std::memory_order_acquire) != seen; }))
        started_.wait(seen, std::memory_order_acquire);
      ++seen;
      if (body_ == nullptr) return;
      take_tasks();
      finished_.store(seen, std::memory_order_release);
    }
  }

  const task_ref* body_ = nullptr;
  std::size_t tasks_ = 0;
  std::atomic<std::size_t> next_{0};
  std::atomic<std::uint32_t> started_{0}, finished_{0};
  std::thread other_;
};

/// 1: serial; 2: two_threads, made when first asked for.
[[nodiscard]] inline executor_ref executor_for(int threads) {
  if (threads == 1) return serial;
  static two_threads both;
  return both;
}

}  // namespace mxfp4::bench
