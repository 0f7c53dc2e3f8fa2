#pragma once

#include <cstddef>

#include "tests/checker.h"

namespace gatewave::tests {

// Every loop against the exact results, over `run` elements for each way of choosing inputs; see
// samples.h. With `is_reported` the largest errors are printed, as rows of a table.
void check_accuracy(Checker& checker, std::ptrdiff_t run, bool is_reported);

}  // namespace gatewave::tests
