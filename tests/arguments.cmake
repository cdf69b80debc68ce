# include() of a script that runs by cmake -P: `arguments` is what follows -- on its command line.
# SPDX-License-Identifier: Apache-2.0
set(arguments "")
set(found FALSE)
math(EXPR last "${CMAKE_ARGC} - 1")
foreach(i RANGE ${last})
  if(found)
    list(APPEND arguments "${CMAKE_ARGV${i}}")
  elseif(CMAKE_ARGV${i} STREQUAL "--")
    set(found TRUE)
  endif()
endforeach()
