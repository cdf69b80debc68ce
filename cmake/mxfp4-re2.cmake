# mxfp4_find_re2(): leaves the target re2::re2 where RE2 is installed: by its CMake package, or, where a distribution
# has left that out, by header and library. Used by this build and by the installed package.
# SPDX-License-Identifier: Apache-2.0
function(mxfp4_find_re2)
  if(TARGET re2::re2)
    return()
  endif()
  find_package(re2 CONFIG QUIET GLOBAL)
  if(TARGET re2::re2)
    return()
  endif()
  find_path(MXFP4_RE2_INCLUDE re2/re2.h)
  find_library(MXFP4_RE2_LIBRARY re2)
  mark_as_advanced(MXFP4_RE2_INCLUDE MXFP4_RE2_LIBRARY)
  if(MXFP4_RE2_INCLUDE AND MXFP4_RE2_LIBRARY)
    add_library(re2::re2 UNKNOWN IMPORTED GLOBAL)
    set_target_properties(re2::re2 PROPERTIES IMPORTED_LOCATION ${MXFP4_RE2_LIBRARY}
      INTERFACE_INCLUDE_DIRECTORIES ${MXFP4_RE2_INCLUDE})
  endif()
endfunction()
