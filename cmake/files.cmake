# mxfp4::io and mxfp4::checkpoint: files and checkpoints, as static libraries. Their headers need the standard library and
# mxfp4::format alone; what the sources are made with, nlohmann-json and oneTBB, a consumer does not see.
# SPDX-License-Identifier: Apache-2.0
mxfp4_provide(nlohmann_json 3.11 nlohmann_json::nlohmann_json JSON_BuildTests=OFF JSON_Install=OFF)
mxfp4_provide(TBB 2021.5 TBB::tbb TBB_TEST=OFF TBB_INSTALL=OFF TBBMALLOC_BUILD=OFF)

set(MXFP4_TOOL_OPTIONS "" CACHE STRING "Compiler options of the libraries of files, the program and their tests, after all others")
mark_as_advanced(MXFP4_TOOL_OPTIONS)

# mxfp4_file_library(<name> SOURCES <file>...): target mxfp4_<name>, mxfp4::<name>, with the headers of include/mxfp4/<name>.
function(mxfp4_file_library name)
  cmake_parse_arguments(arg "" "" "SOURCES" ${ARGN})
  list(TRANSFORM arg_SOURCES PREPEND ${PROJECT_SOURCE_DIR}/src/${name}/)
  add_library(mxfp4_${name} STATIC ${arg_SOURCES})
  add_library(mxfp4::${name} ALIAS mxfp4_${name})
  file(GLOB headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/mxfp4/${name}/*.hpp)
  target_sources(mxfp4_${name} PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${headers})
  target_include_directories(mxfp4_${name} PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(mxfp4_${name} PUBLIC mxfp4_format PRIVATE $<BUILD_INTERFACE:nlohmann_json::nlohmann_json>)
  # What is added up here does not depend on whether a compiler fuses, as g++ does on Arm and IBM Z.
  target_compile_options(mxfp4_${name} PRIVATE -ffp-contract=off ${MXFP4_TOOL_OPTIONS})
  set_target_properties(mxfp4_${name} PROPERTIES EXPORT_NAME ${name} POSITION_INDEPENDENT_CODE ON
    VERIFY_INTERFACE_HEADER_SETS ${PROJECT_IS_TOP_LEVEL})
endfunction()

mxfp4_file_library(io SOURCES
  file.cpp
  gguf_file.cpp
  gguf_header.cpp
  safetensors_header.cpp
  safetensors_reader.cpp
  safetensors_writer.cpp
)

mxfp4_file_library(checkpoint SOURCES
  block_encoder.cpp
  checkpoint_reader.cpp
  checkpoint_writer.cpp
  convert_checkpoint.cpp
  dequantize_checkpoint.cpp
  dequantize_file.cpp
  exact_fp8.cpp
  expert_jobs.cpp
  expert_layers.cpp
  measured_quality.cpp
  minimax_m2.cpp
  model_card.cpp
  mxfp4_weights.cpp
  process_rank.cpp
  quality_report.cpp
  quantization_config.cpp
  quantization_plan.cpp
  quantize_checkpoint.cpp
  quantize_file.cpp
  quantize_journal.cpp
  quantize_report.cpp
  quantize_shard.cpp
  statistics_json.cpp
  stored_tensor.cpp
  tensor_summary.cpp
  verify_checkpoint.cpp
  verify_config.cpp
  verify_content.cpp
  verify_source.cpp
)
target_link_libraries(mxfp4_checkpoint PUBLIC mxfp4_io PRIVATE TBB::tbb)
if(TARGET mxfp4_dispatch)   # else the plain loops (checkpoint/codec.hpp): the same bytes, in a tenfold time
  target_link_libraries(mxfp4_checkpoint PRIVATE mxfp4_dispatch)
  target_compile_definitions(mxfp4_checkpoint PRIVATE MXFP4_TOOLS_DISPATCH)
endif()
