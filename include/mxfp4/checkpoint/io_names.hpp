// mxfp4/checkpoint/io_names.hpp -- checkpoints are made of files: what mxfp4::io calls a thing is its name here too.
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace mxfp4::inline MXFP4_VERSION_NS::io {}

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {
using namespace io;
}
