// mxfp4/moe.hpp -- a mixture of experts.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mxfp4/moe/moe.hpp"
