# Programs that must not compile, and what the compiler says of each: once for every compiler that is there.
# SPDX-License-Identifier: Apache-2.0
set(compilers ${CMAKE_CXX_COMPILER})
if(NOT CMAKE_CROSSCOMPILING)
  foreach(name g++ clang++)
    find_program(MXFP4_${name} ${name})
    mark_as_advanced(MXFP4_${name})
    if(MXFP4_${name})
      list(APPEND compilers ${MXFP4_${name}})
    endif()
  endforeach()
endif()
list(REMOVE_DUPLICATES compilers)

file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/refused/*.cpp)
foreach(source IN LISTS sources)
  get_filename_component(name ${source} NAME_WE)
  foreach(compiler IN LISTS compilers)
    get_filename_component(by ${compiler} NAME)
    add_test(NAME refused.${name}.${by} COMMAND ${CMAKE_COMMAND} -D COMPILER=${compiler} -D SOURCE=${source}
      -D "INCLUDES=${PROJECT_SOURCE_DIR}/include;${CMAKE_CURRENT_SOURCE_DIR}/refused/old_xsimd" -P ${CMAKE_CURRENT_SOURCE_DIR}/refused/check.cmake)
    set_tests_properties(refused.${name}.${by} PROPERTIES LABELS refused)
  endforeach()
endforeach()
