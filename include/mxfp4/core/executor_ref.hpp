// mxfp4/core/executor_ref.hpp -- who runs the tasks of a whole-matrix function.
// SPDX-License-Identifier: Apache-2.0
//
// The library has no threads of its own. A function splits its work into tasks, by the shape alone, and hands them to
// an executor: serial by default, the caller's thread pool through an adapter (executor/tbb.hpp, executor/openmp.hpp).
#pragma once

#include <concepts>
#include <cstddef>
#include <type_traits>

namespace mxfp4 {

/// A non-owning reference to a callable void(std::size_t). It must outlive the call it is passed to.
class task_ref {
 public:
  template <class F>
    requires(!std::same_as<std::remove_cvref_t<F>, task_ref>) && std::invocable<F&, std::size_t>
  constexpr task_ref(F&& body) noexcept  // NOLINT(google-explicit-constructor)
      : body_(&body), call_([](const void* f, std::size_t i) {
          (*static_cast<std::remove_reference_t<F>*>(const_cast<void*>(f)))(i);
        }) {}
  void operator()(std::size_t index) const { call_(body_, index); }

 private:
  const void* body_;
  void (*call_)(const void*, std::size_t);
};

/// run(tasks, body) calls body(0) ... body(tasks - 1) once each, in any order and on any thread, and returns after all.
/// What an executor throws passes through the library; the output is then unspecified.
template <class E>
concept executor = requires(E& e, std::size_t tasks, task_ref body) { e.run(tasks, body); };

/// The plain loop.
struct serial_executor {
  void run(std::size_t tasks, task_ref body) const {
    for (std::size_t i = 0; i < tasks; ++i) body(i);
  }
};
inline constexpr serial_executor serial{};

/// A non-owning reference to an executor: what the functions take. It must outlive the call it is passed to.
class executor_ref {
 public:
  constexpr executor_ref() noexcept : executor_ref(serial) {}
  template <class E>
    requires(!std::same_as<std::remove_cvref_t<E>, executor_ref>) && executor<E>
  constexpr executor_ref(E&& e) noexcept  // NOLINT(google-explicit-constructor)
      : executor_(&e), run_([](const void* self, std::size_t tasks, task_ref body) {
          static_cast<std::remove_reference_t<E>*>(const_cast<void*>(self))->run(tasks, body);
        }) {}
  void run(std::size_t tasks, task_ref body) const { run_(executor_, tasks, body); }

 private:
  const void* executor_;
  void (*run_)(const void*, std::size_t, task_ref);
};

}  // namespace mxfp4
