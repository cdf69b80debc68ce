# mxfp4::dispatch: a static library with a unit for each instruction set, one of which is picked at run time.
# SPDX-License-Identifier: Apache-2.0
#
# The sources are in src/dispatch and not among the headers: a consumer includes mxfp4/dispatch.hpp and never those.
# Which units there are and with what flags: simd/isas.def (isas.cmake). src/dispatch/cpu.hpp asks the CPU.
set(MXFP4_DISPATCH_ISAS "${mxfp4_isas}" CACHE STRING
  "Instruction sets that mxfp4::dispatch is built for, best first; or native: the best one of this machine, which builds soonest")
set(MXFP4_DISPATCH_OPTIONS "" CACHE STRING "Compiler options of mxfp4::dispatch's units, after all others")
mark_as_advanced(MXFP4_DISPATCH_ISAS MXFP4_DISPATCH_OPTIONS)
set(generated ${CMAKE_CURRENT_BINARY_DIR}/dispatch)

if(MXFP4_DISPATCH_ISAS STREQUAL "native")
  set(ask "#include <cstdio>\n#include \"cpu.hpp\"\nint main() {\n")
  foreach(isa IN LISTS mxfp4_isas)
    string(APPEND ask "  if (mxfp4::dispatch::detail::cpu::runs_${isa}()) return std::fputs(\"${isa}\", stdout), 0;\n")
  endforeach()
  file(CONFIGURE OUTPUT ${generated}/native.cpp CONTENT "${ask}}\n" @ONLY)
  list(GET mxfp4_isas -1 base)   # asks with the base's instructions, whatever CMAKE_CXX_FLAGS allows
  try_run(mxfp4_native_code mxfp4_native_compiled ${generated} ${generated}/native.cpp
    CMAKE_FLAGS "-DINCLUDE_DIRECTORIES=${CMAKE_CURRENT_SOURCE_DIR}/src/dispatch\;${CMAKE_CURRENT_SOURCE_DIR}/include"
    COMPILE_DEFINITIONS ${mxfp4_flags_${base}}
    COMPILE_OUTPUT_VARIABLE errors RUN_OUTPUT_VARIABLE MXFP4_DISPATCH_ISAS)
  if(NOT mxfp4_native_compiled OR NOT mxfp4_native_code EQUAL 0 OR NOT MXFP4_DISPATCH_ISAS)
    message(FATAL_ERROR "MXFP4_DISPATCH_ISAS is native, but this machine cannot be asked (${mxfp4_native_code}): name some of '${mxfp4_isas}'\n${errors}")
  endif()
endif()

# Somebody else's project builds it when something links it.
set(all "")
if(NOT (PROJECT_IS_TOP_LEVEL OR MXFP4_INSTALL))
  set(all EXCLUDE_FROM_ALL)
endif()
add_library(mxfp4_dispatch STATIC ${all} src/dispatch/dispatch.cpp)
mxfp4_alias(dispatch mxfp4_dispatch)
target_sources(mxfp4_dispatch PUBLIC FILE_SET HEADERS BASE_DIRS include
  FILES include/mxfp4/dispatch.hpp include/mxfp4/dispatch/boundary.hpp)
target_include_directories(mxfp4_dispatch PRIVATE src/dispatch ${generated})
target_link_libraries(mxfp4_dispatch PUBLIC mxfp4_format PRIVATE $<BUILD_INTERFACE:mxfp4>)
set_target_properties(mxfp4_dispatch PROPERTIES EXPORT_NAME dispatch POSITION_INDEPENDENT_CODE ON
  UNITY_BUILD OFF VERIFY_INTERFACE_HEADER_SETS ${PROJECT_IS_TOP_LEVEL})

set(list "")
foreach(isa IN LISTS MXFP4_DISPATCH_ISAS)
  if(NOT isa IN_LIST mxfp4_isas)
    message(FATAL_ERROR "MXFP4_DISPATCH_ISAS names '${isa}', expected some of '${mxfp4_isas}' (${CMAKE_SYSTEM_PROCESSOR})")
  endif()
  string(APPEND list " X(${isa}, member)")
  file(CONFIGURE OUTPUT ${generated}/${isa}.cpp @ONLY
    CONTENT "// Written by cmake/dispatch.cmake.\n#define MXFP4_DISPATCH_UNIT @isa@\n#include \"isa_unit.hpp\"\n")
  target_sources(mxfp4_dispatch PRIVATE ${generated}/${isa}.cpp)
  # Without optimisation even the members of std::array stay behind as functions, compiled for this instruction set.
  # GCC 12 warns of its own AVX-512 header. Below -O2, where it has no expensive optimisations, it leaves the upper
  # halves of registers in use at the end of a function, and every SSE instruction of the caller's then waits for them
  # on Intel's processors: ten times slower.
  set_source_files_properties(${generated}/${isa}.cpp PROPERTIES COMPILE_OPTIONS
    "${mxfp4_flags_${isa}};$<$<NOT:$<CONFIG:Release>>:-O2>;$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized;-Wno-uninitialized;-fexpensive-optimizations>;${MXFP4_DISPATCH_OPTIONS}")
endforeach()
file(CONFIGURE OUTPUT ${generated}/units.hpp @ONLY
  CONTENT "// Written by cmake/dispatch.cmake.\n#pragma once\n#define MXFP4_DISPATCH_UNITS(X, member)${list}\n")
# Nothing of it is exported by a shared library that links it, and what that does not call can be left out.
set_target_properties(mxfp4_dispatch PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
if(NOT MSVC)
  target_compile_options(mxfp4_dispatch PRIVATE -ffunction-sections -fdata-sections)
endif()
