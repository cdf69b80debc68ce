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
string(APPEND cache "set(CMAKE_CXX_FLAGS_DEBUG \"\" CACHE STRING \"\")\n")   # they are run, not debugged: -g takes a third more time
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
  # Where doxygen and mkdocs are (setup.sh installs them): the whole manual, without a warning, a dead link, a public
  # name that has no docstring, or a question that does not find its answer first.
  add_test(NAME docs.manual COMMAND ${MXFP4_PYTHON} ${PROJECT_SOURCE_DIR}/docs/site/build.py
    ${CMAKE_CURRENT_BINARY_DIR}/manual --source ${PROJECT_SOURCE_DIR})
  set_tests_properties(docs.manual PROPERTIES LABELS package SKIP_RETURN_CODE 77)
  add_test(NAME docs.families COMMAND ${MXFP4_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/interop/families_table.py)
  add_test(NAME package.layers COMMAND ${MXFP4_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/package.layers.py ${PROJECT_SOURCE_DIR})
  add_test(NAME package.headers.cuda COMMAND ${MXFP4_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/package.layers.py
    ${PROJECT_SOURCE_DIR} ${CMAKE_CXX_COMPILER} -w -I ${CMAKE_CURRENT_SOURCE_DIR}
    "-DMXFP4_CUDA_EMULATOR=\"cuda/emulator/emulator.hpp\"")
  set_tests_properties(package.layers package.headers.cuda PROPERTIES LABELS package)
endif()

# The maintainer's kit: workflows, minima, the release script in a repository of its own.
if(MXFP4_PYTHON)
  add_test(NAME kit.workflows COMMAND ${MXFP4_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/kit.test.py ${PROJECT_SOURCE_DIR})
  set_tests_properties(kit.workflows PROPERTIES LABELS package SKIP_RETURN_CODE 77)
endif()
find_program(MXFP4_BASH bash)
find_program(MXFP4_GIT git)
mark_as_advanced(MXFP4_BASH MXFP4_GIT)
if(MXFP4_BASH AND MXFP4_GIT)
  add_test(NAME kit.release COMMAND ${MXFP4_BASH} ${CMAKE_CURRENT_SOURCE_DIR}/release.test.sh ${PROJECT_SOURCE_DIR})
  set_tests_properties(kit.release PROPERTIES LABELS package)
endif()
if(MXFP4_PYTHON AND MXFP4_INTEROP)   # by pip: the oldest CMake that is supported, and a newer one than a distribution's
  foreach(cmake 3.25.0 4.0.2)
    add_test(NAME interop.cmake.${cmake} COMMAND ${MXFP4_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/interop/run.py --packages cmake==${cmake}
      -- ${CMAKE_CURRENT_SOURCE_DIR}/cmake_versions.py ${PROJECT_SOURCE_DIR} ${cmake})
    set_tests_properties(interop.cmake.${cmake} PROPERTIES LABELS interop SKIP_RETURN_CODE 77 TIMEOUT 600)
  endforeach()
endif()

# What a public header costs to include: tests/header_lines.txt has a ceiling for each.
if(MXFP4_PYTHON AND TARGET mxfp4::mxfp4 AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND NOT CMAKE_CROSSCOMPILING)
  get_target_property(xsimd xsimd INTERFACE_INCLUDE_DIRECTORIES)
  list(TRANSFORM xsimd PREPEND -isystem)
  set(header_lines ${MXFP4_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/header_lines.py ${PROJECT_SOURCE_DIR}/include)
  add_test(NAME package.header_lines COMMAND ${header_lines} ${CMAKE_CURRENT_SOURCE_DIR}/header_lines.txt
    ${CMAKE_CXX_COMPILER} -DMXFP4_KERNELS=1 ${xsimd})
  # The test itself: a ceiling that is too low, a header without one, one without its header.
  file(STRINGS header_lines.txt ceilings)
  list(TRANSFORM ceilings REPLACE "^(mxfp4/block.hpp) .*" "\\1 1")
  list(FILTER ceilings EXCLUDE REGEX "^mxfp4/view.hpp ")
  list(APPEND ceilings "mxfp4/gone.hpp 1")
  list(JOIN ceilings "\n" ceilings)
  file(WRITE ${package_dir}/header_lines.txt "${ceilings}\n")
  add_test(NAME package.header_lines.exceeded COMMAND ${header_lines} ${package_dir}/header_lines.txt
    ${CMAKE_CXX_COMPILER} -DMXFP4_KERNELS=1 ${xsimd})
  set_tests_properties(package.header_lines package.header_lines.exceeded PROPERTIES LABELS package SKIP_RETURN_CODE 77)
  set_tests_properties(package.header_lines.exceeded PROPERTIES PASS_REGULAR_EXPRESSION
    "block.hpp: [0-9]+ preprocessed lines, expected 1 at the most.*view.hpp: no ceiling.*gone.hpp: a ceiling in")
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
  package_test(dispatch_subdirectory dispatch -DMXFP4_DISPATCH_ISAS=${one} -DMXFP4_DISPATCH_OPTIONS=-O0)   # a third of the time
endif()
# All files of a library in one: which proves too that they can be, in whatever batches the presets make of them.
set(at_once -DCMAKE_UNITY_BUILD=ON -DCMAKE_UNITY_BUILD_BATCH_SIZE=0)
if(MXFP4_IO)
  package_test(io_subdirectory io ${at_once})
endif()
if(MXFP4_CHECKPOINT)   # without dispatch: its plain loops are built sooner than all kernels
  package_test(checkpoint_subdirectory checkpoint -DMXFP4_DISPATCH=OFF ${at_once})
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
