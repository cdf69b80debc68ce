# Tests machine_code.<isa>.<compiler>: the loops named in machine_code.def keep their numbers in registers, as the
# project's compiler makes them and, where they are installed, g++ and clang++. It depends on no CPU: nothing is run.
# SPDX-License-Identifier: Apache-2.0
if(NOT CMAKE_OBJDUMP OR NOT MXFP4_PYTHON OR CMAKE_CROSSCOMPILING OR NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  return()
endif()
set(machine_code ${MXFP4_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/machine_code.py)
get_target_property(xsimd xsimd INTERFACE_INCLUDE_DIRECTORIES)
list(TRANSFORM xsimd PREPEND -isystem)

add_test(NAME machine_code.self_test COMMAND ${machine_code} --self-test)
set_tests_properties(machine_code.self_test PROPERTIES LABELS package)

# machine_code(<test> <compiler> <isa> <option>...)
function(machine_code test compiler isa)
  add_test(NAME machine_code.${test} COMMAND ${machine_code} --objdump ${CMAKE_OBJDUMP} ${compiler} ${isa}
    ${mxfp4_flags_${isa}} ${ARGN} -I${PROJECT_SOURCE_DIR} -I${PROJECT_SOURCE_DIR}/include ${xsimd} COMMAND_EXPAND_LISTS)
  set_tests_properties(machine_code.${test} PROPERTIES LABELS package)
endfunction()

find_program(MXFP4_OTHER_GXX g++)
find_program(MXFP4_OTHER_CLANGXX clang++)
mark_as_advanced(MXFP4_OTHER_GXX MXFP4_OTHER_CLANGXX)
set(compilers ${CMAKE_CXX_COMPILER})
if(MXFP4_OTHER_GXX AND NOT CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  list(APPEND compilers ${MXFP4_OTHER_GXX})
endif()
if(MXFP4_OTHER_CLANGXX AND NOT CMAKE_CXX_COMPILER_ID STREQUAL Clang)
  list(APPEND compilers ${MXFP4_OTHER_CLANGXX})
endif()
foreach(compiler IN LISTS compilers)
  get_filename_component(name ${compiler} NAME)
  foreach(isa sse2 avx2 avxvnni avx512bw)
    machine_code(${isa}.${name} ${compiler} ${isa} -O3)
  endforeach()
  machine_code(avx2.O2.${name} ${compiler} avx2 -O2)
endforeach()
