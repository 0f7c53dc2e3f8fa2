#pragma once

#include <cstddef>

#include "tests/checker.h"

namespace gatewave::tests {

// Compares every loop with exact results, over `run` elements for each pair of input distributions
// (see samples.h). With `is_reported`, the largest errors are printed as rows of a table.
void check_accuracy(Checker& checker, std::ptrdiff_t run, bool is_reported);

}  // namespace gatewave::tests
