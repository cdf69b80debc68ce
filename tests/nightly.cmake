# Fuzz targets, and with MXFP4_NIGHTLY what takes minutes: mutation and clang-tidy. The programs that run on other
# CPUs are added where the tests are (emulated.cmake).
# SPDX-License-Identifier: Apache-2.0

# mxfp4_fuzz(<name> [SOURCES <file>...] [COVER <file>...] [LIBRARIES <target>...] [COMPILED]): the corpus is replayed by
# every test run; with MXFP4_FUZZ (clang) the target is built with libFuzzer too and runs for a minute from that corpus.
# SOURCES: what is fuzzed, compiled into the target so that it is instrumented; with COMPILED the replay takes them from
# the LIBRARIES, and the target the rest. COVER: of those, the ones whose lines the corpus must reach to 95 %.
function(mxfp4_fuzz name)
  cmake_parse_arguments(arg "COMPILED" "" "SOURCES;COVER;LIBRARIES" ${ARGN})
  set(replayed ${arg_SOURCES})
  if(arg_COMPILED)
    set(replayed "")
  endif()
  set(corpus ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus/${name})
  add_executable(replay_${name} fuzz/${name}.cpp fuzz/replay.cpp ${replayed})
  add_test(NAME fuzz.${name}.replay COMMAND replay_${name} ${corpus})
  set(programs replay_${name})
  if(MXFP4_FUZZ)
    add_executable(fuzz_${name} fuzz/${name}.cpp ${arg_SOURCES})
    target_compile_options(fuzz_${name} PRIVATE -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all)
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer,address,undefined)
    set(found ${CMAKE_CURRENT_BINARY_DIR}/corpus_${name})   # what a run finds stays out of the source tree
    file(MAKE_DIRECTORY ${found})
    add_test(NAME fuzz.${name} COMMAND fuzz_${name} -max_total_time=60 -max_len=4096 -print_final_stats=1 ${found} ${corpus})
    set_tests_properties(fuzz.${name} PROPERTIES LABELS nightly TIMEOUT 180)
    list(APPEND programs fuzz_${name})
  endif()
  if(MXFP4_FUZZ AND arg_COVER)
    add_executable(coverage_${name} fuzz/${name}.cpp fuzz/replay.cpp ${arg_SOURCES})
    target_compile_options(coverage_${name} PRIVATE -O0 -fprofile-instr-generate -fcoverage-mapping)
    target_link_options(coverage_${name} PRIVATE -fprofile-instr-generate)
    add_test(NAME fuzz.${name}.coverage COMMAND ${MXFP4_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/coverage.py
      --compiler ${CMAKE_CXX_COMPILER} --program $<TARGET_FILE:coverage_${name}> --corpus ${corpus} --least 95 ${arg_COVER})
    set_tests_properties(fuzz.${name}.coverage PROPERTIES LABELS nightly)
    list(APPEND programs coverage_${name})
  endif()
  foreach(program IN LISTS programs)
    target_link_libraries(${program} PRIVATE mxfp4::format mxfp4_warnings ${arg_LIBRARIES})
    target_include_directories(${program} PRIVATE ${PROJECT_SOURCE_DIR}/src)
  endforeach()
endfunction()

mxfp4_fuzz(encode_decode)
if(TARGET mxfp4_io)
  set(io ${PROJECT_SOURCE_DIR}/src/io)
  set(files ${io}/error.cpp ${io}/file.cpp ${io}/output_file.cpp ${io}/output_rule.cpp ${io}/temporary.cpp)
  mxfp4_fuzz(safetensors COMPILED
    SOURCES ${io}/safetensors_reader.cpp ${io}/safetensors_header.cpp ${io}/content_hash.cpp ${io}/foreign_file.cpp ${files}
    COVER ${io}/safetensors_reader.cpp ${io}/safetensors_header.cpp
    LIBRARIES mxfp4_io nlohmann_json::nlohmann_json mxfp4_xxhash)
  mxfp4_fuzz(gguf COMPILED
    SOURCES ${io}/gguf_file.cpp ${io}/gguf_header.cpp ${io}/safetensors_header.cpp ${files}
    COVER ${io}/gguf_file.cpp
    LIBRARIES mxfp4_io nlohmann_json::nlohmann_json)
endif()
if(TARGET mxfp4_internal)   # what a checkpoint's directory says of itself, as JSON
  set(checkpoint ${PROJECT_SOURCE_DIR}/src/checkpoint)
  mxfp4_fuzz(index COMPILED SOURCES ${checkpoint}/reader.cpp LIBRARIES mxfp4_internal)
  mxfp4_fuzz(quantization_config COMPILED
    SOURCES ${checkpoint}/verify.cpp ${checkpoint}/verify_config.cpp ${checkpoint}/quantization_config.cpp
    COVER ${checkpoint}/verify_config.cpp
    LIBRARIES mxfp4_internal)
  mxfp4_fuzz(report COMPILED
    SOURCES ${checkpoint}/quality_report.cpp ${checkpoint}/statistics_json.cpp ${checkpoint}/quantize_report.cpp
    COVER ${checkpoint}/quality_report.cpp
    LIBRARIES mxfp4_internal)
  mxfp4_fuzz(journal COMPILED
    SOURCES ${checkpoint}/merge.cpp ${checkpoint}/quantize.cpp ${checkpoint}/quantize_journal.cpp
    LIBRARIES mxfp4_internal)
endif()
if(TARGET mxfp4_model)
  set(model ${PROJECT_SOURCE_DIR}/src/model)
  mxfp4_fuzz(config COMPILED SOURCES ${model}/config.cpp ${checkpoint}/minimax_m2.cpp COVER ${model}/config.cpp
    LIBRARIES mxfp4_model)
  mxfp4_fuzz(tokenizer COMPILED SOURCES ${model}/tokenizer.cpp ${model}/tokenizer_json.cpp
    COVER ${model}/tokenizer_json.cpp LIBRARIES mxfp4_model)
endif()

if(NOT MXFP4_NIGHTLY)
  return()
endif()

# The programs whose tests are tried on each mutant of the headers; those that need flags or the command line are not.
set(mutation_tests ${MXFP4_UNIT_TESTS})
list(JOIN mutation_tests , mutation_tests)
get_target_property(catch2_include Catch2::Catch2 INTERFACE_INCLUDE_DIRECTORIES)
list(TRANSFORM catch2_include PREPEND --flag=-isystem)
add_test(NAME mutation COMMAND ${MXFP4_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/mutation/mutate.py
  --compiler ${CMAKE_CXX_COMPILER} --tests ${mutation_tests} ${catch2_include}
  --flag=-DMXFP4_TEST_VECTORS="${CMAKE_CURRENT_SOURCE_DIR}/vectors" --flag=-DMXFP4_SHARED_DIR="${MXFP4_SHARED_DIR}"
  --library=$<TARGET_FILE:Catch2::Catch2WithMain> --library=$<TARGET_FILE:Catch2::Catch2>)
set_tests_properties(mutation PROPERTIES LABELS nightly TIMEOUT 7200 RUN_SERIAL ON)

find_program(RUN_CLANG_TIDY NAMES run-clang-tidy run-clang-tidy-16 run-clang-tidy-14 REQUIRED)
add_test(NAME tidy COMMAND ${RUN_CLANG_TIDY} -quiet -p ${PROJECT_BINARY_DIR} "^${PROJECT_SOURCE_DIR}/(examples|src|tools|tests|bench)/")
set_tests_properties(tidy PROPERTIES LABELS nightly TIMEOUT 3600 RUN_SERIAL ON)
