// tests/flags.body.hpp -- what flags.test.cpp runs under each set of compiler options.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace mxfp4::test {

/// What went wrong; all zero where the bytes do not depend on the floating-point environment.
struct flags_report {
  int wrong_recipes = 0;             ///< recordings of peers that were not reproduced, scale and codes
  const char* first_wrong = "none";  ///< the first of them
  int wrong_decodes = 0;             ///< weights that differ from a recorded decode table
  std::uint64_t digest = 0;          ///< of all that has no recording: see flags.body.cpp
};

/// Defined in flags.body.cpp, the only file that instantiates the library here: it is an object library of its own for
/// every set of options. `load` returns the bytes of a file below tests/vectors/.
flags_report run_everything(const std::uint8_t* (*load)(const char* name));

}  // namespace mxfp4::test
