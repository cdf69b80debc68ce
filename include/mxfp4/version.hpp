// mxfp4/version.hpp -- the version of this library.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mxfp4/core/version.hpp"
