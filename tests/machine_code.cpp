// The functions of machine_code.def, of one instruction set: MXFP4_LOOP_<instruction set> is 1 for that, 0 for others.
// SPDX-License-Identifier: Apache-2.0
#include "bench/peaks.hpp"
#include "mxfp4/linalg.hpp"

namespace mxfp4 {

using Arch = simd::native_arch;
using kernel::weights_from;

// An address keeps a function of its own, even where callers have it inlined.
template <auto Function>
struct kept {
  static constexpr auto address = Function;
};

#define MXFP4_LOOP_OF_1(...) template struct kept<&__VA_ARGS__>;
#define MXFP4_LOOP_OF_0(...)
#define MXFP4_LOOP_OF(wanted) MXFP4_LOOP_OF_##wanted
#define MXFP4_LOOP_IF(wanted) MXFP4_LOOP_OF(wanted)
#define MXFP4_LOOP(isa, instruction, ...) MXFP4_LOOP_IF(MXFP4_LOOP_##isa)(__VA_ARGS__)
#include "machine_code.def"

}  // namespace mxfp4
