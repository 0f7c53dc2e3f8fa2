#pragma once

#include <cstddef>
#include <cstdint>

#include "tests/checker.h"

namespace gatewave::tests {

// cpu/narrow.h, as one instruction set has it; by format: float16, bfloat16.
struct Conversions {
  void (*widen[2])(const std::uint16_t* from, float* to, std::ptrdiff_t count);
  void (*narrow[2])(const float* from, std::uint16_t* to, std::ptrdiff_t count);
};

// All 65,536 patterns upwards. Downwards all ties and their neighbours, and every `step`th float32;
// with a step of 1, all.
void check_conversions(Checker& checker, std::uint32_t step);

}  // namespace gatewave::tests
