// The kernels for the CPU, as the rest of the library sees them.
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

// From the fastest to the one that every processor has.
std::span<const Instructions> instructions();

}  // namespace gatewave::cpu
