# Tests of the device headers, label cuda: under the emulator with any compiler, and with nvcc what can be said without a GPU.
# SPDX-License-Identifier: Apache-2.0
add_custom_target(mxfp4_cuda_programs)

# Kernels on the host: each thread a fibre (ucontext), loads little-endian as on every GPU.
if(UNIX AND CMAKE_CXX_BYTE_ORDER STREQUAL LITTLE_ENDIAN)
  foreach(name emulator.faults emulator.tensor_core quantize.emulated dequantize.emulated gemv.emulated
      gemm.emulated moe.emulated)
    mxfp4_test(cuda.${name} SOURCES cuda/${name}.test.cpp LABELS cuda)
    add_dependencies(mxfp4_cuda_programs test_cuda.${name})
  endforeach()
endif()

if(NOT TARGET mxfp4::cuda)
  return()
endif()
