// mxfp4/format/recipe_id.hpp -- recipes chosen at run time, by number or by name.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "mxfp4/core/status.hpp"
#include "mxfp4/format/recipe.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// The named recipes. The numbers are stable: they may be stored.
enum class recipe_id : std::uint8_t {
  ocp = 0,
  compressed_tensors = 1,
  torchao_floor = 2,
  torchao_ceil = 3,
  torchao_even = 4,
  torchao_rceil = 5,
  microxcaling_nearest = 6,
  microxcaling_even = 7,
  microxcaling_py_nearest = 8,
  microxcaling_py_even = 9,
  modelopt = 10,
  ggml = 11,
  mlx = 12,
  triton_up = 13,
  triton_down = 14,
  triton_legacy = 15,
  cuda_rceil = 16,
  cuda_rceil_satfinite = 17,
  min_mse = 18,
  mlx_0_32_1 = 19,
  mlx_metal = 20,
  mlx_metal_0_32_1 = 21,
  quark = 22,
  auto_round = 23,
  nncf = 24,
};

inline constexpr int recipe_count = 25;  ///< enumerators of recipe_id

namespace detail {
template <class... Rs>
struct recipe_list {
  static constexpr std::array<const char*, sizeof...(Rs)> names = {Rs::name...};

  /// Calls f.operator()<R>() for the recipe number `index`; false where there is none.
  template <class F>
  MXFP4_INLINE static constexpr bool visit(unsigned index, F&& f) {
    unsigned i = 0;
    return ((i++ == index && (f.template operator()<Rs>(), true)) || ...);
  }
};

using all_recipes =  // in the order of recipe_id
    recipe_list<recipe::ocp, recipe::compressed_tensors, recipe::torchao_floor, recipe::torchao_ceil,
                recipe::torchao_even, recipe::torchao_rceil, recipe::microxcaling_nearest, recipe::microxcaling_even,
                recipe::microxcaling_py_nearest, recipe::microxcaling_py_even, recipe::modelopt, recipe::ggml,
                recipe::mlx, recipe::triton_up, recipe::triton_down, recipe::triton_legacy, recipe::cuda_rceil,
                recipe::cuda_rceil_satfinite, recipe::min_mse, recipe::mlx_0_32_1, recipe::mlx_metal,
                recipe::mlx_metal_0_32_1, recipe::quark, recipe::auto_round, recipe::nncf>;
static_assert(all_recipes::names.size() == recipe_count);
}  // namespace detail

/// Calls `f.template operator()<Recipe>()` with the recipe type of `id`: visit_recipe(id, [&]<class R>() { ... }).
/// @return false, and no call, where `id` is not one of the enumerators.
template <class F>
MXFP4_INLINE constexpr bool visit_recipe(recipe_id id, F&& f) {
  return detail::all_recipes::visit(static_cast<unsigned>(id), f);
}

namespace detail {
/// f.operator()<Recipe>() for the recipe of `id`, or errc::unknown_recipe.
template <class F>
[[nodiscard]] MXFP4_INLINE status with_recipe(recipe_id id, F f) {
  status s{errc::unknown_recipe, "recipe", static_cast<std::int64_t>(id)};
  visit_recipe(id, [&]<class Recipe>() { s = f.template operator()<Recipe>(); });
  return s;
}
template <class Recipe, class... Rs>
[[nodiscard]] consteval int index_in(recipe_list<Rs...>*) {
  int index = 0;
  return ((std::same_as<Recipe, Rs> || (++index, false)) || ...) ? index : -1;
}
}  // namespace detail

/// The id of a named recipe.
template <class Recipe>
  requires(detail::index_in<Recipe>(static_cast<detail::all_recipes*>(nullptr)) >= 0)
inline constexpr auto recipe_id_of =
    static_cast<recipe_id>(detail::index_in<Recipe>(static_cast<detail::all_recipes*>(nullptr)));
static_assert(recipe_id_of<recipe::modelopt> == recipe_id::modelopt && recipe_id_of<recipe::ocp> == recipe_id::ocp);

/// The recipe's name, as on the command line; nullptr where `id` is not one of the enumerators.
[[nodiscard]] MXFP4_INLINE constexpr const char* recipe_name(recipe_id id) noexcept {
  const auto index = static_cast<std::size_t>(id);
  return index < recipe_count ? detail::all_recipes::names[index] : nullptr;
}

/// Finds a recipe by its exact name. @return true and the recipe in `out`; false, `out` untouched, for any other text.
[[nodiscard]] MXFP4_INLINE constexpr bool find_recipe(std::string_view name, recipe_id& out) noexcept {
  for (std::size_t i = 0; i < recipe_count; ++i)
    if (name == detail::all_recipes::names[i]) {
      out = static_cast<recipe_id>(i);
      return true;
    }
  return false;
}

namespace detail {
[[nodiscard]] consteval bool ids_match_names() {
  recipe_id id{};
  return find_recipe("ocp", id) && id == recipe_id::ocp && find_recipe("modelopt", id) && id == recipe_id::modelopt &&
         find_recipe("triton_legacy", id) && id == recipe_id::triton_legacy && find_recipe("min_mse", id) &&
         id == recipe_id::min_mse && find_recipe("nncf", id) && id == recipe_id::nncf && !find_recipe("OCP", id);
}
}  // namespace detail
static_assert(detail::ids_match_names());

}  // namespace mxfp4
