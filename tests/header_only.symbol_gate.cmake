# cmake -D NM=<nm> -D NAMESPACE=<isa_...> -P header_only.symbol_gate.cmake <object>
# Every function of ours in the object that the linker may merge (nm class W) is in that namespace, or it could be taken
# by a unit with other flags. Not asked of: implicit members of aggregates, which an unoptimised build leaves behind and
# which cannot be marked, and what templates of the standard library and xsimd become.
# SPDX-License-Identifier: Apache-2.0
math(EXPR last "${CMAKE_ARGC} - 1")
set(object "${CMAKE_ARGV${last}}")
execute_process(COMMAND ${NM} -C --defined-only ${object} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
string(REGEX REPLACE "[][;]" "_" symbols "${symbols}")   # what CMake's lists take for their own
string(REGEX MATCHALL "[^\n]* [Ww] [^\n]*" functions "${symbols}")
set(tagged 0)
set(offenders "")
foreach(symbol IN LISTS functions)
  string(REGEX REPLACE "^[^ ]* [Ww] " "" name "${symbol}")
  if(NOT name MATCHES "(^|[ &*])mxfp4::" OR name MATCHES "(^|[ &*])(std|__gnu_cxx|xsimd)::")
    continue()
  elseif(name MATCHES "::${NAMESPACE}::")
    math(EXPR tagged "${tagged} + 1")
  elseif(NOT name MATCHES "::([a-z0-9_]+)(<.*>)?::~?([a-z0-9_]+)\\(\\)$" OR NOT CMAKE_MATCH_1 STREQUAL CMAKE_MATCH_3)
    string(APPEND offenders "  ${name}\n")
  endif()
endforeach()
if(offenders)
  message(FATAL_ERROR "units with other flags could be linked to:\n${offenders}\
put it into inline namespace MXFP4_ISA_NS, or mark it MXFP4_INLINE")
endif()
if(tagged EQUAL 0)
  message(FATAL_ERROR "${object} has no function in namespace ${NAMESPACE}, expected the kernels there")
endif()
message(STATUS "${tagged} functions, all in ${NAMESPACE}")
