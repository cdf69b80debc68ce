// examples/python/src/arrays.hpp -- arrays of Python as views, and what is wrong with an argument as an exception.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <initializer_list>
#include <mxfp4/status.hpp>
#include <mxfp4/view.hpp>
#include <string>

namespace mxfp4::python {

namespace nb = nanobind;

/// Raises the sentence of a status: MemoryError, RuntimeError where MXFP4_ISA names no instruction set to be had, else
/// ValueError. Nothing where it is ok.
void raise(const status& s);

/// What the library has no status for, in a sentence of the same shape.
struct fault {
  std::string what, value, expected, advice = {};
};
[[noreturn]] void raise(nb::handle exception, const fault& f);

enum class dtype : std::uint8_t { float32, bfloat16, float16, uint8 };
[[nodiscard]] const char* dtype_name(dtype type) noexcept;

/// An argument: memory of the CPU, whose last dimension has no gaps. Nothing is copied.
struct array {
  nb::ndarray<nb::ro> memory;  ///< keeps it
  dtype type = dtype::float32;
  std::int64_t rows = 1, cols = 0, stride = 0;  ///< in elements; a vector is one row
  bool of_torch = false;

  template <class T>
  [[nodiscard]] dense_view<const T> view() const {
    return {static_cast<const T*>(memory.data()), rows, cols, stride};
  }
};

/// @param name   the argument's, for the messages: a literal.
/// @param types  those that it may have.
/// @throws TypeError for another kind of object, dtype or device, ValueError for another number of dimensions, or gaps.
[[nodiscard]] array read_array(nb::handle from, const char* name, std::size_t dimensions,
                               std::initializer_list<dtype> types);

/// A new array, torch's or NumPy's, and its memory. bfloat16 in NumPy is the type of the package ml_dtypes.
struct new_array {
  nb::object object;
  void* data = nullptr;
};
[[nodiscard]] new_array make_array(const nb::tuple& shape, dtype type, bool of_torch);

/// f.operator()<T>() with the type of the numbers.
template <class F>
auto with_numbers(dtype type, F&& f) {
  if (type == dtype::bfloat16) return f.template operator()<bf16>();
  if (type == dtype::float16) return f.template operator()<f16>();
  return f.template operator()<float>();
}

}  // namespace mxfp4::python
