# The same bytes under floating-point options that a user may have: one program per set of options.
# SPDX-License-Identifier: Apache-2.0
include(CheckCXXCompilerFlag)

# mxfp4_flags_test(<name> [OPTIONS <compiler option>...])
# Left out where the compiler does not know an option.
function(mxfp4_flags_test name)
  cmake_parse_arguments(arg "" "" "OPTIONS" ${ARGN})
  foreach(option IN LISTS arg_OPTIONS)
    string(MAKE_C_IDENTIFIER "MXFP4_HAS${option}" known)
    check_cxx_compiler_flag(${option} ${known})
    if(NOT ${known})
      message(STATUS "tests: no flags.${name}, the compiler does not know ${option}")
      return()
    endif()
  endforeach()
  add_library(test_flags_${name}_body OBJECT flags.body.cpp)
  target_link_libraries(test_flags_${name}_body PRIVATE mxfp4::format mxfp4_warnings)
  target_include_directories(test_flags_${name}_body PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  mxfp4_test(flags.${name} SOURCES flags.test.cpp $<TARGET_OBJECTS:test_flags_${name}_body> LABELS flags
    BODY test_flags_${name}_body OPTIONS ${arg_OPTIONS})
endfunction()

mxfp4_flags_test(plain)
mxfp4_flags_test(optimised OPTIONS -O3)
mxfp4_flags_test(fast_math OPTIONS -Ofast -ffast-math)
mxfp4_flags_test(rounding_math OPTIONS -O2 -frounding-math)
mxfp4_flags_test(contract_fma OPTIONS -O2 -ffp-contract=fast -mfma -mavx2)
