// Interface of the device that runs kernels. Each library is linked with one implementation.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "abi/onnxruntime.h"
#include "kernels/table.h"
#include "library/call.h"

namespace gatewave::library {

// Session setting: the instruction set to use. The processor must support it.
inline constexpr const char* instructions_setting = "ai.gatewave.instructions";

// One call of an operator. Its tensors are not empty.
struct Work {
  const char* label;  // the operator's name
  Loop loop;
  Tensors tensors;
  std::ptrdiff_t count;
};

struct Device {
  const char* provider;  // name of the execution provider in ONNX Runtime
  // Returns the instruction set of a session's setting; the best one if the setting is empty.
  const Instructions& (*chosen)(const std::string& setting);
  std::vector<std::string> (*supported)();  // values that `chosen` accepts
  void (*run)(const Runtime& runtime, abi::KernelContext* context, Work& work);
  std::span<const char* const> architectures = {};  // of the compiled code; only for GPUs
};

extern const Device device;

}  // namespace gatewave::library
