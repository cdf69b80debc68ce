# cmake -D NM=<nm> -D LIBRARY=<file> -P dispatch.shared_library.cmake
# A shared library that links mxfp4::dispatch exports its own function alone, and has no kernel that it does not call.
# SPDX-License-Identifier: Apache-2.0
execute_process(COMMAND ${NM} -D -C --defined-only ${LIBRARY} OUTPUT_VARIABLE exported COMMAND_ERROR_IS_FATAL ANY)
string(STRIP "${exported}" exported)
if(NOT exported MATCHES "^[0-9a-f]+ T engine$")
  message(FATAL_ERROR "${LIBRARY} exports these, expected the function engine alone:\n${exported}")
endif()
execute_process(COMMAND ${NM} -C --defined-only ${LIBRARY} OUTPUT_VARIABLE held COMMAND_ERROR_IS_FATAL ANY)
foreach(called unit_[a-z0-9_]+::quantize unit_[a-z0-9_]+::gemm_f32)
  if(NOT held MATCHES "${called}")
    message(FATAL_ERROR "${LIBRARY} has nothing named ${called}, expected what the function engine calls")
  endif()
endforeach()
string(REGEX MATCHALL "[^\n]*(quantize_fp8|moe_int8|gemm_mxfp8|measure_error)[^\n]*" dead "${held}")
if(dead)
  list(JOIN dead "\n" dead)
  message(FATAL_ERROR "${LIBRARY} has these, which the function engine does not call:\n${dead}")
endif()
