// src/model/names.hpp -- a model is read from checkpoints: their names are its own.
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace mxfp4::io {}
namespace mxfp4::checkpoint {}

namespace mxfp4::model {
using namespace io;
using namespace checkpoint;
}  // namespace mxfp4::model
