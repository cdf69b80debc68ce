# The one list of instruction sets, simd/isas.def, as CMake's variables.
# SPDX-License-Identifier: Apache-2.0
#
# mxfp4_read_isas(<simd/isas.def>) sets, for each processor that the list knows, x86_64, aarch64 and other:
#   mxfp4_isas_<processor>    its sets, best first
#   mxfp4_names_<processor>   the same with those between two lines, in the order in which macros decide
# and mxfp4_processors; mxfp4_flags_<isa>, all flags; mxfp4_macros_<name>.
macro(mxfp4_read_isas list)
  set(mxfp4_processors "")
  file(STRINGS ${list} lines REGEX "^(#if|#elif|#else|MXFP4_ISA)")
  foreach(line IN LISTS lines)
    string(REGEX REPLACE "^#(if|elif) defined\\(__([a-z0-9_]+)__\\)$" "\\2" processor_here "${line}")
    string(REGEX REPLACE "^#else$" "other" processor_here "${processor_here}")
    if(NOT processor_here STREQUAL line)
      set(processor ${processor_here})
      list(APPEND mxfp4_processors ${processor})
      set(mxfp4_isas_${processor} "")
      set(mxfp4_names_${processor} "")
    elseif(line MATCHES "^MXFP4_ISA\\(([a-z0-9_]+), ([a-z0-9_]+), \"([^\"]*)\", \"([A-Za-z0-9_ ]*)\",")
      set(name ${CMAKE_MATCH_1})
      string(REPLACE " " ";" mxfp4_macros_${name} "${CMAKE_MATCH_4}")
      set(extends ${CMAKE_MATCH_2})
      if(NOT extends STREQUAL "nothing" AND NOT extends IN_LIST mxfp4_isas_${processor})
        message(FATAL_ERROR "${list}: ${name} extends ${extends}, expected nothing or the name of a line above it")
      endif()
      separate_arguments(added UNIX_COMMAND "${CMAKE_MATCH_3}")
      set(mxfp4_flags_${name} ${mxfp4_flags_${extends}} ${added})
      list(PREPEND mxfp4_isas_${processor} ${name})
      list(PREPEND mxfp4_names_${processor} ${name})
    elseif(line MATCHES "^MXFP4_ISA_BETWEEN\\(([a-z0-9_]+), \"([A-Za-z0-9_ ]+)\"\\)$")
      string(REPLACE " " ";" mxfp4_macros_${CMAKE_MATCH_1} "${CMAKE_MATCH_2}")
      list(PREPEND mxfp4_names_${processor} ${CMAKE_MATCH_1})
    else()
      message(FATAL_ERROR "${list}: expected MXFP4_ISA(name, extends, \"flags\", \"macros\", CPU) or \
MXFP4_ISA_BETWEEN(name, \"macros\"), found: ${line}")
    endif()
  endforeach()
endmacro()
