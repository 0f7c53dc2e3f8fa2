// The operator ai.gatewave::Kernels, which describes the library.
#pragma once

#include <string>

#include "abi/onnxruntime.h"
#include "library/device.h"

namespace gatewave::library {

// No inputs; one output, the JSON text of `description` as uint8, of shape [n].
struct DescriptionOperator : abi::CustomOp {
  static constexpr const char* name = "Kernels";

  explicit DescriptionOperator(std::string text);

  std::string text;
};

// {"instructions": "avx2", "supported": ["avx2", ..], "architectures": [], "kernels": {name:
// {"value": {"ulp": .., "near_zero": ..}, "partials": {..}}}}; kernels/kernel.h defines the bounds.
// Only the library for GPUs has architectures: {"instructions": "cuda", "supported": ["cuda"],
// "architectures": ["sm_90", ..], ..}.
std::string description(const Device& device, const Instructions& chosen);

}  // namespace gatewave::library
