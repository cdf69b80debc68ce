# cmake [-D CHECK=ON] [-D ROOT=<source directory>] -P isa_headers.cmake
# Writes the two headers that the preprocessor cannot make of simd/isas.def, as it can neither include nor compare in a
# loop: core/isa_namespace.hpp and simd/isa_files.hpp. With CHECK it writes nothing, and fails where they differ.
# SPDX-License-Identifier: Apache-2.0
cmake_minimum_required(VERSION 3.25)
include(${CMAKE_CURRENT_LIST_DIR}/read_isas.cmake)
if(NOT DEFINED ROOT)
  cmake_path(SET ROOT NORMALIZE ${CMAKE_CURRENT_LIST_DIR}/..)
endif()
set(headers ${ROOT}/include/mxfp4)
mxfp4_read_isas(${headers}/simd/isas.def)

set(written "\
//
// Written by `cmake -P cmake/isa_headers.cmake` from simd/isas.def: change that. Test isa.headers compares them.
#pragma once
")

set(namespaces "\
// mxfp4/core/isa_namespace.hpp -- MXFP4_ISA_NS: the instruction set that the compiler's flags allow.
// SPDX-License-Identifier: Apache-2.0
${written}
/// Name of the inline namespace round every function that may stay out of line: one name for each set of flags that
/// changes its machine code, so that two translation units with different flags never define the same function.
")
set(files "\
// mxfp4/simd/isa_files.hpp -- the file of each instruction set; empty where the compiler's flags do not allow it.
// SPDX-License-Identifier: Apache-2.0
${written}
")
set(includes "")
set(word if)
foreach(processor IN LISTS mxfp4_processors)
  foreach(name IN LISTS mxfp4_names_${processor})
    set(condition ${mxfp4_macros_${name}})
    if(condition)
      list(TRANSFORM condition REPLACE ".+" "defined(\\0)")
      list(JOIN condition " && " condition)
      string(APPEND namespaces "#${word} ${condition}\n")
      set(word elif)
    else()
      string(APPEND namespaces "#else\n")
    endif()
    string(APPEND namespaces "#define MXFP4_ISA_NS isa_${name}\n")
  endforeach()
  foreach(name IN LISTS mxfp4_isas_${processor})
    if(mxfp4_macros_${name})
      if(NOT EXISTS ${headers}/simd/${name}.hpp)
        message(FATAL_ERROR
          "include/mxfp4/simd/${name}.hpp is not there, expected the file of this line of simd/isas.def: ${name}")
      endif()
      list(APPEND includes "#include \"mxfp4/simd/${name}.hpp\"\n")
    endif()
  endforeach()
endforeach()
string(APPEND namespaces "#endif\n")
list(SORT includes)
list(JOIN includes "" includes)
string(APPEND files "${includes}")

# compare_or_write(<header> <text>)
function(compare_or_write header text)
  set(found "")
  if(EXISTS ${headers}/${header})
    file(READ ${headers}/${header} found)
  endif()
  if(found STREQUAL text)
    message(STATUS "include/mxfp4/${header} is what simd/isas.def gives")
  elseif(CHECK)
    message(SEND_ERROR
      "include/mxfp4/${header} is not what simd/isas.def gives: run `cmake -P cmake/isa_headers.cmake`, which writes it")
  else()
    file(WRITE ${headers}/${header} "${text}")
    message(STATUS "include/mxfp4/${header} written")
  endif()
endfunction()
compare_or_write(core/isa_namespace.hpp "${namespaces}")
compare_or_write(simd/isa_files.hpp "${files}")
