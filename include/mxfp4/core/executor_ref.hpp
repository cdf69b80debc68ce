// mxfp4/core/executor_ref.hpp -- who runs the tasks of a whole-matrix function.
// SPDX-License-Identifier: Apache-2.0
//
// The library has no threads of its own. A function splits its work into tasks, by the shape alone, and hands them to
// an executor: serial by default, the caller's thread pool through an adapter (executor/tbb.hpp, executor/openmp.hpp).
#pragma once

#include <concepts>
#include <cstddef>
#include <type_traits>

#include "mxfp4/core/config.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

namespace detail {
inline namespace MXFP4_ISA_NS {
// Functions by name and not lambdas: a lambda in a constructor would be one function for all instruction sets.
template <class F>
void call_task(const void* f, std::size_t index) {
  (*static_cast<F*>(const_cast<void*>(f)))(index);
}
}  // namespace MXFP4_ISA_NS
}  // namespace detail

/// A non-owning reference to a callable void(std::size_t). It must outlive the call it is passed to.
class task_ref {
 public:
  /// Of a callable; only its address is kept.
  template <class F>
    requires(!std::same_as<std::remove_cvref_t<F>, task_ref>) && std::invocable<F&, std::size_t>
  MXFP4_INLINE constexpr task_ref(F&& body) noexcept  // NOLINT(google-explicit-constructor)
      : body_(&body), call_(&detail::call_task<std::remove_reference_t<F>>) {}
  /// Runs the task with this number.
  MXFP4_INLINE void operator()(std::size_t index) const { call_(body_, index); }

 private:
  const void* body_;
  void (*call_)(const void*, std::size_t);
};

/// What runs tasks: an object with a member run(std::size_t tasks, mxfp4::task_ref body). It calls body(0) ...
/// body(tasks - 1) once each, in any order and on any thread, and returns when all have returned. A lambda is no
/// executor. What an executor throws passes through the library; the output is then unspecified.
template <class E>
concept executor = requires(E& e, std::size_t tasks, task_ref body) { e.run(tasks, body); };

namespace detail {
inline namespace MXFP4_ISA_NS {

/// Calls run() of an executor of type E, of which only the address is known.
template <class E>
void run_executor(const void* self, std::size_t tasks, task_ref body) {
  static_cast<E*>(const_cast<void*>(self))->run(tasks, body);
}

}  // namespace MXFP4_ISA_NS
}  // namespace detail

/// The plain loop.
struct serial_executor {
  /// Calls body(0) ... body(tasks - 1), in order, on this thread.
  MXFP4_INLINE void run(std::size_t tasks, task_ref body) const {
    for (std::size_t i = 0; i < tasks; ++i) body(i);
  }
};
inline constexpr serial_executor serial{};  ///< the default of every call

/// A non-owning reference to an executor: what the functions take. The executor must outlive it, so it is made of one
/// that has a name and not of a temporary.
class executor_ref {
 public:
  MXFP4_INLINE constexpr executor_ref() noexcept : executor_ref(serial) {}
  /// What is no executor, or a temporary, is refused by a static_assert and not by a constraint: the assertion's
  /// sentence reaches the reader, while an unmet constraint only removes the overload without saying why.
  template <class E>
    requires(!std::same_as<std::remove_cvref_t<E>, executor_ref>)
  MXFP4_INLINE constexpr executor_ref(E&& e) noexcept {  // NOLINT(google-explicit-constructor)
    using type = std::remove_reference_t<E>;
    static_assert(executor<type>,
                  "an executor has a member run(std::size_t tasks, mxfp4::task_ref body), as a lambda has not");
    static_assert(std::is_lvalue_reference_v<E>,
                  "a temporary executor would be gone before it is used: give it a name, and pass that");
    if constexpr (executor<type>) {
      executor_ = &e;
      run_ = detail::run_executor<type>;
    }
  }

  /// Hands the tasks to the executor, and returns when all have ended.
  MXFP4_INLINE void run(std::size_t tasks, task_ref body) const { run_(executor_, tasks, body); }

 private:
  const void* executor_ = nullptr;
  void (*run_)(const void*, std::size_t, task_ref) = nullptr;
};

}  // namespace mxfp4
