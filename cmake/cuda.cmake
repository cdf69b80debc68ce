# mxfp4::cuda: the device headers, where there is a CUDA compiler. Nothing of the core includes them.
# SPDX-License-Identifier: Apache-2.0
#
# AUTO: where the project that uses us has enabled CUDA already, and in our own build where a compiler is found.
set(MXFP4_CUDA AUTO CACHE STRING "Provide mxfp4::cuda: AUTO where a CUDA compiler is found, ON (an error without), OFF")
set_property(CACHE MXFP4_CUDA PROPERTY STRINGS AUTO ON OFF)
if(NOT MXFP4_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "MXFP4_CUDA is '${MXFP4_CUDA}', expected AUTO, ON or OFF")
endif()

# mxfp4_cuda_architectures(<variable>): code for every GPU from compute capability 8.0 on that the compiler knows, and
# PTX of the newest for those that come after it. An "a" or "f" is needed for wgmma, the conversion of e2m1 and
# block-scaled mma: an "a" is for one capability, an "f" for its family (100f: 10.0 and 10.3; 120f: 12.0 and 12.1;
# nvcc 12.9 and later). 80 also runs on 8.6 and 8.7. Compute capability 11.0 was called 10.1 before nvcc 13.
function(mxfp4_cuda_architectures variable)
  set(version 0)
  if(CMAKE_CUDA_COMPILER_ID STREQUAL NVIDIA)
    set(version ${CMAKE_CUDA_COMPILER_VERSION})
  endif()
  if(version VERSION_GREATER_EQUAL 13.0)
    set(newer 100f-real 110a-real 120f-real 120-virtual)
  elseif(version VERSION_GREATER_EQUAL 12.9)
    set(newer 100f-real 101a-real 120f-real 120-virtual)
  elseif(version VERSION_GREATER_EQUAL 12.8)
    set(newer 100a-real 101a-real 120a-real 120-virtual)
  else()
    set(newer 90-virtual)
  endif()
  set(${variable} 80-real 89-real 90a-real ${newer} PARENT_SCOPE)
endfunction()

get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
if(NOT MXFP4_CUDA STREQUAL OFF AND NOT CUDA IN_LIST languages AND (PROJECT_IS_TOP_LEVEL OR MXFP4_CUDA STREQUAL ON))
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(ours FALSE)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND "$ENV{CUDAARCHS}" STREQUAL "")
      set(ours TRUE)   # CMake's own default is too old for bf16 and cp.async; before 3.31 it refuses "f", but only here
      set(CMAKE_CUDA_ARCHITECTURES 80-real)
    endif()
    enable_language(CUDA)
    if(ours)
      mxfp4_cuda_architectures(CMAKE_CUDA_ARCHITECTURES)
    endif()
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
