// src/checkpoint/unlisted_tensors.hpp -- tensors that are in the shards and that the index forgot.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "mxfp4/checkpoint/reader.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// A sentence that names the first tensor of the checkpoint's shards which the index has in no file, and counts the
/// others: nobody loads them, and they may still be a part of the model. Empty where there is none.
[[nodiscard]] std::string unlisted_warning(const checkpoint_reader& checkpoint);

}  // namespace mxfp4::checkpoint
