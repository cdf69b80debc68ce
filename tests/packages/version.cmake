# cmake -DPORT=<vcpkg.json> -DVERSION=<version> -P version.cmake: the port names the library's version.
# SPDX-License-Identifier: Apache-2.0
file(READ ${PORT} port)
string(JSON found GET "${port}" version)
if(NOT found STREQUAL VERSION)
  message(FATAL_ERROR "${PORT}: version is ${found}, expected ${VERSION}")
endif()
