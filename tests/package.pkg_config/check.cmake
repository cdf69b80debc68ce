# cmake -D PKG_CONFIG=<program> -D PREFIX=<dir> -D COMPILER=<c++> -D SOURCE=<file> -D PROGRAM=<file>
# -D VERSION=<version> -P check.cmake
# A program built by pkg-config's flags alone, from a prefix that has been moved once more, to a folder
# with a space in its name.
# SPDX-License-Identifier: Apache-2.0
set(moved "${PREFIX} once more")
file(REMOVE_RECURSE ${moved})
file(COPY ${PREFIX}/ DESTINATION ${moved})
set(ENV{PKG_CONFIG_PATH} ${moved}/share/pkgconfig)
execute_process(COMMAND ${PKG_CONFIG} --modversion mxfp4-format OUTPUT_VARIABLE version OUTPUT_STRIP_TRAILING_WHITESPACE
  COMMAND_ERROR_IS_FATAL ANY)
if(NOT version STREQUAL VERSION)
  message(FATAL_ERROR "pkg-config says version '${version}', expected '${VERSION}'")
endif()
execute_process(COMMAND ${PKG_CONFIG} --cflags mxfp4-format OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE
  COMMAND_ERROR_IS_FATAL ANY)
separate_arguments(flags UNIX_COMMAND "${flags}")
execute_process(COMMAND ${COMPILER} -std=c++20 ${flags} ${SOURCE} -o ${PROGRAM} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${PROGRAM} COMMAND_ERROR_IS_FATAL ANY)
file(STRINGS ${moved}/share/pkgconfig/mxfp4.pc requires REGEX "^Requires: mxfp4-format = ${VERSION}, xsimd >= 13.2$")
if(requires STREQUAL "")
  message(FATAL_ERROR "mxfp4.pc does not require xsimd >= 13.2")
endif()
