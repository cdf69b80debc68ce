# Header-only users: what a unit with -m flags leaves behind for the linker is in the namespace of its instruction set.
# SPDX-License-Identifier: Apache-2.0
if(NOT CMAKE_NM OR NOT TARGET mxfp4::mxfp4)
  return()
endif()
string(TOUPPER "${CMAKE_BUILD_TYPE}" config)
if("${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${config}}" MATCHES "-fsanitize")   # nm reads the objects, nobody runs them:
  return()                                                                   # minutes of compiling for nothing
endif()
set(gate ${CMAKE_COMMAND} -D NM=${CMAKE_NM})
set(script -P ${CMAKE_CURRENT_SOURCE_DIR}/header_only.symbol_gate.cmake)

foreach(isa avx2 avx512bf16 neon_i8mm)
  if(NOT isa IN_LIST mxfp4_isas)
    continue()
  endif()
  foreach(level 0 2)
    set(name header_only_${isa}_O${level})
    add_library(${name} OBJECT header_only.cpp)
    target_link_libraries(${name} PRIVATE mxfp4::mxfp4 mxfp4_warnings)
    target_compile_options(${name} PRIVATE ${mxfp4_flags_${isa}} -O${level} -g0
      $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized;-Wno-uninitialized>)
    add_test(NAME header_only.symbol_gate.${isa}.O${level}
      COMMAND ${gate} -D NAMESPACE=isa_${isa} ${script} $<TARGET_OBJECTS:${name}>)
    set_tests_properties(header_only.symbol_gate.${isa}.O${level} PROPERTIES LABELS package)
  endforeach()
endforeach()

# dispatch.hpp has no kernels, and what it hands to the library is read by functions of the caller's own unit.
if(TARGET mxfp4::dispatch AND avx2 IN_LIST mxfp4_isas)
  add_library(header_only_dispatch OBJECT header_only.dispatch.cpp)
  target_link_libraries(header_only_dispatch PRIVATE mxfp4::dispatch mxfp4_warnings)
  target_compile_options(header_only_dispatch PRIVATE ${mxfp4_flags_avx2} -O2 -g0)
  add_test(NAME header_only.symbol_gate.dispatch
    COMMAND ${gate} -D NAMESPACE=isa_avx2 ${script} $<TARGET_OBJECTS:header_only_dispatch>)
  set_tests_properties(header_only.symbol_gate.dispatch PROPERTIES LABELS package)
endif()

# The forward pass' loops for AVX2, in a program that runs on every x86-64.
if(TARGET mxfp4_model AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND TARGET mxfp4::dispatch)
  add_test(NAME model.loops.symbol_gate COMMAND ${gate} -D NAMESPACE=isa_avx2_without_f16c ${script}
    "$<FILTER:$<TARGET_OBJECTS:mxfp4_model>,INCLUDE,loops_avx2>")
endif()

# The gate itself: an object with one function that anybody could be linked to.
add_library(header_only_leak OBJECT dispatch.leak/sse2.cpp)
target_compile_options(header_only_leak PRIVATE -O2)
add_test(NAME header_only.symbol_gate.leak
  COMMAND ${gate} -D NAMESPACE=dispatch_sse2 ${script} $<TARGET_OBJECTS:header_only_leak>)
set_tests_properties(header_only.symbol_gate.leak PROPERTIES LABELS package
  PASS_REGULAR_EXPRESSION "mxfp4::leaks" FAIL_REGULAR_EXPRESSION "is_tagged")
