// One operator of one type, as ONNX Runtime is told about it.
#pragma once

#include <string>
#include <vector>

#include "abi/onnxruntime.h"
#include "cpu/table.h"

namespace gatewave::library {

// A kernel's graph in one type: a custom operator of the domain ai.gatewave.
//
// Its inputs are tensors of one shape and type, and, if the kernel has one, alpha: a scalar of the
// type that is computed in. Its outputs have that shape and type.
struct Operator : abi::CustomOp {
  Operator(const abi::Api* api, const cpu::Entry& kernel, cpu::Graph graph, cpu::Type type);

  const abi::Api* api;
  const cpu::Entry* kernel;
  cpu::Graph graph;
  cpu::Type type;
  std::string label;

  std::size_t tensor_count() const;
  std::size_t output_count() const;
  abi::ElementType alpha_type() const;
};

// All operators of an instruction set.
std::vector<Operator> operators(const abi::Api* api, const cpu::Instructions& instructions);

}  // namespace gatewave::library
