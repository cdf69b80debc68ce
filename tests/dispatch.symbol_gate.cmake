# cmake -D NM=<nm> -P dispatch.symbol_gate.cmake <archive> <isa>...
# Every function that the linker may merge (nm class W) in the unit <isa>.cpp is in namespace dispatch_<isa>, or a unit
# of another instruction set, or a consumer's, could be linked to it. No unit runs code when the program starts. Data
# that merges (u, V) are constants, the same in every unit.
# SPDX-License-Identifier: Apache-2.0
set(arguments "")
math(EXPR last "${CMAKE_ARGC} - 1")
foreach(i RANGE 0 ${last})
  list(APPEND arguments "${CMAKE_ARGV${i}}")
endforeach()
list(FIND arguments -P at)
math(EXPR at "${at} + 2")
list(SUBLIST arguments ${at} -1 arguments)
list(POP_FRONT arguments archive)

execute_process(COMMAND ${NM} -A -C --defined-only ${archive} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
string(REGEX REPLACE "[][;]" "_" symbols "${symbols}")   # what CMake's lists take for their own

set(offenders "")
foreach(isa IN LISTS arguments)
  string(REGEX MATCHALL "[:/]${isa}\\.cpp\\.o[^\n]* [WwTt] [^\n]*" functions "${symbols}")
  set(tagged 0)
  foreach(symbol IN LISTS functions)
    string(REGEX MATCH " ([WwTt]) (.*)$" symbol "${symbol}")
    set(name "${CMAKE_MATCH_2}")
    if(CMAKE_MATCH_1 MATCHES "[Tt]")
      if(name MATCHES "^_GLOBAL__")
        string(APPEND offenders "  ${isa}: ${name}, run when the program starts\n")
      endif()
    elseif(name MATCHES "dispatch_${isa}::")
      math(EXPR tagged "${tagged} + 1")
    else()
      string(APPEND offenders "  ${isa}: ${name}\n")
    endif()
  endforeach()
  if(tagged EQUAL 0)
    message(FATAL_ERROR "${archive} has no function of dispatch_${isa} in ${isa}.cpp.o, expected its kernels there")
  endif()
  message(STATUS "${isa}: ${tagged} functions in its own namespace")
endforeach()
if(offenders)
  message(FATAL_ERROR "compiled for one instruction set, and other units may be linked to it:\n${offenders}\
put it into inline namespace MXFP4_ISA_NS, or mark it MXFP4_INLINE")
endif()
