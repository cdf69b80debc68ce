// mxfp4/recipe.hpp -- whose bytes you get: the recipes, as types (recipe::) and at run time (recipe_id).
// SPDX-License-Identifier: Apache-2.0
//
// The format says what a code and a scale byte mean, not how to choose them; every program chooses otherwise. A recipe
// is such a choice under the name of the program whose bytes it gives; `ocp` is the standard's own. In code it is a
// type, as a template argument; from a command line or a configuration file a recipe_id.
//
// Example:
//
//   mxfp4::recipe_id id{};
//   if (!mxfp4::find_recipe("compressed_tensors", id)) std::puts("no such recipe");
//   float x[mxfp4::block_size] = {7.0f};
//   const auto theirs = mxfp4::encode_block<mxfp4::recipe::compressed_tensors>(x);  // scale 2: 7 is 3.5 * 2, code 6
//   const auto standard = mxfp4::encode_block<mxfp4::recipe::ocp>(x);               // scale 1: 7 saturates to 6
#pragma once

#include "mxfp4/format/recipe.hpp"
#include "mxfp4/format/recipe_id.hpp"
