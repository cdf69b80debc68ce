# cmake -D README=... -D PROGRAM=... -P quickstart.readme.cmake: the README shows quickstart.cpp word for word.
# SPDX-License-Identifier: Apache-2.0
file(READ ${README} readme)
file(READ ${PROGRAM} program)
string(FIND "${readme}" "```cpp\n${program}```\n" at)
if(at EQUAL -1)
  message(FATAL_ERROR "${README} has no ```cpp block equal to ${PROGRAM}: copy the program into it")
endif()
string(REGEX MATCHALL "\n" lines "${program}")
list(LENGTH lines count)
if(count GREATER 40)
  message(FATAL_ERROR "${PROGRAM} has ${count} lines, expected at most 40: the README shows all of them")
endif()
