// mxfp4/quantize.hpp -- whole matrices: numbers <-> MXFP4.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mxfp4/reference/error_statistics.hpp"
#include "mxfp4/reference/quantize.hpp"
