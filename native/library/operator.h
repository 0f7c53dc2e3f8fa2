// Custom operator of ONNX Runtime for one graph of a kernel in one type.
#pragma once

#include <string>
#include <vector>

#include "abi/onnxruntime.h"
#include "library/device.h"

namespace gatewave::library {

// A custom operator of the domain ai.gatewave.
//
// Its inputs are tensors of the same shape and type. If the kernel has alpha, it is the last input:
// a scalar in the type of the computation, always in CPU memory. The outputs have the same shape
// and type as the tensors.
struct Operator : abi::CustomOp {
  Operator(const Runtime& runtime, const Device& device, const Entry& kernel, Graph graph,
           Type type);

  Runtime runtime;
  const Device* device;
  const Entry* kernel;
  Graph graph;
  Type type;
  std::string label;

  std::size_t tensor_count() const;
  std::size_t output_count() const;
  abi::ElementType alpha_type() const;
};

// Returns all operators of an instruction set of a device.
std::vector<Operator> operators(const Runtime& runtime, const Device& device,
                                const Instructions& instructions);

}  // namespace gatewave::library
