// tests/isa_list.cpp -- a line of isas.def: its flags, its macros, by which it has a namespace, and its file agree.
// SPDX-License-Identifier: Apache-2.0
//
// Only compiled, once for each line with its flags (isa_list.cmake); MXFP4_TEST_ISA is the line's name.
#include <string_view>

#include "mxfp4/simd/simd.hpp"

#define MXFP4_TEST_TEXT_(name) #name
#define MXFP4_TEST_TEXT(name) MXFP4_TEST_TEXT_(name)

constexpr std::string_view name = MXFP4_TEST_TEXT(MXFP4_TEST_ISA), in_names = MXFP4_TEST_TEXT(MXFP4_ISA_NS);

static_assert(in_names.substr(0, 4) == "isa_" && in_names.substr(4) == name,
              "MXFP4_ISA_NS is another set's: the flags of this line of isas.def define other macros than it names");
static_assert(mxfp4::simd::isa_name<mxfp4::simd::native_arch> == name,
              "the file of this line of isas.def does not give its name, or its concept is false under the flags");

constexpr std::string_view list[] = {
#define MXFP4_ISA(name, extends, flags, macros, cpu) #name,
#include "mxfp4/simd/isas.def"
#undef MXFP4_ISA
};
constexpr bool is_listed(std::string_view wanted) {
  for (const std::string_view line : list)
    if (line == wanted) return true;
  return false;
}
static_assert(is_listed(mxfp4::simd::isa_name<mxfp4::simd::native_arch>), "a name that isas.def does not have");
