# mxfp4::cuda: the device headers, where there is a CUDA compiler. Nothing of the core includes them.
# SPDX-License-Identifier: Apache-2.0
#
# AUTO: where the project that uses us has enabled CUDA already, and in our own build where a compiler is found.
set(MXFP4_CUDA AUTO CACHE STRING "Provide mxfp4::cuda: AUTO where a CUDA compiler is found, ON (an error without), OFF")
set_property(CACHE MXFP4_CUDA PROPERTY STRINGS AUTO ON OFF)
if(NOT MXFP4_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "MXFP4_CUDA is '${MXFP4_CUDA}', expected AUTO, ON or OFF")
endif()

get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
if(NOT MXFP4_CUDA STREQUAL OFF AND NOT CUDA IN_LIST languages AND (PROJECT_IS_TOP_LEVEL OR MXFP4_CUDA STREQUAL ON))
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)   # before the language: its own default is too old for bf16 and cp.async
    set(CMAKE_CUDA_ARCHITECTURES 80-real 89-real 90a-real 100a-real 120a-real)
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
  elseif(MXFP4_CUDA STREQUAL ON)
    message(FATAL_ERROR "MXFP4_CUDA is ON and no CUDA compiler was found: name it in CMAKE_CUDA_COMPILER or CUDACXX")
  endif()
endif()

if(NOT MXFP4_CUDA STREQUAL OFF AND CUDA IN_LIST languages)
  add_library(mxfp4_cuda INTERFACE)
  mxfp4_alias(cuda mxfp4_cuda)
  target_link_libraries(mxfp4_cuda INTERFACE mxfp4_format)
  # CMake 3.25 does not know cuda_std_20 for this compiler, and cxx_std_20 does not reach the CUDA language.
  target_compile_options(mxfp4_cuda INTERFACE $<$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>:-std=c++20>)
  file(GLOB headers CONFIGURE_DEPENDS include/mxfp4/cuda/*.cuh include/mxfp4/cuda/device/*.cuh)
  target_sources(mxfp4_cuda INTERFACE FILE_SET HEADERS BASE_DIRS include FILES ${headers})
  set_target_properties(mxfp4_cuda PROPERTIES EXPORT_NAME cuda)
endif()
