// tools/mxfp4/names.hpp -- the program speaks of files, checkpoints and models throughout: their names are its own.
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace mxfp4::io {}
namespace mxfp4::checkpoint {}
namespace mxfp4::model {}

namespace mxfp4::tools {
using namespace io;
using namespace checkpoint;
using namespace model;
}  // namespace mxfp4::tools
