# mxfp4::format as one header: it compiles with nothing beside it, and makes what the headers make.
# SPDX-License-Identifier: Apache-2.0
if(NOT MXFP4_PYTHON)
  return()
endif()
set(header_dir ${CMAKE_CURRENT_BINARY_DIR}/single_header)
set(script ${PROJECT_SOURCE_DIR}/cmake/single_header.py)
file(MAKE_DIRECTORY ${header_dir})
get_target_property(format_headers mxfp4_format HEADER_SET)
add_custom_command(OUTPUT ${header_dir}/mxfp4_format.hpp VERBATIM DEPENDS ${script} ${format_headers}
  COMMAND ${MXFP4_PYTHON} ${script} ${header_dir}/mxfp4_format.hpp)
add_executable(single_header ${CMAKE_CURRENT_LIST_DIR}/digest.cpp ${header_dir}/mxfp4_format.hpp)
target_include_directories(single_header PRIVATE ${header_dir})   # no SYSTEM: its warnings are ours
target_compile_features(single_header PRIVATE cxx_std_20)
target_link_libraries(single_header PRIVATE mxfp4_warnings)
add_executable(single_header_expected ${CMAKE_CURRENT_LIST_DIR}/digest.cpp)
target_link_libraries(single_header_expected PRIVATE mxfp4::format mxfp4_warnings)
target_compile_definitions(single_header_expected PRIVATE MXFP4_TEST_HEADERS)
foreach(program single_header single_header_expected)   # run once: built sooner without optimisation
  target_compile_options(${program} PRIVATE $<$<CONFIG:Debug>:-O0>)
endforeach()
add_test(NAME single_header COMMAND ${CMAKE_COMMAND} -P ${CMAKE_CURRENT_LIST_DIR}/compare.cmake --
  $<TARGET_FILE:single_header> $<TARGET_FILE:single_header_expected> ${CMAKE_CROSSCOMPILING_EMULATOR})
