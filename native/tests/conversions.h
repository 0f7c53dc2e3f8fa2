#pragma once

#include <cstddef>
#include <cstdint>

#include "tests/checker.h"

namespace gatewave::tests {

// Functions of cpu/narrow.h for one instruction set, by format: float16, bfloat16.
struct Conversions {
  void (*widen[2])(const std::uint16_t* from, float* to, std::ptrdiff_t count);
  void (*narrow[2])(const float* from, std::uint16_t* to, std::ptrdiff_t count);
};

// Checks conversions to float32 for all 65,536 patterns. Conversions from float32 are checked for
// all ties and their neighbours, and for every `step`-th float32; a step of 1 means all.
void check_conversions(Checker& checker, std::uint32_t step);

}  // namespace gatewave::tests
