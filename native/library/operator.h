// One operator of one type, as ONNX Runtime is told about it.
#pragma once

#include <string>
#include <vector>

#include "abi/onnxruntime.h"
#include "library/device.h"

namespace gatewave::library {

// A kernel's graph in one type: a custom operator of the domain ai.gatewave.
//
// Its inputs are tensors of one shape and type, and, if the kernel has one, alpha: a scalar of the
// type that is computed in, on the CPU wherever the rest is. Its outputs have that shape and type.
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

// All operators of an instruction set of a device.
std::vector<Operator> operators(const Runtime& runtime, const Device& device,
                                const Instructions& instructions);

}  // namespace gatewave::library
