# cmake -DEXPECTED=<code> [-DSAYS=<words>] -P exit_code.cmake -- <command>...: runs it; fails unless it ends with just
# that exit code, or by the signal of that name, and says the words. To ctest 4 would be a skipped test, whoever said
# so, a crash any failure, and words alone a success whatever the exit code.
# SPDX-License-Identifier: Apache-2.0
include(${CMAKE_CURRENT_LIST_DIR}/arguments.cmake)
execute_process(COMMAND ${arguments} RESULT_VARIABLE code OUTPUT_VARIABLE said ERROR_VARIABLE said
  ECHO_OUTPUT_VARIABLE ECHO_ERROR_VARIABLE)
if(NOT code STREQUAL EXPECTED)
  message(FATAL_ERROR "ended with '${code}', not with '${EXPECTED}'")
endif()
string(FIND "${said}" "${SAYS}" at)
if(at EQUAL -1)
  message(FATAL_ERROR "did not say: ${SAYS}")
endif()
