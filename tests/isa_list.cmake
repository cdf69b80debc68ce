# Tests isa.list.<isa>: the flags of each line of isas.def give its namespace and its file; isa.headers: the two headers
# that are made of the list are up to date, and what makes them.
# SPDX-License-Identifier: Apache-2.0
get_target_property(xsimd xsimd INTERFACE_INCLUDE_DIRECTORIES)
list(TRANSFORM xsimd PREPEND -isystem)

# isa_list(<test> <name> <whose flags>)
function(isa_list test name flags)
  add_test(NAME ${test} COMMAND ${CMAKE_CXX_COMPILER} -std=c++20 -fsyntax-only -DMXFP4_TEST_ISA=${name}
    ${mxfp4_flags_${flags}} -I${PROJECT_SOURCE_DIR}/include ${xsimd} ${CMAKE_CURRENT_SOURCE_DIR}/isa_list.cpp
    COMMAND_EXPAND_LISTS)
  set_tests_properties(${test} PROPERTIES LABELS isa)
endfunction()

foreach(isa IN LISTS mxfp4_isas)
  isa_list(isa.list.${isa} ${isa} ${isa})
endforeach()

# These tests themselves: the best set's flags under the base's name.
list(GET mxfp4_isas 0 best)
list(GET mxfp4_isas -1 base)
if(NOT best STREQUAL base)
  isa_list(isa.list.wrong ${base} ${best})
  set_tests_properties(isa.list.wrong PROPERTIES
    PASS_REGULAR_EXPRESSION "MXFP4_ISA_NS is another set's.*the file of this line of isas.def does not give its name")
endif()

add_test(NAME isa.headers COMMAND ${CMAKE_COMMAND} -D SOURCE=${PROJECT_SOURCE_DIR}
  -D COPY=${CMAKE_CURRENT_BINARY_DIR}/isa.headers -P ${CMAKE_CURRENT_SOURCE_DIR}/isa_headers.cmake)
set_tests_properties(isa.headers PROPERTIES LABELS isa)
