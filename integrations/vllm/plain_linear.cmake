# The sources of plain_linear.hpp, a file for each instruction set: for the module and for the project's tests.
# SPDX-License-Identifier: Apache-2.0
set(MXFP4_PLAIN_LINEAR)
foreach(set IN ITEMS "" _avx2 _avx512)
  list(APPEND MXFP4_PLAIN_LINEAR ${CMAKE_CURRENT_LIST_DIR}/src/plain_linear${set}.cpp)
endforeach()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")   # elsewhere the last two are empty
  set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/src/plain_linear_avx2.cpp PROPERTIES
    COMPILE_OPTIONS "-mavx2;-mfma")
  set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/src/plain_linear_avx512.cpp PROPERTIES
    # GCC 12 warns of its own AVX-512 header.
    COMPILE_OPTIONS "-mavx512f;-mfma;$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized;-Wno-uninitialized>")
endif()
