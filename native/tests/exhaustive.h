#pragma once

#include "tests/checker.h"

namespace gatewave::tests {

// All 2^32 float32 values, through every kernel of one input, its value and its derivative; of
// these the `part`th of `parts` equal pieces, counted from 0.
void check_all_floats(Checker& checker, unsigned part, unsigned parts);

}  // namespace gatewave::tests
