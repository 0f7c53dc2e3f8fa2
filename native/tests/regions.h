#pragma once

#include "tests/checker.h"

namespace gatewave::tests {

// Checks that a result depends on its own inputs only: not on its neighbours, position, alignment,
// the number of elements, or whether it replaces an input. No other memory may be written.
void check_regions(Checker& checker);

}  // namespace gatewave::tests
