# cmake -D NM=<nm> -D LIBRARY=<file> -P dispatch.shared_library.cmake
# A shared library that links mxfp4::dispatch exports its own function alone, and has no kernel that it does not call.
# SPDX-License-Identifier: Apache-2.0
execute_process(COMMAND ${NM} -D -C --defined-only ${LIBRARY} OUTPUT_VARIABLE exported COMMAND_ERROR_IS_FATAL ANY)
string(STRIP "${exported}" exported)
if(NOT exported MATCHES "^[0-9a-f]+ T engine$")
  message(FATAL_ERROR "${LIBRARY} exports these, expected the function engine alone:\n${exported}")
endif()
execute_process(COMMAND ${NM} --defined-only ${LIBRARY} OUTPUT_VARIABLE held COMMAND_ERROR_IS_FATAL ANY)
foreach(called 8quantizeE 8gemm_f32E)   # as they are mangled: the ends of unit_<isa>::<member>
  string(FIND "${held}" ${called} at)
  if(at EQUAL -1)
    message(FATAL_ERROR "${LIBRARY} has nothing named ${called}, expected what the function engine calls")
  endif()
endforeach()
foreach(dead quantize_fp8 moe_int8 gemm_mxfp8 measure_error)
  string(FIND "${held}" ${dead} at)
  if(NOT at EQUAL -1)
    string(SUBSTRING "${held}" ${at} 200 shown)
    message(FATAL_ERROR "${LIBRARY} has ${dead}, which the function engine does not call: ...${shown}")
  endif()
endforeach()
