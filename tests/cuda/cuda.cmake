# Tests of the device headers, label cuda: under the emulator, and with nvcc what can be said without a GPU.
# SPDX-License-Identifier: Apache-2.0
add_custom_target(mxfp4_cuda_programs)

# Kernels on the host: each thread a fibre (ucontext), loads little-endian as on every GPU.
if(UNIX AND CMAKE_CXX_BYTE_ORDER STREQUAL LITTLE_ENDIAN)
  foreach(name emulator.faults emulator.tensor_core emulator.wgmma launch.emulated quantize.emulated dequantize.emulated
      convert.emulated gemv.emulated gemv_mma16.emulated gemv_mxfp8.emulated gemm.emulated gemm_mxfp8.emulated
      gemm_wgmma.emulated moe.emulated)
    mxfp4_test(cuda.${name} SOURCES cuda/${name}.test.cpp LABELS cuda)
    target_compile_definitions(test_cuda.${name} PRIVATE MXFP4_CUDA_EMULATOR="cuda/emulator/emulator.hpp")
    add_dependencies(mxfp4_cuda_programs test_cuda.${name})
  endforeach()
  if(TARGET mxfp4::mxfp4)   # compares with the host's moe()
    mxfp4_test(cuda.moe_activate.emulated SOURCES cuda/moe_activate.emulated.test.cpp LIBRARIES mxfp4::mxfp4 LABELS cuda)
    target_compile_definitions(test_cuda.moe_activate.emulated PRIVATE
      MXFP4_CUDA_EMULATOR="cuda/emulator/emulator.hpp")
    add_dependencies(mxfp4_cuda_programs test_cuda.moe_activate.emulated)
  endif()
endif()

# Bugs planted into a copy of the kernels: the emulated tests must notice each.
if(MXFP4_NIGHTLY)
  get_target_property(catch2_include Catch2::Catch2 INTERFACE_INCLUDE_DIRECTORIES)
  list(TRANSFORM catch2_include PREPEND --flag=-isystem)
  add_test(NAME cuda.mutations COMMAND ${MXFP4_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/cuda/mutations.py
    --compiler ${CMAKE_CXX_COMPILER} ${catch2_include} --flag=-DMXFP4_TEST_VECTORS="${CMAKE_CURRENT_SOURCE_DIR}/vectors"
    --library=$<TARGET_FILE:Catch2::Catch2WithMain> --library=$<TARGET_FILE:Catch2::Catch2>)
  set_tests_properties(cuda.mutations PROPERTIES LABELS nightly TIMEOUT 3600 RUN_SERIAL ON)
endif()

if(NOT TARGET mxfp4::cuda)
  return()
endif()

# mxfp4_cuda_kernels(<name> [COMPILE_ONLY]): kernels/<name>.cu for each architecture; a test reads the machine code.
set(MXFP4_CUDA_TEST_ARCHITECTURES 80 89 90a 100f 110a 120f CACHE STRING "Architectures whose machine code is checked")
mark_as_advanced(MXFP4_CUDA_TEST_ARCHITECTURES)
set(sass ${CMAKE_CURRENT_SOURCE_DIR}/cuda/sass)
foreach(arch IN LISTS MXFP4_CUDA_TEST_ARCHITECTURES)
  set(cubins_${arch} "")
endforeach()
function(mxfp4_cuda_kernels name)
  set(source ${CMAKE_CURRENT_SOURCE_DIR}/cuda/kernels/${name}.cu)
  set(compiled "")
  foreach(arch IN LISTS MXFP4_CUDA_TEST_ARCHITECTURES)
    set(cubin ${CMAKE_CURRENT_BINARY_DIR}/${name}.${arch}.cubin)
    add_custom_command(OUTPUT ${cubin} ${cubin}.ptxas DEPENDS ${source} ${sass}/compile.py DEPFILE ${cubin}.d
      COMMAND ${MXFP4_PYTHON} ${sass}/compile.py ${CMAKE_CUDA_COMPILER} ${arch} ${source} ${cubin} ${cubin}.d
        -I${PROJECT_SOURCE_DIR}/include -I${CMAKE_CURRENT_SOURCE_DIR}
      COMMENT "Compiling ${name}.cu for sm_${arch}" VERBATIM)
    set(compiled ${compiled} ${cubin})
    if(NOT "COMPILE_ONLY" IN_LIST ARGN)
      set(cubins_${arch} ${cubins_${arch}} ${cubin} PARENT_SCOPE)
    endif()
  endforeach()
  add_custom_target(mxfp4_cuda_kernels_${name} ALL DEPENDS ${compiled})
  add_dependencies(mxfp4_cuda_programs mxfp4_cuda_kernels_${name})
endfunction()
mxfp4_cuda_kernels(conversion)
mxfp4_cuda_kernels(products)
mxfp4_cuda_kernels(products_mxfp8)
mxfp4_cuda_kernels(scalar COMPILE_ONLY)

add_executable(mxfp4_cuda_shared_memory cuda/kernels/shared_memory.cpp)
target_link_libraries(mxfp4_cuda_shared_memory PRIVATE mxfp4::format)
target_include_directories(mxfp4_cuda_shared_memory PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_compile_definitions(mxfp4_cuda_shared_memory PRIVATE MXFP4_CUDA_EMULATOR="cuda/emulator/emulator.hpp")
add_dependencies(mxfp4_cuda_programs mxfp4_cuda_shared_memory)
foreach(arch IN LISTS MXFP4_CUDA_TEST_ARCHITECTURES)
  add_test(NAME cuda.machine_code.${arch}
    COMMAND ${MXFP4_PYTHON} ${sass}/check.py ${CMAKE_CURRENT_SOURCE_DIR}/cuda/kernels/limits.txt ${arch}
      $<TARGET_FILE:mxfp4_cuda_shared_memory> ${cubins_${arch}})
  set_tests_properties(cuda.machine_code.${arch} PROPERTIES LABELS cuda)
endforeach()

add_test(NAME cuda.nvcc_12_8 COMMAND ${MXFP4_PYTHON} ${sass}/nvcc_12_8.py ${CMAKE_CUDA_COMPILER}
  ${CMAKE_CURRENT_SOURCE_DIR}/cuda/kernels -I${PROJECT_SOURCE_DIR}/include -I${CMAKE_CURRENT_SOURCE_DIR})
set_tests_properties(cuda.nvcc_12_8 PROPERTIES LABELS cuda)

# With a GPU they run; without one they are built and report 77, which ctest shows as skipped.
find_package(CUDAToolkit QUIET)
foreach(program gpu_test gpu_bench)
  add_executable(${program} cuda/${program}.cu)
  if(program STREQUAL gpu_test)
    target_sources(gpu_test PRIVATE cuda/gpu_test.launch.cu cuda/gpu_test.products.cu)
  endif()
  target_link_libraries(${program} PRIVATE mxfp4::cuda)
  target_include_directories(${program} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_compile_options(${program} PRIVATE $<$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>:-Werror=all-warnings>)
  add_test(NAME cuda.${program} COMMAND ${program})
  set_tests_properties(cuda.${program} PROPERTIES LABELS cuda SKIP_RETURN_CODE 77 RUN_SERIAL ON TIMEOUT 1800)
  add_dependencies(mxfp4_cuda_programs ${program})
endforeach()
if(TARGET CUDA::cublas)   # dense bf16, for comparison
  target_link_libraries(gpu_bench PRIVATE CUDA::cublas)
  target_compile_definitions(gpu_bench PRIVATE MXFP4_WITH_CUBLAS)
endif()
if(TARGET cuda_gemv)   # the example checks itself
  add_test(NAME cuda.example COMMAND cuda_gemv)
  set_tests_properties(cuda.example PROPERTIES LABELS cuda SKIP_RETURN_CODE 77)
  add_dependencies(mxfp4_cuda_programs cuda_gemv)
endif()
