# cmake -P ends.cmake <exit code> <words> <program> <argument>...: the program ends with that code and says these words.
# SPDX-License-Identifier: Apache-2.0
math(EXPR last "${CMAKE_ARGC} - 1")
set(command "")
foreach(i RANGE 5 ${last})
  list(APPEND command "${CMAKE_ARGV${i}}")
endforeach()
execute_process(COMMAND ${command} RESULT_VARIABLE code OUTPUT_VARIABLE said ERROR_VARIABLE said)
string(FIND "${said}" "${CMAKE_ARGV4}" at)
if(NOT code STREQUAL "${CMAKE_ARGV3}" OR at EQUAL -1)
  message(FATAL_ERROR "${command} ended with ${code} and said:\n${said}\nexpected ${CMAKE_ARGV3} and: ${CMAKE_ARGV4}")
endif()
