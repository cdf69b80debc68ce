# The instruction sets of this processor. Sets mxfp4_isas, best first, and mxfp4_flags_<isa>.
# SPDX-License-Identifier: Apache-2.0
include(${CMAKE_CURRENT_LIST_DIR}/read_isas.cmake)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS include/mxfp4/simd/isas.def)
mxfp4_read_isas(${CMAKE_CURRENT_SOURCE_DIR}/include/mxfp4/simd/isas.def)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(mxfp4_isas ${mxfp4_isas_x86_64})
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(mxfp4_isas ${mxfp4_isas_aarch64})
else()
  set(mxfp4_isas ${mxfp4_isas_other})
endif()
