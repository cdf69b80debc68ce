// tests/cuda/emulator/fibers.hpp -- cooperative threads on one host thread, run in an order drawn from a seed.
// SPDX-License-Identifier: Apache-2.0
//
// A fibre runs until it waits; which of the ready ones goes on is drawn at random. So between two rendezvous the
// threads of a block run in every order, and a seed brings an order back. AddressSanitizer is told of each switch.
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

#if defined(__SANITIZE_ADDRESS__)
#define MXFP4_EMULATOR_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MXFP4_EMULATOR_ASAN 1
#endif
#endif
#if defined(MXFP4_EMULATOR_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif

namespace mxfp4::cuda::emulator {

/// What a kernel did wrong, and which thread of which block.
struct fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class fibers {
 public:
  explicit fibers(std::uint64_t seed) : random_(seed) {}
  fibers(const fibers&) = delete;
  fibers& operator=(const fibers&) = delete;

  /// Runs body() in `count` fibres until all have returned. The first exception of one ends the run and is thrown here;
  /// what the others hold on their stacks is then dropped without destructors. A fibre that waits when none is ready
  /// throws a fault that says what each waits for.
  void run(int count, const std::function<void()>& body) {
    body_ = &body;
    failure_ = nullptr;
    while (all_.size() < static_cast<std::size_t>(count)) all_.push_back(std::make_unique<fiber>());
    ready_.clear();
    for (int i = 0; i < count; ++i) {
      fiber& f = *all_[static_cast<std::size_t>(i)];
      f.done = false;
      f.waits_for = nullptr;
      getcontext(&f.context);
      f.context.uc_stack.ss_sp = f.stack.get();
      f.context.uc_stack.ss_size = stack_bytes;
      f.context.uc_link = nullptr;
      const auto self = reinterpret_cast<std::uintptr_t>(this);  // makecontext passes ints
      makecontext(&f.context, reinterpret_cast<void (*)()>(&fibers::enter), 2, static_cast<unsigned>(self >> 32),
                  static_cast<unsigned>(self));
      ready_.push_back(i);
    }
    running_ = count;
    switch_to(pick());
    if (failure_ != nullptr) std::rethrow_exception(failure_);
  }

  /// Number of the fibre that runs, and of those that have not returned.
  [[nodiscard]] int current() const noexcept { return current_; }
  [[nodiscard]] int running() const noexcept { return running_; }

  /// The current fibre waits until another calls wake() for it.
  void wait(const char* what) {
    all_[static_cast<std::size_t>(current_)]->waits_for = what;
    if (ready_.empty()) throw fault("deadlock: " + waiting());
    switch_to(pick());
  }
  void wake(int i) {
    all_[static_cast<std::size_t>(i)]->waits_for = nullptr;
    ready_.push_back(i);
  }
  /// Lets another fibre run first, if the draw says so.
  void yield() {
    ready_.push_back(current_);
    switch_to(pick());
  }

  [[nodiscard]] std::uint64_t draw(std::uint64_t below) { return random_() % below; }

 private:
#if defined(MXFP4_EMULATOR_ASAN)
  static constexpr std::size_t stack_bytes = 256 * 1024;
#else
  static constexpr std::size_t stack_bytes = 64 * 1024;
#endif
  static constexpr int outside = -1;

  struct fiber {
    ucontext_t context{};
    std::unique_ptr<std::byte[]> stack{new std::byte[stack_bytes]};
    void* fake_stack = nullptr;
    bool done = false;
    const char* waits_for = nullptr;
  };

  [[nodiscard]] int pick() {
    const std::size_t i = static_cast<std::size_t>(draw(ready_.size()));
    const int chosen = ready_[i];
    ready_[i] = ready_.back();
    ready_.pop_back();
    return chosen;
  }

  [[nodiscard]] std::string waiting() const {
    std::string text;
    for (std::size_t i = 0; i < all_.size() && text.size() < 400; ++i) {
      const fiber& f = *all_[i];
      if (f.done) text += " " + std::to_string(i) + ":returned";
      else if (f.waits_for != nullptr) text += " " + std::to_string(i) + ":" + f.waits_for;
    }
    return "threads wait for what cannot come:" + text;
  }

  void switch_to(int next) {
    const int previous = current_;
    if (next == previous) return;
    ucontext_t& from = previous == outside ? outside_ : all_[static_cast<std::size_t>(previous)]->context;
    ucontext_t& to = next == outside ? outside_ : all_[static_cast<std::size_t>(next)]->context;
    current_ = next;
#if defined(MXFP4_EMULATOR_ASAN)
    const bool leaves = previous != outside && all_[static_cast<std::size_t>(previous)]->done;
    void** save = previous == outside ? &outside_fake_stack_ : &all_[static_cast<std::size_t>(previous)]->fake_stack;
    const void* bottom = next == outside ? outside_bottom_ : all_[static_cast<std::size_t>(next)]->stack.get();
    __sanitizer_start_switch_fiber(leaves ? nullptr : save, bottom, next == outside ? outside_bytes_ : stack_bytes);
#endif
    swapcontext(&from, &to);
#if defined(MXFP4_EMULATOR_ASAN)
    __sanitizer_finish_switch_fiber(*save, nullptr, nullptr);
#endif
  }

  static void enter(unsigned high, unsigned low) {
    auto* self = reinterpret_cast<fibers*>(static_cast<std::uintptr_t>(high) << 32 | low);
#if defined(MXFP4_EMULATOR_ASAN)
    const void* bottom = nullptr;
    std::size_t bytes = 0;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
    if (self->started_from_outside()) {
      self->outside_bottom_ = bottom;
      self->outside_bytes_ = bytes;
    }
#endif
    self->first_ = false;
    try {
      (*self->body_)();
    } catch (...) {
      if (self->failure_ == nullptr) self->failure_ = std::current_exception();
    }
    self->leave();
  }

  [[nodiscard]] bool started_from_outside() const noexcept { return first_; }

  void leave() {
    fiber& f = *all_[static_cast<std::size_t>(current_)];
    f.done = true;
    --running_;
    if (failure_ == nullptr && ready_.empty() && running_ > 0)
      failure_ = std::make_exception_ptr(fault("deadlock: " + waiting()));
    const bool over = failure_ != nullptr || running_ == 0;
    if (over) first_ = true;
    switch_to(over ? outside : pick());
  }

  std::vector<std::unique_ptr<fiber>> all_;
  std::vector<int> ready_;
  const std::function<void()>* body_ = nullptr;
  std::exception_ptr failure_;
  ucontext_t outside_{};
  void* outside_fake_stack_ = nullptr;
  const void* outside_bottom_ = nullptr;
  std::size_t outside_bytes_ = 0;
  int current_ = outside;
  int running_ = 0;
  bool first_ = true;  ///< the next fibre to start is entered from run()
  std::mt19937_64 random_;
};

}  // namespace mxfp4::cuda::emulator
