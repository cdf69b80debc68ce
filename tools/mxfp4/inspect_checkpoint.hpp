// tools/mxfp4/inspect_checkpoint.hpp -- what mxfp4 inspect prints of a directory, a GGUF, and of one tensor.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace mxfp4::tools {

/// Sizes by kind; with `json` every tensor too. No weight is read.
void inspect_directory(const std::string& path, bool json);

/// The same of a GGUF file, of a split one of that part.
void inspect_gguf(const std::string& path, bool json);

/// One tensor's range and histograms. @param path  a directory or a file.  @param name  X or X_packed.
void inspect_tensor(const std::string& path, const std::string& name, bool json);

}  // namespace mxfp4::tools
