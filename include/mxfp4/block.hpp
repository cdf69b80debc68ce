// mxfp4/block.hpp -- one number, and one block: 32 numbers <-> 17 bytes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mxfp4/core/e2m1.hpp"
#include "mxfp4/core/e8m0.hpp"
#include "mxfp4/core/float_types.hpp"
#include "mxfp4/format/block.hpp"
#include "mxfp4/format/mxfp8.hpp"
#include "mxfp4/format/peer_cast.hpp"
