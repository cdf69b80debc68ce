# Packages of the program by CPack: an archive that runs from wherever it is unpacked, and a Debian package. Preset
# package; cmake --install does without this file.
# SPDX-License-Identifier: Apache-2.0
#
# Both bring the libraries that the program was linked to, in lib/mxfp4 beside its bin, but for the C library: they need
# a libc that is at least as new as this machine's, and nothing else.
option(MXFP4_PACKAGES "Add the target mxfp4_packages: archive and Debian package of the program, for x86-64 and aarch64" OFF)
if(NOT MXFP4_PACKAGES)
  return()
endif()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  set(CPACK_DEBIAN_PACKAGE_ARCHITECTURE amd64)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  set(CPACK_DEBIAN_PACKAGE_ARCHITECTURE arm64)
else()
  message(FATAL_ERROR "MXFP4_PACKAGES: the processor is ${CMAKE_SYSTEM_PROCESSOR}, expected x86_64 or aarch64")
endif()

set_target_properties(mxfp4_cli PROPERTIES INSTALL_RPATH "$ORIGIN/../lib/mxfp4")
set(folders ${CMAKE_PREFIX_PATH})
list(TRANSFORM folders APPEND /lib/${CMAKE_LIBRARY_ARCHITECTURE})
string(CONFIGURE [[
  set(program "$ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}/@CMAKE_INSTALL_BINDIR@/mxfp4")
  set(into "${CMAKE_INSTALL_PREFIX}/lib/mxfp4")
  set(compiler "@CMAKE_CXX_COMPILER@")
  set(readelf "@CMAKE_READELF@")
  set(folders "@folders@")
  include("@PROJECT_SOURCE_DIR@/cmake/bundle_libraries.cmake")
]] bundle @ONLY)
install(CODE "${bundle}" COMPONENT tools)
install(FILES LICENSE README.md CHANGELOG.md docs/install.md DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/mxfp4 COMPONENT tools)

# The notices of what is in the packages and not ours: of the libraries beside the program and of what is compiled in.
# mxfp4_notice(<name> <file>...) installs the first that is there; a relative one is of a dependency's share.
function(mxfp4_notice name)
  foreach(file IN LISTS ARGN)
    foreach(folder IN LISTS CMAKE_PREFIX_PATH ITEMS /usr)
      cmake_path(ABSOLUTE_PATH file BASE_DIRECTORY ${folder}/share OUTPUT_VARIABLE at)
      if(EXISTS ${at})
        file(REAL_PATH ${at} at)   # a package's folder may be a link
        install(FILES ${at} DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/mxfp4/third-party RENAME ${name} COMPONENT tools)
        return()
      endif()
    endforeach()
  endforeach()
  message(FATAL_ERROR "MXFP4_PACKAGES: no notice of ${name}: no '${ARGN}' in share of '${CMAKE_PREFIX_PATH};/usr'")
endfunction()
foreach(package IN ITEMS CLI11 Eigen3 nlohmann_json re2 TBB xsimd xxHash)   # those that were fetched
  FetchContent_GetProperties(${package} SOURCE_DIR fetched_${package})
endforeach()
mxfp4_notice(CLI11 ${fetched_CLI11}/LICENSE doc/libcli11-dev/copyright)
mxfp4_notice(Eigen ${fetched_Eigen3}/COPYING.MPL2 doc/libeigen3-dev/copyright)
mxfp4_notice(nlohmann-json ${fetched_nlohmann_json}/LICENSE.MIT doc/nlohmann-json3-dev/copyright)
mxfp4_notice(RE2 ${fetched_re2}/LICENSE doc/libre2-dev/copyright)
mxfp4_notice(oneTBB ${fetched_TBB}/LICENSE.txt doc/libtbb-dev/copyright)
mxfp4_notice(xsimd ${fetched_xsimd}/LICENSE doc/libxsimd-dev/copyright)
mxfp4_notice(xxHash ${fetched_xxHash}/LICENSE doc/libxxhash-dev/copyright)
mxfp4_notice(GCC doc/libstdc++6/copyright)   # libstdc++ and libgcc; it names the GPL, which follows
mxfp4_notice(GPL-3 common-licenses/GPL-3)
if(MXFP4_ONIGURUMA_LIBRARY AND NOT CMAKE_CROSSCOMPILING)   # as in tools
  mxfp4_notice(Oniguruma doc/libonig-dev/copyright)
endif()

# The libc that the program is linked to; an older one may lack a function.
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/libc_version.c CONTENT "#include <features.h>\nlibc __GLIBC__.__GLIBC_MINOR__\n")
execute_process(COMMAND ${CMAKE_CXX_COMPILER} -E -P ${PROJECT_BINARY_DIR}/libc_version.c
  OUTPUT_VARIABLE libc COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCH "libc ([0-9]+) *\\. *([0-9]+)" libc "${libc}")
set(libc ${CMAKE_MATCH_1}.${CMAKE_MATCH_2})

set(CPACK_GENERATOR TGZ DEB)
set(CPACK_COMPONENTS_ALL tools)
set(CPACK_COMPONENTS_GROUPING ALL_COMPONENTS_IN_ONE)
set(CPACK_ARCHIVE_COMPONENT_INSTALL ON)
# An archive is unpacked into a folder of its own.
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/cpack_archive.cmake @ONLY
  CONTENT "if(CPACK_GENERATOR STREQUAL TGZ)\n  set(CPACK_COMPONENT_INCLUDE_TOPLEVEL_DIRECTORY ON)\nendif()\n")
set(CPACK_PROJECT_CONFIG_FILE ${PROJECT_BINARY_DIR}/cpack_archive.cmake)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_NAME mxfp4)
set(CPACK_PACKAGE_VENDOR mxfp4)
set(CPACK_PACKAGE_CONTACT "The maintainers of mxfp4 <mxfp4@example.org>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Checkpoints to and from MXFP4, bit-exact with the field's other programs")
set(CPACK_PACKAGE_FILE_NAME mxfp4-${PROJECT_VERSION}-linux-${CMAKE_SYSTEM_PROCESSOR})
set(CPACK_PACKAGE_DIRECTORY ${PROJECT_BINARY_DIR}/packages)
set(CPACK_THREADS 2)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libc6 (>= ${libc})")
set(CPACK_DEBIAN_PACKAGE_SECTION science)
include(CPack)

if(CMAKE_CROSSCOMPILING)
  return()
endif()
# Of this machine's kind, and of the other where its compiler is to be had.
set(packages ${PROJECT_BINARY_DIR}/packages)
add_custom_target(mxfp4_packages USES_TERMINAL VERBATIM COMMENT "Packages of the program in ${packages}"
  COMMAND ${CMAKE_COMMAND} -E rm -rf ${packages}
  COMMAND ${CMAKE_CPACK_COMMAND} --config ${PROJECT_BINARY_DIR}/CPackConfig.cmake -B ${packages})
add_dependencies(mxfp4_packages mxfp4_cli)
find_program(MXFP4_AARCH64_COMPILER aarch64-linux-gnu-g++)
mark_as_advanced(MXFP4_AARCH64_COMPILER)
if(MXFP4_AARCH64_COMPILER AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(other ${PROJECT_SOURCE_DIR}/build/package_aarch64)
  add_custom_command(TARGET mxfp4_packages POST_BUILD VERBATIM WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
    COMMAND ${CMAKE_COMMAND} --preset package_aarch64
    COMMAND ${CMAKE_COMMAND} --build ${other} --target mxfp4_cli
    COMMAND ${CMAKE_CPACK_COMMAND} --config ${other}/CPackConfig.cmake -B ${packages})
else()
  message(STATUS "mxfp4: no aarch64-linux-gnu-g++ (setup.sh --with cross), packages for ${CMAKE_SYSTEM_PROCESSOR} alone")
endif()
