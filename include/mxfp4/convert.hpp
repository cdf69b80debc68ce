// mxfp4/convert.hpp -- from one layout to another, without loss.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mxfp4/tensor/convert.hpp"
