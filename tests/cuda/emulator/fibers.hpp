// tests/cuda/emulator/fibers.hpp -- cooperative threads on one host thread, run in an order drawn from a seed.
// SPDX-License-Identifier: Apache-2.0
//
// A fibre runs until it waits; which of the ready ones goes on is drawn at random. So between two rendezvous the
// threads of a block run in every order, and a seed brings an order back. AddressSanitizer is told of each switch.
// Fibres outlive a run and go round: to make one costs system calls, and under AddressSanitizer a mapping of memory.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "mxfp4/core/version.hpp"
#include "support/sanitized.hpp"

#if defined(MXFP4_TEST_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::emulator {

/// What a kernel did wrong, and which thread of which block.
struct fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class fibers {
 public:
  fibers() { outside_.started = true; }
  fibers(const fibers&) = delete;
  fibers& operator=(const fibers&) = delete;

  void seed(std::uint64_t value) { random_.seed(value); }

  /// Runs body() in `count` fibres until all have returned. The first exception of one ends the run and is thrown here;
  /// what the others hold on their stacks is then dropped without destructors. A fibre that waits when none is ready
  /// throws a fault that says what each waits for.
  void run(int count, const std::function<void()>& body) {
    body_ = &body;
    failure_ = nullptr;
    count_ = count;
    while (all_.size() < static_cast<std::size_t>(count)) all_.push_back(std::make_unique<fiber>());
    ready_.clear();
    for (int i = 0; i < count; ++i) {
      fiber& f = at(i);
      f.done = false;
      f.waits_for = nullptr;
      ready_.push_back(i);
    }
    running_ = count;
    switch_to(pick());
    if (failure_ == nullptr) return;
    for (int i = 0; i < count; ++i)  // those in the middle of the body start afresh
      if (!at(i).done) all_[static_cast<std::size_t>(i)] = std::make_unique<fiber>();
    std::rethrow_exception(failure_);
  }

  /// Number of the fibre that runs, and of those that have not returned.
  [[nodiscard]] int current() const noexcept { return current_; }
  [[nodiscard]] int running() const noexcept { return running_; }

  /// The current fibre waits until another calls wake() for it.
  void wait(const char* what) {
    at(current_).waits_for = what;
    if (ready_.empty()) throw fault("deadlock: " + waiting());
    switch_to(pick());
  }
  void wake(int i) {
    at(i).waits_for = nullptr;
    ready_.push_back(i);
  }
  /// Lets another fibre run first, if the draw says so.
  void yield() {
    ready_.push_back(current_);
    switch_to(pick());
  }

  [[nodiscard]] std::uint64_t draw(std::uint64_t below) { return random_() % below; }

 private:
#if defined(MXFP4_TEST_ASAN)
  static constexpr std::size_t stack_bytes = 256 * 1024;
#else
  static constexpr std::size_t stack_bytes = 64 * 1024;
#endif
  static constexpr int outside = -1;

  struct fiber {
    ucontext_t context{};
    std::unique_ptr<std::byte[]> stack{new std::byte[stack_bytes]};
    void* jump[5]{};
    void* fake_stack = nullptr;
    bool started = false;
    bool done = false;
    const char* waits_for = nullptr;
  };

  [[nodiscard]] fiber& at(int i) { return i == outside ? outside_ : *all_[static_cast<std::size_t>(i)]; }

  [[nodiscard]] int pick() {
    const std::size_t i = static_cast<std::size_t>(draw(ready_.size()));
    const int chosen = ready_[i];
    ready_[i] = ready_.back();
    ready_.pop_back();
    return chosen;
  }

  [[nodiscard]] std::string waiting() {
    std::string text;
    for (int i = 0; i < count_ && text.size() < 400; ++i) {
      const fiber& f = at(i);
      if (f.done) text += " " + std::to_string(i) + ":returned";
      else if (f.waits_for != nullptr) text += " " + std::to_string(i) + ":" + f.waits_for;
    }
    return "threads wait for what cannot come:" + text;
  }

  void switch_to(int next) {
    const int previous = current_;
    if (next == previous) return;
    current_ = next;
#if defined(MXFP4_TEST_ASAN)
    const void* bottom = next == outside ? outside_bottom_ : at(next).stack.get();
    __sanitizer_start_switch_fiber(&at(previous).fake_stack, bottom, next == outside ? outside_bytes_ : stack_bytes);
#endif
    exchange(at(previous), at(next));
#if defined(MXFP4_TEST_ASAN)
    __sanitizer_finish_switch_fiber(at(previous).fake_stack, nullptr, nullptr);
#endif
  }

  /// Goes on in `to`; returns when somebody comes back to `from`.
  [[gnu::noinline]] void exchange(fiber& from, fiber& to) {
#if defined(__x86_64__)  // swapcontext would save the signal mask by a system call, each time
    if (__builtin_setjmp(from.jump) == 0) go_to(to);
#else
    if (to.started) swapcontext(&from.context, &to.context);
    else start(to, &from.context);
#endif
  }
#if defined(__x86_64__)
  /// Does not return here: exchange() returns from its __builtin_setjmp. Said to the compiler, since a tail call would
  /// take down the frame that is to be returned to.
  [[noreturn, gnu::noinline]] void go_to(fiber& to) {
    if (to.started) __builtin_longjmp(to.jump, 1);
    start(to, &unused_);
    __builtin_unreachable();
  }
#endif
  void start(fiber& to, ucontext_t* from) {
    to.started = true;
    getcontext(&to.context);
    to.context.uc_stack.ss_sp = to.stack.get();
    to.context.uc_stack.ss_size = stack_bytes;
    to.context.uc_link = nullptr;
    const auto self = reinterpret_cast<std::uintptr_t>(this);  // makecontext passes ints
    makecontext(&to.context, reinterpret_cast<void (*)()>(&fibers::enter), 2, static_cast<unsigned>(self >> 32),
                static_cast<unsigned>(self));
    swapcontext(from, &to.context);
  }

  static void enter(unsigned high, unsigned low) {
    reinterpret_cast<fibers*>(static_cast<std::uintptr_t>(high) << 32 | low)->go_round();
  }

  [[noreturn]] void go_round() {
#if defined(MXFP4_TEST_ASAN)
    const void* bottom = nullptr;
    std::size_t bytes = 0;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
    if (outside_bottom_ == nullptr) {  // the first fibre of all is entered from outside
      outside_bottom_ = bottom;
      outside_bytes_ = bytes;
    }
#endif
    for (;;) {
      try {
        (*body_)();
      } catch (...) {
        if (failure_ == nullptr) failure_ = std::current_exception();
      }
      at(current_).done = true;
      --running_;
      if (failure_ == nullptr && ready_.empty() && running_ > 0)
        failure_ = std::make_exception_ptr(fault("deadlock: " + waiting()));
      switch_to(failure_ != nullptr || running_ == 0 ? outside : pick());
    }
  }

  std::vector<std::unique_ptr<fiber>> all_;
  std::vector<int> ready_;
  const std::function<void()>* body_ = nullptr;
  std::exception_ptr failure_;
  fiber outside_;
  ucontext_t unused_{};
  [[maybe_unused]] const void* outside_bottom_ = nullptr;  // for AddressSanitizer
  [[maybe_unused]] std::size_t outside_bytes_ = 0;
  int count_ = 0;
  int current_ = outside;
  int running_ = 0;
  std::mt19937_64 random_;
};

}  // namespace mxfp4::cuda::emulator
