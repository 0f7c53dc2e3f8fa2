// Table of the kernels' loops, by operator, graph and type.
//
// Independent of the instruction set: each set of compiler flags sees the same declarations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace gatewave {

// Tensors of one call, all with the same count. Each output is an input, or does not overlap any.
struct Tensors {
  const void* inputs[3];  // a, b and the gradient of y, if the graph has them
  void* outputs[3];
  double alpha;
  void* stream = nullptr;  // queue of a GPU
};

// Computes elements `first` to `last`. On a GPU, it only queues this work.
using Loop = void (*)(const Tensors&, std::ptrdiff_t first, std::ptrdiff_t last);

enum class Type : std::uint8_t { float32, float64, float16, bfloat16 };
inline constexpr Type types[] = {Type::float32, Type::float64, Type::float16, Type::bfloat16};

enum class Graph : std::uint8_t { value, gradients, vjp };
inline constexpr Graph graphs[] = {Graph::value, Graph::gradients, Graph::vjp};

// Numbers of tensors that a graph of a kernel with `inputs` inputs reads and writes.
constexpr int input_count(int inputs, Graph graph) {
  return inputs + (graph == Graph::vjp ? 1 : 0);
}

constexpr int output_count(int inputs, Graph graph) {
  return graph == Graph::value ? 1 : graph == Graph::gradients ? 1 + inputs : inputs;
}

// Error bounds of a kernel; see kernels/kernel.h.
struct Bounds {
  double ulp;
  double near_zero;
};

// One kernel, compiled for one instruction set.
struct Entry {
  const char* name;
  int inputs;
  bool has_alpha;
  Bounds value;
  Bounds partials;
  Loop loops[3][4];  // by graph and type
};

struct Instructions {
  const char* name;
  bool is_supported;
  std::span<const Entry> kernels;
};

}  // namespace gatewave
