# Programs that are compiled for more than the architecture's base ask the CPU before any code of theirs runs.
# SPDX-License-Identifier: Apache-2.0
set(mxfp4_cpu_check_dir ${CMAKE_CURRENT_LIST_DIR})

# -march= does not take back a -mavx2 of CMAKE_CXX_FLAGS; without SSE3 there is nothing above it either. Without
# exceptions, or clang adds a function that the linker may replace with another unit's.
foreach(check mxfp4_cpu_check mxfp4_cpu_check_installed)
  if(NOT UNIX)
    break()
  endif()
  add_library(${check} OBJECT EXCLUDE_FROM_ALL ${mxfp4_cpu_check_dir}/cpu_check.cpp)
  target_compile_features(${check} PRIVATE cxx_std_20)
  target_link_libraries(${check} PRIVATE mxfp4_warnings)
  target_include_directories(${check} PRIVATE ${mxfp4_cpu_check_dir}/../../include)
  target_compile_options(${check} PRIVATE -fno-exceptions)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    target_compile_options(${check} PRIVATE -march=x86-64 -mno-sse3
      -mno-popcnt -mno-movbe -mno-bmi -mno-bmi2 -mno-lzcnt)
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64" AND NOT APPLE)
    target_compile_options(${check} PRIVATE -march=armv8-a)
  endif()
  if(check STREQUAL "mxfp4_cpu_check_installed")
    target_compile_definitions(${check} PRIVATE MXFP4_CPU_CHECK_INSTALLED)
  endif()
endforeach()

# mxfp4_compile_for(<program> [INSTALLED] [TARGET <object library>] <option>...)
# Compiles the program, or with TARGET an object library that it is made of, with these options, and lets the program
# end with a sentence and exit code 4 on a CPU that lacks what they, or CMAKE_CXX_FLAGS, allow. INSTALLED: a user's
# program, which was not skipped but failed, with exit code 1. Once for each program. Programs with the same options
# share the object that says what those are.
function(mxfp4_compile_for program)
  cmake_parse_arguments(PARSE_ARGV 1 arg "INSTALLED" "TARGET" "")
  set(options ${arg_UNPARSED_ARGUMENTS})
  if(NOT arg_TARGET)
    set(arg_TARGET ${program})
  endif()
  target_compile_options(${arg_TARGET} PRIVATE ${options})
  if(NOT TARGET mxfp4_cpu_check)
    return()
  endif()
  string(MD5 key "${options}")
  string(SUBSTRING ${key} 0 8 key)
  set(needs mxfp4_cpu_needs_${key})
  if(NOT TARGET ${needs})
    add_library(${needs} OBJECT EXCLUDE_FROM_ALL ${mxfp4_cpu_check_dir}/cpu_needs.cpp)
    target_compile_features(${needs} PRIVATE cxx_std_20)
    target_link_libraries(${needs} PRIVATE mxfp4_warnings)
    target_compile_options(${needs} PRIVATE ${options})
  endif()
  set(check mxfp4_cpu_check)
  if(arg_INSTALLED)
    set(check mxfp4_cpu_check_installed)
  endif()
  target_sources(${program} PRIVATE $<TARGET_OBJECTS:${check}> $<TARGET_OBJECTS:${needs}>)
endfunction()
