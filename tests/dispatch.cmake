# mxfp4::dispatch: every instruction set that this CPU has, one by one under MXFP4_ISA; names it does not have; symbols.
# SPDX-License-Identifier: Apache-2.0
mxfp4_test(dispatch SOURCES dispatch.equal.test.cpp dispatch.unavailable.test.cpp LIBRARIES mxfp4::dispatch LABELS dispatch)
mxfp4_test(dispatch.moe LIBRARIES mxfp4::mxfp4 mxfp4::dispatch LABELS dispatch)

# dispatch_entry(<name> <program> <value of MXFP4_ISA>); a program with nothing to test on this CPU counts as skipped.
function(dispatch_entry name program isa)
  add_test(NAME ${name} COMMAND ${program})
  set_tests_properties(${name} PROPERTIES ENVIRONMENT "MXFP4_ISA=${isa}" LABELS dispatch SKIP_RETURN_CODE 4)
  mxfp4_emulate(${name} ${program} ENVIRONMENT "MXFP4_ISA=${isa}")
endfunction()

dispatch_entry(dispatch.unknown test_dispatch avx9000)
foreach(isa IN LISTS MXFP4_DISPATCH_ISAS)
  dispatch_entry(dispatch.${isa} test_dispatch ${isa})
  dispatch_entry(dispatch.moe.${isa} test_dispatch.moe ${isa})
  # Where products add floats, the header-only functions compiled for the same instruction set are what to equal.
  add_executable(test_dispatch_f32_${isa} dispatch.f32.test.cpp)
  target_link_libraries(test_dispatch_f32_${isa} PRIVATE mxfp4_test_support mxfp4::mxfp4 mxfp4::dispatch)
  mxfp4_compile_for(test_dispatch_f32_${isa} ${mxfp4_flags_${isa}}
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized;-Wno-uninitialized>)
  dispatch_entry(dispatch.f32.${isa} test_dispatch_f32_${isa} ${isa})
endforeach()

# AVX-VNNI with the instruction in AVX-512's encoding, for CPUs that have only that.
if("avxvnni" IN_LIST MXFP4_DISPATCH_ISAS)
  mxfp4_test(simd_avxvnni.equal LIBRARIES mxfp4::mxfp4 LABELS kernel OPTIONS ${mxfp4_flags_avx2})
endif()

# What an engine links: its own symbols and the kernels that it calls, no others.
if(CMAKE_NM AND CMAKE_SYSTEM_NAME STREQUAL Linux)
  add_library(dispatch_engine SHARED dispatch.engine.cpp)
  target_link_libraries(dispatch_engine PRIVATE mxfp4::dispatch mxfp4_warnings)
  target_link_options(dispatch_engine PRIVATE -Wl,--gc-sections)
  set_target_properties(dispatch_engine PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  add_test(NAME dispatch.shared_library COMMAND ${CMAKE_COMMAND} -D NM=${CMAKE_NM} -D LIBRARY=$<TARGET_FILE:dispatch_engine>
    -P ${CMAKE_CURRENT_SOURCE_DIR}/dispatch.shared_library.cmake)
  set_tests_properties(dispatch.shared_library PROPERTIES LABELS package)
endif()

if(CMAKE_NM)
  set(gate ${CMAKE_COMMAND} -D NM=${CMAKE_NM} -P ${CMAKE_CURRENT_SOURCE_DIR}/dispatch.symbol_gate.cmake)
  add_test(NAME dispatch.symbol_gate COMMAND ${gate} $<TARGET_FILE:mxfp4_dispatch> ${MXFP4_DISPATCH_ISAS})
  # The gate itself: an archive with one function that anybody could be linked to.
  add_library(dispatch_leak STATIC dispatch.leak/sse2.cpp)
  target_compile_options(dispatch_leak PRIVATE -O2)
  add_test(NAME dispatch.symbol_gate.leak COMMAND ${gate} $<TARGET_FILE:dispatch_leak> sse2)
  set_tests_properties(dispatch.symbol_gate.leak PROPERTIES
    PASS_REGULAR_EXPRESSION "sse2: mxfp4::leaks" FAIL_REGULAR_EXPRESSION "is_tagged")
  set_tests_properties(dispatch.symbol_gate dispatch.symbol_gate.leak PROPERTIES LABELS dispatch)
endif()
