# Finds xsimd; read by our own build and, installed, by mxfp4Config.cmake.
# SPDX-License-Identifier: Apache-2.0

# mxfp4_find_xsimd(<error> [GLOBAL]): leaves target xsimd and an empty <error>, or a sentence that says what is wrong.
# A target xsimd or xsimd::xsimd that the consumer has already is taken as it is; mxfp4/simd/xsimd.hpp asks its version.
# One major version at a time: xsimd's version file refuses 14.x for 13.2, and ranges altogether. To ask without a
# version would load a too old one, whose target then stands in the way of a fetched one.
function(mxfp4_find_xsimd error)
  set(XSIMD_ENABLE_XTL_COMPLEX OFF)   # else xsimd 14 may ask for xtl, which we have no use for
  set(seen "")
  foreach(version 14 13.2)
    if(NOT (TARGET xsimd OR TARGET xsimd::xsimd))
      find_package(xsimd ${version} CONFIG QUIET ${ARGN})
      list(APPEND seen ${xsimd_CONSIDERED_VERSIONS})
    endif()
  endforeach()
  if(TARGET xsimd::xsimd AND NOT TARGET xsimd)   # the name that our targets link
    add_library(xsimd INTERFACE IMPORTED ${ARGN})
    set_target_properties(xsimd PROPERTIES INTERFACE_LINK_LIBRARIES xsimd::xsimd)
  endif()
  if(TARGET xsimd)
    set(${error} "" PARENT_SCOPE)
  else()
    list(REMOVE_DUPLICATES seen)
    set(${error} "xsimd 13.2 or newer (13.x, 14.x) was not found, versions seen: '${seen}'. Install it (13.2 may want \
xtl too), name its prefix in CMAKE_PREFIX_PATH, or use mxfp4::format alone, which needs no xsimd: find_package(mxfp4 COMPONENTS format), or \
MXFP4_FORMAT_ONLY=ON where mxfp4 is part of the build" PARENT_SCOPE)
  endif()
endfunction()
