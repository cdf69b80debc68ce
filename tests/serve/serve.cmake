# The vLLM plugin served for real: label serve, preset serve. Makes an environment by integrations/vllm/setup.sh, which
# downloads some gigabytes, and keeps it in the build folder.
# SPDX-License-Identifier: Apache-2.0
option(MXFP4_SERVE "Add the tests that install vLLM and serve with it: label serve" OFF)
if(NOT MXFP4_SERVE OR NOT TARGET mxfp4_cli)
  return()
endif()
set(environment ${CMAKE_CURRENT_BINARY_DIR}/serve)
add_test(NAME serve.setup COMMAND ${PROJECT_SOURCE_DIR}/integrations/vllm/setup.sh ${environment})
set_tests_properties(serve.setup PROPERTIES FIXTURES_SETUP serve TIMEOUT 7200 LABELS serve)
foreach(check tokens refused server nodes)
  add_test(NAME serve.${check} COMMAND ${environment}/bin/python ${CMAKE_CURRENT_LIST_DIR}/check_${check}.py
    $<TARGET_FILE:mxfp4_cli> ${PROJECT_SOURCE_DIR})
  set_tests_properties(serve.${check} PROPERTIES FIXTURES_REQUIRED serve RUN_SERIAL ON TIMEOUT 7200 LABELS serve)
endforeach()
