// Interface of the CPU kernels to the rest of the library.
#pragma once

#include "kernels/table.h"

namespace gatewave::cpu {

using gatewave::Bounds;
using gatewave::Entry;
using gatewave::Graph;
using gatewave::graphs;
using gatewave::Instructions;
using gatewave::Loop;
using gatewave::Tensors;
using gatewave::Type;
using gatewave::types;

// All instruction sets of the library, the fastest first.
std::span<const Instructions> instructions();

}  // namespace gatewave::cpu
