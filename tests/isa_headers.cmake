# cmake -D SOURCE=<source directory> -D COPY=<folder> -P isa_headers.cmake
# The two headers that cmake/isa_headers.cmake makes of simd/isas.def are what it makes; in a copy with a line more they
# are not, and are after it has written them. What is no line, or a line without its file, is refused.
# SPDX-License-Identifier: Apache-2.0
set(script ${SOURCE}/cmake/isa_headers.cmake)

# run(<what it does> <code: 0 or 1> <in its output> <argument>...)
function(run what code expected)
  execute_process(COMMAND ${CMAKE_COMMAND} ${ARGN} -P ${script}
    RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  string(REGEX REPLACE "[ \n]+" " " output "${output}")   # CMake wraps its sentences
  string(FIND "${output}" "${expected}" at)
  if(NOT result EQUAL code OR at EQUAL -1)
    message(SEND_ERROR "${what}: exit code ${result}, expected ${code} and '${expected}' in: ${output}")
  endif()
endfunction()

run("the headers as they are" 0 "include/mxfp4/simd/isa_files.hpp is what simd/isas.def gives" -D CHECK=ON)

set(headers ${COPY}/include/mxfp4)
set(check -D CHECK=ON -D ROOT=${COPY})
file(REMOVE_RECURSE ${COPY})
file(COPY ${SOURCE}/include/mxfp4/simd DESTINATION ${headers})
file(COPY ${SOURCE}/include/mxfp4/core/isa_namespace.hpp DESTINATION ${headers}/core)
run("a copy" 0 "include/mxfp4/core/isa_namespace.hpp is what simd/isas.def gives" ${check})

# add(<line>): to the end of x86-64's.
file(READ ${headers}/simd/isas.def list)
function(add line)
  string(REPLACE "#elif" "${line}\n#elif" changed "${list}")
  file(WRITE ${headers}/simd/isas.def "${changed}")
endfunction()

add([[MXFP4_ISA(avx9, avx512bf16, "-mavx9", "__AVX9__ __AVX512BW__", leaf7_edx(23))]])
run("a line without its file" 1 "include/mxfp4/simd/avx9.hpp is not there" ${check})
file(WRITE ${headers}/simd/avx9.hpp "")
foreach(header core/isa_namespace.hpp simd/isa_files.hpp)
  run("a line more" 1 "include/mxfp4/${header} is not what simd/isas.def gives: run `cmake -P cmake/isa_headers.cmake`" ${check})
endforeach()
run("writing" 0 "include/mxfp4/core/isa_namespace.hpp written" -D ROOT=${COPY})
run("what was written" 0 "include/mxfp4/simd/isa_files.hpp is what simd/isas.def gives" ${check})
file(READ ${headers}/core/isa_namespace.hpp chain)
if(NOT chain MATCHES "\n#if defined\\(__AVX9__\\) && defined\\(__AVX512BW__\\)\n#define MXFP4_ISA_NS isa_avx9\n#elif ")
  message(SEND_ERROR "the namespace of the best set is not the first:\n${chain}")
endif()
file(READ ${headers}/simd/isa_files.hpp files)
if(NOT files MATCHES "\n#include \"mxfp4/simd/avx9.hpp\"\n")
  message(SEND_ERROR "its file is not included:\n${files}")
endif()

foreach(line [[MXFP4_ISA(avx9, avx512bf16, "-mavx9", leaf7_edx(23))]] [[MXFP4_ISA_BETWEEN(avx9, "")]] "#elif __AVX9__")
  add("${line}")
  run("no line" 1 "or MXFP4_ISA_BETWEEN(name, \"macros\"), found: ${line}" ${check})
endforeach()
add([[MXFP4_ISA(avx9, avx8, "-mavx9", "__AVX9__", leaf7_edx(23))]])
run("a set that extends one that is not there" 1 "avx9 extends avx8, expected nothing or the name of a line above it"
  ${check})
