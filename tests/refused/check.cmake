# cmake -D COMPILER=<c++> -D SOURCE=<file> -D INCLUDES=<dir;...> -P check.cmake
# A program that the compiler must refuse, in words: its first lines are "// refused: <sentence>" and, where the length
# of the answer counts, "// lines: <at most>". With MXFP4_CONTROL defined it is a right program, so that nothing else in
# it is what was refused.
# SPDX-License-Identifier: Apache-2.0
file(STRINGS ${SOURCE} sentence REGEX "^// refused: " LIMIT_COUNT 1)
string(REGEX REPLACE "^// refused: " "" sentence "${sentence}")
file(STRINGS ${SOURCE} most REGEX "^// lines: " LIMIT_COUNT 1)
string(REGEX REPLACE "^// lines: " "" most "${most}")
if(sentence STREQUAL "")
  message(FATAL_ERROR "${SOURCE} says nowhere '// refused: <sentence>'")
endif()
list(TRANSFORM INCLUDES PREPEND -I)
set(compile ${COMPILER} -std=c++20 -fsyntax-only ${INCLUDES} ${SOURCE})

execute_process(COMMAND ${compile} -DMXFP4_CONTROL RESULT_VARIABLE code ERROR_VARIABLE answer)
if(NOT code EQUAL 0)
  message(FATAL_ERROR "the right form of ${SOURCE} was refused, expected that it compiles:\n${answer}")
endif()
execute_process(COMMAND ${compile} RESULT_VARIABLE code ERROR_VARIABLE answer)
if(code EQUAL 0)
  message(FATAL_ERROR "${SOURCE} was compiled, expected a refusal with the words '${sentence}'")
endif()
string(FIND "${answer}" "${sentence}" at)
if(at EQUAL -1)
  message(FATAL_ERROR "${SOURCE} was refused without the words '${sentence}':\n${answer}")
endif()
string(REGEX MATCHALL "\n" lines "${answer}")
list(LENGTH lines lines)
if(most AND lines GREATER most)
  message(FATAL_ERROR "${SOURCE} was refused in ${lines} lines, expected at most ${most}:\n${answer}")
endif()
