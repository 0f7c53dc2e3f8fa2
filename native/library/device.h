// Where kernels run, and how: each library is linked with one of these.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "abi/onnxruntime.h"
#include "kernels/table.h"
#include "library/call.h"

namespace gatewave::library {

// A session's setting: which instruction set to use, of those that this processor has.
inline constexpr const char* instructions_setting = "ai.gatewave.instructions";

// One call of an operator: its tensors, which are not empty.
struct Work {
  const char* label;  // the operator's name
  Loop loop;
  Tensors tensors;
  std::ptrdiff_t count;
};

struct Device {
  const char* provider;  // ONNX Runtime's name for it
  // The kernels for what a session's setting names, or, where that is empty, the fittest.
  const Instructions& (*chosen)(const std::string& setting);
  std::vector<std::string> (*supported)();  // what `chosen` takes
  void (*run)(const Runtime& runtime, abi::KernelContext* context, Work& work);
  std::span<const char* const> architectures = {};  // that there is code for, where it is a GPU
};

extern const Device device;

}  // namespace gatewave::library
