// mxfp4/layout.hpp -- where the codes and scales of a matrix lie.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mxfp4/tensor/layout.hpp"
