// examples/python/src/arrays.cpp -- see arrays.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "arrays.hpp"

#include <algorithm>
#include <string_view>

namespace mxfp4::python {

namespace {

[[noreturn]] void raise(nb::handle exception, const std::string& sentence) {
  PyErr_SetString(exception.ptr(), sentence.c_str());
  throw nb::python_error();
}

[[nodiscard]] std::string text_of(nb::handle object) { return nb::str(object).c_str(); }

/// Whether its class or one that this is derived from is the module's: a subclass of torch.Tensor is one.
[[nodiscard]] bool is_of_module(nb::handle object, std::string_view module) {
  for (const nb::handle type : object.type().attr("__mro__")) {
    const std::string name = text_of(nb::getattr(type, "__module__", nb::str("")));
    if (name == module || (name.starts_with(module) && name[module.size()] == '.')) return true;
  }
  return false;
}

/// "float32" of numpy.dtype("float32") and of torch.float32; empty where the object has none.
[[nodiscard]] std::string dtype_of(nb::handle object) {
  if (!nb::hasattr(object, "dtype")) return {};
  const nb::object type = object.attr("dtype");
  const std::string name = text_of(nb::hasattr(type, "name") ? nb::object(type.attr("name")) : type);
  return name.starts_with("torch.") ? name.substr(6) : name;
}

[[nodiscard]] std::string names_of(std::initializer_list<dtype> types) {
  std::string names;
  for (std::size_t i = 0; i < types.size(); ++i)
    names += std::string(i == 0 ? "" : i + 1 < types.size() ? ", " : " or ") + dtype_name(types.begin()[i]);
  return names;
}

/// Why its owner does not let it be read.
[[nodiscard]] std::string reason(nb::handle object) {
  try {
    static_cast<void>(object.attr("__dlpack__")());
  } catch (const nb::python_error& error) {
    return text_of(error.value());
  }
  return "of a kind that is not read";
}

}  // namespace

const char* dtype_name(dtype type) noexcept {
  constexpr const char* names[] = {"float32", "bfloat16", "float16", "uint8"};
  return names[static_cast<std::size_t>(type)];
}

void raise(const status& s) {
  if (s.ok()) return;
  const bool memory = s.code == errc::out_of_memory, isa = s.code == errc::isa_unavailable;
  raise(memory ? PyExc_MemoryError : isa ? PyExc_RuntimeError : PyExc_ValueError, std::string(message(s).view()));
}

void raise(nb::handle exception, const fault& f) {
  raise(exception, f.what + " is " + f.value + ", expected " + f.expected + (f.advice.empty() ? "" : ": " + f.advice));
}

array read_array(nb::handle from, const char* name, std::size_t dimensions, std::initializer_list<dtype> types) {
  if (!nb::hasattr(from, "__dlpack__"))
    raise(PyExc_TypeError, {name, "a " + text_of(from.type().attr("__name__")), "an array", "numpy.asarray makes one"});
  array a;
  a.of_torch = is_of_module(from, "torch");
  if (a.of_torch)  // meta and the like have no memory to look at
    if (const std::string device = text_of(from.attr("device")); device != "cpu")
      raise(PyExc_TypeError, {name, "on device '" + device + "'", "'cpu'", "copy it there"});
  const std::string type = dtype_of(from);
  const auto* const found = std::find_if(types.begin(), types.end(), [&](dtype t) { return type == dtype_name(t); });
  if (found == types.end()) raise(PyExc_TypeError, {name, type.empty() ? "of no dtype" : type, names_of(types)});
  a.type = *found;

  nb::object readable = nb::borrow(from);
  if (a.of_torch) readable = from.attr("detach")();  // a parameter is read without its gradient
  if (a.type == dtype::bfloat16 && is_of_module(from, "numpy")) readable = from.attr("view")("uint16");
  if (!nb::try_cast(readable, a.memory, false)) raise(PyExc_TypeError, {name, reason(readable), "a plain array"});
  if (a.memory.device_type() != nb::device::cpu::value)
    raise(PyExc_TypeError,
          {name, "on device type " + std::to_string(a.memory.device_type()), "the CPU", "copy it there"});
  if (a.memory.ndim() != dimensions)
    raise(status{errc::shape_mismatch, "ndim", static_cast<std::int64_t>(a.memory.ndim()),
                 static_cast<std::int64_t>(dimensions), name});
  const std::size_t last = dimensions - 1;
  a.cols = static_cast<std::int64_t>(a.memory.shape(last));
  a.rows = dimensions == 2 ? static_cast<std::int64_t>(a.memory.shape(0)) : 1;
  if (a.cols > 1 && a.memory.stride(last) != 1)
    raise(PyExc_ValueError, {std::string(name) + ".stride of the last dimension", std::to_string(a.memory.stride(last)),
                             "1", "make it contiguous"});
  a.stride = a.rows > 1 ? a.memory.stride(0) : a.cols;  // of one row it may be anything
  return a;
}

new_array make_array(const nb::tuple& shape, dtype type, bool of_torch) {
  const nb::module_ module = nb::module_::import_(of_torch ? "torch" : "numpy");
  const bool as_bits = type == dtype::bfloat16 && !of_torch;
  new_array made;
  const nb::object element = module.attr(as_bits ? "uint16" : dtype_name(type));
  made.object = of_torch ? module.attr("empty")(shape, nb::arg("dtype") = element,
                                                nb::arg("device") = "cpu")  // torch's default may be another one
                         : module.attr("empty")(shape, nb::arg("dtype") = element);
  made.data = reinterpret_cast<void*>(
      nb::cast<std::uintptr_t>(of_torch ? made.object.attr("data_ptr")() : made.object.attr("ctypes").attr("data")));
  if (as_bits) made.object = made.object.attr("view")(nb::module_::import_("ml_dtypes").attr("bfloat16"));
  return made;
}

}  // namespace mxfp4::python
