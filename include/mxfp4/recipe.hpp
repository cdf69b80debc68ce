// mxfp4/recipe.hpp -- whose bytes you get: the recipes, as types (recipe::) and at run time (recipe_id).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mxfp4/format/recipe.hpp"
#include "mxfp4/format/recipe_id.hpp"
