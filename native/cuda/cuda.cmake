# libgatewave_cuda.so: the same operators for the CUDA execution provider. It needs nvcc.
include(CheckLanguage)
# Forget an earlier failure: nvcc may have been installed since.
if(NOT CMAKE_CUDA_COMPILER)
  unset(CMAKE_CUDA_COMPILER CACHE)
endif()
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  if(GATEWAVE_CUDA STREQUAL "AUTO")
    message(STATUS "No nvcc found: the kernels for GPUs are not built")
    return()
  endif()
  message(FATAL_ERROR "GATEWAVE_CUDA is ${GATEWAVE_CUDA}, and there is no nvcc")
endif()

# Machine code for two generations. Later GPUs compile PTX when they load it.
set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 90-virtual)
enable_language(CUDA)
# Some versions of CMake do not know this option of nvcc.
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)

set(NAMES ${CMAKE_CUDA_ARCHITECTURES})
list(TRANSFORM NAMES REPLACE "^(.*)-real$" "\"sm_\\1\"")
list(TRANSFORM NAMES REPLACE "^(.*)-virtual$" "\"compute_\\1\"")
list(JOIN NAMES ", " NAMES)
# nvcc passes these options to a shell, so options with spaces need quotes.
list(TRANSFORM HOST_OPTIONS REPLACE "^(.* .*)$" "\"\\1\"" OUTPUT_VARIABLE CUDA_HOST_OPTIONS)
list(JOIN CUDA_HOST_OPTIONS "," CUDA_HOST_OPTIONS)

add_library(kernels_cuda OBJECT cuda/kernels.cu)
target_compile_definitions(kernels_cuda PRIVATE GATEWAVE_TARGET=cuda)
target_compile_options(kernels_cuda PRIVATE
  # Round each operation separately, divisions too, and keep subnormal numbers.
  -fmad=false -prec-div=true -prec-sqrt=true -ftz=false
  # For constexpr functions of the host: numeric_limits.
  --expt-relaxed-constexpr
  # Compile the architectures in parallel.
  --threads=0
  # The host compiler does not know the pragmas for nvcc.
  -Xcompiler=${CUDA_HOST_OPTIONS},-Wno-unknown-pragmas)

find_package(CUDAToolkit REQUIRED)
set(KERNELS_OF_gatewave_cuda $<TARGET_OBJECTS:kernels_cuda>)
add_operators(gatewave_cuda cuda/device.cpp)
target_include_directories(gatewave_cuda_registration PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
set_source_files_properties(cuda/device.cpp PROPERTIES
  COMPILE_DEFINITIONS "GATEWAVE_ARCHITECTURES=${NAMES}")
# The CUDA runtime is linked statically. The driver is that of the machine.
target_link_libraries(gatewave_cuda PRIVATE CUDA::cudart_static)
