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

namespace mxfp4 {

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
  template <class F>
    requires(!std::same_as<std::remove_cvref_t<F>, task_ref>) && std::invocable<F&, std::size_t>
  MXFP4_INLINE constexpr task_ref(F&& body) noexcept  // NOLINT(google-explicit-constructor)
      : body_(&body), call_(&detail::call_task<std::remove_reference_t<F>>) {}
  MXFP4_INLINE void operator()(std::size_t index) const { call_(body_, index); }

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
  MXFP4_INLINE void run(std::size_t tasks, task_ref body) const {
    for (std::size_t i = 0; i < tasks; ++i) body(i);
  }
};
inline constexpr serial_executor serial{};

namespace detail {
inline namespace MXFP4_ISA_NS {
template <class E>
void run_executor(const void* executor, std::size_t tasks, task_ref body) {
  static_cast<E*>(const_cast<void*>(executor))->run(tasks, body);
}
}  // namespace MXFP4_ISA_NS
}  // namespace detail

/// A non-owning reference to an executor: what the functions take. It must outlive the call it is passed to.
class executor_ref {
 public:
  MXFP4_INLINE constexpr executor_ref() noexcept : executor_ref(serial) {}
  template <class E>
    requires(!std::same_as<std::remove_cvref_t<E>, executor_ref>) && executor<E>
  MXFP4_INLINE constexpr executor_ref(E&& e) noexcept  // NOLINT(google-explicit-constructor)
      : executor_(&e), run_(&detail::run_executor<std::remove_reference_t<E>>) {}
  MXFP4_INLINE void run(std::size_t tasks, task_ref body) const { run_(executor_, tasks, body); }

 private:
  const void* executor_;
  void (*run_)(const void*, std::size_t, task_ref);
};

}  // namespace mxfp4
