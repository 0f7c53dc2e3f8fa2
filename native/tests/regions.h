#pragma once

#include "tests/checker.h"

namespace gatewave::tests {

// A result depends on its own inputs only: not on its neighbours, its place, how it is aligned, how
// many there are, or whether it replaces an input. And nothing else is written.
void check_regions(Checker& checker);

}  // namespace gatewave::tests
