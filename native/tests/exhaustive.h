#pragma once

#include "tests/checker.h"

namespace gatewave::tests {

// Checks the value and derivative of every kernel with one input for all 2^32 float32 values. A
// call checks piece `part` (counted from 0) of `parts` equal pieces.
void check_all_floats(Checker& checker, unsigned part, unsigned parts);

}  // namespace gatewave::tests
