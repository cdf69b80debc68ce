# mxfp4::io, the file formats safetensors and GGUF, and mxfp4::checkpoint, whole checkpoints to MXFP4 and back: static
# libraries of src/io and src/checkpoint, whose headers include nothing but the standard library and mxfp4.
# SPDX-License-Identifier: Apache-2.0
#
# What they are made with stays inside: nlohmann-json and xxHash, of which headers alone are used, and in
# mxfp4::checkpoint oneTBB and RE2, which a consumer of the installed package links too (mxfp4Config.cmake finds them),
# and mxfp4::dispatch. Without dispatch mxfp4::checkpoint has the plain loops: the same bytes, in a tenfold time.
mxfp4_provide(nlohmann_json 3.11 nlohmann_json::nlohmann_json JSON_BuildTests=OFF JSON_Install=OFF)
mxfp4_provide_xxhash()

set(MXFP4_TOOL_OPTIONS "" CACHE STRING "Compiler options of the file libraries and the program, after all others")
mark_as_advanced(MXFP4_TOOL_OPTIONS)

# mxfp4_file_library(<name>): mxfp4_<name> of src/<name>/*.cpp, its headers those of include/mxfp4/<name>.
# No two of its files give one name two meanings: CMAKE_UNITY_BUILD compiles them together, in half the time.
function(mxfp4_file_library name)
  set(all "")
  if(NOT (PROJECT_IS_TOP_LEVEL OR MXFP4_INSTALL))   # somebody else's project builds it when something links it
    set(all EXCLUDE_FROM_ALL)
  endif()
  file(GLOB sources CONFIGURE_DEPENDS src/${name}/*.cpp)
  file(GLOB headers CONFIGURE_DEPENDS include/mxfp4/${name}/*.hpp)
  set(target mxfp4_${name})
  add_library(${target} STATIC ${all} ${sources})
  mxfp4_alias(${name} ${target})
  target_sources(${target} PUBLIC FILE_SET HEADERS BASE_DIRS include FILES ${headers})
  target_include_directories(${target} PRIVATE src)
  target_link_libraries(${target} PUBLIC mxfp4_format PRIVATE $<BUILD_INTERFACE:nlohmann_json::nlohmann_json>)
  # What is added up here does not depend on whether a compiler fuses, as g++ does on Arm and IBM Z.
  target_compile_options(${target} PRIVATE -ffp-contract=off ${MXFP4_TOOL_OPTIONS})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name} POSITION_INDEPENDENT_CODE ON
    VERIFY_INTERFACE_HEADER_SETS ${PROJECT_IS_TOP_LEVEL})
endfunction()

mxfp4_file_library(io)
target_link_libraries(mxfp4_io PRIVATE $<BUILD_INTERFACE:mxfp4_xxhash>)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")   # called where the CPU has it; optimised in every configuration
  target_compile_definitions(mxfp4_io PRIVATE MXFP4_IO_HASH_AVX2)
  set_source_files_properties(${PROJECT_SOURCE_DIR}/src/io/content_hash_avx2.cpp PROPERTIES COMPILE_OPTIONS "-mavx2;-O3")
endif()
if(MXFP4_CHECKPOINT)
  mxfp4_provide(TBB 2021.5 TBB::tbb TBB_TEST=OFF TBB_INSTALL=OFF TBBMALLOC_BUILD=OFF)
  mxfp4_provide_re2()
  mxfp4_file_library(checkpoint)
  target_link_libraries(mxfp4_checkpoint PUBLIC mxfp4_io
    PRIVATE $<BUILD_INTERFACE:TBB::tbb> $<INSTALL_INTERFACE:TBB::tbb> $<BUILD_INTERFACE:re2::re2> $<INSTALL_INTERFACE:re2::re2>)
  if(TARGET mxfp4_dispatch)
    target_link_libraries(mxfp4_checkpoint PRIVATE mxfp4_dispatch)
    target_compile_definitions(mxfp4_checkpoint PRIVATE MXFP4_CHECKPOINT_DISPATCH)
  endif()
endif()
