// What the kernels are to the rest of a library: loops, by operator, graph and type.
//
// The same wherever they run: nothing here depends on how a file is compiled.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace gatewave {

// The tensors of one call, all of the same count. Each output is an input, or apart from them.
struct Tensors {
  const void* inputs[3];  // a, b and the gradient of y, as far as the graph has them
  void* outputs[3];
  double alpha;
  void* stream = nullptr;  // where a GPU's work is queued
};

// Computes elements `first` to `last`, or queues that.
using Loop = void (*)(const Tensors&, std::ptrdiff_t first, std::ptrdiff_t last);

enum class Type : std::uint8_t { float32, float64, float16, bfloat16 };
inline constexpr Type types[] = {Type::float32, Type::float64, Type::float16, Type::bfloat16};

enum class Graph : std::uint8_t { value, gradients, vjp };
inline constexpr Graph graphs[] = {Graph::value, Graph::gradients, Graph::vjp};

// How many tensors a graph of a kernel with so many inputs has.
constexpr int input_count(int inputs, Graph graph) {
  return inputs + (graph == Graph::vjp ? 1 : 0);
}

constexpr int output_count(int inputs, Graph graph) {
  return graph == Graph::value ? 1 : graph == Graph::gradients ? 1 + inputs : inputs;
}

// The largest errors of a kernel; see kernels/kernel.h.
struct Bounds {
  double ulp;
  double near_zero;
};

// One kernel, as an instruction set has it.
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
