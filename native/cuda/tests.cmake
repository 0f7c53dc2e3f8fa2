# Test of the work of GPU threads, run on this processor and compared with the CPU kernels.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(LIKE avx2)
else()
  list(GET TARGETS 0 LIKE)
endif()
add_executable(cuda_on_host cuda/tests/on_host.cpp cuda/tests/strides.cpp cpu/instructions.cpp ${KERNELS})
# GPUs have FMA, so the comparison needs an instruction set with FMA.
set_source_files_properties(cuda/tests/strides.cpp PROPERTIES
  COMPILE_DEFINITIONS GATEWAVE_TARGET=strides COMPILE_OPTIONS "${FLAGS_${LIKE}}")
set_source_files_properties(cuda/tests/on_host.cpp PROPERTIES
  COMPILE_DEFINITIONS "GATEWAVE_LIKE=\"${LIKE}\"")
