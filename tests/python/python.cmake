# The Python package of examples/python: its wheel built, installed and tried; downloads what builds it.
# SPDX-License-Identifier: Apache-2.0
option(MXFP4_PYTHON_PACKAGE "Add the test that builds the Python package: label python" OFF)
if(NOT MXFP4_PYTHON_PACKAGE)
  return()
endif()
list(JOIN CMAKE_PREFIX_PATH "$<SEMICOLON>" prefix_path)
add_test(NAME python.wheel COMMAND ${MXFP4_PYTHON} ${CMAKE_CURRENT_LIST_DIR}/run.py ${PROJECT_SOURCE_DIR}
  build-dir=${CMAKE_CURRENT_BINARY_DIR}/python "cmake.define.CMAKE_PREFIX_PATH=${prefix_path}"
  cmake.define.CMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER}
  "cmake.define.CMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER}")
set_tests_properties(python.wheel PROPERTIES LABELS python SKIP_RETURN_CODE 77 TIMEOUT 3600)
