# The check that keeps a program off a CPU that lacks its instructions: a small program for each instruction set, on
# this CPU and on emulated ones, with the exit code that it must have there.
# SPDX-License-Identifier: Apache-2.0
set(runs_on_Nehalem sse2)
set(runs_on_Haswell sse2 avx2)

# isa_on(<test> <cpu> <program> <exit code, or what CMake calls the signal>)
function(isa_on test cpu program code)
  add_test(NAME ${test}.${cpu} COMMAND ${CMAKE_COMMAND} "-DEXPECTED=${code}"
    -P ${CMAKE_CURRENT_SOURCE_DIR}/exit_code.cmake -- ${MXFP4_QEMU_X86_64} -cpu ${cpu} $<TARGET_FILE:${program}>)
  set_tests_properties(${test}.${cpu} PROPERTIES LABELS isa)
endfunction()

foreach(isa IN LISTS MXFP4_DISPATCH_ISAS)
  add_executable(isa_${isa} isa_probe.cpp)
  target_link_libraries(isa_${isa} PRIVATE mxfp4_warnings)
  target_compile_features(isa_${isa} PRIVATE cxx_std_20)
  mxfp4_compile_for(isa_${isa} ${mxfp4_flags_${isa}})
  add_test(NAME isa.${isa} COMMAND isa_${isa})
  set_tests_properties(isa.${isa} PROPERTIES LABELS isa SKIP_RETURN_CODE 4)
  foreach(cpu IN LISTS MXFP4_EMULATED_CPUS)
    set(code 4)
    if(isa IN_LIST runs_on_${cpu})
      set(code 0)
    endif()
    isa_on(isa.${isa} ${cpu} isa_${isa} ${code})
  endforeach()
endforeach()

# The program mxfp4 has the same check, with words and an exit code for its user.
if(avx2 IN_LIST MXFP4_DISPATCH_ISAS AND MXFP4_EMULATED_CPUS)
  add_executable(isa_installed isa_probe.cpp)
  target_link_libraries(isa_installed PRIVATE mxfp4_warnings)
  target_compile_features(isa_installed PRIVATE cxx_std_20)
  mxfp4_compile_for(isa_installed INSTALLED ${mxfp4_flags_avx2})
  isa_on(isa.installed Haswell isa_installed 0)
  isa_on(isa.installed Nehalem isa_installed 1)
  add_test(NAME isa.installed.words COMMAND ${MXFP4_QEMU_X86_64} -cpu Nehalem $<TARGET_FILE:isa_installed>)
  set_tests_properties(isa.installed.words PROPERTIES LABELS isa PASS_REGULAR_EXPRESSION
    "^mxfp4: this program was compiled for what this CPU lacks: FMA.*, AVX2.*; take a build for the processor's base")
endif()

# These tests themselves: without the check the same programs die where they must not run.
foreach(isa avx2 avx512bw)
  if(isa IN_LIST MXFP4_DISPATCH_ISAS AND MXFP4_EMULATED_CPUS)
    add_executable(isa_unchecked_${isa} isa_probe.cpp)
    target_link_libraries(isa_unchecked_${isa} PRIVATE mxfp4_warnings)
    target_compile_features(isa_unchecked_${isa} PRIVATE cxx_std_20)
    target_compile_options(isa_unchecked_${isa} PRIVATE ${mxfp4_flags_${isa}})
    foreach(cpu IN LISTS MXFP4_EMULATED_CPUS)
      set(code "Illegal instruction")
      if(isa IN_LIST runs_on_${cpu})
        set(code 0)
      endif()
      isa_on(isa.unchecked.${isa} ${cpu} isa_unchecked_${isa} ${code})
    endforeach()
  endif()
endforeach()
