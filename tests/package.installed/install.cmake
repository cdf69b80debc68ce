# cmake -DSOURCE=<dir> -DBUILD=<dir> -DPREFIX=<dir> -DDISPATCH=<bool> -DIO=<bool> -DCHECKPOINT=<bool> -DTOOLS=<bool>
#   -DCUDA=<bool> -P install.cmake
# Installs mxfp4, moves the prefix, and checks that it holds every header and names no folder of the build machine; that
# component tools is the program with its manual page and completions, which are not empty.
set(first ${PREFIX}.first)
file(REMOVE_RECURSE ${PREFIX} ${first})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD} --prefix ${first} OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
file(RENAME ${first} ${PREFIX})

file(GLOB_RECURSE written RELATIVE ${SOURCE}/include ${SOURCE}/include/*)
if(NOT DISPATCH)
  list(REMOVE_ITEM written mxfp4/dispatch.hpp mxfp4/dispatch/boundary.hpp)
endif()
foreach(library IO CHECKPOINT)
  if(NOT ${library})
    string(TOLOWER ${library} folder)
    list(FILTER written EXCLUDE REGEX "^mxfp4/${folder}/")
  endif()
endforeach()
if(NOT CUDA)
  list(FILTER written EXCLUDE REGEX "^mxfp4/cuda/")
endif()
file(GLOB_RECURSE installed RELATIVE ${PREFIX}/include ${PREFIX}/include/mxfp4/*)
if(NOT "${written}" STREQUAL "${installed}")
  message(FATAL_ERROR "the installed headers are '${installed}', expected those under include/, '${written}': \
list each header in CMakeLists.txt")
endif()

if(TOOLS)
  file(REMOVE_RECURSE ${first})
  execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD} --prefix ${first} --component tools
    OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
  file(GLOB_RECURSE tools RELATIVE ${first} ${first}/*)
  set(expected bin/mxfp4 share/bash-completion/completions/mxfp4 share/fish/vendor_completions.d/mxfp4.fish
    share/man/man1/mxfp4.1 share/zsh/site-functions/_mxfp4)
  if(NOT tools STREQUAL expected)
    message(FATAL_ERROR "component tools installs '${tools}', expected '${expected}'")
  endif()
  foreach(document IN LISTS tools)
    file(SIZE ${first}/${document} bytes)
    if(bytes LESS 1000)
      message(FATAL_ERROR "component tools installs ${document} with ${bytes} bytes")
    endif()
  endforeach()
  file(REMOVE_RECURSE ${first})
endif()

# What CMake before 3.23 reads instead of file sets.
file(GLOB_RECURSE targets ${PREFIX}/*/mxfp4-format-targets.cmake)
file(STRINGS ${targets} folder REGEX "INTERFACE_INCLUDE_DIRECTORIES .*/include\"")
if(folder STREQUAL "")
  message(FATAL_ERROR "the installed target mxfp4::format has no include folder but its file set, expected one for CMake 3.22")
endif()

file(GLOB_RECURSE files ${PREFIX}/*)
list(FILTER files EXCLUDE REGEX "\\.a$|/bin/")   # their debug information names sources, as CMAKE_BUILD_TYPE wants it
foreach(file IN LISTS files)
  file(READ ${file} text)
  foreach(folder ${first} ${SOURCE} ${BUILD})
    string(FIND "${text}" "${folder}" at)
    if(NOT at EQUAL -1)
      message(FATAL_ERROR "installed file ${file} names the folder ${folder}, expected relative paths only")
    endif()
  endforeach()
endforeach()
