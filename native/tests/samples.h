// Inputs for tests of kernels, dense where errors are likely.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "tests/column.h"

namespace gatewave::tests {

// Returns columns of a, b and the gradient of y.
//
// There is a run of `run` elements for each pair of distributions of a and b, so that some blocks
// lie in a kernel's common range and others do not. All combinations of special values follow. For
// 16-bit floats, all values of each input replace the runs.
std::vector<Column> samples(cpu::Type type, double alpha, std::ptrdiff_t run);

// Number of samples before the combinations of special values.
std::ptrdiff_t regular_count(cpu::Type type, std::ptrdiff_t run);

}  // namespace gatewave::tests
