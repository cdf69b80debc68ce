// examples/python/src/module.cpp -- the functions of the Python package: mxfp4::dispatch on arrays.
// SPDX-License-Identifier: Apache-2.0
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <mxfp4/dispatch.hpp>
#include <mxfp4/version.hpp>
#include <string>
#include <vector>

#include "arrays.hpp"

namespace mxfp4::python {

namespace {

[[nodiscard]] std::vector<std::string> recipes() {
  std::vector<std::string> names;
  for (int id = 0; id < recipe_count; ++id) names.emplace_back(recipe_name(static_cast<recipe_id>(id)));
  return names;
}

[[nodiscard]] std::vector<std::string> dialects() {
  std::vector<std::string> names;
  for (int id = 0; id < dialect_count; ++id)
    visit_dialect(static_cast<dialect_id>(id), [&]<class D>() { names.emplace_back(D::name); });
  return names;
}

/// The place of a word among those that an argument may be.
[[nodiscard]] std::size_t index_of(const char* what, const std::string& word, const std::vector<std::string>& words) {
  std::string expected = "one of";
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] == word) return i;
    expected += (i == 0 ? " " : ", ") + words[i];
  }
  raise(PyExc_ValueError, {what, "'" + word + "'", expected});
}

[[nodiscard]] recipe_id recipe_of(const std::string& name) {
  return static_cast<recipe_id>(index_of("recipe", name, recipes()));
}
[[nodiscard]] dialect_id dialect_of(const std::string& name) {
  return static_cast<dialect_id>(index_of("dialect", name, dialects()));
}
[[nodiscard]] dtype number_type_of(const std::string& name) {
  return static_cast<dtype>(index_of("dtype", name, {"float32", "bfloat16", "float16"}));
}

constexpr std::initializer_list<dtype> numbers = {dtype::float32, dtype::bfloat16, dtype::float16};

/// Runs without Python's lock: other threads go on meanwhile.
template <class Call>
void unlocked(Call&& call) {
  status s;
  {
    const nb::gil_scoped_release release;
    s = call();
  }
  raise(s);
}

/// Codes and scales as a matrix. They are given by their shapes, so these are compared with each other first.
[[nodiscard]] const_mx_view<> weights_of(const array& codes, const array& scales) {
  const std::int64_t cols = 2 * codes.cols;
  if (cols % block_size != 0) raise(status{errc::not_blocks, "2 * codes.shape[1]", cols});
  if (scales.rows != codes.rows) raise(status{errc::shape_mismatch, "scales.shape[0]", scales.rows, codes.rows});
  if (scales.cols != cols / block_size)
    raise(status{errc::shape_mismatch, "scales.shape[1]", scales.cols, cols / block_size});
  return {static_cast<const std::uint8_t*>(codes.memory.data()),
          static_cast<const std::uint8_t*>(scales.memory.data()),
          codes.rows,
          cols,
          codes.stride,
          scales.stride};
}

[[nodiscard]] nb::tuple quantize(nb::handle w, const std::string& recipe, const std::string& nonfinite) {
  const recipe_id id = recipe_of(recipe);
  const auto refuse = static_cast<on_nonfinite>(index_of("nonfinite", nonfinite, {"encode", "refuse"}));
  const array in = read_array(w, "w", 2, numbers);
  if (in.cols % block_size != 0) raise(status{errc::not_blocks, "cols", in.cols, 0, "w"});
  const new_array codes = make_array(nb::make_tuple(in.rows, in.cols / 2), dtype::uint8, in.of_torch);
  const new_array scales = make_array(nb::make_tuple(in.rows, in.cols / block_size), dtype::uint8, in.of_torch);
  const mx_view<> out{static_cast<std::uint8_t*>(codes.data),
                      static_cast<std::uint8_t*>(scales.data),
                      in.rows,
                      in.cols,
                      in.cols / 2,
                      in.cols / block_size};
  unlocked([&] {
    return with_numbers(in.type,
                        [&]<class T>() { return dispatch::quantize(id, in.view<T>(), out, {.nonfinite = refuse}); });
  });
  return nb::make_tuple(codes.object, scales.object);
}

[[nodiscard]] nb::object dequantize(nb::handle codes, nb::handle scales, const std::string& dialect,
                                    const std::string& type) {
  const dialect_id id = dialect_of(dialect);
  const dtype to = number_type_of(type);
  const array in_codes = read_array(codes, "codes", 2, {dtype::uint8});
  const array in_scales = read_array(scales, "scales", 2, {dtype::uint8});
  const const_mx_view<> w = weights_of(in_codes, in_scales);
  const new_array out = make_array(nb::make_tuple(w.rows, w.cols), to, in_codes.of_torch);
  unlocked([&] {
    return with_numbers(to, [&]<class T>() {
      return dispatch::dequantize(id, w, dense_view<T>{static_cast<T*>(out.data), w.rows, w.cols, w.cols});
    });
  });
  return out.object;
}

[[nodiscard]] nb::tuple encode(nb::handle x, const std::string& recipe) {
  const recipe_id id = recipe_of(recipe);
  const array in = read_array(x, "x", 1, numbers);
  raise(with_numbers(in.type, [&]<class T>() { return check(in.view<T>(), "x"); }));
  const std::int64_t blocks = (in.cols + block_size - 1) / block_size;
  const new_array codes = make_array(nb::make_tuple(blocks, block_code_bytes), dtype::uint8, in.of_torch);
  const new_array scales = make_array(nb::make_tuple(blocks), dtype::uint8, in.of_torch);
  unlocked([&] {
    return with_numbers(in.type, [&]<class T>() {
      return dispatch::encode_row(id, static_cast<const T*>(in.memory.data()), in.cols,
                                  static_cast<std::uint8_t*>(codes.data), static_cast<std::uint8_t*>(scales.data));
    });
  });
  return nb::make_tuple(codes.object, scales.object);
}

[[nodiscard]] nb::object decode(nb::handle codes, nb::handle scales, const std::string& dialect,
                                const std::string& type) {
  const dialect_id id = dialect_of(dialect);
  const dtype to = number_type_of(type);
  const array in_codes = read_array(codes, "codes", 2, {dtype::uint8});
  array in_scales = read_array(scales, "scales", 1, {dtype::uint8});
  if (in_codes.cols != block_code_bytes)
    raise(status{errc::shape_mismatch, "codes.shape[1]", in_codes.cols, block_code_bytes});
  in_scales.rows = in_scales.cols;  // a block is a row here
  in_scales.cols = in_scales.stride = 1;
  const const_mx_view<> w = weights_of(in_codes, in_scales);
  const new_array out = make_array(nb::make_tuple(w.rows * w.cols), to, in_codes.of_torch);
  unlocked([&] {
    return with_numbers(to, [&]<class T>() {
      return dispatch::dequantize(id, w, dense_view<T>{static_cast<T*>(out.data), w.rows, w.cols, w.cols});
    });
  });
  return out.object;
}

[[nodiscard]] nb::object gemv(nb::handle codes, nb::handle scales, nb::handle x, const std::string& dialect) {
  const dialect_id id = dialect_of(dialect);
  const array in_codes = read_array(codes, "codes", 2, {dtype::uint8});
  const array in_scales = read_array(scales, "scales", 2, {dtype::uint8});
  const array in = read_array(x, "x", 1, numbers);
  const const_mx_view<> w = weights_of(in_codes, in_scales);
  const new_array out = make_array(nb::make_tuple(w.rows), dtype::float32, in_codes.of_torch);
  unlocked([&] {
    const dense_view<float> y{static_cast<float*>(out.data), 1, w.rows, w.rows};
    return with_numbers(in.type, [&]<class T>() { return dispatch::gemm(id, w, in.view<T>(), y); });
  });
  return out.object;
}

[[nodiscard]] const char* isa() {
  const result<const char*> name = dispatch::isa();
  raise(name.error());
  return *name;
}

[[nodiscard]] std::string version() {
  return std::to_string(version_major) + "." + std::to_string(version_minor) + "." + std::to_string(version_patch);
}

}  // namespace

NB_MODULE(_mxfp4, m) {
  using nb::arg, nb::kw_only, nb::sig;
  m.doc() = "The compiled part of the package mxfp4.";
  m.attr("__version__") = version();
  m.def("quantize", &quantize, arg("w").none(), arg("recipe") = "ocp", kw_only(), arg("nonfinite") = "encode",
        sig("def quantize(w: A, recipe: str = 'ocp', *, nonfinite: str = 'encode') -> tuple[A, A]"),
        "A matrix N x K of float32, bfloat16 or float16, K a multiple of 32, to codes N x K/2 and scales N x K/32 of\n"
        "uint8, by one of recipes(). nonfinite: 'refuse' raises where there is a NaN or an infinity.");
  m.def("dequantize", &dequantize, arg("codes").none(), arg("scales").none(), arg("dialect") = "ocp", kw_only(),
        arg("dtype") = "float32",
        sig("def dequantize(codes: A, scales: A, dialect: str = 'ocp', *, dtype: str = 'float32') -> A"),
        "The inverse, read as one of dialects(): exact in float32 and bfloat16 (in NumPy that of ml_dtypes), rounded\n"
        "to nearest even in float16.");
  m.def("encode", &encode, arg("x").none(), arg("recipe") = "ocp",
        sig("def encode(x: A, recipe: str = 'ocp') -> tuple[A, A]"),
        "A vector of any length to its ceil(n / 32) blocks: codes, blocks x 16, and scales. The last block is filled\n"
        "up with zeros.");
  m.def("decode", &decode, arg("codes").none(), arg("scales").none(), arg("dialect") = "ocp", kw_only(),
        arg("dtype") = "float32",
        sig("def decode(codes: A, scales: A, dialect: str = 'ocp', *, dtype: str = 'float32') -> A"),
        "The inverse: a vector of 32 numbers for each block, with what filled up the last one.");
  m.def("gemv", &gemv, arg("codes").none(), arg("scales").none(), arg("x").none(), arg("dialect") = "ocp",
        sig("def gemv(codes: A, scales: A, x: Any, dialect: str = 'ocp') -> A"),
        "W x in float32: codes and scales as quantize makes them, x K numbers of float32, bfloat16 or float16.");
  m.def("recipes", &recipes, sig("def recipes() -> list[str]"), "How to encode: the names, and whose bytes they are.");
  m.def("dialects", &dialects, sig("def dialects() -> list[str]"), "How to decode: what byte 255, 0 and code 8 mean.");
  m.def("isa", &isa, sig("def isa() -> str"),
        "The instruction set whose kernels run: the best of this CPU, or the one that the environment's MXFP4_ISA "
        "names.");
}

}  // namespace mxfp4::python
