// Inputs that try a kernel where it may fail.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "tests/column.h"

namespace gatewave::tests {

// Columns of a, b and the gradient of y.
//
// Runs of `run` elements, one for each pair of ways to choose a and b, so that whole blocks are in
// a kernel's common range, and whole blocks are not; then all combinations of special values. Of
// 16-bit floats, all values of each input, and then those.
std::vector<Column> samples(cpu::Type type, double alpha, std::ptrdiff_t run);

// How many of them come before the combinations of special values.
std::ptrdiff_t regular_count(cpu::Type type, std::ptrdiff_t run);

}  // namespace gatewave::tests
