// mxfp4/router.hpp -- which experts a token goes to.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mxfp4/moe/router.hpp"
