# The package seen from outside: ctest configures, builds and runs consumer projects as a user would.
# SPDX-License-Identifier: Apache-2.0
set(package_dir ${CMAKE_CURRENT_BINARY_DIR}/package)
set(prefix "${package_dir}/moved to here")   # a blank, as in the folder names of some systems
set(release ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})

# What each consumer inherits; a file, because CMAKE_PREFIX_PATH may be a list.
set(cache "")
foreach(name CMAKE_CXX_COMPILER CMAKE_MAKE_PROGRAM CMAKE_BUILD_TYPE CMAKE_PREFIX_PATH xsimd_DIR nlohmann_json_DIR TBB_DIR
    MXFP4_XXHASH_INCLUDE)
  string(APPEND cache "set(${name} [[${${name}}]] CACHE STRING \"\")\n")
endforeach()
file(WRITE ${package_dir}/cache.cmake "${cache}")

# package_test(<name> <project folder> [<option>...]): configured, built, run.
function(package_test name project)
  add_test(NAME package.${name} COMMAND ${CMAKE_CTEST_COMMAND}
    --build-and-test ${CMAKE_CURRENT_SOURCE_DIR}/package.${project} ${package_dir}/${name}
    --build-generator ${CMAKE_GENERATOR}
    --build-options -C ${package_dir}/cache.cmake -DMXFP4_SOURCE=${PROJECT_SOURCE_DIR} -DMXFP4_VERSION=${release} ${ARGN}
    --test-command consumer)
  set_tests_properties(package.${name} PROPERTIES LABELS package)
endfunction()

add_test(NAME package.headers COMMAND ${CMAKE_COMMAND} --build ${PROJECT_BINARY_DIR} --target all_verify_interface_header_sets)
set_tests_properties(package.headers PROPERTIES LABELS package)

if(MXFP4_PYTHON)
  add_test(NAME docs.families COMMAND ${MXFP4_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/interop/families_table.py)
  add_test(NAME package.layers COMMAND ${MXFP4_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/package.layers.py ${PROJECT_SOURCE_DIR})
  add_test(NAME package.headers.cuda COMMAND ${MXFP4_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/package.layers.py
    ${PROJECT_SOURCE_DIR} ${CMAKE_CXX_COMPILER} -w -I ${CMAKE_CURRENT_SOURCE_DIR}
    "-DMXFP4_CUDA_EMULATOR=\"cuda/emulator/emulator.hpp\"")
  set_tests_properties(package.layers package.headers.cuda PROPERTIES LABELS package)
endif()

package_test(fetch fetch)
package_test(subdirectory subdirectory)
package_test(subdirectory_format_only subdirectory -DMXFP4_FORMAT_ONLY=ON -DCMAKE_DISABLE_FIND_PACKAGE_xsimd=ON)
if(TARGET mxfp4::mxfp4)
  package_test(own_xsimd own_xsimd -DXSIMD_INCLUDE=$<TARGET_PROPERTY:xsimd,INTERFACE_INCLUDE_DIRECTORIES>)
endif()
# No xsimd, and no way to any server: the sentence that names both ways out.
add_test(NAME package.without_xsimd COMMAND ${CMAKE_COMMAND} -G ${CMAKE_GENERATOR} -S ${CMAKE_CURRENT_SOURCE_DIR}/package.fetch
  -B ${package_dir}/without_xsimd -C ${package_dir}/cache.cmake -DMXFP4_SOURCE=${PROJECT_SOURCE_DIR} -DCMAKE_DISABLE_FIND_PACKAGE_xsimd=ON)
set_tests_properties(package.without_xsimd PROPERTIES LABELS package
  ENVIRONMENT "https_proxy=http://127.0.0.1:9;HTTPS_PROXY=http://127.0.0.1:9;no_proxy="
  PASS_REGULAR_EXPRESSION "xsimd 13.2 or newer.*MXFP4_FORMAT_ONLY=ON.*Nor can it be fetched")
# Who asks for dispatch and leaves out xsimd is told that building the one needs the other.
add_test(NAME package.dispatch_format_only COMMAND ${CMAKE_COMMAND} -G ${CMAKE_GENERATOR}
  -S ${CMAKE_CURRENT_SOURCE_DIR}/package.subdirectory -B ${package_dir}/dispatch_format_only -C ${package_dir}/cache.cmake
  -DMXFP4_SOURCE=${PROJECT_SOURCE_DIR} -DMXFP4_FORMAT_ONLY=ON -DMXFP4_DISPATCH=ON)
set_tests_properties(package.dispatch_format_only PROPERTIES LABELS package
  PASS_REGULAR_EXPRESSION "no mxfp4::dispatch with MXFP4_FORMAT_ONLY: building it needs xsimd")
if(MXFP4_DISPATCH)   # one unit alone: this machine's, or where it cannot be asked, the one that every CPU runs
  set(one native)
  if(CMAKE_CROSSCOMPILING)
    list(GET MXFP4_DISPATCH_ISAS -1 one)
  endif()
  package_test(dispatch_subdirectory dispatch -DMXFP4_DISPATCH_ISAS=${one})
endif()
if(MXFP4_IO)
  package_test(io_subdirectory io)
endif()
if(MXFP4_CHECKPOINT)   # without dispatch: its plain loops are built sooner than all kernels
  package_test(checkpoint_subdirectory checkpoint -DMXFP4_DISPATCH=OFF)
endif()

if(MXFP4_INSTALL)
  add_test(NAME package.install COMMAND ${CMAKE_COMMAND} -DSOURCE=${PROJECT_SOURCE_DIR} -DBUILD=${PROJECT_BINARY_DIR}
    -DPREFIX=${prefix} -DDISPATCH=${MXFP4_DISPATCH} -DIO=${MXFP4_IO} -DCHECKPOINT=${MXFP4_CHECKPOINT} -DTOOLS=${MXFP4_BUILD_TOOLS}
    -DCUDA=$<TARGET_EXISTS:mxfp4::cuda> -P ${CMAKE_CURRENT_SOURCE_DIR}/package.installed/install.cmake)
  package_test(installed installed -Dmxfp4_ROOT=${prefix})
  add_test(NAME package.two_tus COMMAND ${CMAKE_CTEST_COMMAND}
    --build-and-test ${CMAKE_CURRENT_SOURCE_DIR}/package.two_tus ${package_dir}/two_tus --build-generator ${CMAKE_GENERATOR}
    --build-options -C ${package_dir}/cache.cmake -DMXFP4_VERSION=${release} -Dmxfp4_ROOT=${prefix}
      $<$<BOOL:${MXFP4_QEMU_X86_64}>:-DQEMU=${MXFP4_QEMU_X86_64}>
    --test-command ${CMAKE_CTEST_COMMAND} --output-on-failure --no-tests=error)
  package_test(format_only format_only -Dmxfp4_ROOT=${prefix})
  package_test(found_before found_before -Dmxfp4_ROOT=${prefix})
  set(users package.installed package.two_tus package.format_only package.found_before)
  add_test(NAME package.unknown_component COMMAND ${CMAKE_COMMAND} -G ${CMAKE_GENERATOR}
    -S ${CMAKE_CURRENT_SOURCE_DIR}/package.unknown_component -B ${package_dir}/unknown_component
    -C ${package_dir}/cache.cmake -Dmxfp4_ROOT=${prefix} -DMXFP4_VERSION=${release})
  set_tests_properties(package.unknown_component PROPERTIES
    PASS_REGULAR_EXPRESSION "no component 'kernels', expected some of format, mxfp4")
  list(APPEND users package.unknown_component)
  find_program(MXFP4_PKG_CONFIG NAMES pkg-config pkgconf)
  mark_as_advanced(MXFP4_PKG_CONFIG)
  if(MXFP4_PKG_CONFIG)
    add_test(NAME package.pkg_config COMMAND ${CMAKE_COMMAND} -DPKG_CONFIG=${MXFP4_PKG_CONFIG} -DPREFIX=${prefix}
      -DCOMPILER=${CMAKE_CXX_COMPILER} -DSOURCE=${CMAKE_CURRENT_SOURCE_DIR}/package.program/round_trip.cpp
      -DPROGRAM=${package_dir}/by_pkg_config -DVERSION=${PROJECT_VERSION}
      -P ${CMAKE_CURRENT_SOURCE_DIR}/package.pkg_config/check.cmake)
    list(APPEND users package.pkg_config)
  endif()
  if(TARGET mxfp4::cuda)
    package_test(cuda cuda -Dmxfp4_ROOT=${prefix} -DCMAKE_CUDA_COMPILER=${CMAKE_CUDA_COMPILER})
    list(APPEND users package.cuda)
  endif()
  if(MXFP4_DISPATCH)
    package_test(dispatch_installed dispatch -Dmxfp4_ROOT=${prefix})
    list(APPEND users package.dispatch_installed)
  endif()
  if(MXFP4_IO)
    package_test(io_installed io -Dmxfp4_ROOT=${prefix})
    list(APPEND users package.io_installed)
  endif()
  if(MXFP4_CHECKPOINT AND TBB_DIR)   # a fetched oneTBB is not there for others
    package_test(checkpoint_installed checkpoint -Dmxfp4_ROOT=${prefix})
    list(APPEND users package.checkpoint_installed)
  endif()

  math(EXPR next_minor "${PROJECT_VERSION_MINOR} + 1")
  math(EXPR next_major "${PROJECT_VERSION_MAJOR} + 1")
  foreach(refused ${PROJECT_VERSION_MAJOR}.${next_minor} ${next_major}.0)
    add_test(NAME package.version_refused.${refused} COMMAND ${CMAKE_COMMAND} -G ${CMAKE_GENERATOR}
      -S ${CMAKE_CURRENT_SOURCE_DIR}/package.version_refused -B ${package_dir}/version_refused.${refused}
      -C ${package_dir}/cache.cmake -Dmxfp4_ROOT=${prefix} -DMXFP4_VERSION=${refused})
    set_tests_properties(package.version_refused.${refused} PROPERTIES
      PASS_REGULAR_EXPRESSION "mxfp4Config.cmake, version: ${PROJECT_VERSION}")
    list(APPEND users package.version_refused.${refused})
  endforeach()

  set_tests_properties(package.install PROPERTIES LABELS package FIXTURES_SETUP mxfp4_prefix)
  set_tests_properties(${users} PROPERTIES LABELS package FIXTURES_REQUIRED mxfp4_prefix)
  if(TARGET mxfp4::cuda)
    set_tests_properties(package.cuda PROPERTIES LABELS "package;cuda")
  endif()
endif()
