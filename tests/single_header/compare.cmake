# cmake -P compare.cmake -- <program> <program> [<emulator>...]: both print the same, and not nothing.
# SPDX-License-Identifier: Apache-2.0
include(${CMAKE_CURRENT_LIST_DIR}/../arguments.cmake)
list(POP_FRONT arguments first second)
execute_process(COMMAND ${arguments} ${first} OUTPUT_VARIABLE printed COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${arguments} ${second} OUTPUT_VARIABLE expected COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "\n" lines "${expected}")
list(LENGTH lines count)
if(NOT printed STREQUAL expected OR count LESS 100)
  message(FATAL_ERROR "printed\n${printed}expected\n${expected}")
endif()
