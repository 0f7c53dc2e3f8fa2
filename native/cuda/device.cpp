// A GPU as a device for operators.
#include "library/device.h"

#include <cuda_runtime_api.h>

#include <array>

#include "kernels/list.h"

namespace gatewave {

namespace cuda {
extern const std::array<Entry, All::size> table;
}

namespace library {
namespace {

constexpr const char* architectures[] = {GATEWAVE_ARCHITECTURES};

std::vector<std::string> supported() { return {"cuda"}; }

// The only instruction set. The driver selects the architecture.
const Instructions& chosen(const std::string& setting) {
  static const Instructions all = {"cuda", true, cuda::table};
  if (setting.empty() || setting == all.name) return all;
  throw Invalid(std::string(instructions_setting) + " must be " + all.name + ", not '" + setting +
                "'");
}

void run(const Runtime& runtime, abi::KernelContext* context, Work& work) {
  work.tensors.stream = runtime.get<abi::KernelContextGetGPUComputeStream, void*>(
      static_cast<const abi::KernelContext*>(context));
  work.loop(work.tensors, 0, work.count);
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string(work.label) + ": CUDA did not start the kernel: " +
                           cudaGetErrorName(error) + ", " + cudaGetErrorString(error));
}

}  // namespace

const Device device = {"CUDAExecutionProvider", chosen, supported, run, architectures};

}  // namespace library
}  // namespace gatewave
