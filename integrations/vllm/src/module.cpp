// integrations/vllm/src/module.cpp -- the compiled part of mxfp4_vllm: layers made of tensors, run by addresses.
// SPDX-License-Identifier: Apache-2.0
//
// A layer is made once, of tensors by DLPack, whose types, sizes and gaps nanobind looks at. It is run for every token,
// by addresses: ops.py, which alone calls this, has looked at the tensors.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <cstdint>
#include <mxfp4/version.hpp>
#include <string>
#include <utility>

#include "layers.hpp"
#include "plain_linear.hpp"

namespace mxfp4::vllm {

namespace {

namespace nb = nanobind;
using bytes2 = nb::ndarray<const std::uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using bytes3 = nb::ndarray<const std::uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using bfloats2 = nb::ndarray<const std::int16_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;  // their bits
using floats2 = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

[[nodiscard]] workshop& shop() {
  static workshop one;
  return one;
}

void raise(const status& s) {
  if (s.ok()) return;
  const std::string sentence(message(s).view());
  PyErr_SetString(s.code == errc::out_of_memory     ? PyExc_MemoryError
                  : s.code == errc::isa_unavailable ? PyExc_RuntimeError
                                                    : PyExc_ValueError,
                  sentence.c_str());
  throw nb::python_error();
}

void raise_if_different(const char* what, std::size_t value, std::int64_t expected) {
  if (static_cast<std::int64_t>(value) != expected)
    raise({errc::shape_mismatch, what, static_cast<std::int64_t>(value), expected});
}

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

/// What `create` makes, a result<T>, without Python's lock too.
template <class T, class Create>
[[nodiscard]] T made_unlocked(Create&& create) {
  T made;
  unlocked([&]() -> status {
    result<T> one = create();
    if (!one) return one.error();
    made = *std::move(one);
    return {};
  });
  return made;
}

template <class T>
[[nodiscard]] T* at(std::uintptr_t address) noexcept {
  return reinterpret_cast<T*>(address);
}

[[nodiscard]] linear make_linear(const bytes2& codes, const bytes2& scales) {
  const auto rows = static_cast<std::int64_t>(codes.shape(0)), cols = 2 * static_cast<std::int64_t>(codes.shape(1));
  if (cols % block_size != 0) raise({errc::not_blocks, "2 * codes.shape[1]", cols});
  raise_if_different("scales.shape[0]", scales.shape(0), rows);
  raise_if_different("scales.shape[1]", scales.shape(1), cols / block_size);
  return made_unlocked<linear>([&] {
    return linear::create({codes.data(), scales.data(), rows, cols, cols / 2, cols / block_size}, shop().team);
  });
}

[[nodiscard]] const char* isa() {
  const result<const char*> name = dispatch::isa();
  raise(name.error());
  return *name;
}

[[nodiscard]] plain_linear make_plain(const bfloats2& weights) {
  const plain_kernels* const kernels = plain_linear::kernels_of(isa());
  if (kernels == nullptr) {
    PyErr_Format(PyExc_RuntimeError, "no PlainLinear for the instruction set %s: see plain_suits()", isa());
    throw nb::python_error();
  }
  return made_unlocked<plain_linear>([&] {
    return plain_linear::create(weights.data(), static_cast<std::int64_t>(weights.shape(0)),
                                static_cast<std::int64_t>(weights.shape(1)), *kernels, shop().team);
  });
}

[[nodiscard]] hidden_act act_of(const std::string& name) {
  if (name == "silu") return hidden_act::silu;
  if (name == "gpt_oss") return hidden_act::gpt_oss;
  if (name == "gelu_tanh") return hidden_act::gelu_tanh;
  PyErr_SetString(PyExc_ValueError, ("act is '" + name + "', expected silu, gpt_oss or gelu_tanh").c_str());
  throw nb::python_error();
}

[[nodiscard]] expert_layer make_experts(const bytes3& w13, const bytes3& w13_scale, const bytes3& w2,
                                        const bytes3& w2_scale, const nb::object& w13_bias, const nb::object& w2_bias,
                                        bool rows_in_turn, const std::string& act, float alpha, float limit) {
  expert_layer::source from;
  from.experts = static_cast<std::int64_t>(w13.shape(0));
  from.hidden = static_cast<std::int64_t>(w2.shape(1));
  from.intermediate = 2 * static_cast<std::int64_t>(w2.shape(2));
  if (from.hidden % block_size != 0) raise({errc::not_blocks, "w2.shape[1]", from.hidden});
  if (from.intermediate % block_size != 0) raise({errc::not_blocks, "2 * w2.shape[2]", from.intermediate});
  raise_if_different("w13.shape[1]", w13.shape(1), 2 * from.intermediate);
  raise_if_different("w13.shape[2]", w13.shape(2), from.hidden / 2);
  raise_if_different("w13_scale.shape[0]", w13_scale.shape(0), from.experts);
  raise_if_different("w13_scale.shape[1]", w13_scale.shape(1), 2 * from.intermediate);
  raise_if_different("w13_scale.shape[2]", w13_scale.shape(2), from.hidden / block_size);
  raise_if_different("w2.shape[0]", w2.shape(0), from.experts);
  raise_if_different("w2_scale.shape[0]", w2_scale.shape(0), from.experts);
  raise_if_different("w2_scale.shape[1]", w2_scale.shape(1), from.hidden);
  raise_if_different("w2_scale.shape[2]", w2_scale.shape(2), from.intermediate / block_size);
  from.w13 = w13.data();
  from.w13_scale = w13_scale.data();
  from.w2 = w2.data();
  from.w2_scale = w2_scale.data();
  from.rows_in_turn = rows_in_turn;
  floats2 up, down;
  if (!w13_bias.is_none()) {
    up = nb::cast<floats2>(w13_bias);
    raise_if_different("w13_bias.shape[0]", up.shape(0), from.experts);
    raise_if_different("w13_bias.shape[1]", up.shape(1), 2 * from.intermediate);
    from.w13_bias = up.data();
  }
  if (!w2_bias.is_none()) {
    down = nb::cast<floats2>(w2_bias);
    raise_if_different("w2_bias.shape[0]", down.shape(0), from.experts);
    raise_if_different("w2_bias.shape[1]", down.shape(1), from.hidden);
    from.w2_bias = down.data();
  }
  const hidden_act between = act_of(act);
  return made_unlocked<expert_layer>(
      [&] { return expert_layer::create(from, {.act = between, .alpha = alpha, .limit = limit}, shop().team); });
}

[[nodiscard]] std::span<const std::int32_t> map_of(std::uintptr_t local, std::int64_t global) noexcept {
  return {at<const std::int32_t>(local), local == 0 ? 0 : static_cast<std::size_t>(global)};
}

}  // namespace

NB_MODULE(_mxfp4_vllm, m) {
  using nb::arg, nb::kw_only;
  m.attr("__version__") =
      std::to_string(version_major) + "." + std::to_string(version_minor) + "." + std::to_string(version_patch);
  m.doc() = "The compiled part of mxfp4_vllm: mxfp4's kernels of every instruction set.";
  m.def("isa", &isa, "The instruction set whose kernels run: the best of this CPU, or the one MXFP4_ISA names.");
  m.def(
      "threads", [] { return shop().team.threads(); }, "How many threads a call has.");
  m.def(
      "use_openmp",
      [](std::uintptr_t parallel, std::uintptr_t max_threads) {
        shop().team = process_team(
            {reinterpret_cast<openmp_library::parallel_type>(parallel), reinterpret_cast<int (*)()>(max_threads)});
      },
      arg("parallel"), arg("max_threads"), "Addresses of GOMP_parallel and omp_get_max_threads: whose threads to use.");

  nb::class_<linear>(m, "Linear", "N x K weights, packed.")
      .def(
          "__init__",
          [](linear* self, const bytes2& codes, const bytes2& scales) {
            new (self) linear(make_linear(codes, scales));
          },
          arg("codes"), arg("scales"))
      .def_prop_ro("rows", &linear::rows)
      .def_prop_ro("cols", &linear::cols)
      .def_prop_ro("nbytes", &linear::bytes)
      .def("run", [](const linear& self, std::uintptr_t x, std::int64_t tokens, std::int64_t stride,
                     std::uintptr_t bias, std::uintptr_t y, int type, int kind) {
        unlocked([&] {
          return self.run({at<const void>(x), tokens, stride}, at<const float>(bias), {at<void>(y)},
                          static_cast<number>(type), static_cast<activations>(kind), shop());
        });
      });

  m.def(
      "plain_suits", [] { return plain_linear::kernels_of(isa()) != nullptr && plain_linear::beats_dot_products(); },
      "Has PlainLinear kernels of the instruction set that isa() names, and are they worth it on this CPU?");
  nb::class_<plain_linear>(m, "PlainLinear", "N x K weights in bfloat16, packed.")
      .def(
          "__init__", [](plain_linear* self, const bfloats2& weights) { new (self) plain_linear(make_plain(weights)); },
          arg("weights"))
      .def_prop_ro("rows", &plain_linear::rows)
      .def_prop_ro("cols", &plain_linear::cols)
      .def_prop_ro("nbytes", &plain_linear::bytes)
      .def("run", [](const plain_linear& self, std::uintptr_t x, std::int64_t tokens, std::int64_t stride,
                     std::uintptr_t bias, std::uintptr_t y, int type, int) {
        raise_if_different("the type of x", static_cast<std::size_t>(type), static_cast<int>(number::bfloat16));
        unlocked([&]() -> status {
          self.run({at<const void>(x), tokens, stride}, at<const float>(bias), {at<void>(y)}, shop());
          return {};
        });
      });

  nb::class_<expert_layer>(m, "Experts", "The experts of a layer that this process has, packed.")
      .def(
          "__init__",
          [](expert_layer* self, const bytes3& w13, const bytes3& w13_scale, const bytes3& w2, const bytes3& w2_scale,
             const nb::object& w13_bias, const nb::object& w2_bias, bool rows_in_turn, const std::string& act,
             float alpha, float limit) {
            new (self) expert_layer(
                make_experts(w13, w13_scale, w2, w2_scale, w13_bias, w2_bias, rows_in_turn, act, alpha, limit));
          },
          arg("w13"), arg("w13_scale"), arg("w2"), arg("w2_scale"), arg("w13_bias").none(), arg("w2_bias").none(),
          arg("rows_in_turn"), arg("act"), arg("alpha"), arg("limit"))
      .def_prop_ro("count", &expert_layer::experts)
      .def_prop_ro("hidden", &expert_layer::hidden)
      .def_prop_ro("intermediate", &expert_layer::intermediate)
      .def_prop_ro("nbytes", &expert_layer::bytes)
      .def("run",
           [](const expert_layer& self, std::uintptr_t x, std::int64_t tokens, std::int64_t stride,
              std::uintptr_t indices, std::uintptr_t weights, std::int64_t top_k, std::uintptr_t local,
              std::int64_t global, std::uintptr_t y, int type, int kind) {
             unlocked([&] {
               return self.run({at<const void>(x), tokens, stride},
                               {at<const std::int32_t>(indices), tokens, top_k, top_k},
                               {at<const float>(weights), tokens, top_k, top_k}, map_of(local, global), {at<void>(y)},
                               static_cast<number>(type), static_cast<activations>(kind), shop());
             });
           })
      .def("route_and_run", [](const expert_layer& self, std::uintptr_t x, std::int64_t tokens, std::int64_t stride,
                               std::uintptr_t logits, std::int64_t logits_stride, std::int64_t logits_cols,
                               int logits_type, std::uintptr_t bias, std::int64_t top_k, bool renormalize, float scale,
                               int scoring, std::int64_t n_group, std::int64_t topk_group, std::uintptr_t local,
                               std::int64_t global, std::uintptr_t y, int type, int kind) {
        raise_if_different("logits.shape[1]", static_cast<std::size_t>(logits_cols),
                           local == 0 ? self.experts() : global);
        unlocked([&] {
          const routing router{{at<const void>(logits), tokens, logits_stride},
                               static_cast<number>(logits_type),
                               at<const float>(bias),
                               top_k,
                               {.renormalize = renormalize,
                                .scale = scale,
                                .scoring = static_cast<scoring_func>(scoring),
                                .n_group = n_group,
                                .topk_group = topk_group}};
          return self.run({at<const void>(x), tokens, stride}, router, map_of(local, global), {at<void>(y)},
                          static_cast<number>(type), static_cast<activations>(kind), shop());
        });
      });
}

}  // namespace mxfp4::vllm
