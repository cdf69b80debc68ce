# Programs under qemu-user's models of CPUs that the builder's machine is not: a Nehalem has SSE4.2, a Haswell AVX2, and
# qemu-user has no AVX-512 at all.
# SPDX-License-Identifier: Apache-2.0
set(MXFP4_EMULATED_CPUS "")
if(CMAKE_SYSTEM_NAME STREQUAL Linux AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND NOT CMAKE_CROSSCOMPILING)
  find_program(MXFP4_QEMU_X86_64 qemu-x86_64)
  mark_as_advanced(MXFP4_QEMU_X86_64)
  if(MXFP4_QEMU_X86_64)
    set(MXFP4_EMULATED_CPUS Nehalem Haswell)
  elseif(MXFP4_NIGHTLY)
    message(FATAL_ERROR "MXFP4_NIGHTLY runs the tests on other CPUs too and found no qemu-x86_64 (package qemu-user)")
  else()
    message(STATUS "tests: no qemu-x86_64 (package qemu-user), nothing is run on other CPUs than this one")
  endif()
endif()

# mxfp4_emulate(<test> <program> [ARGUMENTS <argument>...] [ENVIRONMENT <variable>=<value>...])
# With MXFP4_NIGHTLY: tests <test>.<cpu>, label nightly, on each of those CPUs. A program that starts others has them
# run by the real CPU.
function(mxfp4_emulate test program)
  if(NOT MXFP4_NIGHTLY)
    return()
  endif()
  cmake_parse_arguments(arg "" "" "ARGUMENTS;ENVIRONMENT" ${ARGN})
  foreach(cpu IN LISTS MXFP4_EMULATED_CPUS)
    add_test(NAME ${test}.${cpu} COMMAND ${MXFP4_QEMU_X86_64} -cpu ${cpu} $<TARGET_FILE:${program}> ${arg_ARGUMENTS})
    set_tests_properties(${test}.${cpu} PROPERTIES
      ENVIRONMENT "${arg_ENVIRONMENT}" LABELS nightly SKIP_RETURN_CODE 4 TIMEOUT 3600)
  endforeach()
endfunction()
