# mxfp4::dispatch: a static library with a unit for each instruction set, one of which is picked at run time.
# SPDX-License-Identifier: Apache-2.0
#
# The sources are in src/dispatch and not among the headers: a consumer includes mxfp4/dispatch.hpp and never those.
# A unit's flags start from the architecture's base, so that a -march=native in CMAKE_CXX_FLAGS does not reach it;
# src/dispatch/cpu.hpp asks the CPU for all that they allow. Best first.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(isas avx512bf16 avx512vnni avx512bw avxvnni avx2 sse2)
  set(mxfp4_flags_sse2 -march=x86-64)
  set(mxfp4_flags_avx2 -march=x86-64 -mavx2 -mfma -mf16c)
  set(mxfp4_flags_avxvnni ${mxfp4_flags_avx2} -mavxvnni)
  set(mxfp4_flags_avx512bw ${mxfp4_flags_avx2} -mavx512f -mavx512dq -mavx512cd -mavx512bw -mavx512vl)
  set(mxfp4_flags_avx512vnni ${mxfp4_flags_avx512bw} -mavx512ifma -mavx512vbmi -mavx512vnni)
  set(mxfp4_flags_avx512bf16 ${mxfp4_flags_avx512vnni} -mavx512bf16)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(isas neon_i8mm neon_dotprod neon)
  set(mxfp4_flags_neon -march=armv8-a)
  set(mxfp4_flags_neon_dotprod -march=armv8.2-a+dotprod)
  set(mxfp4_flags_neon_i8mm -march=armv8.2-a+dotprod+i8mm)
else()
  set(isas scalar)   # plain C++, with the compiler's own flags
endif()

set(MXFP4_DISPATCH_ISAS "${isas}" CACHE STRING
  "Instruction sets that mxfp4::dispatch is built for, best first; or native: the best one of this machine, which builds soonest")
set(MXFP4_DISPATCH_OPTIONS "" CACHE STRING "Compiler options of mxfp4::dispatch's units, after all others")
mark_as_advanced(MXFP4_DISPATCH_ISAS MXFP4_DISPATCH_OPTIONS)
set(generated ${CMAKE_CURRENT_BINARY_DIR}/dispatch)

if(MXFP4_DISPATCH_ISAS STREQUAL "native")
  set(ask "#include <cstdio>\n#include \"cpu.hpp\"\nint main() {\n")
  foreach(isa IN LISTS isas)
    string(APPEND ask "  if (mxfp4::dispatch::detail::cpu::runs_${isa}()) return std::fputs(\"${isa}\", stdout), 0;\n")
  endforeach()
  file(CONFIGURE OUTPUT ${generated}/native.cpp CONTENT "${ask}}\n" @ONLY)
  try_run(mxfp4_native_code mxfp4_native_compiled ${generated} ${generated}/native.cpp
    CMAKE_FLAGS "-DINCLUDE_DIRECTORIES=${CMAKE_CURRENT_SOURCE_DIR}/src/dispatch"
    COMPILE_OUTPUT_VARIABLE errors RUN_OUTPUT_VARIABLE MXFP4_DISPATCH_ISAS)
  if(NOT mxfp4_native_compiled OR NOT mxfp4_native_code EQUAL 0 OR NOT MXFP4_DISPATCH_ISAS)
    message(FATAL_ERROR "MXFP4_DISPATCH_ISAS is native, but this machine cannot be asked (${mxfp4_native_code}): name some of '${isas}'\n${errors}")
  endif()
endif()

# Somebody else's project builds it when something links it.
set(all "")
if(NOT (PROJECT_IS_TOP_LEVEL OR MXFP4_INSTALL))
  set(all EXCLUDE_FROM_ALL)
endif()
add_library(mxfp4_dispatch STATIC ${all} src/dispatch/dispatch.cpp)
add_library(mxfp4::dispatch ALIAS mxfp4_dispatch)
target_sources(mxfp4_dispatch PUBLIC FILE_SET HEADERS BASE_DIRS include FILES include/mxfp4/dispatch.hpp)
target_include_directories(mxfp4_dispatch PRIVATE src/dispatch ${generated})
target_link_libraries(mxfp4_dispatch PUBLIC mxfp4_format PRIVATE $<BUILD_INTERFACE:mxfp4>)
set_target_properties(mxfp4_dispatch PROPERTIES EXPORT_NAME dispatch POSITION_INDEPENDENT_CODE ON
  VERIFY_INTERFACE_HEADER_SETS ${PROJECT_IS_TOP_LEVEL})

set(list "")
foreach(isa IN LISTS MXFP4_DISPATCH_ISAS)
  if(NOT isa IN_LIST isas)
    message(FATAL_ERROR "MXFP4_DISPATCH_ISAS names '${isa}', expected some of '${isas}' (${CMAKE_SYSTEM_PROCESSOR})")
  endif()
  string(APPEND list "MXFP4_DISPATCH_ISA(${isa})\n")
  file(CONFIGURE OUTPUT ${generated}/${isa}.cpp @ONLY
    CONTENT "// Written by cmake/dispatch.cmake.\n#define MXFP4_DISPATCH_UNIT @isa@\n#include \"isa_unit.hpp\"\n")
  target_sources(mxfp4_dispatch PRIVATE ${generated}/${isa}.cpp)
  # Without optimisation even the members of std::array stay behind as functions, compiled for this instruction set.
  # GCC 12 warns of its own AVX-512 header.
  set_source_files_properties(${generated}/${isa}.cpp PROPERTIES COMPILE_OPTIONS
    "${mxfp4_flags_${isa}};$<$<NOT:$<CONFIG:Release>>:-O2>;$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized;-Wno-uninitialized>;${MXFP4_DISPATCH_OPTIONS}")
endforeach()
file(CONFIGURE OUTPUT ${generated}/isas.def CONTENT "${list}" @ONLY)
